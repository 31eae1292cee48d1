//! PostgreSQL away: stopped or standing still for three leases, and not one attempt begins again.

use std::{fs, thread, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{Size, task_of, wait_for_count, wait_until_workers_may_judge, with_lease};
use crate::harness::{App, Deployment, LONG, Services, until};

/// Tasks of each worker.
const EACH: usize = 2;

#[test]
fn postgres_restarted_after_three_leases_restarts_no_attempt() {
    away("restarted", |services, time| {
        services.postgres.stop(Signal::SIGQUIT);
        thread::sleep(time);
        services.postgres.start();
    });
}

#[test]
fn postgres_standing_still_for_three_leases_restarts_no_attempt() {
    away("standing still", |services, time| {
        // The parent first: it would make further ones, and wonder about children that stand still.
        let parent = Pid::from_raw(services.postgres.pid().cast_signed());
        kill(parent, Signal::SIGSTOP).unwrap();
        let children = children(parent);
        // One may be about to end by itself.
        let tell = |signal| children.iter().for_each(|pid| _ = kill(*pid, signal));
        tell(Signal::SIGSTOP);
        thread::sleep(time);
        tell(Signal::SIGCONT);
        kill(parent, Signal::SIGCONT).unwrap();
    });
}

#[test]
fn a_worker_gathers_no_ids_while_postgres_is_away() {
    let services = Services::private();
    let deployment = Deployment::on(&services).set("APP_CONCURRENCY", 2);
    let (mut serve, work) = (deployment.serve(), deployment.work());
    let client = serve.client();
    let ids: Vec<String> = (0..100).map(|_| client.submit(&task_of(0.2))).collect();
    client.wait_status(&ids[0], "SUCCESS", LONG);
    services.postgres.stop(Signal::SIGQUIT);
    // Each of them took something, or tried again with what it had.
    until("several claims have failed", LONG, || (work.stderr().matches("cannot claim").count() >= 8).then_some(()));
    let taken: usize = deployment
        .redis::<Vec<String>>(&["KEYS", "v1:inflight:*"])
        .iter()
        .map(|list| deployment.redis::<usize>(&["LLEN", list]))
        .sum();
    // Two that wait for their end to be written, two that wait to be claimed, and as many between the two.
    assert!(taken <= 6, "{taken} ids are where no other worker finds them");
    services.postgres.start();
    ids.iter().for_each(|id| drop(client.wait_status(id, "SUCCESS", 2 * LONG)));
}

fn away(how: &str, outage: impl Fn(&Services, Duration)) {
    let size = Size::of_this_run();
    let services = Services::private();
    let deployment = with_lease(Deployment::on(&services), size).set("APP_CONCURRENCY", EACH);
    let mut serve = deployment.serve();
    let client = serve.client();
    let workers: Vec<App> = (0..size.choose(2, 4)).map(|_| deployment.work()).collect();
    let tasks = (workers.len() * EACH) as i64;
    let ids: Vec<String> = (0..tasks).map(|_| client.submit(&task_of(3600.0))).collect();
    {
        let sql = deployment.sql();
        wait_for_count(&sql, "RUNNING", tasks, 2 * LONG);
        wait_until_workers_may_judge(&sql, size.lease());
    }
    outage(&services, 3 * size.lease());

    // Long enough for everybody to judge again, and then to sweep.
    let sql = until("PostgreSQL answers", LONG, || {
        let sql = deployment.sql();
        sql.run("SELECT 1").is_ok().then_some(sql)
    });
    let back: f64 = sql.value("SELECT extract(epoch FROM clock_timestamp())::float8", &[]);
    let progress = |id: &String| client.task(id)["progress"]["current"].as_i64().unwrap_or_default();
    let before: Vec<i64> = ids.iter().map(progress).collect();
    let wait = (2 * size.lease() + 2 * size.sweep() + Duration::from_secs(2)).as_secs_f64();
    until("two leases have passed", 10 * size.lease() + LONG, || {
        let now: f64 = sql.value("SELECT extract(epoch FROM clock_timestamp())::float8", &[]);
        (now > back + wait).then_some(())
    });
    let restarted: i64 = sql.value("SELECT count(*) FROM tasks WHERE delivery <> 1 OR status <> 'RUNNING'", &[]);
    let dead: i64 = sql.value("SELECT count(*) FROM workers WHERE state = 'dead'", &[]);
    size.figure(&format!(
        "PostgreSQL {how} for {} s: {restarted} of {tasks} attempts restarted, {dead} workers declared dead",
        (3 * size.lease()).as_secs()
    ));
    assert_eq!((restarted, dead), (0, 0), "PostgreSQL was {how}");
    let after: Vec<i64> = ids.iter().map(progress).collect();
    assert!(before.iter().zip(&after).all(|(before, after)| after > before), "they go on: {before:?} {after:?}");
}

/// The processes whose parent this is.
fn children(parent: Pid) -> Vec<Pid> {
    let mut all = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        if fields.get(1).is_some_and(|ppid| *ppid == parent.to_string()) {
            all.push(Pid::from_raw(pid));
        }
    }
    all
}
