//! Ending: what a running delivery writes, and its end.

use super::*;

#[test]
fn every_step_from_the_claim_to_the_end_may_fail() {
    run_all(&[
        ("record", |cell| tasks_run(cell, &[], [(1, 1), (1, 1), (1, 1), (2, 2), (2, 2)])),
        // Before a report is repeated whose answer was lost, the row is read, and that fails too. Meanwhile the other
        // desk may have written the end of a task of its own.
        ("standings", |cell| tasks_run(cell, &["record:lose-reply"], [(1, 1), (1, 1), (1, 1), (1, 2), (1, 2)])),
        // Three ends in one statement or in three; those that were committed are not run again.
        ("finish", |cell| tasks_run(cell, &[], [(1, 1), (1, 1), (1, 1), (1, 2), (1, 2)])),
        ("redis.send", |cell| tasks_run(cell, &[], [(1, 1), (1, 1), (1, 1), (1, 2), (1, 2)])),
        ("renew", the_lease),
        ("confirm_stopped", a_cancelled_attempt_stops),
        ("hand_back_all", the_worker_leaves),
    ]);
}

/// Three tasks. `deliveries`: how often at least and at most each is delivered, by action.
fn tasks_run(cell: &Cell, before: &[&str], deliveries: [(i32, i32); 5]) {
    let ids: Vec<String> = (0..3).map(|_| cell.client.submit(&counting())).collect();
    let worker = cell.met(cell.faulty_worker(before));
    let place = Action::ALL.iter().position(|action| *action == cell.action).unwrap();
    cell.check(&ids, deliveries[place], worker);
}

/// One renewal that fails is nothing. A heartbeat that stalls for longer than the lease is death: another worker takes
/// the task, and the first one, which goes on computing, is refused and begins again under a new id.
fn the_lease(cell: &Cell) {
    if cell.action != Stall {
        return tasks_run(cell, &[], [(1, 1), (1, 1), (1, 1), (1, 2), (1, 2)]);
    }
    let id = cell.client.submit(&json!({"task_type": "count", "steps": 100, "pace": 100}));
    // Each try is given up long before.
    let mut stalled = cell.deployment.work_with(&[("APP_FAULTS", "renew:stall=1h:7")]);
    wait_status(cell.sql, &id, "RUNNING");
    let mut healthy = cell.deployment.work();
    stalled.wait_for_line("begins again under a new id");
    let entry = wait_status(cell.sql, &id, "SUCCESS");
    assert_eq!((entry.delivery, entry.failures), (2, 0), "{entry:?}");
    check_counted(cell.sql, &id, 100);
    wait_until_clean(cell.deployment, cell.sql);
    stalled.stop();
    healthy.stop();
}

/// The confirmation of a cancel: the one write that a delivery makes after its end.
fn a_cancelled_attempt_stops(cell: &Cell) {
    let id = cell.client.submit(&json!({"task_type": "count", "steps": 10_000, "pace": 20}));
    let worker = cell.faulty_worker(&[]);
    wait_status(cell.sql, &id, "RUNNING");
    cell.client.cancel(&id).expect(204);
    let mut worker = cell.met(worker);
    let entry = ledger::wait(cell.sql, &id, "confirmed", |entry| !entry.has_worker);
    assert_eq!((entry.status.as_str(), entry.delivery), ("CANCELLED", 1));
    check_history(cell.sql, &id);
    wait_until_clean(cell.deployment, cell.sql);
    worker.stop();
}

/// A worker leaves that has claimed tasks without hearing of it. It hands them back, unless that fails.
fn the_worker_leaves(cell: &Cell) {
    let id = cell.client.submit(&counting());
    let mut leaving = cell.faulty_worker(&["claim:lose-reply"]);
    wait_status(cell.sql, &id, "RUNNING");
    leaving.signal(nix::sys::signal::Signal::SIGTERM);
    cell.wait_met(&leaving);
    match cell.action.aborts() {
        true => leaving.wait_abort(),
        false => assert_eq!(leaving.wait_exit(LONG).code(), Some(0)),
    }
    let mut worker = cell.healthy_worker();
    wait_status(cell.sql, &id, "SUCCESS");
    check_counted(cell.sql, &id, STEPS);
    let entry = entry(cell.sql, &id);
    assert_eq!((entry.delivery, entry.failures), (2, 0), "{entry:?}");
    let message = ledger::events(cell.sql, &id)[1].message.clone();
    // What could not be handed back is lost with its worker; nothing else is.
    let may_be_lost = matches!(cell.action, Error | Abort | Stall);
    assert!(may_be_lost || message.as_deref() != Some("worker lost"), "{message:?}");
    wait_until_clean(cell.deployment, cell.sql);
    worker.stop();
}
