//! Taking: from the doorbell to the confirmed claim.

use super::*;

const ONCE: (i32, i32) = (1, 1);
const TWICE: (i32, i32) = (2, 2);

#[test]
fn every_step_up_to_the_claim_may_fail() {
    run_all(&[
        ("introduce", |cell| tasks_wait(cell, &[], [ONCE; 5])),
        ("redis.take", |cell| tasks_wait(cell, &[], [ONCE; 5])),
        ("redis.wait", a_worker_waits),
        // Redis has moved the ids and nobody received them: the worker looks at its own list, and that fails too.
        // Meanwhile it has claimed them straight from the table.
        ("redis.own_list", |cell| tasks_wait(cell, &["redis.take:lose-reply"], [ONCE, ONCE, ONCE, (1, 2), (1, 2)])),
        ("redis.probe", |cell| tasks_wait(cell, &["redis.take:lose-reply"], [ONCE, ONCE, ONCE, (1, 2), (1, 2)])),
        // A claim whose reply is lost has happened: it is handed back, and nothing is charged.
        ("claim", |cell| tasks_wait(cell, &[], [ONCE, TWICE, ONCE, ONCE, TWICE])),
        ("hand_back", |cell| tasks_wait(cell, &["claim:lose-reply"], [TWICE; 5])),
        ("why_not_claimed", a_doorbell_is_late),
        ("put_off_unknown", the_type_is_unknown),
    ]);
}

#[test]
fn without_redis_the_claim_may_fail_too() {
    let nowhere = "redis://127.0.0.1:1/0";
    let deployment = deployment().set("REDIS_URL", nowhere);
    let mut serve = deployment.serve();
    let (client, sql) = (serve.client(), deployment.sql());
    for action in Action::ALL {
        let cell = Cell { deployment: &deployment, sql: &sql, client: &client, point: "claim_from_table", action };
        tasks_wait(&cell, &[], [ONCE, TWICE, ONCE, ONCE, TWICE]);
    }
}

/// Three tasks wait when the worker comes. `deliveries`: how often each is delivered, by action.
fn tasks_wait(cell: &Cell, before: &[&str], deliveries: [(i32, i32); 5]) {
    let ids: Vec<String> = (0..3).map(|_| cell.client.submit(&counting())).collect();
    let worker = cell.met(cell.faulty_worker(before));
    let place = Action::ALL.iter().position(|action| *action == cell.action).unwrap();
    cell.check(&ids, deliveries[place], worker);
}

/// The worker is about to block on an empty queue, and a task comes.
fn a_worker_waits(cell: &Cell) {
    let worker = cell.faulty_worker(&[]);
    cell.wait_met(&worker);
    let ids = [cell.client.submit(&counting())];
    let worker = cell.met(worker);
    cell.check(&ids, (1, 1), worker);
}

/// The doorbell of a task that has ended rings once more.
fn a_doorbell_is_late(cell: &Cell) {
    let id = cell.client.submit(&counting());
    let mut healthy = cell.healthy_worker();
    wait_status(cell.sql, &id, "SUCCESS");
    healthy.stop();
    cell.deployment.redis::<i64>(&["LPUSH", "v1:ready:{default}:normal", &id]);
    let worker = cell.met(cell.faulty_worker(&[]));
    cell.check(&[id], (1, 1), worker);
}

/// A worker of the release before takes a task of a type that is newer.
fn the_type_is_unknown(cell: &Cell) {
    let id = cell.client.submit(&json!({"task_type": "newer"}));
    let fault = cell.action.at(cell.point);
    let mut old = cell.deployment.work_with(&[("APP_FAULTS", &fault), ("E2E_BUILD", "old")]);
    cell.wait_met(&old);
    let mut new = cell.healthy_worker();
    if cell.action.aborts() {
        old.wait_abort();
    } else {
        old.stop();
    }
    let entry = wait_status(cell.sql, &id, "SUCCESS");
    assert_eq!((entry.delivery, entry.failures, entry.lost), (1, 0, 0));
    check_history(cell.sql, &id);
    wait_until_clean(cell.deployment, cell.sql);
    new.stop();
}
