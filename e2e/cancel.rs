//! Cancel: 204 is for good, and the worker stops.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Deployment, LONG, Stopwatch, until};

#[test]
fn a_running_task_stops_within_a_second() {
    let deployment = Deployment::new();
    let (mut serve, mut work) = (deployment.serve(), deployment.work());
    let client = serve.client();
    let sql = deployment.sql();
    let id = client.submit(&json!({"vector_data": [1.0], "duration": 600}));
    client.wait_status(&id, "RUNNING", LONG);

    client.cancel(&id).expect(204);
    let cancelled_at = Stopwatch::start();
    let task = client.task(&id);
    assert_eq!(task["status"], "CANCELLED");
    assert_eq!((&task["result"], &task["error"]["code"]), (&Value::Null, &json!("cancelled")));
    until("the attempt has stopped", LONG, || {
        sql.value::<bool>("SELECT worker_id IS NULL FROM tasks WHERE id = from_ulid($1)", &[&id]).then_some(())
    });
    // A second is the promise, on a machine that is not busy with other tests.
    assert!(cancelled_at.elapsed() < Duration::from_secs(3), "stopped after {:?}", cancelled_at.elapsed());

    client.cancel(&id).expect(204);
    assert_eq!(client.task(&id), task, "a second cancel changes nothing");
    work.wait_for_line("stopped: the task was cancelled");
    let last = client.logs(&id).pop().expect("the log tells of it");
    assert_eq!((&last["level"], &last["message"]), (&json!("INFO"), &task["error"]["message"]));
}

#[test]
fn a_waiting_task_never_starts() {
    let deployment = Deployment::new();
    let mut serve = deployment.serve();
    let client = serve.client();
    let cancelled = client.submit(&json!({"vector_data": [1.0], "duration": 0}));
    let delayed = client.submit(&json!({"vector_data": [1.0], "duration": 0, "options": {"delay": "1h"}}));
    client.cancel(&cancelled).expect(204);
    client.cancel(&delayed).expect(204);
    let other = client.submit(&json!({"vector_data": [1.0], "duration": 0}));
    let _work = deployment.work();
    client.wait_status(&other, "SUCCESS", LONG);
    for id in [&cancelled, &delayed] {
        let task = client.task(id);
        assert_eq!((&task["status"], &task["delivery"]), (&json!("CANCELLED"), &json!(0)));
    }
    let ready: i64 = deployment.redis(&["LLEN", "v1:ready:{default}:normal"]);
    assert_eq!(ready, 0, "the doorbell of a cancelled task is taken off");
}

#[test]
fn a_task_that_has_ended_is_a_conflict() {
    let deployment = Deployment::new();
    let (mut serve, _work) = (deployment.serve(), deployment.work());
    let client = serve.client();
    let id = client.submit(&json!({"vector_data": [1.0], "duration": 0}));
    client.wait_status(&id, "SUCCESS", LONG);
    let answer = client.cancel(&id).expect(409);
    let problem = answer.json();
    assert_eq!((&problem["code"], &problem["task"]["status"]), (&json!("already_final"), &json!("SUCCESS")));
    assert_eq!(client.task(&id)["status"], "SUCCESS");
}

#[test]
fn an_unknown_task_is_not_there_to_cancel() {
    let deployment = Deployment::new();
    let mut serve = deployment.serve();
    serve.client().cancel("01ARZ3NDEKTSV4RRFFQ69G5FAV").expect(404);
}
