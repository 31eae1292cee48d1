//! Crash points: at every step between the program and its two stores something goes wrong, in five ways, and the task
//! ends as if nothing had: once, with its result, every line of its log written once, charged as the rules say.
//!
//! A point is the name of a statement or of a step of the queue, as `src/core/faults.rs` tells. A cell is a point and
//! an action; each runs a small scenario that leads to the point with something at stake.

mod ending;
mod recovering;
mod serving;
mod taking;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Mutex, PoisonError},
};

use serde_json::{Value, json};

use crate::{
    harness::{App, Client, Deployment, LONG, Sql, until},
    ledger::{self, check_counted, check_history, entry, wait_status, wait_until_clean},
};

/// Longer than the lease of these tests.
const STALL: &str = "2600ms";
/// Points at a time within one test.
const TOGETHER: usize = 5;
/// Of the tasks here: long enough that a report is written before the end.
const STEPS: u64 = 4;
const PACE: u64 = 120;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Error,
    LoseReply,
    Stall,
    Abort,
    AbortAfter,
}

use Action::{Abort, AbortAfter, Error, LoseReply, Stall};

impl Action {
    const ALL: [Action; 5] = [Error, LoseReply, Stall, Abort, AbortAfter];

    fn aborts(self) -> bool {
        matches!(self, Abort | AbortAfter)
    }

    /// As `APP_FAULTS` spells it.
    fn at(self, point: &str) -> String {
        match self {
            Error => format!("{point}:error"),
            LoseReply => format!("{point}:lose-reply"),
            Stall => format!("{point}:stall={STALL}"),
            Abort => format!("{point}:abort"),
            AbortAfter => format!("{point}:abort-after"),
        }
    }
}

/// One point and one action, in a deployment of the point's.
struct Cell<'a> {
    deployment: &'a Deployment<'static>,
    sql: &'a Sql,
    /// A server without faults.
    client: &'a Client,
    point: &'a str,
    action: Action,
}

/// A scenario: leads to the point, and says what has to come of it.
type Scenario = fn(&Cell);

/// A deployment in which a crash is noticed within a few seconds.
fn deployment() -> Deployment<'static> {
    Deployment::new()
        .with_test_types()
        .set("APP_LEASE", "2s")
        .set("APP_GRACE", "5s")
        .set("APP_POSTGRES_POOL", "3")
        .set("APP_CONCURRENCY", "8")
}

/// Runs every action at each of these points: the actions of a point one after the other, since they share its
/// deployment; the points side by side. Names every cell that failed.
#[track_caller]
fn run_all(points: &[(&str, Scenario)]) {
    let points = Mutex::new(points.iter());
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..TOGETHER {
            scope.spawn(|| {
                while let Some((point, scenario)) = take(&points) {
                    run_point(point, *scenario, &failed);
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    assert!(failed.is_empty(), "these crash points failed: {failed:?}");
}

fn take<'a, T>(iterator: &Mutex<impl Iterator<Item = &'a T>>) -> Option<&'a T> {
    iterator.lock().unwrap_or_else(PoisonError::into_inner).next()
}

fn run_point(point: &str, scenario: Scenario, failed: &Mutex<Vec<String>>) {
    let deployment = deployment();
    let mut serve = deployment.serve();
    let client = serve.client();
    let sql = deployment.sql();
    for action in Action::ALL {
        let cell = Cell { deployment: &deployment, sql: &sql, client: &client, point, action };
        // A cell that failed may have left anything: the others of its point would tell nothing.
        if catch_unwind(AssertUnwindSafe(|| scenario(&cell))).is_err() {
            failed.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{point} {action:?}"));
            return;
        }
    }
    serve.stop();
}

/// The body of a short task.
fn counting() -> Value {
    json!({"task_type": "count", "steps": STEPS, "pace": PACE})
}

impl Cell<'_> {
    /// A worker in which this cell's fault is going to happen, after those of `before`.
    fn faulty_worker(&self, before: &[&str]) -> App {
        let mut faults: Vec<String> = before.iter().map(|fault| (*fault).to_owned()).collect();
        faults.push(self.action.at(self.point));
        self.deployment.work_with(&[("APP_FAULTS", &faults.join(","))])
    }

    /// Waits until the fault has happened. A worker that aborted is replaced by a healthy one.
    fn met(&self, mut worker: App) -> App {
        self.wait_met(&worker);
        if !self.action.aborts() {
            return worker;
        }
        worker.wait_abort();
        self.let_leases_end();
        self.healthy_worker()
    }

    /// A worker that is up: from here on it can be told to leave.
    fn healthy_worker(&self) -> App {
        let mut worker = self.deployment.work();
        worker.wait_for_line("worker started");
        worker
    }

    /// Whoever rings again holds a lease for fifteen seconds. They are over.
    fn let_leases_end(&self) {
        self.sql.run("UPDATE leases SET lease_until = '-infinity'").unwrap();
    }

    /// The doorbell of this task is lost, and found by membership when it has been ready for five seconds. They are
    /// over.
    fn let_it_be_missed(&self, id: &str) {
        let aged = "UPDATE tasks SET ready_at = ready_at - interval '6 s' WHERE id = from_ulid($1) AND due_at IS NULL";
        until("it is ready", LONG, || (self.sql.change(aged, &[&id]) == 1).then_some(()));
        self.let_leases_end();
    }

    /// Waits until the log tells of the fault.
    fn wait_met(&self, app: &App) {
        until(&format!("{:?} at {}", self.action, self.point), LONG, || {
            let log = app.stderr();
            log.lines().any(|line| line.contains("injected a fault") && line.contains(self.point)).then_some(())
        });
    }

    /// Checks that these short tasks end well, having been delivered between `from` and `to` times and charged for no
    /// failure; and for a loss only where a worker died. Then stops the worker, and looks for what is left.
    fn check(&self, ids: &[String], (from, to): (i32, i32), mut worker: App) {
        for id in ids {
            wait_status(self.sql, id, "SUCCESS");
            check_counted(self.sql, id, STEPS);
            let entry = entry(self.sql, id);
            assert!((from..=to).contains(&entry.delivery), "delivered {from} to {to} times? {entry:?}");
            assert_eq!(entry.failures, 0, "{entry:?}");
            let lost =
                ledger::events(self.sql, id).iter().filter(|e| e.message.as_deref() == Some("worker lost")).count();
            assert!(self.action.aborts() || lost == 0, "nobody died, and yet it was lost: {entry:?}");
        }
        wait_until_clean(self.deployment, self.sql);
        worker.stop();
    }
}
