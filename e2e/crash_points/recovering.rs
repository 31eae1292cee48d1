//! Recovering: what workers do for the tasks of others, and for those whose time has come.

use super::*;
use nix::sys::signal::Signal;

#[test]
fn every_step_of_the_recovery_may_fail() {
    run_all(&[
        ("declare_dead", |cell| the_worker_dies(cell, Known::ByItsLease)),
        ("steal", |cell| the_worker_dies(cell, Known::Already)),
        ("not_live", |cell| the_worker_dies(cell, Known::Already)),
        ("confirm_stopped_of_the_dead", it_dies_without_confirming),
        ("take_due", the_time_comes),
        ("expire", the_time_passes),
    ]);
}

#[test]
fn every_step_of_ringing_again_may_fail() {
    run_all(&[
        ("doorbell_state", redis_is_emptied),
        ("hold_lease", redis_is_emptied),
        ("ready", redis_is_emptied),
        ("set_epoch", redis_is_emptied),
    ]);
}

/// How others learn of a death.
#[derive(Clone, Copy, PartialEq)]
enum Known {
    ByItsLease,
    Already,
}

/// A task runs; its worker is killed; whoever recovers it fails at it.
fn the_worker_dies(cell: &Cell, known: Known) {
    let id = cell.client.submit(&json!({"task_type": "count", "steps": 20, "pace": 150}));
    let mut dying = cell.deployment.work();
    ledger::wait(cell.sql, &id, "on its way", |entry| entry.seq >= 2);
    dying.kill();
    if known == Known::Already {
        cell.sql.run("UPDATE workers SET state = 'dead', ended_at = now() WHERE state <> 'dead'").unwrap();
    }
    let mut worker = cell.met(cell.faulty_worker(&[]));
    wait_status(cell.sql, &id, "SUCCESS");
    check_counted(cell.sql, &id, 20);
    let entry = entry(cell.sql, &id);
    assert!(entry.failures == 0 && (2..=3).contains(&entry.delivery), "{entry:?}");
    assert!(cell.action.aborts() || entry.delivery == 2, "{entry:?}");
    wait_until_clean(cell.deployment, cell.sql);
    worker.stop();
}

/// A task is cancelled while its worker is stopped; the worker never comes back to confirm it.
fn it_dies_without_confirming(cell: &Cell) {
    let id = cell.client.submit(&json!({"task_type": "count", "steps": 10_000, "pace": 20}));
    let mut dying = cell.deployment.work();
    wait_status(cell.sql, &id, "RUNNING");
    dying.signal(Signal::SIGSTOP);
    cell.client.cancel(&id).expect(204);
    assert!(entry(cell.sql, &id).has_worker);
    dying.kill();
    cell.sql.run("UPDATE workers SET state = 'dead', ended_at = now() WHERE state <> 'dead'").unwrap();
    let mut worker = cell.met(cell.faulty_worker(&[]));
    let entry = ledger::wait(cell.sql, &id, "confirmed", |entry| !entry.has_worker);
    assert_eq!((entry.status.as_str(), entry.delivery), ("CANCELLED", 1));
    check_history(cell.sql, &id);
    wait_until_clean(cell.deployment, cell.sql);
    worker.stop();
}

/// A task becomes due. Between the commit that makes it ready and its doorbell the worker may die: the next one finds
/// it by membership, when it has been ready for five seconds.
fn the_time_comes(cell: &Cell) {
    let mut body = counting();
    body["options"] = json!({"delay": "100ms"});
    let id = cell.client.submit(&body);
    ledger::wait_where(cell.sql, &id, "due_at < clock_timestamp()");
    let mut worker = cell.faulty_worker(&[]);
    cell.wait_met(&worker);
    if cell.action.aborts() {
        worker.wait_abort();
    }
    if matches!(cell.action, LoseReply | AbortAfter) {
        cell.let_it_be_missed(&id);
    }
    if cell.action == LoseReply {
        worker.stop();
    }
    if matches!(cell.action, LoseReply | Abort | AbortAfter) {
        worker = cell.healthy_worker();
    }
    cell.check(&[id], (1, 1), worker);
}

/// Nobody started it in time.
fn the_time_passes(cell: &Cell) {
    let mut body = counting();
    body["options"] = json!({"expires_in": "100ms"});
    let id = cell.client.submit(&body);
    ledger::wait_where(cell.sql, &id, "expires_at < clock_timestamp()");
    let mut worker = cell.met(cell.faulty_worker(&[]));
    let entry = wait_status(cell.sql, &id, "FAILED");
    assert_eq!((entry.delivery, entry.error.as_deref()), (0, Some("expired")));
    check_history(cell.sql, &id);
    wait_until_clean(cell.deployment, cell.sql);
    worker.stop();
}

/// Redis has lost three doorbells and the epoch.
fn redis_is_emptied(cell: &Cell) {
    let ids: Vec<String> = (0..3).map(|_| cell.client.submit(&counting())).collect();
    // Perhaps more than once each: a server that has just started rings too.
    until("the doorbells have rung", LONG, || {
        (cell.deployment.redis::<usize>(&["LLEN", "v1:ready:{default}:normal"]) >= 3).then_some(())
    });
    if cell.action == Error {
        // The first cell of its point: that server may still be at it.
        until("there is an epoch", LONG, || {
            let shown = cell.deployment.redis::<Option<String>>(&["GET", "v1:epoch"]);
            let stored = cell.sql.value::<Option<String>>("SELECT value FROM leases WHERE name = 'doorbells'", &[]);
            (shown.is_some() && shown == stored).then_some(())
        });
    }
    cell.let_leases_end();
    cell.deployment.redis::<()>(&["FLUSHDB"]);
    let worker = cell.met(cell.faulty_worker(&[]));
    cell.check(&ids, (1, if cell.action.aborts() { 2 } else { 1 }), worker);
}
