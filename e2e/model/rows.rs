//! Rows: how a row of the model is written into the table and read from it.

use longrun::core::model::{
    Status, TaskId, WorkerId,
    lifecycle::{Cause, Event, Moment, Row},
};
use serde::Deserialize;
use serde_json::{Value, json};

/// What every row begins with, to see by how much it rises.
pub const VERSION: i32 = 10;
const SEQ: i32 = 5;

/// What a change leaves besides: the version, and the history.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Marks {
    version: i32,
    seq: i32,
    last_event: Option<Status>,
}

impl Marks {
    /// What there should be when the event has made this of the row, or has changed nothing.
    pub fn expected(event: &Event, after: Option<&Row>) -> Self {
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

pub const INSERT: &str = "
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

/// What [`INSERT`] takes for one row.
pub fn columns(workers: &[WorkerId; 2], id: TaskId, row: &Row) -> Value {
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
        "worker_id": row.worker.map(|worker| worker_hex(workers[usize::from(worker)])),
        "lease": distance(row.lease), "ready": distance(Some(row.ready)), "due": distance(row.due),
        "expires": distance(row.expires), "undecodable": since, "checkpoint": row.checkpoint,
        "result": row.result, "error": error(row.error), "last_error": error(row.last_error),
        "ended": row.status.is_final(),
    })
}

pub const READ: &str = "
    SELECT json_agg(r)::text FROM (
        SELECT replace(t.id::text, '-', '') AS id, t.status, t.delivery, t.attempt, t.failures, t.lost, t.max_lost,
               replace(t.worker_id::text, '-', '') AS worker_id, t.lease_until <= now.at AS lease,
               t.ready_at <= now.at AS ready, t.due_at <= now.at AS due, t.expires_at <= now.at AS expires,
               t.undecodable_since < now.at - interval '10 minutes' AS undecodable, t.checkpoint, t.result,
               t.error ->> 'code' AS error, t.last_error ->> 'code' AS last_error, t.version, t.seq,
               (SELECT e.status FROM task_events e WHERE e.task_id = t.id AND e.seq = t.seq) AS last_event
        FROM tasks t, (SELECT clock_timestamp() AS at) AS now) AS r";

/// What [`READ`] tells of one row: of the times, whether they have passed.
#[derive(Deserialize)]
pub struct ReadRow {
    pub id: String,
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

impl ReadRow {
    /// The row of the model that it is; whoever has it is one of these workers.
    pub fn understood(self, workers: &[WorkerId; 2]) -> (Row, Marks) {
        let worker = |id: String| workers.iter().position(|worker| worker_hex(*worker) == id).unwrap() as u8;
        let row = Row {
            status: self.status,
            delivery: self.delivery,
            attempt: self.attempt,
            failures: self.failures,
            lost: self.lost,
            max_lost: self.max_lost,
            worker: self.worker_id.map(worker),
            lease: self.lease.map(moment),
            ready: moment(self.ready),
            due: self.due.map(moment),
            expires: self.expires.map(moment),
            undecodable: self.undecodable.map(moment),
            checkpoint: self.checkpoint,
            result: self.result,
            error: self.error.map(|text| cause(&text)),
            last_error: self.last_error.map(|text| cause(&text)),
        };
        (row, Marks { version: self.version, seq: self.seq, last_event: self.last_event })
    }
}

fn moment(passed: bool) -> Moment {
    if passed { Moment::Passed } else { Moment::Ahead }
}

/// The id as it is read.
pub fn hex(id: TaskId) -> String {
    format!("{:032x}", u128::from_be_bytes(id.to_bytes()))
}

/// The same of a worker.
pub fn worker_hex(id: WorkerId) -> String {
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
