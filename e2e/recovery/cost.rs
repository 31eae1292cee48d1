//! Cost: what an idle worker does all the time, and what a large healthy backlog adds to it.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::{
    Size,
    backlog::{self, Mix},
};
use crate::harness::{Deployment, LONG, Services, Sql, cpu, until};

/// The most that looking after a backlog of 200,000 may take: a hundredth of a core.
const PROMISED: f64 = 0.01;

#[test]
fn looking_after_a_backlog_costs_next_to_nothing() {
    let size = Size::of_this_run();
    let (count, seconds) = size.choose((2_000, 5), (200_000, 120));
    let services = Services::private();
    let deployment = Deployment::on(&services).set("APP_QUEUES", "other=1").set("RUST_LOG", "info");
    let sql = deployment.sql();
    let mut work = deployment.work();
    work.wait_for_line("worker started");
    let pids = [work.pid(), services.postgres.pid(), services.redis.pid()];
    let measure = || {
        let (began, cpu, statements) = (Instant::now(), pids.map(cpu), statements(&sql));
        thread::sleep(Duration::from_secs(seconds));
        let time = began.elapsed().as_secs_f64();
        let statements = (statements_settled(&sql) - statements) as f64 / time;
        let shares: Vec<f64> =
            pids.iter().zip(cpu).map(|(pid, before)| (crate::harness::cpu(*pid) - before) / time).collect();
        (shares, statements)
    };
    // What a start takes is over when the first look for lost doorbells is.
    until("the worker has settled", LONG, || {
        let looks = "SELECT count(*) FROM leases WHERE name = 'lost_doorbells'";
        (sql.value::<i64>(looks, &[]) == 1).then_some(())
    });
    let (idle, statements) = measure();
    backlog::insert(&sql, Mix::All, count, 0.0);
    deployment.redis::<()>(&["DEL", "v1:epoch"]);
    until("the backlog has its doorbells", 2 * LONG, || {
        (backlog::length(&deployment, "default") >= count as usize).then_some(())
    });
    sql.run("VACUUM ANALYZE tasks").unwrap();
    let (busy, _) = measure();
    assert_eq!(backlog::length(&deployment, "default"), backlog::rung(&deployment, "default").elements);
    let percent = |shares: &[f64]| {
        let [worker, postgres, redis] = [0, 1, 2].map(|at| 100.0 * shares[at]);
        format!(
            "{:.2} % of a core (worker {worker:.2}, PostgreSQL {postgres:.2}, Redis {redis:.2})",
            worker + postgres + redis
        )
    };
    size.figure(&format!("idle worker, nothing pending: {}, {statements:.1} statements a second", percent(&idle)));
    size.figure(&format!("idle worker, {count} pending: {}", percent(&busy)));
    let added = busy.iter().sum::<f64>() - idle.iter().sum::<f64>();
    size.figure(&format!("looking after {count} doorbells adds {:.2} % of a core", 100.0 * added));
    // A few seconds on a busy machine show nothing of either; the small size sees that all of it runs.
    if size == Size::Full {
        assert!(statements < 10.0, "{statements:.1} statements a second while nothing happens");
        // Only an optimised program can show it.
        if std::env::var_os("APP_UNDER_TEST").is_some() {
            assert!(added <= PROMISED, "{added}");
        }
    }
}

/// Transactions of this database so far. Every statement of the program is one.
fn statements(sql: &Sql) -> i64 {
    sql.value("SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()", &[])
}

/// The same, when the backends have told of their last ones.
fn statements_settled(sql: &Sql) -> i64 {
    sql.run("SELECT pg_stat_force_next_flush()").unwrap();
    statements(sql)
}
