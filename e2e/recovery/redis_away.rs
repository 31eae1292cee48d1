//! Redis away: everything goes on without it, and nearly as fast.

use std::{
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{Size, backlog, percentile, task_of};
use crate::harness::{Client, Deployment, Event, LONG, Services, Sql, until};

/// The least share of the normal throughput that must be left.
const SHARE: f64 = 0.8;
/// So few that the machine is not what limits the rate.
const SLOTS: usize = 8;

#[test]
fn a_task_lives_its_whole_life_without_redis() {
    let size = Size::of_this_run();
    let services = Services::private();
    let deployment = Deployment::on(&services);
    services.redis.stop();
    // Not even at the start is it there.
    let (mut serve, mut work) = (deployment.serve(), deployment.work());
    let client = serve.client();
    client.wait_ready(LONG);
    assert_eq!(client.fetch("/readyz").expect(200).json()["redis"], "degraded");

    let began = Instant::now();
    let id = client.submit(&task_of(3.0));
    let submitted = began.elapsed();
    let events: Vec<Event> = client.stream(&id, None).collect();
    let statuses: Vec<&str> = events.iter().filter_map(|event| event.status()).collect();
    assert_eq!(statuses.last(), Some(&"SUCCESS"), "{statuses:?}");
    assert_eq!(client.task(&id)["status"], "SUCCESS");
    let streamed = began.elapsed();

    let running = client.submit(&task_of(3600.0));
    client.wait_status(&running, "RUNNING", LONG);
    let began = Instant::now();
    client.cancel(&running).expect(204);
    assert_eq!(client.task(&running)["status"], "CANCELLED");
    let answered = began.elapsed();
    let sql = deployment.sql();
    let stopped = "SELECT worker_id IS NULL FROM tasks WHERE id = from_ulid($1)";
    until("the attempt has stopped", LONG, || sql.value::<bool>(stopped, &[&running]).then_some(()));
    // Nobody said so: it was found in PostgreSQL, and the attempt was told why all the same.
    work.wait_for_line("stopped: the task was cancelled");
    size.figure(&format!(
        "Redis down: submit answered in {:.3} s, a task of 3 s streamed to its end in {:.1} s, a cancel answered in \
         {:.3} s and its attempt stopped after {:.1} s",
        submitted.as_secs_f64(),
        streamed.as_secs_f64(),
        answered.as_secs_f64(),
        began.elapsed().as_secs_f64()
    ));
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Redis {
    There,
    /// Its port refuses.
    Stopped,
    /// It accepts and says nothing.
    Hanging,
}

#[test]
fn throughput_without_redis_is_nearly_the_normal_one() {
    let size = Size::of_this_run();
    let services = Services::private();
    let deployment = Deployment::on(&services).set("APP_CONCURRENCY", SLOTS).set("RUST_LOG", "info");
    let (mut serve, mut work) = (deployment.serve(), deployment.work());
    let client = serve.client();
    work.wait_for_line("worker started");
    let sql = deployment.sql();
    let (rounds, count) = size.choose((1, 48), (3, 1_200));
    let mut rates: [Vec<f64>; 3] = Default::default();
    for _ in 0..rounds {
        for (kind, rates) in [Redis::There, Redis::Stopped, Redis::Hanging].into_iter().zip(&mut rates) {
            let process = Pid::from_raw(services.redis.pid().cast_signed());
            match kind {
                Redis::There => {}
                Redis::Stopped => services.redis.stop(),
                Redis::Hanging => kill(process, Signal::SIGSTOP).unwrap(),
            }
            rates.push(throughput(&client, &sql, count));
            match kind {
                Redis::There => continue,
                Redis::Stopped => services.redis.start(),
                Redis::Hanging => kill(process, Signal::SIGCONT).unwrap(),
            }
            backlog::wait_until_rung(&deployment);
            until("the worker takes from Redis again", LONG, || {
                let clients: String = deployment.redis(&["CLIENT", "LIST"]);
                clients.contains("cmd=brpoplpush").then_some(())
            });
        }
    }
    let [normal, stopped, hanging] = rates.each_mut().map(|rates| percentile(rates, 0.5));
    size.figure(&format!(
        "tasks of 100 ms in {SLOTS} slots, {rounds} alternating rounds of {count}: {normal:.0} a second with Redis, \
         {stopped:.0} ({:.0} %) with Redis down, {hanging:.0} ({:.0} %) with Redis hanging",
        100.0 * stopped / normal,
        100.0 * hanging / normal
    ));
    // A small round is over before its rate says anything.
    if size == Size::Full {
        assert!(stopped >= SHARE * normal, "{rates:.0?}");
    }
}

/// Submits tasks of 100 ms and returns how many a second were finished, from the first submit to the last end.
fn throughput(client: &Client, sql: &Sql, count: usize) -> f64 {
    sql.run("TRUNCATE tasks, task_events").unwrap();
    let body = task_of(0.1);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..count / 4).for_each(|_| drop(client.submit(&body))));
        }
    });
    let done = "SELECT count(*) FROM tasks WHERE status = 'SUCCESS' AND delivery = 1";
    until("all tasks have ended", Duration::from_secs(180), || {
        (sql.value::<i64>(done, &[]) == count as i64).then_some(())
    });
    let time = "SELECT extract(epoch FROM max(completed_at) - min(created_at))::float8 FROM tasks";
    count as f64 / sql.value::<f64>(time, &[])
}
