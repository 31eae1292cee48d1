//! Limits: one caller, or one task, cannot take what belongs to all.

use serde_json::{Value, json};

use crate::harness::{Client, Deployment, LONG, until};

#[test]
fn a_result_that_is_too_large_fails_its_task_for_good() {
    let deployment = Deployment::new().set("APP_MAX_RESULT", 50);
    let (mut serve, _work) = (deployment.serve(), deployment.work());
    let client = serve.client();
    let id = client.submit(&json!({"vector_data": [1.0], "duration": 0}));
    let task = client.wait_final(&id, LONG);
    assert_eq!((&task["status"], &task["result"], &task["attempt"]), (&json!("FAILED"), &Value::Null, &json!(1)));
    let error = &task["error"];
    assert_eq!((&error["code"], &error["retryable"]), (&json!("result_too_large"), &json!(false)), "{task}");
}

#[test]
fn a_process_asks_for_all_the_files_it_may_have() {
    let deployment = Deployment::new();
    let mut serve = deployment.serve();
    serve.address();
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", serve.pid())).unwrap();
    let files: Vec<&str> =
        limits.lines().find(|line| line.starts_with("Max open files")).unwrap().split_whitespace().collect();
    assert_eq!(files[3], files[4], "{limits}");
}

#[test]
fn a_caller_has_its_share_of_the_streams() {
    let deployment = Deployment::new().set("APP_MAX_STREAMS_PER_CALLER", 3).set("APP_MAX_STREAMS", 5);
    let (one, two) = (deployment.key("one", "user"), deployment.key("two", "admin"));
    let mut serve = deployment.serve();
    let [one, two] = [one, two].map(|key| serve.client().with_key(&key));
    let id = one.submit(&json!({"vector_data": [1.0], "options": {"delay": "1h"}}));
    let open = |client: &Client| {
        let mut stream = client.stream(&id, None);
        (stream.status, stream.next().is_some(), stream)
    };
    let held: Vec<_> = (0..3).map(|_| open(&one)).collect();
    assert!(held.iter().all(|(status, has_state, _)| *status == 200 && *has_state));
    // Told to come back: a browser would give up for ever on any other status.
    let fourth = open(&one);
    assert_eq!((fourth.0, fourth.1), (200, false), "its share is used up");
    assert_eq!(one.status("GET", &format!("/tasks/{id}/stream"), None), 503, "who does not stream is told plainly");
    let others: Vec<_> = (0..2).map(|_| open(&two)).collect();
    assert!(others.iter().all(|(_, has_state, _)| *has_state), "others have theirs");
    assert!(!open(&two).1, "now all are used up");
    drop(held);
    until("its places are free again", LONG, || open(&one).1.then_some(()));
}

#[test]
fn a_caller_has_its_share_of_the_dashboards() {
    let deployment = Deployment::new().set("APP_MAX_DASHBOARDS_PER_CALLER", 2).set("APP_MAX_STREAMS_PER_CALLER", 3);
    let (one, two) = (deployment.key("one", "user"), deployment.key("two", "user"));
    let mut serve = deployment.serve();
    let [one, two] = [one, two].map(|key| serve.client().with_key(&key));
    let id = one.submit(&json!({"vector_data": [1.0], "options": {"delay": "1h"}}));
    let open = |client: &Client| {
        let mut dashboard = client.follow("/events");
        (dashboard.next().is_some(), dashboard)
    };
    let held = [open(&one), open(&one)];
    assert!(held.iter().all(|(has_state, _)| *has_state));
    assert!(!open(&one).0, "its dashboards are used up: told to come back");
    assert_eq!(one.status("GET", "/events", None), 503);
    let mut third = one.stream(&id, None);
    assert!(third.next().is_some(), "a stream is another thing");
    assert!(one.stream(&id, None).next().is_none(), "and dashboards count among the streams");
    assert!(open(&two).0, "others have theirs");
    drop(held);
    until("its places are free again", LONG, || open(&one).0.then_some(()));
}
