//! Hand-over: workers are told to leave, and what does not finish within their grace starts elsewhere at once.

use std::collections::HashMap;

use nix::sys::signal::Signal;

use super::{Size, now, percentile, task_of, wait_for_count};
use crate::harness::{App, Deployment, LONG, Stopwatch, until};

/// Tasks per worker that leaves.
const EACH: usize = 2;
/// Their grace, in seconds.
const GRACE: f64 = 2.0;

#[test]
fn what_leaving_workers_hand_back_starts_within_a_second() {
    let size = Size::of_this_run();
    let count = size.choose(2, 25);
    let deployment = Deployment::new()
        .set("APP_GRACE", format!("{GRACE}s"))
        .set("APP_POSTGRES_POOL", 4)
        .set("RUST_LOG", "info")
        .set("APP_CONCURRENCY", EACH);
    let mut serve = deployment.serve();
    let client = serve.client();
    let mut workers: Vec<App> = (0..count).map(|_| deployment.work()).collect();
    let sql = deployment.sql();
    let tasks = count * EACH;
    (0..tasks).for_each(|_| drop(client.submit(&task_of(3600.0))));
    wait_for_count(&sql, "RUNNING", tasks as i64, 2 * LONG);
    let deployment = deployment.set("APP_CONCURRENCY", tasks + 8);
    let mut successor = deployment.work();
    successor.wait_for_line("worker started");

    let (watch, mut told_at): (_, HashMap<i32, f64>) = (Stopwatch::start(), HashMap::new());
    for worker in &workers {
        told_at.insert(worker.pid().cast_signed(), now());
        worker.signal(Signal::SIGTERM);
    }
    let again = "SELECT count(*) FROM tasks WHERE status = 'RUNNING' AND delivery = 2";
    until("all tasks run elsewhere", 2 * LONG, || (sql.value::<i64>(again, &[]) == tasks as i64).then_some(()));
    let standstills = watch.lost().as_secs_f64();
    for worker in &mut workers {
        assert_eq!(worker.wait_exit(LONG).code(), Some(0));
    }
    let starts = "
        SELECT w.pid, extract(epoch FROM second.at)::float8, t.lost, t.failures
        FROM tasks t
        JOIN task_events first ON first.task_id = t.id AND first.status = 'RUNNING' AND first.delivery = 1
        JOIN task_events second ON second.task_id = t.id AND second.status = 'RUNNING' AND second.delivery = 2
        JOIN workers w ON w.id = first.worker_id";
    let rows = sql.rows(starts, &[]);
    assert!(rows.iter().all(|row| (row.get::<_, i32>(2), row.get::<_, i32>(3)) == (0, 0)), "a rollout charges nothing");
    let mut delays: Vec<f64> =
        rows.iter().map(|row| row.get::<_, f64>(1) - told_at[&row.get::<_, i32>(0)] - GRACE).collect();
    assert_eq!(delays.len(), tasks);
    assert!(delays.iter().all(|delay| *delay > 0.0), "the grace was not kept: {delays:.2?}");
    let (half, longest) = (percentile(&mut delays, 0.5), percentile(&mut delays, 1.0));
    size.figure(&format!(
        "SIGTERM: {count} workers at once, {tasks} tasks; from the end of the grace until delivery 2 runs: \
         median {half:.2} s, longest {longest:.2} s"
    ));
    let promised = 1.0 + size.slack().as_secs_f64() + standstills;
    assert!(longest <= promised, "{longest:.2} s after the grace: {delays:.2?}");
}
