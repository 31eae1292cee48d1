//! Recovery: how long it takes until interrupted work goes on, and what readiness for that costs.
//!
//! Each test has two sizes. The small one is part of every run and has short leases; `RECOVERY=1` (`make recovery`)
//! takes the default settings and the numbers that docs/recovery.md promises, and prints what it measured.

mod backlog;
mod cost;
mod doorbells;
mod handover;
mod kill;
mod next_to_start;
mod postgres_away;
mod redis_away;
mod sweeper;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::harness::{Deployment, Sql, until};

/// The two sizes of this run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Size {
    /// Short leases and small numbers: shows that it works.
    Small,
    /// Default settings and the promised numbers: shows how well.
    Full,
}

impl Size {
    fn of_this_run() -> Self {
        if std::env::var_os("RECOVERY").is_some_and(|value| value == "1") { Size::Full } else { Size::Small }
    }

    fn choose<T>(self, small: T, full: T) -> T {
        match self {
            Size::Small => small,
            Size::Full => full,
        }
    }

    /// The lease of the workers: the default one in a full run.
    fn lease(self) -> Duration {
        Duration::from_secs(self.choose(3, 30))
    }

    /// How long after the end of a lease somebody has noticed: the longest pause between two sweeps, and a moment.
    fn sweep(self) -> Duration {
        self.lease() / 6
    }

    /// What a small run allows beyond the promise: other tests use the same machine at the same time.
    fn slack(self) -> Duration {
        Duration::from_secs(self.choose(20, 0))
    }

    /// Prints a figure of a full run, for the docs.
    fn figure(self, text: &str) {
        if self == Size::Full {
            eprintln!("figure: {text}");
        }
    }
}

/// A task that runs for so many seconds, with progress and a checkpoint every second.
fn task_of(seconds: f64) -> Value {
    json!({"vector_data": [1.0, 2.0], "duration": seconds})
}

/// Seconds since 1970 by this machine's clock, which is PostgreSQL's clock as well.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// The value below which this share of the measurements lies, by nearest rank.
fn percentile(measured: &mut [f64], share: f64) -> f64 {
    measured.sort_by(f64::total_cmp);
    let rank = (share * measured.len() as f64).ceil() as usize;
    measured[rank.clamp(1, measured.len()) - 1]
}

/// Waits until every worker that is not dead has been there for a lease: only then does it judge others.
#[track_caller]
fn wait_until_workers_may_judge(sql: &Sql, lease: Duration) {
    let settled = "SELECT count(*) > 0 AND bool_and(clock_timestamp() - started_at > $1 * interval '1 s') FROM workers
                   WHERE state <> 'dead'";
    let seconds = lease.as_secs_f64() + 0.5;
    until("the workers have been there for a lease", 2 * lease + Duration::from_secs(60), || {
        sql.value::<Option<bool>>(settled, &[&seconds]).unwrap_or(false).then_some(())
    });
}

/// Waits until so many tasks have this status.
#[track_caller]
fn wait_for_count(sql: &Sql, status: &str, count: i64, within: Duration) {
    until(&format!("{count} tasks are {status}"), within, || {
        (sql.value::<i64>("SELECT count(*) FROM tasks WHERE status = $1", &[&status]) == count).then_some(())
    });
}

/// A deployment whose workers have the lease of this size.
fn with_lease<'a>(deployment: Deployment<'a>, size: Size) -> Deployment<'a> {
    deployment
        .set("APP_LEASE", format!("{}s", size.lease().as_secs()))
        .set("APP_POSTGRES_POOL", 4)
        .set("RUST_LOG", "info")
}

#[test]
fn the_percentile_is_one_of_the_measurements() {
    let mut measured: Vec<f64> = (1..=200).rev().map(f64::from).collect();
    assert_eq!(percentile(&mut measured, 0.5), 100.0);
    assert_eq!(percentile(&mut measured, 0.99), 198.0);
    assert_eq!(percentile(&mut measured, 1.0), 200.0);
    assert_eq!(percentile(&mut [7.0], 0.99), 7.0);
}
