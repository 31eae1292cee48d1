//! Sweeper: the worker that looked after the others last is stopped, and recovery goes on through the rest.

use nix::sys::signal::Signal;

use super::{Size, backlog, task_of, wait_for_count, wait_until_workers_may_judge, with_lease};
use crate::harness::{App, Deployment, LONG, Stopwatch, until};

#[test]
fn a_stopped_sweeper_stops_no_recovery() {
    let size = Size::of_this_run();
    let deployment = with_lease(Deployment::new(), size).set("APP_CONCURRENCY", 2);
    let mut serve = deployment.serve();
    let client = serve.client();
    let mut victim = deployment.work();
    let sql = deployment.sql();
    (0..2).for_each(|_| drop(client.submit(&task_of(3600.0))));
    wait_for_count(&sql, "RUNNING", 2, LONG);
    let mut others: Vec<App> = vec![deployment.work(), deployment.work(), deployment.work()];
    others.iter_mut().for_each(|worker| drop(worker.wait_for_line("worker started")));
    victim.wait_for_line("worker started");
    wait_until_workers_may_judge(&sql, size.lease());
    // Whoever looked last for lost doorbells would be the leader, if there were one.
    let holder = "SELECT w.pid FROM leases l JOIN workers w ON w.id = l.holder WHERE l.name = 'lost_doorbells'";
    let holder = until("somebody looks for lost doorbells", 2 * LONG, || {
        sql.rows(holder, &[]).first().map(|row| row.get::<_, i32>(0).cast_unsigned())
    });
    let at = others.iter().position(|worker| worker.pid() == holder).unwrap_or(0);
    let stopped = others.swap_remove(at);
    stopped.signal(Signal::SIGSTOP);
    victim.kill();
    let began = Stopwatch::start();
    let again = "SELECT count(*) FROM tasks t JOIN workers w ON w.id = t.worker_id
                 WHERE t.status = 'RUNNING' AND t.delivery = 2 AND w.pid <> $1";
    let stopped_pid = stopped.pid().cast_signed();
    until("the tasks run again", size.lease() + size.sweep() + LONG, || {
        (sql.value::<i64>(again, &[&stopped_pid]) == 2).then_some(())
    });
    let (took, took_lost) = (began.on_the_wall(), began.lost());

    // A doorbell that gets lost is found as well.
    let waiting: Vec<String> = (0..6).map(|_| client.submit(&task_of(0.0))).collect();
    until("they have run, or wait for a slot", LONG, || {
        let done: i64 = sql.value("SELECT count(*) FROM tasks WHERE status = 'SUCCESS'", &[]);
        (done == waiting.len() as i64).then_some(())
    });
    sql.run("INSERT INTO queues (name, paused) VALUES ('default', true)").unwrap();
    let lost = client.submit(&task_of(0.0));
    until("its doorbell has rung", LONG, || (backlog::length(&deployment, "default") > 0).then_some(()));
    deployment.redis::<()>(&["DEL", &backlog::key("default", "normal")]);
    let own: Vec<String> = deployment.redis(&["KEYS", "v1:inflight:*"]);
    let began = Stopwatch::start();
    sql.run("UPDATE queues SET paused = false").unwrap();
    client.wait_final(&lost, 2 * LONG);
    let (found, found_lost) = (began.on_the_wall(), began.lost());
    stopped.signal(Signal::SIGCONT);
    size.figure(&format!(
        "sweeper stopped by SIGSTOP: the tasks of a killed worker run again after {:.1} s, a lost doorbell rang after \
         {:.1} s",
        took.as_secs_f64(),
        found.as_secs_f64()
    ));
    assert!(took - took_lost <= size.lease() + size.sweep() + size.slack(), "{took:?}; lists: {own:?}");
    assert!((found - found_lost).as_secs_f64() <= 35.0 + size.slack().as_secs_f64(), "{found:?}");
}
