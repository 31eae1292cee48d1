//! Line: tasks that arrive at random at two workers with four slots each, and how long they wait.

use std::{
    thread,
    time::{Duration, Instant},
};

use longrun::size::queueing::Line;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::json;

use super::{figure, measuring};
use crate::harness::{Deployment, LONG, until};

const WORKERS: usize = 2;
const SLOTS_EACH: usize = 4;
/// Mean duration in seconds: many tasks in little time, and long beside what starting one takes.
const DURATION: f64 = 0.5;
/// How far a wait may be from the predicted one, as docs/sizing.md says.
const TOLERANCE: f64 = 0.2;

/// A task as it is planned, or as it was: in seconds, by the database's clock where it was.
struct Seen {
    created: f64,
    started: f64,
    completed: f64,
}

#[test]
fn tasks_wait_as_predicted() {
    // One point of a real run at a time, when it is asked for: SIZING_LOAD=0.75.
    let asked = std::env::var("SIZING_LOAD").ok().map(|load| vec![load.parse().expect("a utilisation, as 0.75")]);
    let loads: Vec<f64> = asked.unwrap_or(if measuring() { vec![0.75, 0.85, 0.9] } else { vec![0.9] });
    let seconds = if measuring() { 55.0 } else { 6.0 };
    for utilisation in loads {
        let slots = (WORKERS * SLOTS_EACH) as u64;
        let line = Line { rate: utilisation * slots as f64 / DURATION, duration: DURATION, variation: 1.0, slots };
        let seen = run(&average_minute(line, seconds));
        judge(line, &seen);
    }
}

/// A minute of random arrivals and durations in which the wait is about the mean of all minutes: minutes differ twofold,
/// and what is to be seen here is not their luck. The first seed that gives one is taken.
fn average_minute(line: Line, seconds: f64) -> Vec<Seen> {
    let about = |minute: &Vec<Seen>| (play(minute, line.slots as usize) / line.mean_wait() - 1.0).abs() < 0.05;
    (1..10_000).map(|seed| minute(line, seconds, seed)).find(about).expect("one minute in ten is")
}

fn minute(line: Line, seconds: f64, seed: u64) -> Vec<Seen> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut exponential = |mean: f64| -mean * (1.0 - random.random::<f64>()).ln();
    let mut at = 0.0;
    let mut tasks = Vec::new();
    while at < seconds {
        at += exponential(1.0 / line.rate);
        tasks.push(Seen { created: at, started: 0.0, completed: exponential(line.duration) });
    }
    tasks
}

/// Has a real deployment do it.
fn run(planned: &[Seen]) -> Vec<Seen> {
    let deployment = Deployment::new().set("APP_CONCURRENCY", SLOTS_EACH).set("RUST_LOG", "info");
    let mut serve = deployment.serve();
    let _workers: Vec<_> = (0..WORKERS).map(|_| deployment.work()).collect();
    let sql = deployment.sql();
    until("the workers are there", LONG, || {
        (sql.value::<i64>("SELECT count(*) FROM workers WHERE state = 'alive'", &[]) == 2).then_some(())
    });
    let client = serve.client();
    let began = Instant::now();
    for task in planned {
        let body = json!({"vector_data": [1.0], "duration": task.completed - task.started});
        // The load, not a wait for something: tasks arrive when they arrive.
        thread::sleep(Duration::from_secs_f64(task.created).saturating_sub(began.elapsed()));
        client.submit(&body);
    }
    until("all have ended", 2 * LONG, || {
        (sql.value::<i64>("SELECT count(*) FROM tasks WHERE status <> 'SUCCESS'", &[]) == 0).then_some(())
    });
    let times = "SELECT extract(epoch FROM created_at)::float8, extract(epoch FROM started_at)::float8,
                        extract(epoch FROM completed_at)::float8 FROM tasks ORDER BY created_at";
    let seen = |row: &tokio_postgres::Row| Seen { created: row.get(0), started: row.get(1), completed: row.get(2) };
    sql.rows(times, &[]).iter().map(seen).collect()
}

/// Compares the measured waits with what was predicted, and with the same arrivals and durations played again.
fn judge(line: Line, seen: &[Seen]) {
    let measured = seen.iter().map(|task| task.started - task.created).sum::<f64>() / seen.len() as f64;
    let (predicted, played) = (line.mean_wait(), play(seen, line.slots as usize));
    let off = predicted / measured - 1.0;
    figure(&format!(
        "| {:.0} % | {} | {:.0} ms | {:.0} ms | {:+.0} % | {:.0} ms |",
        100.0 * line.utilisation(),
        seen.len(),
        1e3 * predicted,
        1e3 * measured,
        100.0 * off,
        1e3 * played,
    ));
    // A busy machine makes them wait longer, and nothing makes them wait less than the slots do.
    let slots = line.slots;
    assert!(
        measured >= played * (1.0 - TOLERANCE),
        "waited {measured} s, {played} s with {slots} slots: there are more"
    );
    if measuring() {
        assert!(off.abs() <= TOLERANCE, "measured {measured}, predicted {predicted}");
    }
}

/// The mean wait of the same tasks in a house without any overhead.
fn play(tasks: &[Seen], slots: usize) -> f64 {
    let mut free = vec![f64::MIN; slots];
    let mut waited = 0.0;
    for task in tasks {
        let soonest = free.iter_mut().min_by(|a, b| a.total_cmp(b)).expect("there is a slot");
        let starts = soonest.max(task.created);
        waited += starts - task.created;
        *soonest = starts + task.completed - task.started;
    }
    waited / tasks.len() as f64
}
