//! Serving: what a client's request does to both stores.

use super::*;
use crate::harness::Answer;

#[test]
fn every_step_of_a_request_may_fail() {
    run_all(&[("submit", a_submit), ("redis.send", a_ring), ("cancel", a_cancel)]);
}

/// POST with a key, so that it may be repeated. `None`: no answer came.
fn post(client: &Client, key: &str) -> Option<Answer> {
    let request = ureq::http::Request::post(client.url("/tasks"))
        .header("content-type", "application/json")
        .header("idempotency-key", key)
        .body(counting().to_string().into_bytes());
    client.send(request.unwrap()).ok()
}

/// Repeats what brought no answer with the server that replaced the one that aborted.
fn submit(cell: &Cell) -> (String, App) {
    let fault = cell.action.at(cell.point);
    let mut serve = cell.deployment.serve_with(&[("APP_FAULTS", &fault)]);
    let key = format!("{}-{:?}", cell.point, cell.action);
    let mut answer = post(&serve.client(), &key);
    cell.wait_met(&serve);
    if cell.action.aborts() {
        serve.wait_abort();
        serve = cell.deployment.serve();
        answer = post(&serve.client(), &key);
    }
    let answer = answer.expect("an answer").expect(202);
    let id = answer.json()["task_id"].as_str().unwrap().to_owned();
    // The key's task was there already when the commit came before the end.
    let replayed = answer.header("idempotency-replayed").is_some();
    let committed = cell.action == AbortAfter || cell.action == Abort && cell.point == "redis.send";
    assert_eq!(replayed, committed);
    let count: i64 = cell.sql.value("SELECT count(*) FROM tasks WHERE status IN ('PENDING', 'RUNNING')", &[]);
    assert_eq!(count, 1, "one key, one task");
    (id, serve)
}

fn a_submit(cell: &Cell) {
    let (id, mut serve) = submit(cell);
    cell.check(&[id], (1, 1), cell.healthy_worker());
    serve.stop();
}

/// The doorbell of a submit. Gone with its server, it is found by membership.
fn a_ring(cell: &Cell) {
    let (id, mut serve) = submit(cell);
    if cell.action.aborts() {
        cell.let_it_be_missed(&id);
    }
    cell.check(&[id], (1, 1), cell.healthy_worker());
    serve.stop();
}

/// A cancel that was not answered with 204 is asked for again.
fn a_cancel(cell: &Cell) {
    let id = cell.client.submit(&json!({"task_type": "count", "steps": 10_000, "pace": 20}));
    let mut worker = cell.healthy_worker();
    wait_status(cell.sql, &id, "RUNNING");
    let fault = cell.action.at(cell.point);
    let mut serve = cell.deployment.serve_with(&[("APP_FAULTS", &fault)]);
    let client = serve.client();
    let request = ureq::http::Request::delete(client.url(&format!("/tasks/{id}"))).body(Vec::new()).unwrap();
    let answer = client.send(request).map(|answer| answer.status).ok();
    let first = match cell.action {
        Error | LoseReply => Some(503),
        Stall => Some(204),
        Abort | AbortAfter => None,
    };
    assert_eq!(answer, first);
    if cell.action.aborts() {
        serve.wait_abort();
    }
    cell.client.cancel(&id).expect(204);
    let entry = ledger::wait(cell.sql, &id, "confirmed", |entry| !entry.has_worker);
    assert_eq!((entry.status.as_str(), entry.delivery), ("CANCELLED", 1));
    check_history(cell.sql, &id);
    wait_until_clean(cell.deployment, cell.sql);
    worker.stop();
    if !cell.action.aborts() {
        serve.stop();
    }
}
