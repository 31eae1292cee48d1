//! Bench: a database in which every row is arranged, one statement run over all of them, and every row read again.

use std::collections::{BTreeMap, BTreeSet};

use longrun::{
    config,
    core::{
        Store,
        model::{
            Scope, TaskError, TaskId, WorkerId,
            lifecycle::{Ending, Event, Kind, Lease, Queue, Row, Server, Sight},
        },
        store::{self, Finish, Report},
    },
    metrics::Metrics,
};
use serde_json::{Value, value::RawValue};
use tokio::runtime::Runtime;

use super::rows::{self, Marks, ReadRow, VERSION, columns, worker_hex};
use crate::harness::{Deployment, Sql};

/// How long PostgreSQL has been up cannot be chosen, so the statements are shown another function of that name, found
/// first on the path of their connections.
const OWN_START_TIME: &str = "
    CREATE SCHEMA model;
    CREATE TABLE model.started (at timestamptz NOT NULL);
    INSERT INTO model.started VALUES ('-infinity');
    CREATE FUNCTION model.pg_postmaster_start_time() RETURNS timestamptz LANGUAGE sql STABLE
        AS 'SELECT at FROM model.started'";
const OWN_PATH: &str = "?options=-c%20search_path%3Dmodel,pg_catalog,public";

/// What a verb of the store says it changed.
pub enum Told {
    Ids(BTreeSet<TaskId>),
    Count(usize),
}

impl FromIterator<TaskId> for Told {
    fn from_iter<I: IntoIterator<Item = TaskId>>(ids: I) -> Self {
        Told::Ids(ids.into_iter().collect())
    }
}

/// A database, the store on it, and two workers.
pub struct Bench {
    sql: Sql,
    pub store: Store,
    pub runtime: Runtime,
    pub workers: [WorkerId; 2],
    _deployment: Deployment<'static>,
}

impl Bench {
    pub fn new() -> Self {
        let deployment = Deployment::new();
        let sql = deployment.sql();
        sql.run(OWN_START_TIME).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let database_url = format!("{}{OWN_PATH}", deployment.database_url()).into();
        let settings = config::Postgres { database_url, postgres_pool: 2 };
        let store = runtime.block_on(Store::connect(&settings, &Metrics::new())).unwrap();
        Self { sql, store, runtime, workers: [WorkerId::new(), WorkerId::new()], _deployment: deployment }
    }

    /// Makes the tables what the event is to find.
    pub fn arrange(&self, rows: &[(TaskId, Row)], event: &Event) {
        let (mut leases, mut queue, mut uptime) = ([Lease::Live; 2], Queue::Open, Server::Settled);
        match *event {
            Event::Claim { claimer, queue: open, .. } | Event::ClaimFromTable { claimer, queue: open, .. } => {
                (leases[1], queue) = (claimer, open);
            }
            Event::Steal { holder, server } => (leases, uptime) = ([holder; 2], server),
            Event::ConfirmStoppedOfTheDead { holder } => leases = [holder; 2],
            _ => {}
        }
        self.arrange_workers(leases, uptime);
        let paused = queue == Queue::Paused;
        self.sql
            .run(&format!(
                "TRUNCATE tasks, task_events, queues; INSERT INTO queues (name, paused) VALUES ('default', {paused})"
            ))
            .unwrap();
        let rows: Vec<Value> = rows.iter().map(|(id, row)| columns(&self.workers, *id, row)).collect();
        self.sql.rows(rows::INSERT, &[&Value::Array(rows).to_string()]);
    }

    pub fn arrange_workers(&self, leases: [Lease; 2], server: Server) {
        let started = match server {
            Server::Settled => "-1 hour",
            Server::JustStarted => "-1 second",
        };
        let mut statements =
            format!("TRUNCATE workers; UPDATE model.started SET at = clock_timestamp() + interval '{started}';");
        for (worker, lease) in self.workers.iter().zip(leases) {
            // A worker that left in good order is dead although its lease would still run.
            let (state, until) = match lease {
                Lease::NoRow => continue,
                Lease::Live => ("draining", "1 hour"),
                Lease::Overdue => ("alive", "-1 second"),
                Lease::Dead => ("dead", "1 hour"),
            };
            let id = worker_hex(*worker);
            statements += &format!(
                "INSERT INTO workers (id, host, pid, version, queues, task_types, state, lease_ms, lease_until)
                 VALUES ('{id}', '', 1, '', '{{}}', '{{}}', '{state}', 30000, clock_timestamp() + '{until}');"
            );
        }
        self.sql.run(&statements).unwrap();
    }

    /// Runs the statement of this event over all rows.
    pub fn run(&self, rows: &[(TaskId, Row)], event: &Event) -> Told {
        self.runtime.block_on(self.run_on(rows, event)).unwrap_or_else(|error| panic!("{event:?}: {error}"))
    }

    async fn run_on(&self, rows: &[(TaskId, Row)], event: &Event) -> Result<Told, store::StoreError> {
        let store = &self.store;
        let ids: Vec<TaskId> = rows.iter().map(|(id, _)| *id).collect();
        let deliveries = |delivery: i32| ids.iter().map(|id| (*id, delivery)).collect::<Vec<_>>();
        let worker = |number: u8| self.workers[usize::from(number)];
        let types = |kind: Kind| vec![if kind == Kind::Known { "model" } else { "other" }.to_owned()];
        let report = |id: TaskId, delivery: i32, checkpoint: Option<i32>| {
            let checkpoint = checkpoint.map(raw);
            Report { id, delivery, progress: None, checkpoint, lines: Vec::new() }
        };
        Ok(match *event {
            Event::Claim { worker: by, kind, .. } => {
                store.claim(worker(by), &ids, &types(kind)).await?.into_iter().map(|task| task.id).collect()
            }
            Event::ClaimFromTable { worker: by, kind, .. } => {
                let claimed = store.claim_from_table(worker(by), "default", 10_000, &types(kind)).await?;
                claimed.into_iter().map(|task| task.id).collect()
            }
            Event::Record { delivery, sight, checkpoint } => {
                let reports: Vec<Report> = ids.iter().map(|id| report(*id, delivery, checkpoint)).collect();
                let version = if sight == Sight::Fresh { VERSION } else { VERSION - 1 };
                let reports: Vec<_> = reports.iter().map(|report| (report, Some(version))).collect();
                let written = store.record(&reports).await?;
                written.into_iter().map(|written| written.id).collect()
            }
            Event::Finish { delivery, ending, checkpoint } => {
                let finish = |id: &TaskId| Finish {
                    report: report(*id, delivery, checkpoint),
                    ending: real(ending),
                    trace_context: None,
                };
                let finishes: Vec<Finish> = ids.iter().map(finish).collect();
                let written = store.finish(self.workers[0], &finishes.iter().collect::<Vec<_>>()).await?;
                written.into_iter().map(|written| written.id).collect()
            }
            Event::HandBack { worker: by, delivery } => {
                let (bells, _) = store.hand_back(worker(by), &deliveries(delivery), "a test").await?;
                bells.into_iter().map(|bell| bell.id).collect()
            }
            Event::HandBackAll { worker: by } => {
                let (bells, _) = store.hand_back_all(worker(by), "a test").await?;
                bells.into_iter().map(|bell| bell.id).collect()
            }
            Event::ConfirmStopped { worker: by, delivery } => {
                Told::Count(store.confirm_stopped(worker(by), &deliveries(delivery)).await?)
            }
            Event::ConfirmStoppedOfTheDead { .. } => Told::Count(store.confirm_stopped_of_the_dead().await?),
            Event::Steal { .. } => store.steal().await?.changed.into_iter().map(|(id, _)| id).collect(),
            Event::Cancel => store.cancel(&ids, &Scope::All).await?.versions.into_iter().map(|(id, _)| id).collect(),
            Event::Retry => store.retry(&ids, &Scope::All).await?.versions.into_iter().map(|(id, _)| id).collect(),
            Event::Expire => store.expire().await?.into_iter().map(|(id, _)| id).collect(),
            Event::TakeDue => store.take_due().await?.0.into_iter().map(|(bell, _)| bell.id).collect(),
            Event::PutOffUnknown { delivery } => Told::Count(store.put_off_unknown(&deliveries(delivery)).await?.len()),
        })
    }

    /// Every row as it is now, by the hexadecimal of its id.
    pub fn read(&self) -> BTreeMap<String, (Row, Marks)> {
        let text: String = self.sql.value(rows::READ, &[]);
        let rows: Vec<ReadRow> = serde_json::from_str(&text).unwrap();
        rows.into_iter().map(|row| (row.id.clone(), row.understood(&self.workers))).collect()
    }

    pub fn lease(&self, worker: WorkerId) -> Lease {
        const LEASE: &str = "
            SELECT coalesce((SELECT CASE WHEN state = 'dead' THEN 'dead' WHEN lease_until > clock_timestamp()
                             THEN 'live' ELSE 'overdue' END FROM workers WHERE id = $1::text::uuid), 'none')";
        match self.sql.value::<String>(LEASE, &[&worker_hex(worker)]).as_str() {
            "dead" => Lease::Dead,
            "live" => Lease::Live,
            "overdue" => Lease::Overdue,
            _ => Lease::NoRow,
        }
    }
}

fn raw(mark: i32) -> Box<RawValue> {
    RawValue::from_string(mark.to_string()).unwrap()
}

/// The ending, as the worker writes it.
fn real(ending: Ending) -> store::Ending {
    let error = || TaskError { code: "attempt".to_owned(), message: String::new(), retryable: true, attempt: 1 };
    match ending {
        Ending::Success(mark) => store::Ending::Success(raw(mark)),
        Ending::Fail => store::Ending::Failed(error()),
        Ending::RetryLater => store::Ending::RetryAfter(error(), 3_600_000),
        Ending::HandBack => store::Ending::HandBack("a test"),
        Ending::Undecodable => store::Ending::Undecodable("a test".to_owned()),
    }
}
