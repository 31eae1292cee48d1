//! Leases: a task is taken, reported, and ended by who holds its lease, and by nobody else.

use std::time::Duration;

use serde_json::{Value, json};

use super::{ask, declare, submit, take, tell};
use crate::harness::{Deployment, LONG, Stopwatch, until};

#[test]
fn a_task_is_leased_reported_and_completed() {
    let deployment = Deployment::new();
    let mut serve = deployment.serve();
    let client = serve.client();
    declare(&client, "thing", json!({"max_attempts": 2})).expect(200);
    let id = submit(&client, 1);
    let task = take(&client, json!({"lease": "30s"}));
    assert_eq!((&task["task_id"], &task["input"]), (&json!(id), &json!({"n": 1})));
    assert_eq!((&task["delivery"], &task["max_attempts"]), (&json!(1), &json!(2)));
    assert_eq!(deployment.redis::<i64>(&["LLEN", "v1:ready:{elsewhere}:normal"]), 0, "its doorbell is gone");
    assert_eq!(client.task(&id)["status"], "RUNNING");
    let running = client.fetch(&format!("/tasks/{id}/timeline")).expect(200).json();
    assert_eq!(running["current"]["worker_name"], "test", "{running:#}");
    tell(&client, &task, "heartbeat", json!({})).expect(200);
    tell(&client, &task, "progress", json!({"current": 1, "total": 2, "message": "half"})).expect(204);
    tell(&client, &task, "log", json!({"lines": [{"message": "one"}, {"level": "ERROR", "message": "two"}]}))
        .expect(204);
    tell(&client, &task, "checkpoint", json!({"checkpoint": {"at": 1}})).expect(204);
    assert_eq!(client.task(&id)["progress"]["percent"], 50.0);
    let logs = client.logs(&id);
    assert_eq!((&logs[0]["message"], &logs[1]["level"]), (&json!("one"), &json!("ERROR")));
    for _repeated in 0..2 {
        let ended = tell(&client, &task, "complete", json!({"result": {"n": 2}})).expect(200);
        assert_eq!(ended.json()["status"], "SUCCESS");
    }
    assert_eq!(client.task(&id)["result"], json!({"n": 2}));
    let late = tell(&client, &task, "fail", json!({"message": "no"})).expect(409);
    assert_eq!(late.json()["code"], "lease_lost");
    let timeline = client.fetch(&format!("/tasks/{id}/timeline")).expect(200).json();
    assert_eq!(timeline["entries"][1]["reason"], "leased by test", "{timeline:#}");
    let names: Vec<&Value> =
        timeline["entries"].as_array().unwrap().iter().map(|entry| &entry["worker"]["name"]).collect();
    assert_eq!(names, [&Value::Null, &json!("test"), &json!("test")], "{timeline:#}");
}

#[test]
fn a_held_lease_gets_what_is_submitted_meanwhile_and_holds_no_connection() {
    let deployment = Deployment::new().set("APP_POSTGRES_POOL", 2);
    let mut serve = deployment.serve();
    let client = serve.client();
    declare(&client, "thing", json!({})).expect(200);
    let began = Stopwatch::start();
    ask(&client, json!({"wait": 1})).expect(204);
    assert!(began.on_the_wall() >= Duration::from_secs(1), "it was not held");
    // Many more than there are connections.
    std::thread::scope(|scope| {
        let polls: Vec<_> = (0..30).map(|_| scope.spawn(|| ask(&client, json!({"wait": 50})))).collect();
        let sql = deployment.sql();
        until("somebody asks for the type", LONG, || {
            (sql.value::<i64>("SELECT count(*) FROM http_workers WHERE task_type = 'thing'", &[]) == 1).then_some(())
        });
        let ids: Vec<String> = (0..30).map(|n| submit(&client, n)).collect();
        let mut leased: Vec<String> = polls
            .into_iter()
            .map(|poll| poll.join().unwrap().expect(200).json()[0]["task_id"].as_str().unwrap().to_owned())
            .collect();
        leased.sort();
        assert_eq!(leased, ids, "each task once");
    });
    assert_eq!(client.list("?status=RUNNING").len(), 30);
}

#[test]
fn a_lease_that_runs_out_is_taken_and_its_token_is_worth_nothing() {
    let deployment = Deployment::new().set("APP_LEASE", "2s");
    // The shared server has been up for longer than the lease that is judged here.
    let (mut serve, _work) = (deployment.serve(), deployment.work());
    let client = serve.client();
    declare(&client, "thing", json!({})).expect(200);
    let id = submit(&client, 1);
    let first = take(&client, json!({"lease": "5s"}));
    tell(&client, &first, "checkpoint", json!({"checkpoint": 7})).expect(204);
    let second = until("the task is given away", LONG, || {
        let answer = ask(&client, json!({"wait": 2, "lease": "60s"}));
        (answer.status == 200).then(|| answer.json()[0].clone())
    });
    assert_eq!((&second["task_id"], &second["delivery"], &second["checkpoint"]), (&json!(id), &json!(2), &json!(7)));
    assert_eq!(second["attempt"], 1, "a lost lease is not charged as a failure");
    // A forged token: the old secret under the new delivery.
    let mut forged = first.clone();
    forged["lease_token"] = json!(first["lease_token"].as_str().unwrap().replacen("1.", "2.", 1));
    for stale in [&first, &forged] {
        for (verb, body) in [
            ("heartbeat", json!({})),
            ("progress", json!({"current": 9})),
            ("log", json!({"lines": [{"message": "stale"}]})),
            ("checkpoint", json!({"checkpoint": 9})),
            ("complete", json!({"result": 9})),
            ("fail", json!({"message": "stale", "retryable": false})),
        ] {
            assert_eq!(tell(&client, stale, verb, body).expect(409).json()["code"], "lease_lost", "{verb}");
        }
    }
    tell(&client, &second, "complete", json!({"result": 1})).expect(200);
    assert_eq!(client.task(&id)["result"], 1);
    assert!(client.logs(&id).is_empty());
}

#[test]
fn a_failure_is_retried_within_the_budget() {
    let deployment = Deployment::new();
    let (mut serve, _work) = (deployment.serve(), deployment.work());
    let client = serve.client();
    declare(&client, "thing", json!({"max_attempts": 2})).expect(200);
    let id = submit(&client, 1);
    let first = take(&client, json!({}));
    for _repeated in 0..2 {
        let failed = tell(&client, &first, "fail", json!({"code": "busy", "message": "later", "retry_after": "100ms"}));
        assert_eq!(failed.expect(200).json()["status"], "PENDING");
    }
    let second = take(&client, json!({"wait": 50}));
    assert_eq!((&second["task_id"], &second["attempt"]), (&json!(id), &json!(2)));
    let failed = tell(&client, &second, "fail", json!({"code": "busy", "message": "again"})).expect(200);
    assert_eq!(failed.json()["status"], "FAILED");
    let task = client.task(&id);
    assert_eq!((&task["error"]["code"], &task["retry_count"]), (&json!("busy"), &json!(2)), "{task:#}");
}

#[test]
fn a_cancel_is_told_at_the_next_call_and_a_retry_waits_for_it() {
    let deployment = Deployment::new();
    let mut serve = deployment.serve();
    let client = serve.client();
    declare(&client, "thing", json!({})).expect(200);
    let id = submit(&client, 1);
    let task = take(&client, json!({}));
    client.cancel(&id).expect(204);
    let retry = || client.post(&format!("/tasks/{id}/retry"), "", &[]);
    assert_eq!(retry().expect(409).json()["code"], "still_stopping");
    let told = tell(&client, &task, "heartbeat", json!({})).expect(409).json();
    assert!(told["detail"].as_str().unwrap().contains("cancelled"), "{told}");
    retry().expect(202);
    tell(&client, &task, "complete", json!({"result": 1})).expect(409);
    assert_eq!(take(&client, json!({}))["delivery"], 2);
}

#[test]
fn an_attempt_that_passes_its_limit_is_ended_at_the_heartbeat() {
    let deployment = Deployment::new();
    let mut serve = deployment.serve();
    let client = serve.client();
    declare(&client, "thing", json!({"max_attempts": 1, "timeout": "1s"})).expect(200);
    let id = submit(&client, 1);
    let task = take(&client, json!({}));
    until("the limit has passed", LONG, || (tell(&client, &task, "heartbeat", json!({})).status == 409).then_some(()));
    assert_eq!(client.task(&id)["error"]["code"], "timeout");
}
