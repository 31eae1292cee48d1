//! Presence: who asks for the tasks of a queue is known, as long as there are not too many of them.

use serde_json::json;

use super::{ask, declare, submit, take, tell};
use crate::harness::{Deployment, LONG, until};

#[test]
fn a_queue_that_is_served_over_http_says_so() {
    let deployment = Deployment::new();
    let mut serve = deployment.serve();
    let client = serve.client();
    declare(&client, "thing", json!({})).expect(200);
    let waits = |id: &str| client.task(id)["pending_reason"].clone();
    let served = || {
        let queues = client.fetch("/queues").expect(200).json();
        queues.as_array().unwrap().iter().find(|queue| queue["queue"] == "elsewhere").cloned()
    };
    let (first, second) = (submit(&client, 1), submit(&client, 2));
    until("nobody is there", LONG, || (waits(&second) == "no_worker").then_some(()));
    until("the queue says so", LONG, || (served()?["http_asked"] == false).then_some(()));
    // Two types: what a heartbeat says of one is not what this has just said of both.
    let task = take(&client, json!({"worker": "host-1/7", "task_types": ["other", "thing"], "lease": "5m"}));
    assert_eq!(task["task_id"], json!(first));
    until("it is known who serves the queue", LONG, || {
        let queue = served()?;
        (queue["http_asked"] == true && queue["http_workers"] == json!([{"worker": "host-1/7", "running": 1}]))
            .then_some(())
    });
    until("the other one stands in line", LONG, || (waits(&second) == "ready").then_some(()));

    // Who works for longer than asking counts is known by its heartbeats.
    deployment.sql().change("UPDATE http_workers SET asked_at = asked_at - interval '10 min'", &[]);
    until("nobody has asked for long", LONG, || (waits(&second) == "no_worker").then_some(()));
    tell(&client, &task, "heartbeat", json!({})).expect(200);
    until("the heartbeat counts", LONG, || (waits(&second) == "ready").then_some(()));
}

#[test]
fn names_of_queues_that_a_caller_makes_up_are_bounded_and_hide_nobody_else() {
    let deployment = Deployment::new();
    let keys = ["many", "honest"].map(|name| deployment.key(name, "worker"));
    let mut serve = deployment.serve();
    let client = serve.client();
    let [many, honest] = keys.map(|key| client.with_key(&key));
    let body = json!({"worker": "test", "task_types": ["thing"]}).to_string();
    std::thread::scope(|scope| {
        for part in 0..10 {
            let (many, body) = (&many, &body);
            scope.spawn(move || {
                for number in 0..110 {
                    many.post(&format!("/queues/made-up-{part}-{number}/lease"), body.clone(), &[]).expect(204);
                }
            });
        }
    });
    ask(&honest, json!({})).expect(204);
    let sql = deployment.sql();
    let known = |like: &str| sql.value::<i64>("SELECT count(*) FROM http_workers WHERE queue LIKE $1", &[&like]);
    until("the other worker is known", LONG, || (known("elsewhere") == 1).then_some(()));
    let made_up = known("made-up-%");
    assert!(made_up <= 1_000, "{made_up} queues that nobody has");
}
