//! Rows: what statements return, and their conversion into the model.
//!
//! JSON is read as text: it goes through as it came, and nobody here looks inside.

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::{
    QueryableByName,
    sql_types::{BigInt, Bool, Double, Integer, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid},
};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::StoreError;
use crate::core::model::{
    Claimed, Level, PendingReason, Priority, Progress, Task, TaskError, TaskEvent, TaskId, What, WorkerId,
};

impl From<TaskId> for Uuid {
    fn from(id: TaskId) -> Self {
        Uuid::from_bytes(id.to_bytes())
    }
}

impl From<Uuid> for TaskId {
    fn from(uuid: Uuid) -> Self {
        TaskId::from_bytes(uuid.into_bytes())
    }
}

impl From<WorkerId> for Uuid {
    fn from(id: WorkerId) -> Self {
        Uuid::from_bytes(id.to_bytes())
    }
}

impl From<Uuid> for WorkerId {
    fn from(uuid: Uuid) -> Self {
        WorkerId::from_bytes(uuid.into_bytes())
    }
}

/// The ids as PostgreSQL takes them.
pub(super) fn uuids(ids: &[TaskId]) -> Vec<Uuid> {
    ids.iter().copied().map(Uuid::from).collect()
}

/// The number that the column `priority` has.
pub(super) fn priority_number(priority: Priority) -> i16 {
    match priority {
        Priority::High => 0,
        Priority::Normal => 1,
        Priority::Low => 2,
    }
}

pub(super) fn priority_of(number: i16) -> Priority {
    match number {
        0 => Priority::High,
        2 => Priority::Low,
        _ => Priority::Normal,
    }
}

pub(super) fn unreadable(what: &str, detail: impl std::fmt::Display) -> StoreError {
    StoreError::Refused(format!("a row has an unreadable {what}: {detail}"))
}

pub(super) fn json(text: String) -> Result<Box<RawValue>, StoreError> {
    RawValue::from_string(text).map_err(|error| unreadable("JSON value", error))
}

pub(super) fn error_of(text: Option<String>) -> Result<Option<TaskError>, StoreError> {
    text.map(|text| serde_json::from_str(&text).map_err(|error| unreadable("error", error))).transpose()
}

fn milliseconds(number: Option<i64>) -> Option<Duration> {
    number.map(|ms| Duration::from_millis(ms.max(0) as u64))
}

/// What every reading of a task selects: the columns of [`TaskRow`], of the table or alias `t`. `$result` is how the
/// result is read, whole or only when small.
macro_rules! task_columns {
    (whole) => {
        task_columns!("t.result::text AS result, false AS result_omitted")
    };
    (small) => {
        // pg_column_size does not fetch a result that is kept out of line.
        task_columns!(
            "CASE WHEN pg_column_size(t.result) <= 1024 THEN t.result::text END AS result, \
             coalesce(pg_column_size(t.result) > 1024, false) AS result_omitted"
        )
    };
    ($result:literal) => {
        concat!(
            "t.id, t.task_type, t.status, t.queue, t.priority, t.owner, t.metadata::text AS metadata, \
             t.progress_current, t.progress_total, t.progress_message, t.progress_at, \
             t.attempt, t.max_attempts, t.failures, t.delivery, t.timeout_ms, t.ready_at, t.scheduled_at, \
             t.due_at IS NOT NULL AS waits, t.last_error::text AS last_error, t.error::text AS error, \
             t.created_at, t.started_at, t.completed_at, t.trace_context, t.seq, t.version, \
             t.status = 'PENDING' AND EXISTS (SELECT FROM queues q WHERE q.name = t.queue AND q.paused) AS paused, \
             t.status = 'PENDING' AND NOT EXISTS (SELECT FROM workers w WHERE w.state = 'alive' \
                 AND w.lease_until > (SELECT clock_timestamp()) AND jsonb_exists(w.queues, t.queue) AND t.task_type = ANY(w.task_types)) \
             AND NOT EXISTS (SELECT FROM http_workers h WHERE h.queue = t.queue AND h.task_type = t.task_type \
                 AND h.asked_at > (SELECT clock_timestamp()) - interval '90 s') AS no_worker, ",
            $result
        )
    };
}
pub(super) use task_columns;

#[derive(QueryableByName)]
pub(super) struct TaskRow {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Text)]
    task_type: String,
    #[diesel(sql_type = Text)]
    status: String,
    #[diesel(sql_type = Text)]
    queue: String,
    #[diesel(sql_type = SmallInt)]
    priority: i16,
    #[diesel(sql_type = Nullable<Text>)]
    owner: Option<String>,
    #[diesel(sql_type = Text)]
    metadata: String,
    #[diesel(sql_type = Nullable<BigInt>)]
    progress_current: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    progress_total: Option<i64>,
    #[diesel(sql_type = Nullable<Text>)]
    progress_message: Option<String>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    progress_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Integer)]
    attempt: i32,
    #[diesel(sql_type = Integer)]
    max_attempts: i32,
    #[diesel(sql_type = Integer)]
    failures: i32,
    #[diesel(sql_type = Integer)]
    delivery: i32,
    #[diesel(sql_type = Nullable<BigInt>)]
    timeout_ms: Option<i64>,
    #[diesel(sql_type = Timestamptz)]
    ready_at: DateTime<Utc>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    scheduled_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Bool)]
    waits: bool,
    #[diesel(sql_type = Nullable<Text>)]
    last_error: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    error: Option<String>,
    #[diesel(sql_type = Timestamptz)]
    created_at: DateTime<Utc>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    started_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    completed_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Text>)]
    trace_context: Option<String>,
    #[diesel(sql_type = Integer)]
    seq: i32,
    #[diesel(sql_type = Integer)]
    version: i32,
    #[diesel(sql_type = Bool)]
    paused: bool,
    #[diesel(sql_type = Bool)]
    no_worker: bool,
    #[diesel(sql_type = Nullable<Text>)]
    result: Option<String>,
    #[diesel(sql_type = Bool)]
    result_omitted: bool,
}

impl TaskRow {
    fn pending_reason(&self) -> PendingReason {
        match (self.waits, self.delivery > 0, self.paused, self.no_worker) {
            (true, true, ..) => PendingReason::Retry,
            (true, false, ..) if self.scheduled_at.is_some() => PendingReason::Scheduled,
            (_, _, true, _) => PendingReason::Paused,
            (_, _, false, true) => PendingReason::NoWorker,
            _ => PendingReason::Ready,
        }
    }
}

impl TryFrom<TaskRow> for Task {
    type Error = StoreError;

    fn try_from(row: TaskRow) -> Result<Self, StoreError> {
        let status = row.status.parse().map_err(|error| unreadable("status", error))?;
        Ok(Task {
            id: row.id.into(),
            status,
            pending_reason: (status == crate::core::model::Status::Pending).then(|| row.pending_reason()),
            priority: priority_of(row.priority),
            progress: row.progress_current.zip(row.progress_at).map(|(current, updated_at)| Progress {
                current,
                total: row.progress_total,
                message: row.progress_message,
                updated_at,
            }),
            timeout: milliseconds(row.timeout_ms),
            metadata: json(row.metadata)?,
            last_error: error_of(row.last_error)?,
            error: error_of(row.error)?,
            result: row.result.map(json).transpose()?,
            result_omitted: row.result_omitted,
            task_type: row.task_type,
            queue: row.queue,
            owner: row.owner,
            attempt: row.attempt,
            max_attempts: row.max_attempts,
            failures: row.failures,
            delivery: row.delivery,
            ready_at: row.ready_at,
            scheduled_at: row.scheduled_at,
            created_at: row.created_at,
            started_at: row.started_at,
            completed_at: row.completed_at,
            trace_context: row.trace_context,
            seq: row.seq,
            version: row.version,
        })
    }
}

#[derive(QueryableByName)]
pub(super) struct ClaimedRow {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Integer)]
    delivery: i32,
    #[diesel(sql_type = Integer)]
    attempt: i32,
    #[diesel(sql_type = Integer)]
    max_attempts: i32,
    #[diesel(sql_type = Integer)]
    failures: i32,
    #[diesel(sql_type = Text)]
    task_type: String,
    #[diesel(sql_type = Text)]
    queue: String,
    #[diesel(sql_type = SmallInt)]
    priority: i16,
    #[diesel(sql_type = Text)]
    input: String,
    #[diesel(sql_type = Text)]
    metadata: String,
    #[diesel(sql_type = Nullable<Text>)]
    checkpoint: Option<String>,
    #[diesel(sql_type = Nullable<BigInt>)]
    timeout_ms: Option<i64>,
    #[diesel(sql_type = Nullable<Text>)]
    trace_context: Option<String>,
    #[diesel(sql_type = Integer)]
    seq: i32,
    #[diesel(sql_type = Integer)]
    version: i32,
    #[diesel(sql_type = Double)]
    waited_seconds: f64,
    #[diesel(sql_type = Bool)]
    undecodable_for_too_long: bool,
}

impl TryFrom<ClaimedRow> for Claimed {
    type Error = StoreError;

    fn try_from(row: ClaimedRow) -> Result<Self, StoreError> {
        Ok(Claimed {
            id: row.id.into(),
            delivery: row.delivery,
            attempt: row.attempt,
            max_attempts: row.max_attempts,
            failures: row.failures,
            task_type: row.task_type,
            queue: row.queue,
            priority: priority_of(row.priority),
            input: json(row.input)?,
            metadata: json(row.metadata)?,
            checkpoint: row.checkpoint.map(json).transpose()?,
            timeout: milliseconds(row.timeout_ms),
            trace_context: row.trace_context,
            undecodable_for_too_long: row.undecodable_for_too_long,
            seq: row.seq,
            version: row.version,
            waited: Duration::try_from_secs_f64(row.waited_seconds).unwrap_or_default(),
        })
    }
}

#[derive(QueryableByName)]
pub(super) struct EventRow {
    #[diesel(sql_type = Integer)]
    seq: i32,
    #[diesel(sql_type = Timestamptz)]
    at: DateTime<Utc>,
    #[diesel(sql_type = Integer)]
    delivery: i32,
    #[diesel(sql_type = Integer)]
    attempt: i32,
    #[diesel(sql_type = Nullable<Text>)]
    status: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    level: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    message: Option<String>,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    worker_id: Option<Uuid>,
    #[diesel(sql_type = Nullable<Text>)]
    error: Option<String>,
}

impl TryFrom<EventRow> for TaskEvent {
    type Error = StoreError;

    fn try_from(row: EventRow) -> Result<Self, StoreError> {
        let what = match row.status {
            Some(status) => What::Status {
                status: status.parse().map_err(|error| unreadable("status", error))?,
                reason: row.message,
                worker_id: row.worker_id.map(WorkerId::from),
                error: error_of(row.error)?,
            },
            None => What::Log {
                level: row.level.as_deref().and_then(|level| level.parse().ok()).unwrap_or(Level::Info),
                message: row.message.unwrap_or_default(),
            },
        };
        Ok(TaskEvent { seq: row.seq, at: row.at, delivery: row.delivery, attempt: row.attempt, what })
    }
}

/// An id and a version: what the one-line readings return.
#[derive(QueryableByName)]
pub(super) struct VersionRow {
    #[diesel(sql_type = SqlUuid)]
    pub(super) id: Uuid,
    #[diesel(sql_type = Integer)]
    pub(super) version: i32,
}

/// A doorbell to ring.
#[derive(QueryableByName)]
pub(super) struct BellRow {
    #[diesel(sql_type = SqlUuid)]
    pub(super) id: Uuid,
    #[diesel(sql_type = Text)]
    pub(super) queue: String,
    #[diesel(sql_type = SmallInt)]
    pub(super) priority: i16,
    #[diesel(sql_type = Integer)]
    pub(super) version: i32,
    /// Started before: it rings before everything that never was.
    #[diesel(sql_type = Bool)]
    pub(super) once_taken: bool,
}
