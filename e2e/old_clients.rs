//! Old clients: bodies and answers of the earlier demo keep working.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Deployment, LONG, Site, Stopwatch};

#[test]
fn the_bodies_of_the_demo() {
    let site = Site::start();
    let deployment = Deployment::new().set("APP_OUTBOUND_ALLOW", "127.0.0.0/8");
    let (mut serve, _work) = (deployment.serve(), deployment.work());
    let client = serve.client();

    let url = site.url("/utf8");
    let scrape = client.post(
        "/tasks",
        format!(r#"{{"task_type":"web_scrape","url":"{url}","metadata":{{}},"duration":5}}"#),
        &[],
    );
    let vector = client.post("/tasks", r#"{"vector_data":[0.1,0.2,0.3],"metadata":{},"duration":1}"#, &[]);
    for answer in [scrape, vector] {
        let task = answer.expect(202).json();
        let id = task["task_id"].as_str().expect("task_id");
        assert_eq!(task["status"], "PENDING");
        let began = Stopwatch::start();
        let events = client.stream(id, None).rest();
        let last = events.last().unwrap();
        assert_eq!(last.name, None, "status events are unnamed: EventSource.onmessage sees them");
        assert_eq!((&last.data["task_id"], last.status()), (&json!(id), Some("SUCCESS")));
        assert!(last.data["result"].is_object());
        // The scraper ignores `duration`: the page is fetched as fast as it comes.
        assert!(began.elapsed() < Duration::from_secs(30));
        let logs = client.logs(id);
        assert!(!logs.is_empty());
        for line in &logs {
            for key in ["timestamp", "level", "message"] {
                assert!(line[key].is_string(), "{line}");
            }
        }
    }
    let list = client.fetch("/tasks?skip=1&limit=10").expect(200).json();
    assert_eq!(list.as_array().map(Vec::len), Some(1), "the list is an array, and skip is accepted");
}

#[test]
fn without_a_duration_a_vector_task_takes_ten_seconds() {
    let deployment = Deployment::new();
    let (mut serve, _work) = (deployment.serve(), deployment.work());
    let client = serve.client();
    let id = client.submit(&json!({"vector_data": [0.1]}));
    let task = client.wait(&id, "its steps", LONG, |task| !task["progress"].is_null());
    assert_eq!(task["progress"]["total"], 10);
}

#[test]
fn delete_cancels_within_a_second() {
    let deployment = Deployment::new();
    let (mut serve, _work) = (deployment.serve(), deployment.work());
    let client = serve.client();
    let id = client.submit(&json!({"vector_data": [0.1], "metadata": {}, "duration": 600}));
    client.wait_status(&id, "RUNNING", LONG);
    let answer = client.cancel(&id).expect(204);
    assert!(answer.body.is_empty());
    let task: Value = client.task(&id);
    assert_eq!(task["status"], "CANCELLED");
}
