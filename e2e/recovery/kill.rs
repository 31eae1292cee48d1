//! Kill: many workers are killed at random moments of their lease, and one survivor takes all that they ran.

use std::{collections::HashMap, thread, time::Duration};

use super::{Size, now, percentile, task_of, wait_for_count, wait_until_workers_may_judge, with_lease};
use crate::harness::{App, Deployment, LONG, Stopwatch, until};

/// Tasks per worker that is killed.
const EACH: usize = 2;

#[test]
fn what_killed_workers_ran_starts_again_within_lease_and_sweep() {
    let size = Size::of_this_run();
    let (rounds, workers) = size.choose((1, 3), (3, 25));
    let watch = Stopwatch::start();
    let mut delays: Vec<f64> = (0..rounds).flat_map(|_| round(size, workers)).collect();
    assert_eq!(delays.len(), rounds * workers * EACH);
    let (half, most) = (percentile(&mut delays, 0.5), percentile(&mut delays, 0.99));
    size.figure(&format!(
        "SIGKILL: {} kills, {} tasks; until delivery 2 runs: median {half:.1} s, p99 {most:.1} s, longest {:.1} s",
        rounds * workers,
        delays.len(),
        percentile(&mut delays, 1.0)
    ));
    let promised = (size.lease() + size.sweep() + size.slack() + watch.lost()).as_secs_f64();
    assert!(most <= promised, "p99 is {most:.1} s, promised are {promised} s: {delays:.1?}");
}

/// How long after its worker's kill each task runs again, in seconds.
fn round(size: Size, count: usize) -> Vec<f64> {
    let deployment = with_lease(Deployment::new(), size).set("APP_CONCURRENCY", EACH);
    let mut serve = deployment.serve();
    let client = serve.client();
    let mut workers: Vec<App> = (0..count).map(|_| deployment.work()).collect();
    let sql = deployment.sql();
    let tasks = count * EACH;
    (0..tasks).for_each(|_| drop(client.submit(&task_of(3600.0))));
    wait_for_count(&sql, "RUNNING", tasks as i64, 2 * LONG);
    // It comes when all slots of the others are taken, and takes nothing before they die.
    let deployment = deployment.set("APP_CONCURRENCY", tasks + 8);
    let mut survivor = deployment.work();
    survivor.wait_for_line("worker started");
    wait_until_workers_may_judge(&sql, size.lease());

    let mut killed_at: HashMap<i32, f64> = HashMap::new();
    // Spread over the time between two renewals, so that every age of a lease occurs.
    let mut moments: Vec<f64> = (0..count).map(|_| rand::random_range(0.0..size.lease().as_secs_f64() / 3.0)).collect();
    moments.sort_by(f64::total_cmp);
    let began = now();
    for (worker, moment) in workers.iter_mut().zip(moments) {
        thread::sleep(Duration::from_secs_f64((began + moment - now()).max(0.0)));
        killed_at.insert(worker.pid().cast_signed(), now());
        worker.kill();
    }
    let again = "SELECT count(*) FROM tasks WHERE status = 'RUNNING' AND delivery = 2";
    until("all tasks run again", size.lease() + size.sweep() + LONG, || {
        (sql.value::<i64>(again, &[]) == tasks as i64).then_some(())
    });
    let starts = "
        SELECT w.pid, extract(epoch FROM second.at)::float8, t.failures = 0 AND EXISTS (
                   SELECT FROM task_events e WHERE e.task_id = t.id AND e.delivery = 1 AND e.message = 'worker lost')
        FROM tasks t
        JOIN task_events first ON first.task_id = t.id AND first.status = 'RUNNING' AND first.delivery = 1
        JOIN task_events second ON second.task_id = t.id AND second.status = 'RUNNING' AND second.delivery = 2
        JOIN workers w ON w.id = first.worker_id";
    let rows = sql.rows(starts, &[]);
    assert!(rows.iter().all(|row| row.get::<_, bool>(2)), "each lost its worker, and none is charged with a failure");
    rows.iter().map(|row| row.get::<_, f64>(1) - killed_at[&row.get::<_, i32>(0)]).collect()
}
