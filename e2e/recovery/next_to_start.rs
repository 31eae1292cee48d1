//! Next to start: a task that was killed when it was nearly done does not queue behind the backlog.

use std::time::Duration;

use super::{
    Size,
    backlog::{self, Mix},
    task_of, wait_for_count, wait_until_workers_may_judge, with_lease,
};
use crate::harness::{Deployment, LONG};

#[test]
fn a_task_killed_at_minute_50_starts_before_the_backlog() {
    let size = Size::of_this_run();
    // Half minutes, each of which takes a second. The small one is killed in the eighth of twenty, or later.
    let (hour, killed, count) = size.choose((20, 8, 2_000), (120, 100, 200_000));
    let deployment = with_lease(Deployment::new(), size).set("APP_CONCURRENCY", 1);
    let mut serve = deployment.serve();
    let client = serve.client();
    let mut first = deployment.work();
    let sql = deployment.sql();
    let long = client.submit(&task_of(f64::from(hour)));
    wait_for_count(&sql, "RUNNING", 1, LONG);
    // One slot, which will be busy with the backlog.
    let mut second = deployment.work();
    second.wait_for_line("worker started");
    backlog::insert(&sql, Mix::Normal, count, 0.3);
    // Without its epoch Redis counts as emptied, and all that wait are rung.
    deployment.redis::<()>(&["DEL", "v1:epoch"]);
    backlog::wait_until_rung(&deployment);
    wait_until_workers_may_judge(&sql, size.lease());
    client.wait(&long, "it has come this far", Duration::from_secs(150), |task| {
        task["progress"]["current"].as_i64().is_some_and(|current| current >= killed)
    });
    first.kill();
    let task = client.wait(&long, "it runs again", size.lease() + size.sweep() + LONG, |task| task["delivery"] == 2);
    let at = |what: &str| -> f64 {
        let at =
            format!("SELECT extract(epoch FROM at)::float8 FROM task_events WHERE task_id = from_ulid($1) AND {what}");
        sql.value(&at, &[&long])
    };
    let (lost, again) = (at("message = 'worker lost'"), at("status = 'RUNNING' AND delivery = 2"));
    let others: i64 = sql.value(
        "SELECT count(*) FROM task_events WHERE status = 'RUNNING' AND task_id <> from_ulid($1)
         AND at > to_timestamp($2) AND at < to_timestamp($3)",
        &[&long, &lost, &again],
    );
    let waited = again - lost;
    let left: i64 = sql.value("SELECT count(*) FROM tasks WHERE status = 'PENDING'", &[]);
    assert!(left > 0, "the backlog must outlast the test");
    assert!(others <= 2, "{others} tasks of the backlog started before it");
    let current = task["progress"]["current"].as_i64().unwrap_or_default();
    assert!(current >= killed - 1, "it goes on from its checkpoint: {task:#}");
    let end = client.wait_final(&long, LONG);
    assert_eq!((&end["status"], end["delivery"].as_i64()), (&"SUCCESS".into(), Some(2)));
    size.figure(&format!(
        "killed at minute {} of 60 with {left} pending: back in the queue, it started {waited:.2} s later, \
         after at most {others} others, and went on from minute {}",
        killed / 2,
        current / 2
    ));
}
