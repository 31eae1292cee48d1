//! Model: the statements of the store do to real rows what the lifecycle's table says, every row with every event.
//!
//! One row per pair is put into its state by plain SQL, one call of the store runs the statement over all of them, and
//! every column that decides something is compared, those of rows that must stay as they are included.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{TimeDelta, Utc};
use longrun::{
    config,
    core::{
        Store,
        model::{
            Scope, Status, TaskError, TaskId, WorkerId,
            lifecycle::{
                self, Cause, Ending, Event, Kind, Lease, LeaseEvent, Moment, Queue, Row, Server, Sight, table,
            },
        },
        store::{self, Finish, Renewal, Report},
    },
    metrics::Metrics,
};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};
use tokio::runtime::Runtime;

use crate::harness::{Deployment, Sql};

/// What every row begins with, to see by how much it rises.
const VERSION: i32 = 10;
const SEQ: i32 = 5;

/// How long PostgreSQL has been up cannot be chosen, so the statements are shown another function of that name, found
/// first on the path of their connections.
const OWN_START_TIME: &str = "
    CREATE SCHEMA model;
    CREATE TABLE model.started (at timestamptz NOT NULL);
    INSERT INTO model.started VALUES ('-infinity');
    CREATE FUNCTION model.pg_postmaster_start_time() RETURNS timestamptz LANGUAGE sql STABLE
        AS 'SELECT at FROM model.started'";
const OWN_PATH: &str = "?options=-c%20search_path%3Dmodel,pg_catalog,public";

#[test]
fn every_statement_does_what_the_table_says() {
    let bench = Bench::new();
    let rows: Vec<(TaskId, Row)> = table::rows().into_iter().map(|row| (TaskId::new(), row)).collect();
    let (mut pairs, mut changes) = (0, 0);
    for event in table::events() {
        bench.arrange(&rows, &event);
        let told = bench.run(&rows, &event);
        let after = bench.read();
        let mut changed = BTreeSet::new();
        for (id, before) in &rows {
            let expected = lifecycle::apply(before, &event);
            let (found, marks) = after[&hex(*id)];
            assert_eq!(found, expected.unwrap_or(*before), "{event:?} on {before:?}");
            assert_eq!(marks, Marks::expected(&event, expected.as_ref()), "{event:?} on {before:?}");
            pairs += 1;
            if expected.is_some() {
                changed.insert(*id);
            }
        }
        changes += changed.len();
        match told {
            Told::Ids(ids) => assert_eq!(ids, changed, "{event:?}"),
            Told::Count(count) => assert_eq!(count, changed.len(), "{event:?}"),
        }
    }
    println!("{pairs} pairs, {changes} of them changes");
    assert!(pairs > 5_000 && changes > 1_000, "only {pairs} pairs, {changes} changes");
}

#[test]
fn a_claim_hands_over_what_the_row_has() {
    let bench = Bench::new();
    let rows: Vec<(TaskId, Row)> = table::rows().into_iter().map(|row| (TaskId::new(), row)).collect();
    let event = Event::Claim { worker: 1, claimer: Lease::Live, queue: Queue::Open, kind: Kind::Known };
    bench.arrange(&rows, &event);
    let ids: Vec<TaskId> = rows.iter().map(|(id, _)| *id).collect();
    let claimed = bench.runtime.block_on(bench.store.claim(bench.workers[1], &ids, &["model".to_owned()])).unwrap();
    assert!(claimed.len() > 20);
    for task in claimed {
        let (_, before) = rows.iter().find(|(id, _)| *id == task.id).unwrap();
        let after = lifecycle::apply(before, &event).unwrap();
        assert_eq!((task.delivery, task.attempt, task.failures), (after.delivery, after.attempt, after.failures));
        assert_eq!(task.checkpoint.map(|json| json.get().to_owned()), after.checkpoint.map(|mark| mark.to_string()));
        assert_eq!(task.undecodable_for_too_long, before.undecodable == Some(Moment::Passed));
    }
}

#[test]
fn leases_do_what_their_table_says() {
    let bench = Bench::new();
    let [worker, declarer] = bench.workers;
    for (before, event) in table::lease_pairs() {
        let (other, server) = match event {
            LeaseEvent::DeclareDead { declarer, server, .. } => (declarer, server),
            LeaseEvent::Renew | LeaseEvent::Leave => (Lease::Live, Server::Settled),
        };
        bench.arrange_workers([before, other], server);
        let expected = lifecycle::apply_to_lease(before, &event);
        bench.runtime.block_on(async {
            match event {
                LeaseEvent::Renew => {
                    let renewal = bench.store.lease_keeper(worker).await.unwrap().renew(0).await.unwrap();
                    assert_eq!(renewal != Renewal::Dead, expected.is_some(), "{before:?}");
                }
                LeaseEvent::Leave => bench.store.leave(worker).await.unwrap(),
                LeaseEvent::DeclareDead { sight, .. } => {
                    // A third of the lease is ten seconds.
                    let age = match sight {
                        Sight::Fresh => TimeDelta::zero(),
                        Sight::Stale => TimeDelta::seconds(11),
                    };
                    let declared = bench.store.declare_dead(declarer, Utc::now() - age).await.unwrap();
                    assert_eq!(declared.contains(&worker), expected.is_some(), "{before:?} {event:?}");
                }
            }
        });
        let found = bench.lease(worker);
        assert_eq!(found, expected.unwrap_or(before), "{event:?} on {before:?}");
    }
}

#[test]
fn a_renewal_tells_what_is_in_the_workers_name() {
    let bench = Bench::new();
    let rows: Vec<(TaskId, Row)> = table::rows().into_iter().map(|row| (TaskId::new(), row)).collect();
    bench.arrange(&rows, &Event::Cancel);
    let mut keeper = bench.runtime.block_on(bench.store.lease_keeper(bench.workers[0])).unwrap();
    let Renewal::Alive(named) = bench.runtime.block_on(keeper.renew(0)).unwrap() else { panic!("it lives") };
    for (found, status) in [(named.running, Status::Running), (named.stopping, Status::Cancelled)] {
        let expected: BTreeSet<(TaskId, i32)> = rows
            .iter()
            .filter(|(_, row)| row.status == status && row.worker == Some(0))
            .map(|(id, row)| (*id, row.delivery))
            .collect();
        assert!(!expected.is_empty());
        assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), expected, "{status}");
    }
}

/// What a verb of the store says it changed.
enum Told {
    Ids(BTreeSet<TaskId>),
    Count(usize),
}

impl FromIterator<TaskId> for Told {
    fn from_iter<I: IntoIterator<Item = TaskId>>(ids: I) -> Self {
        Told::Ids(ids.into_iter().collect())
    }
}

/// What a change leaves besides: the version, and the history.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Marks {
    version: i32,
    seq: i32,
    last_event: Option<Status>,
}

impl Marks {
    fn expected(event: &Event, after: Option<&Row>) -> Self {
        // That a cancelled attempt has stopped is nothing that a client sees.
        let invisible = matches!(event, Event::ConfirmStopped { .. } | Event::ConfirmStoppedOfTheDead { .. });
        let last_event = after.and_then(|after| event.change(after).map(|_| after.status));
        Self {
            version: VERSION + i32::from(after.is_some() && !invisible),
            seq: SEQ + i32::from(last_event.is_some()),
            last_event,
        }
    }
}

/// A database, the store on it, and two workers.
struct Bench {
    sql: Sql,
    store: Store,
    runtime: Runtime,
    workers: [WorkerId; 2],
    _deployment: Deployment<'static>,
}

impl Bench {
    fn new() -> Self {
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
    fn arrange(&self, rows: &[(TaskId, Row)], event: &Event) {
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
        let rows: Vec<Value> = rows.iter().map(|(id, row)| self.columns(*id, row)).collect();
        self.sql.rows(INSERT, &[&Value::Array(rows).to_string()]);
    }

    fn columns(&self, id: TaskId, row: &Row) -> Value {
        let distance = |moment: Option<Moment>| {
            moment.map(|moment| match moment {
                Moment::Passed => "-1 hour",
                Moment::Ahead => "1 hour",
            })
        };
        let since = row.undecodable.map(|moment| match moment {
            Moment::Passed => "-11 minutes",
            Moment::Ahead => "-9 minutes",
        });
        let error = |cause: Option<Cause>| {
            cause.map(|cause| json!({"code": code(cause), "message": "", "retryable": true, "attempt": 1}))
        };
        json!({
            "id": hex(id), "status": row.status, "delivery": row.delivery, "attempt": row.attempt,
            "failures": row.failures, "lost": row.lost, "max_lost": row.max_lost,
            "worker_id": row.worker.map(|worker| worker_hex(self.workers[usize::from(worker)])),
            "lease": distance(row.lease), "ready": distance(Some(row.ready)), "due": distance(row.due),
            "expires": distance(row.expires), "undecodable": since, "checkpoint": row.checkpoint,
            "result": row.result, "error": error(row.error), "last_error": error(row.last_error),
            "ended": row.status.is_final(),
        })
    }

    fn arrange_workers(&self, leases: [Lease; 2], server: Server) {
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
    fn run(&self, rows: &[(TaskId, Row)], event: &Event) -> Told {
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
    fn read(&self) -> BTreeMap<String, (Row, Marks)> {
        let text: String = self.sql.value(READ, &[]);
        let rows: Vec<ReadRow> = serde_json::from_str(&text).unwrap();
        let worker = |id: String| self.workers.iter().position(|worker| worker_hex(*worker) == id).unwrap() as u8;
        let read = |row: ReadRow| {
            let found = Row {
                status: row.status,
                delivery: row.delivery,
                attempt: row.attempt,
                failures: row.failures,
                lost: row.lost,
                max_lost: row.max_lost,
                worker: row.worker_id.map(worker),
                lease: row.lease.map(moment),
                ready: moment(row.ready),
                due: row.due.map(moment),
                expires: row.expires.map(moment),
                undecodable: row.undecodable.map(moment),
                checkpoint: row.checkpoint,
                result: row.result,
                error: row.error.map(|text| cause(&text)),
                last_error: row.last_error.map(|text| cause(&text)),
            };
            (row.id, (found, Marks { version: row.version, seq: row.seq, last_event: row.last_event }))
        };
        rows.into_iter().map(read).collect()
    }

    fn lease(&self, worker: WorkerId) -> Lease {
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

const INSERT: &str = "
    INSERT INTO tasks (id, task_type, input, max_attempts, version, seq, status, delivery, attempt, failures, lost,
                       max_lost, worker_id, lease_until, ready_at, due_at, expires_at, undecodable_since, checkpoint,
                       result, error, last_error, completed_at)
    SELECT r.id, 'model', '{}', 4, 10, 5, r.status, r.delivery, r.attempt, r.failures, r.lost,
           r.max_lost, r.worker_id, now.at + r.lease, now.at + r.ready, now.at + r.due, now.at + r.expires,
           now.at + r.undecodable, r.checkpoint, r.result, r.error, r.last_error, CASE WHEN r.ended THEN now.at END
    FROM json_to_recordset($1::text::json) AS r(id uuid, status text, delivery integer, attempt integer,
             failures integer, lost integer, max_lost integer, worker_id uuid, lease interval, ready interval,
             due interval, expires interval, undecodable interval, checkpoint json, result json, error json,
             last_error json, ended boolean),
         (SELECT clock_timestamp() AS at) AS now";

const READ: &str = "
    SELECT json_agg(r)::text FROM (
        SELECT replace(t.id::text, '-', '') AS id, t.status, t.delivery, t.attempt, t.failures, t.lost, t.max_lost,
               replace(t.worker_id::text, '-', '') AS worker_id, t.lease_until <= now.at AS lease,
               t.ready_at <= now.at AS ready, t.due_at <= now.at AS due, t.expires_at <= now.at AS expires,
               t.undecodable_since < now.at - interval '10 minutes' AS undecodable, t.checkpoint, t.result,
               t.error ->> 'code' AS error, t.last_error ->> 'code' AS last_error, t.version, t.seq,
               (SELECT e.status FROM task_events e WHERE e.task_id = t.id AND e.seq = t.seq) AS last_event
        FROM tasks t, (SELECT clock_timestamp() AS at) AS now) AS r";

/// Of the times, whether they have passed.
#[derive(Deserialize)]
struct ReadRow {
    id: String,
    status: Status,
    delivery: i32,
    attempt: i32,
    failures: i32,
    lost: i32,
    max_lost: i32,
    worker_id: Option<String>,
    lease: Option<bool>,
    ready: bool,
    due: Option<bool>,
    expires: Option<bool>,
    undecodable: Option<bool>,
    checkpoint: Option<i32>,
    result: Option<i32>,
    error: Option<String>,
    last_error: Option<String>,
    version: i32,
    seq: i32,
    last_event: Option<Status>,
}

fn moment(passed: bool) -> Moment {
    if passed { Moment::Passed } else { Moment::Ahead }
}

fn hex(id: TaskId) -> String {
    format!("{:032x}", u128::from_be_bytes(id.to_bytes()))
}

fn worker_hex(id: WorkerId) -> String {
    format!("{:032x}", u128::from_be_bytes(id.to_bytes()))
}

fn code(cause: Cause) -> &'static str {
    match cause {
        Cause::Attempt => "attempt",
        Cause::Cancelled => "cancelled",
        Cause::Expired => "expired",
        Cause::WorkerLost => "worker_lost",
    }
}

fn cause(text: &str) -> Cause {
    let all = [Cause::Attempt, Cause::Cancelled, Cause::Expired, Cause::WorkerLost];
    all.into_iter().find(|cause| code(*cause) == text).unwrap_or_else(|| panic!("no such code: {text}"))
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
