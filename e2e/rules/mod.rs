//! Rules: the sharp edges of the protocol, each with a test that fails when the rule is left out.
//!
//! What can go wrong at a single step is in [`crash_points`](crate::crash_points); here are the rules that need a
//! story of their own: two workers, a doorbell that rings wrongly, a worker that is stopped or told to leave.

mod claims;
mod doorbells;
mod fences;
mod leaving;
mod operating;
mod outages;
mod plans;

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::{
    harness::{App, Client, Deployment, Direction, Flow, LONG, Proxy, Services, Sql, Stopwatch, until},
    ledger::{self, check_counted, check_history, entry, events, wait_status, wait_until_clean},
};

/// Where nobody listens.
const NOWHERE: &str = "redis://127.0.0.1:1/0";
/// The list of the queue `default`.
const READY: &str = "v1:ready:{default}:normal";

/// A deployment in which a crash is noticed within a few seconds.
fn deployment() -> Deployment<'static> {
    Deployment::new()
        .with_test_types()
        .set("APP_LEASE", "2s")
        .set("APP_GRACE", "5s")
        .set("APP_POSTGRES_POOL", "4")
        .set("APP_CONCURRENCY", "8")
}

/// A deployment with a server.
struct House {
    // In this order: processes end before their database goes.
    client: Client,
    sql: Sql,
    serve: App,
    deployment: Deployment<'static>,
}

impl House {
    fn new() -> Self {
        Self::of(deployment())
    }

    fn of(deployment: Deployment<'static>) -> Self {
        let mut serve = deployment.serve();
        Self { client: serve.client(), sql: deployment.sql(), serve, deployment }
    }

    fn submit(&self, body: Value) -> String {
        self.client.submit(&body)
    }
}

/// A task of so many steps of so many milliseconds.
fn count(steps: u64, pace: u64) -> Value {
    json!({"task_type": "count", "steps": steps, "pace": pace})
}

/// The same with options.
fn count_with(steps: u64, pace: u64, options: Value) -> Value {
    json!({"task_type": "count", "steps": steps, "pace": pace, "options": options})
}

/// Workers that are dead as far as the database knows.
fn let_workers_be_dead(sql: &Sql) {
    sql.run("UPDATE workers SET state = 'dead', ended_at = now() WHERE state <> 'dead'").unwrap();
}
