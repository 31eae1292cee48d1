//! Types: what is declared counts on every replica, and only for workers over HTTP.

use std::time::Duration;

use serde_json::json;

use super::{declare, submit, take, tell};
use crate::harness::{Deployment, LONG, Stopwatch, until};

#[test]
fn a_declared_type_is_known_to_every_replica_and_checked() {
    let deployment = Deployment::new();
    let (mut serve, mut other, mut third) = (deployment.serve(), deployment.serve(), deployment.serve());
    let (client, other, third) = (serve.client(), other.client(), third.client());
    declare(&client, "thing", json!({})).expect(200);
    assert_eq!(
        client.post("/tasks", r#"{"task_type":"thing","n":"x"}"#, &[]).expect(422).json()["code"],
        "invalid_input"
    );
    let began = Stopwatch::start();
    until("a replica knows it that nobody has asked for it", LONG, || {
        let types = third.fetch("/task-types").expect(200).json();
        types.as_array().unwrap().iter().any(|kind| kind["task_type"] == "thing").then_some(())
    });
    assert!(began.elapsed() < Duration::from_secs(5), "it took {:?}", began.elapsed());
    other.post("/tasks", r#"{"task_type":"thing","n":1}"#, &[]).expect(202);
    let document = other.fetch("/openapi.json").expect(200).json();
    assert_eq!(document["components"]["schemas"]["Submit.thing"]["properties"]["n"]["type"], "integer");

    // Declared anew, it changes.
    let schema = json!({"input_schema": {"type": "object", "required": ["m"]}, "timeout": "90s"});
    let changed = declare(&client, "thing", schema).expect(200).json();
    assert_eq!(changed["defaults"]["timeout"], "1m 30s");
    client.post("/tasks", r#"{"task_type":"thing","n":1}"#, &[]).expect(422);
    for (name, more, status, code) in [
        ("web_scrape", json!({}), 409, "built_in_task_type"),
        ("Thing", json!({}), 400, "invalid_parameter"),
        ("x", json!({"input_schema": {"type": "object", "required": 1}}), 422, "invalid_input"),
        ("x", json!({"input_schema": {"$ref": "http://127.0.0.1:9/"}}), 422, "invalid_input"),
        ("x", json!({"queue": "No!"}), 422, "invalid_input"),
        ("x", json!({"colour": "red"}), 422, "invalid_input"),
        ("x", json!({"timeout": "soon"}), 422, "invalid_input"),
    ] {
        assert_eq!(declare(&client, name, more).expect(status).json()["code"], code, "{name}");
    }
}

#[test]
fn a_type_is_submitted_to_any_replica_as_soon_as_it_is_declared() {
    let deployment = Deployment::new();
    let (mut serve, mut other) = (deployment.serve(), deployment.serve());
    let (client, other) = (serve.client(), other.client());
    // More often than a replica reads them by itself.
    for number in 0..10 {
        let name = format!("thing_{number}");
        declare(&client, &name, json!({})).expect(200);
        let body = json!({"task_type": name, "n": number});
        match number % 2 {
            0 => other.post("/tasks", body.to_string(), &[]).expect(202),
            _ => other.post("/tasks/batch", json!([body, body]).to_string(), &[]).expect(202),
        };
    }
    // Who names what does not exist waits for a look that is shared, and is refused.
    let began = Stopwatch::start();
    std::thread::scope(|scope| {
        for number in 0..20 {
            let other = &other;
            scope.spawn(move || {
                let body = json!({"task_type": format!("nothing_{number}")}).to_string();
                assert_eq!(other.post("/tasks", body, &[]).expect(422).json()["code"], "unknown_task_type");
            });
        }
    });
    assert!(began.elapsed() < Duration::from_secs(3), "not one look after the other: {:?}", began.elapsed());
}

#[test]
fn the_policy_of_a_type_counts_on_a_replica_that_has_just_begun() {
    let deployment = Deployment::new();
    let (mut serve, mut other) = (deployment.serve(), deployment.serve());
    let (client, other) = (serve.client(), other.client());
    other.wait_ready(LONG);
    declare(&client, "thing", json!({"backoff": "1h", "longest_backoff": "1h"})).expect(200);
    let id = submit(&client, 1);
    let task = take(&client, json!({}));
    tell(&other, &task, "fail", json!({"code": "busy", "message": "later"})).expect(200);
    let waits: f64 = deployment.sql().value(
        "SELECT extract(epoch FROM ready_at - clock_timestamp())::float8 FROM tasks WHERE id = from_ulid($1)",
        &[&id],
    );
    assert!(waits > 600.0, "the declared backoff, and not that of types that say nothing: {waits} s");
}

#[test]
fn the_servers_own_workers_leave_declared_types_alone() {
    let deployment = Deployment::new();
    let (mut serve, _work) = (deployment.serve(), deployment.work());
    let client = serve.client();
    declare(&client, "thing", json!({"queue": "default"})).expect(200);
    let id = submit(&client, 1);
    until("a worker has looked at it", LONG, || {
        (deployment.redis::<i64>(&["LLEN", "v1:ready:{default}:normal"]) == 0).then_some(())
    });
    let waiting = client.task(&id);
    assert_eq!((&waiting["status"], &waiting["pending_reason"]), (&json!("PENDING"), &json!("no_worker")));
    let body = json!({"worker": "test", "task_types": ["thing"], "wait": 50}).to_string();
    let leased = client.post("/queues/default/lease", body, &[]).expect(200).json();
    assert_eq!((&leased[0]["task_id"], &leased[0]["delivery"]), (&json!(id), &json!(1)));
    // From here on it is known that somebody does this.
    let next = submit(&client, 2);
    client.wait(&next, "ready", LONG, |task| task["pending_reason"] == "ready");
}
