//! Task: what was asked for, how far it is, how it ended.

use std::{str::FromStr, time::Duration};

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Status, TaskId};

/// In which order a queue's tasks start. Low gets at least one start in twenty, however full the others are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// Before the others.
    High,
    /// What nobody asks for.
    #[default]
    Normal,
    /// When nothing else waits, and one start in twenty.
    Low,
}

impl Priority {
    /// All of them, first served first.
    pub const ALL: [Priority; 3] = [Priority::High, Priority::Normal, Priority::Low];

    /// As the API and the Redis keys spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Priority::High => "high",
            Priority::Normal => "normal",
            Priority::Low => "low",
        }
    }
}

impl FromStr for Priority {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Priority::ALL
            .into_iter()
            .find(|priority| priority.as_str() == text)
            .ok_or_else(|| format!("unknown priority {text:?}: one of high, normal, low"))
    }
}

/// How far a task is, as it says itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// Steps done.
    pub current: i64,
    /// Steps in all, where that is known.
    pub total: Option<i64>,
    /// What it is doing.
    pub message: Option<String>,
    /// When it said so.
    pub updated_at: DateTime<Utc>,
}

impl Progress {
    /// `current` of `total` in percent, one decimal, where there is a total above zero.
    pub fn percent(&self) -> Option<f64> {
        let total = self.total.filter(|total| *total > 0)?;
        Some((self.current as f64 / total as f64 * 1000.0).clamp(0.0, 1000.0).round() / 10.0)
    }
}

/// Why a task ended without a result, or why its last attempt failed. Never a stack trace or a connection string.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TaskError {
    /// Stable, for programs: `timeout`, `worker_lost`, `http_status`, …
    pub code: String,
    /// For people.
    pub message: String,
    /// Whether the same task could succeed on another try.
    pub retryable: bool,
    /// The attempt that failed, from 1.
    pub attempt: i32,
}

/// Why a PENDING task is not running.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PendingReason {
    /// It waits for a free slot.
    Ready,
    /// It waits for the time that the submitter asked for.
    Scheduled,
    /// An attempt failed; it waits for the next.
    Retry,
    /// An operator paused its queue.
    Paused,
    /// No live worker serves its queue and knows its type.
    NoWorker,
}

/// A task as the database has it. `input` is apart: it can be large and few ask for it.
#[derive(Debug, Clone)]
pub struct Task {
    /// Its name.
    pub id: TaskId,
    /// Which kind of work.
    pub task_type: String,
    /// Where it stands.
    pub status: Status,
    /// The queue that it waits in.
    pub queue: String,
    /// Its place in that queue.
    pub priority: Priority,
    /// Who submitted it; `None` when the server runs without sign-in.
    pub owner: Option<String>,
    /// The submitter's own notes: a JSON object.
    pub metadata: Box<RawValue>,
    /// How far.
    pub progress: Option<Progress>,
    /// The attempt of the last claim, from 1.
    pub attempt: i32,
    /// Attempts in all.
    pub max_attempts: i32,
    /// Attempts that the task itself used up.
    pub failures: i32,
    /// Claims so far; the fence.
    pub delivery: i32,
    /// How long one attempt may take.
    pub timeout: Option<Duration>,
    /// Why it waits; only while PENDING.
    pub pending_reason: Option<PendingReason>,
    /// The earliest start.
    pub ready_at: DateTime<Utc>,
    /// The start that the submitter asked for.
    pub scheduled_at: Option<DateTime<Utc>>,
    /// The error of the last failed attempt, while the task goes on.
    pub last_error: Option<TaskError>,
    /// What it made; only with SUCCESS.
    pub result: Option<Box<RawValue>>,
    /// The result was left out of this reading because it is large.
    pub result_omitted: bool,
    /// Why it ended; only with FAILED and CANCELLED.
    pub error: Option<TaskError>,
    /// When it was accepted.
    pub created_at: DateTime<Utc>,
    /// When the current or last attempt began.
    pub started_at: Option<DateTime<Utc>>,
    /// When it became final.
    pub completed_at: Option<DateTime<Utc>>,
    /// W3C `traceparent` of the submit.
    pub trace_context: Option<String>,
    /// The number of its last event.
    pub seq: i32,
    /// Rises with every visible change.
    pub version: i32,
}

/// A task to be accepted: checked, with every default filled in.
#[derive(Debug, Clone)]
pub struct NewTask {
    /// Made before the INSERT, so that a submit whose answer was lost can be repeated as it is.
    pub id: TaskId,
    /// Which kind of work.
    pub task_type: String,
    /// The queue.
    pub queue: String,
    /// The place in it.
    pub priority: Priority,
    /// Who submits.
    pub owner: Option<String>,
    /// The task type's own input, a JSON object, as it came.
    pub input: Box<RawValue>,
    /// The submitter's own notes: a JSON object.
    pub metadata: Box<RawValue>,
    /// Attempts in all.
    pub max_attempts: i32,
    /// Deliveries that may be lost with their worker between two checkpoints.
    pub max_lost: i32,
    /// How long one attempt may take.
    pub timeout: Option<Duration>,
    /// Not before.
    pub start: Start,
    /// Ends FAILED `expired` when nobody started it this long after the submit.
    pub expires_in: Option<Duration>,
    /// W3C `traceparent` of the submit.
    pub trace_context: Option<String>,
}

/// When a new task may start. Delays are added to the database's clock, not to this machine's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Start {
    /// As soon as a slot is free.
    Now,
    /// This long after the submit.
    After(Duration),
    /// Not before this moment.
    At(DateTime<Utc>),
}

/// What a worker needs to run one delivery.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// The task.
    pub id: TaskId,
    /// The fence of this delivery.
    pub delivery: i32,
    /// From 1.
    pub attempt: i32,
    /// Attempts in all.
    pub max_attempts: i32,
    /// Attempts already used up.
    pub failures: i32,
    /// Which kind of work.
    pub task_type: String,
    /// The queue it came from.
    pub queue: String,
    /// Its place there.
    pub priority: Priority,
    /// The type's own input.
    pub input: Box<RawValue>,
    /// The submitter's notes.
    pub metadata: Box<RawValue>,
    /// What an earlier delivery saved.
    pub checkpoint: Option<Box<RawValue>>,
    /// How long this attempt may take.
    pub timeout: Option<Duration>,
    /// W3C `traceparent` of the submit.
    pub trace_context: Option<String>,
    /// A worker could not decode the input for longer than it is given back.
    pub undecodable_for_too_long: bool,
    /// The number of the last event, the claim's own. While the delivery runs, nobody else adds one.
    pub seq: i32,
    /// The version that the claim gave it.
    pub version: i32,
    /// How long it had been ready.
    pub waited: Duration,
}

/// A saved position: JSON text that the next delivery starts from.
pub type Checkpoint = Box<RawValue>;

/// Whose tasks a caller may see. In every WHERE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Everybody's.
    All,
    /// Only this owner's.
    Owner(String),
}

impl Scope {
    /// The owner to filter by.
    pub fn owner(&self) -> Option<&str> {
        match self {
            Scope::All => None,
            Scope::Owner(name) => Some(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_needs_a_total() {
        let progress = |current, total| Progress { current, total, message: None, updated_at: Utc::now() };
        assert_eq!(progress(3, Some(10)).percent(), Some(30.0));
        assert_eq!(progress(1, Some(3)).percent(), Some(33.3));
        assert_eq!(progress(11, Some(10)).percent(), Some(100.0));
        assert_eq!(progress(3, Some(0)).percent(), None);
        assert_eq!(progress(3, None).percent(), None);
    }
}
