//! Bench: what this program does in a second, and what that costs with a full table.
//!
//! Each test has two sizes. The small one is part of every run and sees that all of it works; `BENCH=1` (`make bench`)
//! takes the optimised program, alternating rounds and full sizes, and prints medians with the least and the most. The
//! load comes from the same machine, so figures of two machines cannot be compared; ratios of one run can.

mod growth;
#[cfg(feature = "faults")]
mod isolation;
mod load;
mod neighbours;
mod overhead;
mod rates;
mod scale;

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Sql, until};

/// Connections of the load, as many as the comparison with others uses.
const CONNECTIONS: usize = 64;

/// The two sizes of this run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Size {
    Small,
    Full,
}

impl Size {
    fn of_this_run() -> Self {
        if std::env::var_os("BENCH").is_some_and(|value| value == "1") { Size::Full } else { Size::Small }
    }

    fn choose<T>(self, small: T, full: T) -> T {
        match self {
            Size::Small => small,
            Size::Full => full,
        }
    }

    /// Rounds that alternate between what is compared.
    fn rounds(self) -> usize {
        self.choose(1, 3)
    }

    /// How long one load lasts.
    fn load(self) -> Duration {
        self.choose(Duration::from_millis(300), Duration::from_secs(4))
    }

    /// Prints figures of a full run: what, and the median with the least and the most.
    fn figure(self, what: &str, unit: &str, measured: &mut [f64]) {
        if self == Size::Full {
            measured.sort_by(f64::total_cmp);
            let [least, median, most] = [0, measured.len() / 2, measured.len() - 1].map(|at| measured[at]);
            eprintln!("figure: {what}: {median:.1} {unit} ({least:.1} to {most:.1})");
        }
    }
}

fn median(measured: &mut [f64]) -> f64 {
    measured.sort_by(f64::total_cmp);
    measured[measured.len() / 2]
}

/// The task of every load: it computes for microseconds.
fn light_task() -> Value {
    json!({"vector_data": [0.1, 0.2, 0.3], "metadata": {"k": "v"}, "duration": 0})
}

/// Waits until so many tasks have ended, and none is left, and returns how many ended a second between the first end and
/// the last one. What it asks meanwhile is answered by indexes, however full the table is.
#[track_caller]
fn drained(sql: &Sql, count: i64) -> f64 {
    let is_left = "SELECT EXISTS (SELECT FROM tasks WHERE status = 'PENDING' AND due_at IS NULL)
                       OR EXISTS (SELECT FROM tasks WHERE status = 'PENDING' AND due_at IS NOT NULL)
                       OR EXISTS (SELECT FROM tasks WHERE status = 'RUNNING')";
    sql.run("SET enable_seqscan = off").unwrap();
    until("everything has ended", Duration::from_secs(120), || (!sql.value::<bool>(is_left, &[])).then_some(()));
    sql.run("RESET enable_seqscan").unwrap();
    let ended = "SELECT count(*), greatest(extract(epoch FROM max(completed_at) - min(completed_at)), 0.001)::float8
                 FROM tasks WHERE status = 'SUCCESS' AND queue = 'default'";
    let row = &sql.rows(ended, &[])[0];
    assert!(row.get::<_, i64>(0) >= count, "{count} tasks should have ended");
    count as f64 / row.get::<_, f64>(1)
}
