//! The task on the wire: one shape for every answer, with every key present, so that clients can rely on the keys.

use std::borrow::Cow;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, value::RawValue};

use crate::core::model::{PendingReason, Priority, Progress, Status, Task, TaskError, TaskId};

/// A task as clients see it. Every key is always there; times are RFC 3339 in UTC with milliseconds.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Task")]
pub struct TaskView<'a> {
    /// A ULID.
    task_id: TaskId,
    /// The kind of work: GET /task-types lists them.
    task_type: &'a str,
    status: Status,
    /// The queue that it waits in.
    queue: &'a str,
    priority: Priority,
    /// How far it is, as it says itself.
    progress: Option<ProgressView<'a>>,
    /// The attempt that runs or ran last, from 1.
    attempt: i32,
    /// Attempts that it may use up.
    max_attempts: i32,
    /// Attempts that have failed in this run: 1 also in a task that failed for good at its first.
    retry_count: i32,
    /// How often a worker has taken it.
    delivery: i32,
    /// The submitter's own notes.
    #[schemars(with = "Map<String, Value>")]
    metadata: &'a RawValue,
    /// Why it does not run, while it is PENDING.
    pending_reason: Option<PendingReason>,
    /// The earliest moment at which it may start, while it is PENDING.
    ready_at: Option<Time>,
    /// Its place in its queue, from 1, while it is PENDING: exact below 1,000, to three digits above.
    queue_position: Option<i64>,
    /// When it may start, where that can be told.
    estimated_start_at: Option<Time>,
    /// The error of the last failed attempt, while the task goes on.
    last_error: Option<&'a TaskError>,
    /// When the attempt that runs must have ended.
    deadline_at: Option<Time>,
    /// Something that the submitter should know.
    notice: Option<String>,
    /// Whether a large result was left out of a list.
    result_omitted: bool,
    /// What the task type returned; set when the status is SUCCESS.
    #[schemars(with = "Option<Value>")]
    result: Option<&'a RawValue>,
    /// Why there is no result; set when the status is FAILED or CANCELLED.
    error: Option<&'a TaskError>,
    created_at: Time,
    /// The time that the submitter asked for.
    scheduled_at: Option<Time>,
    /// The start of the attempt that runs or ran last.
    started_at: Option<Time>,
    completed_at: Option<Time>,
    /// The trace that the submit belongs to (W3C Trace Context).
    trace_id: Option<&'a str>,
    /// Rises with every visible change; the ETag.
    version: i32,
    links: Links,
}

/// How far a task is, as it says itself.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Progress")]
pub struct ProgressView<'a> {
    /// Steps done.
    current: i64,
    /// Steps in all, where that is known.
    total: Option<i64>,
    /// 0 to 100 with one decimal, where there is a total.
    percent: Option<f64>,
    /// What it is doing.
    message: Option<&'a str>,
    /// When it said so.
    updated_at: Time,
}

/// Where more about a task is.
#[derive(Debug, Serialize, JsonSchema)]
struct Links {
    #[serde(rename = "self")]
    task: String,
    stream: String,
    logs: String,
}

/// A moment, written as `2026-01-01T00:00:00.000Z`.
#[derive(Debug, Clone, Copy)]
pub struct Time(pub DateTime<Utc>);

impl JsonSchema for Time {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Time".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "format": "date-time"})
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}

impl<'a> From<&'a Progress> for ProgressView<'a> {
    fn from(progress: &'a Progress) -> Self {
        Self {
            current: progress.current,
            total: progress.total,
            percent: progress.percent(),
            message: progress.message.as_deref(),
            updated_at: Time(progress.updated_at),
        }
    }
}

impl<'a> From<&'a Task> for TaskView<'a> {
    fn from(task: &'a Task) -> Self {
        let id = task.id;
        Self {
            task_id: id,
            task_type: &task.task_type,
            status: task.status,
            queue: &task.queue,
            priority: task.priority,
            progress: task.progress.as_ref().map(ProgressView::from),
            attempt: task.attempt,
            max_attempts: task.max_attempts,
            retry_count: task.failures,
            delivery: task.delivery,
            metadata: &task.metadata,
            pending_reason: task.pending_reason.filter(|_| task.status == Status::Pending),
            ready_at: (task.status == Status::Pending).then_some(Time(task.ready_at)),
            queue_position: None,
            estimated_start_at: None,
            last_error: task.last_error.as_ref(),
            deadline_at: deadline(task).map(Time),
            notice: None,
            result_omitted: task.result_omitted,
            result: task.result.as_deref(),
            error: task.error.as_ref(),
            created_at: Time(task.created_at),
            scheduled_at: task.scheduled_at.map(Time),
            started_at: task.started_at.map(Time),
            completed_at: task.completed_at.map(Time),
            trace_id: task.trace_context.as_deref().and_then(trace_id),
            version: task.version,
            links: Links {
                task: path_of(id),
                stream: format!("{}/stream", path_of(id)),
                logs: format!("{}/logs", path_of(id)),
            },
        }
    }
}

/// What is told of a waiting task beyond its row.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Waiting {
    /// Why it waits, where that is known better than from its row.
    pub reason: Option<PendingReason>,
    /// Its place in the line, from 1.
    pub position: Option<i64>,
    /// When it will probably start.
    pub start: Option<DateTime<Utc>>,
    /// What its submitter should know.
    pub notice: Option<String>,
}

/// What of a task's view changes while it waits and runs, apart from estimates.
pub type Told = (i32, Option<PendingReason>, Option<i64>);

impl TaskView<'_> {
    /// Two views of a task that tell the same show the same.
    pub fn told(&self) -> Told {
        (self.version, self.pending_reason, self.queue_position)
    }

    /// The same view with what is told of a waiting task.
    pub fn waiting(self, waiting: Waiting) -> Self {
        Self {
            pending_reason: waiting.reason.or(self.pending_reason),
            queue_position: waiting.position,
            estimated_start_at: waiting.start.map(Time),
            notice: waiting.notice,
            ..self
        }
    }
}

/// Where a task is found.
pub fn path_of(id: TaskId) -> String {
    format!("/tasks/{id}")
}

/// After how many seconds it is worth asking again; `None` when nothing will change any more. A task that runs long
/// is asked rarely: a tenth of the time that it has run so far, which is a tenth of it late at most.
pub fn retry_after(task: &Task, now: DateTime<Utc>) -> Option<i64> {
    match task.status {
        status if status.is_final() => None,
        Status::Running => {
            let so_far = task.started_at.map_or(0, |start| (now - start).num_seconds());
            Some((so_far / 10).clamp(1, 10))
        }
        _ => Some((task.ready_at - now).num_seconds().saturating_add(1).clamp(1, 60)),
    }
}

/// When the present attempt must have ended.
fn deadline(task: &Task) -> Option<DateTime<Utc>> {
    let timeout = TimeDelta::from_std(task.timeout?).ok()?;
    (task.status == Status::Running).then_some(task.started_at?)?.checked_add_signed(timeout)
}

/// The second part of a `traceparent` (W3C Trace Context, 3.2).
fn trace_id(traceparent: &str) -> Option<&str> {
    traceparent.split('-').nth(1)
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::*;

    /// A running task with something in every field that can be filled then.
    pub fn sample() -> Task {
        let at = |seconds: i64| DateTime::from_timestamp(1_767_225_600 + seconds, 5_000_000).unwrap();
        Task {
            id: "01KDVQ9N00ABCDEFGHJKMNPQRS".parse().unwrap(),
            task_type: "web_scrape".into(),
            status: Status::Running,
            queue: "default".into(),
            priority: Priority::Normal,
            owner: Some("somebody".into()),
            metadata: RawValue::from_string(r#"{"n": 1.50}"#.into()).unwrap(),
            progress: Some(Progress {
                current: 3,
                total: Some(10),
                message: Some("Parsing HTML".into()),
                updated_at: at(2),
            }),
            attempt: 2,
            max_attempts: 4,
            failures: 1,
            delivery: 3,
            timeout: Some(Duration::from_secs(60)),
            pending_reason: None,
            ready_at: at(0),
            scheduled_at: None,
            last_error: Some(TaskError {
                code: "http_status".into(),
                message: "503".into(),
                retryable: true,
                attempt: 1,
            }),
            result: None,
            result_omitted: false,
            error: None,
            created_at: at(0),
            started_at: Some(at(1)),
            completed_at: None,
            trace_context: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into()),
            seq: 5,
            version: 7,
        }
    }

    #[test]
    fn the_shape_of_a_running_task() {
        let expected = r#"{"task_id":"01KDVQ9N00ABCDEFGHJKMNPQRS","task_type":"web_scrape","status":"RUNNING","#
            .to_owned()
            + r#""queue":"default","priority":"normal","progress":{"current":3,"total":10,"percent":30.0,"#
            + r#""message":"Parsing HTML","updated_at":"2026-01-01T00:00:02.005Z"},"attempt":2,"max_attempts":4,"#
            + r#""retry_count":1,"delivery":3,"metadata":{"n": 1.50},"pending_reason":null,"ready_at":null,"#
            + r#""queue_position":null,"estimated_start_at":null,"last_error":{"code":"http_status","#
            + r#""message":"503","retryable":true,"attempt":1},"deadline_at":"2026-01-01T00:01:01.005Z","#
            + r#""notice":null,"result_omitted":false,"result":null,"error":null,"#
            + r#""created_at":"2026-01-01T00:00:00.005Z","scheduled_at":null,"#
            + r#""started_at":"2026-01-01T00:00:01.005Z","completed_at":null,"#
            + r#""trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","version":7,"#
            + r#""links":{"self":"/tasks/01KDVQ9N00ABCDEFGHJKMNPQRS","#
            + r#""stream":"/tasks/01KDVQ9N00ABCDEFGHJKMNPQRS/stream","#
            + r#""logs":"/tasks/01KDVQ9N00ABCDEFGHJKMNPQRS/logs"}}"#;
        assert_eq!(serde_json::to_string(&TaskView::from(&sample())).unwrap(), expected);
    }

    #[test]
    fn waiting_tells_when_and_why() {
        let task = Task { status: Status::Pending, pending_reason: Some(PendingReason::Retry), ..sample() };
        let view = serde_json::to_value(TaskView::from(&task)).unwrap();
        assert_eq!(view["pending_reason"], "retry");
        assert_eq!(view["ready_at"], "2026-01-01T00:00:00.005Z");
        assert_eq!(view["deadline_at"], serde_json::Value::Null);
    }

    #[test]
    fn asking_again_follows_the_task() {
        let task = sample();
        let after = |seconds| task.started_at.unwrap() + TimeDelta::seconds(seconds);
        assert_eq!(retry_after(&task, after(0)), Some(1));
        assert_eq!(retry_after(&task, after(45)), Some(4));
        assert_eq!(retry_after(&task, after(86_400)), Some(10));
        let waiting = Task { status: Status::Pending, ready_at: after(20), ..sample() };
        assert_eq!(retry_after(&waiting, after(0)), Some(21));
        assert_eq!(retry_after(&waiting, after(100)), Some(1));
        assert_eq!(retry_after(&Task { status: Status::Success, ..sample() }, after(0)), None);
    }
}
