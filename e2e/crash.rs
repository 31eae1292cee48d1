//! Crash: a worker that dies in mid-task loses nothing but time.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::harness::{Deployment, LONG, until};

/// Lease and sweep of these tests, and a busy machine.
const RECOVERY: Duration = Duration::from_secs(120);

#[test]
fn kill_minus_nine_in_mid_task() {
    let deployment = Deployment::new().set("APP_LEASE", "2s");
    let (mut serve, mut first) = (deployment.serve(), deployment.work());
    let client = serve.client();
    let id = client.submit(&json!({"vector_data": [1.0], "duration": 6}));
    client.wait(&id, "a checkpoint's worth of progress", LONG, |task| {
        task["progress"]["current"].as_i64().is_some_and(|step| step >= 2)
    });
    first.kill();
    let mut second = deployment.work();
    let task = client.wait_final(&id, RECOVERY);
    assert_eq!(task["status"], "SUCCESS", "{task:#}");
    assert_eq!((&task["delivery"], &task["retry_count"], &task["attempt"]), (&json!(2), &json!(0), &json!(1)));
    let sql = deployment.sql();
    let lost: i32 = sql.value("SELECT failures FROM tasks WHERE id = from_ulid($1)", &[&id]);
    assert_eq!(lost, 0, "a crash is not charged to the task");
    let logs = client.logs(&id);
    let messages: Vec<_> =
        logs.iter().filter(|line| line["delivery"] == 2).map(|line| line["message"].to_string()).collect();
    assert!(messages.iter().any(|line| line.contains("going on after step")), "it resumes: {logs:#?}");
    second.stop();
    let left: Vec<String> = deployment.redis(&["KEYS", "v1:inflight:*"]);
    assert!(left.is_empty(), "the lists of the dead are drained: {left:?}");
}

#[test]
fn a_paused_worker_cannot_overwrite_its_successor() {
    let deployment = Deployment::new().set("APP_LEASE", "2s");
    let (mut serve, mut first) = (deployment.serve(), deployment.work());
    let client = serve.client();
    let id = client.submit(&json!({"vector_data": [1.0], "duration": 5}));
    client.wait_status(&id, "RUNNING", LONG);
    first.signal(Signal::SIGSTOP);
    let _second = deployment.work();
    let task = client.wait_final(&id, RECOVERY);
    assert_eq!((&task["status"], &task["delivery"]), (&json!("SUCCESS"), &json!(2)), "{task:#}");
    let events = "SELECT count(*) FROM task_events WHERE task_id = from_ulid($1)";
    let sql = deployment.sql();
    let before: i64 = sql.value(events, &[&id]);
    first.signal(Signal::SIGCONT);
    first.wait_for_line("begins again under a new id");
    assert_eq!(client.task(&id), task);
    assert_eq!(sql.value::<i64>(events, &[&id]), before, "the zombie wrote nothing");
    // And it is of use again.
    let other = client.submit(&json!({"vector_data": [1.0], "duration": 0}));
    client.wait_status(&other, "SUCCESS", LONG);
}

#[test]
fn a_rollout_hands_over_and_charges_nothing() {
    let deployment = Deployment::new().set("APP_GRACE", "0s");
    let (mut serve, mut first) = (deployment.serve(), deployment.work());
    let client = serve.client();
    let id = client.submit(&json!({"vector_data": [1.0], "duration": 15}));
    client.wait(&id, "progress", LONG, |task| task["progress"]["current"].as_i64().is_some_and(|step| step >= 1));
    let mut second = deployment.work();
    second.wait_for_line("worker started");
    first.stop();
    client.wait(&id, "the second delivery", Duration::from_secs(10), |task| task["delivery"] == 2);
    let task = client.wait_final(&id, LONG);
    assert_eq!((&task["status"], &task["retry_count"]), (&json!("SUCCESS"), &json!(0)), "{task:#}");
    assert_eq!(deployment.sql().value::<i32>("SELECT lost FROM tasks WHERE id = from_ulid($1)", &[&id]), 0);
}

#[test]
fn a_worker_with_grace_finishes_what_it_runs() {
    let deployment = Deployment::new();
    let (mut serve, mut work) = (deployment.serve(), deployment.work());
    let client = serve.client();
    let id = client.submit(&json!({"vector_data": [1.0], "duration": 2}));
    client.wait_status(&id, "RUNNING", LONG);
    work.stop();
    let task = client.task(&id);
    assert_eq!((&task["status"], &task["delivery"]), (&json!("SUCCESS"), &json!(1)), "{task:#}");
    let waiting = client.submit(&json!({"vector_data": [1.0], "duration": 0}));
    assert_eq!(client.task(&waiting)["status"], "PENDING");
}

#[test]
fn a_second_signal_leaves_at_once_with_its_own_exit_code() {
    let deployment = Deployment::new();
    let (mut serve, mut work) = (deployment.serve(), deployment.work());
    let client = serve.client();
    let id = client.submit(&json!({"vector_data": [1.0], "duration": 600}));
    client.wait_status(&id, "RUNNING", LONG);
    work.signal(Signal::SIGTERM);
    work.wait_for_line("draining");
    work.signal(Signal::SIGINT);
    assert_eq!(work.wait_exit(Duration::from_secs(15)).code(), Some(130));
    let task = client.task(&id);
    assert_eq!((&task["status"], &task["retry_count"]), (&json!("PENDING"), &json!(0)), "handed back: {task:#}");
}

#[test]
fn a_lost_doorbell_rings_again() {
    let deployment = Deployment::new();
    let mut serve = deployment.serve();
    let client = serve.client();
    let id = client.submit(&json!({"vector_data": [1.0], "duration": 0}));
    until("the doorbell is there", LONG, || {
        let there: i64 = deployment.redis(&["LLEN", "v1:ready:{default}:normal"]);
        // It may ring twice: serve rings for everything when it finds that Redis is new.
        (there >= 1).then_some(())
    });
    deployment.redis::<()>(&["DEL", "v1:ready:{default}:normal"]);
    let _work = deployment.work();
    client.wait_status(&id, "SUCCESS", RECOVERY);
}
