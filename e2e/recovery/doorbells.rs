//! Doorbells: Redis loses all of them, or ten of them, while a large backlog waits.

use std::collections::HashSet;

use super::{
    Size,
    backlog::{self, Mix},
};
use crate::harness::{Deployment, LONG, Stopwatch, until};

/// Two sweeps, of five seconds at most each, and the ringing itself.
const ALL_AGAIN: f64 = 10.0;
/// A single lost doorbell.
const ONE_AGAIN: f64 = 35.0;

#[test]
fn all_doorbells_or_single_ones_ring_again_and_none_twice() {
    let size = Size::of_this_run();
    let count: i64 = size.choose(12_000, 200_000);
    // The workers look after all queues, and take from another one.
    let deployment = Deployment::new().set("APP_QUEUES", "other=1").set("RUST_LOG", "info");
    let sql = deployment.sql();
    let mut workers = [deployment.work(), deployment.work()];
    workers.iter_mut().for_each(|worker| drop(worker.wait_for_line("worker started")));
    backlog::wait_until_rung(&deployment);
    backlog::insert(&sql, Mix::All, count, 0.0);
    // Without its epoch Redis counts as emptied, and all that wait are rung.
    deployment.redis::<()>(&["DEL", "v1:epoch"]);
    backlog::wait_until_rung(&deployment);
    let asked: HashSet<String> =
        sql.rows("SELECT ulid(id) FROM tasks", &[]).iter().map(|row| row.get::<_, String>(0)).collect();

    deployment.redis::<()>(&["FLUSHDB"]);
    let began = Stopwatch::start();
    until("every doorbell rings", 2 * LONG, || {
        (backlog::length(&deployment, "default") >= count as usize).then_some(())
    });
    let (all, all_lost) = (began.on_the_wall().as_secs_f64(), began.lost().as_secs_f64());
    backlog::wait_until_rung(&deployment);
    let rung = backlog::rung(&deployment, "default");
    assert!(rung.ids == asked, "every waiting task has a doorbell, and nothing else has");
    // The first sixteen of a high and of a low list may also be on the normal one, to wake those who wait there.
    let (twice, woken) = (rung.elements - rung.ids.len(), 2 * 16);
    assert!(twice <= woken, "{twice} doorbells ring twice");

    let lost: Vec<&String> = asked.iter().take(10).collect();
    for id in &lost {
        let removed: i64 = backlog::LISTS
            .iter()
            .map(|list| deployment.redis::<i64>(&["LREM", &backlog::key("default", list), "0", id]))
            .sum();
        assert!(removed > 0, "it was there");
    }
    let began = Stopwatch::start();
    let present = |id: &String| {
        backlog::LISTS
            .iter()
            .any(|list| deployment.redis::<Option<i64>>(&["LPOS", &backlog::key("default", list), id]).is_some())
    };
    until("ten lost doorbells ring again", 2 * LONG, || lost.iter().all(|id| present(id)).then_some(()));
    let (ten, ten_lost) = (began.on_the_wall().as_secs_f64(), began.lost().as_secs_f64());
    // A further look must find nothing to ring.
    let looks = "SELECT extract(epoch FROM lease_until)::float8 FROM leases WHERE name = 'lost_doorbells'";
    let last: f64 = sql.value(looks, &[]);
    until("one more look has begun", 2 * LONG, || (sql.value::<f64>(looks, &[]) > last).then_some(()));
    workers.iter_mut().for_each(|worker| worker.stop());
    let rung = backlog::rung(&deployment, "default");
    assert!(rung.ids == asked);
    assert!(rung.elements - rung.ids.len() <= woken, "{} doorbells ring twice", rung.elements - rung.ids.len());

    size.figure(&format!("FLUSHALL with {count} pending: every doorbell rings again after {all:.1} s"));
    size.figure(&format!("ten doorbells of {count} removed: all ring again after {ten:.1} s; none rings twice"));
    let slack = size.slack().as_secs_f64();
    assert!(all - all_lost <= ALL_AGAIN + slack, "all: {all:.1} s");
    assert!(ten - ten_lost <= ONE_AGAIN + slack, "ten: {ten:.1} s");
}
