//! Wire: the parts of the API's answers that the commands read. Unknown keys and words are no error: servers change.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{
    Deserialize,
    de::{DeserializeOwned, IgnoredAny},
};
use serde_json::value::RawValue;

use super::{
    exit::Exit,
    failure::Failure,
    screen::{Look, Style},
    time,
};

/// A status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Status {
    /// It waits.
    Pending,
    /// It runs.
    Running,
    /// It has a result.
    Success,
    /// It has none.
    Failed,
    /// Somebody cancelled it.
    Cancelled,
    /// One of a newer server.
    #[serde(other)]
    Unknown,
}

impl Status {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Status::Pending => "PENDING",
            Status::Running => "RUNNING",
            Status::Success => "SUCCESS",
            Status::Failed => "FAILED",
            Status::Cancelled => "CANCELLED",
            Status::Unknown => "UNKNOWN",
        }
    }

    /// Whether nothing more happens by itself.
    pub fn is_final(self) -> bool {
        matches!(self, Status::Success | Status::Failed | Status::Cancelled)
    }

    /// How a command ends that waited for it.
    pub fn exit(self) -> Exit {
        match self {
            Status::Success => Exit::Done,
            Status::Failed => Exit::TaskFailed,
            Status::Cancelled => Exit::TaskCancelled,
            Status::Pending | Status::Running | Status::Unknown => Exit::Unexpected,
        }
    }

    /// Its sign.
    pub fn sign(self, look: &Look) -> &'static str {
        match self {
            Status::Pending => look.sign("○", "o"),
            Status::Running => look.sign("◐", ">"),
            Status::Success => look.sign("✓", "+"),
            Status::Failed => look.sign("✕", "x"),
            Status::Cancelled => look.sign("⊘", "-"),
            Status::Unknown => "?",
        }
    }

    /// Its colour.
    pub fn style(self) -> Style {
        match self {
            Status::Pending | Status::Unknown => Style::Plain,
            Status::Running => Style::Blue,
            Status::Success => Style::Green,
            Status::Failed => Style::Red,
            Status::Cancelled => Style::Yellow,
        }
    }

    /// Sign and word on a terminal, the word alone in a pipe.
    pub fn shown(self, look: &Look) -> String {
        match look.terminal {
            true => look.paint(self.style(), &format!("{} {}", self.sign(look), self.word())),
            false => self.word().to_owned(),
        }
    }
}

/// A task.
#[derive(Debug, Clone, Deserialize)]
pub struct Task {
    pub task_id: String,
    pub task_type: String,
    pub status: Status,
    pub queue: String,
    pub priority: String,
    pub progress: Option<Progress>,
    pub attempt: i64,
    pub max_attempts: i64,
    pub metadata: Box<RawValue>,
    pub pending_reason: Option<String>,
    pub ready_at: Option<DateTime<Utc>>,
    pub queue_position: Option<i64>,
    pub estimated_start_at: Option<DateTime<Utc>>,
    pub last_error: Option<TaskError>,
    pub deadline_at: Option<DateTime<Utc>>,
    pub notice: Option<String>,
    pub result: Option<Box<RawValue>>,
    pub error: Option<TaskError>,
    pub created_at: DateTime<Utc>,
    pub started_at: Option<DateTime<Utc>>,
    pub completed_at: Option<DateTime<Utc>>,
    pub trace_id: Option<String>,
}

/// How far a task is.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Progress {
    pub current: i64,
    pub total: Option<i64>,
    pub percent: Option<f64>,
    pub message: Option<String>,
}

/// Why a task has no result.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct TaskError {
    pub code: String,
    pub message: String,
}

/// A log line.
#[derive(Debug, Clone, Deserialize)]
pub struct LogLine {
    pub timestamp: DateTime<Utc>,
    pub level: String,
    pub message: String,
}

/// Where a task has been.
#[derive(Debug, Deserialize)]
pub struct Timeline {
    pub entries: Vec<TimelineEntry>,
}

/// One change of status.
#[derive(Debug, Clone, Deserialize)]
pub struct TimelineEntry {
    pub seq: i64,
    pub at: DateTime<Utc>,
    pub reason: Option<String>,
    pub attempt: i64,
    pub worker: Option<TimelineWorker>,
    pub error: Option<TaskError>,
}

/// Who ran it.
#[derive(Debug, Clone, Deserialize)]
pub struct TimelineWorker {
    pub host: Option<String>,
}

/// A queue.
#[derive(Debug, Deserialize)]
pub struct Queue {
    pub queue: String,
    pub paused: bool,
    pub ready: i64,
    pub running: i64,
    pub scheduled: i64,
    pub oldest_age_seconds: Option<f64>,
    pub slots: i64,
    pub workers: i64,
    /// Empty from a server that does not tell.
    #[serde(default)]
    pub http_workers: Vec<IgnoredAny>,
    #[serde(default)]
    pub http_asked: bool,
    pub throughput: Throughput,
}

/// How fast a queue moves.
#[derive(Debug, Deserialize)]
pub struct Throughput {
    pub ended_per_minute: f64,
}

/// A worker.
#[derive(Debug, Deserialize)]
pub struct Worker {
    pub worker_id: String,
    pub state: String,
    pub host: String,
    pub version: String,
    pub queues: BTreeMap<String, i64>,
    pub lease_age_seconds: f64,
    pub started_at: DateTime<Utc>,
    pub running: i64,
}

/// A task type.
#[derive(Debug, Deserialize)]
pub struct TaskType {
    pub task_type: String,
    pub description: String,
    pub input_schema: serde_json::Value,
    pub defaults: Defaults,
}

/// What a type uses where nothing is said.
#[derive(Debug, Deserialize)]
pub struct Defaults {
    pub queue: String,
    pub max_attempts: i64,
    pub timeout: Option<String>,
}

/// How many tasks match a filter.
#[derive(Debug, Deserialize)]
pub struct Counts {
    pub counts: BTreeMap<String, Option<i64>>,
    pub more: Vec<String>,
}

/// What was done to many tasks.
#[derive(Debug, Deserialize)]
pub struct BulkOutcome {
    pub count: i64,
    pub more: bool,
}

impl Task {
    /// How long its last or present attempt has taken.
    pub fn took(&self, now: DateTime<Utc>) -> Option<TimeDelta> {
        let end = self.completed_at.or((self.status == Status::Running).then_some(now));
        Some(end? - self.started_at?)
    }

    /// The one line that says what hinders or has ended it.
    pub fn reason(&self, now: DateTime<Utc>) -> String {
        match (&self.error, self.status) {
            (Some(error), _) => error.shown(),
            (None, Status::Pending) => self.why_pending(now),
            (None, Status::Running) => {
                self.progress.as_ref().and_then(|progress| progress.message.clone()).unwrap_or_default()
            }
            _ => String::new(),
        }
    }

    /// Why it does not run, in words.
    pub fn why_pending(&self, now: DateTime<Utc>) -> String {
        let until =
            |at: Option<DateTime<Utc>>| at.map(|at| time::span(at - now)).unwrap_or_else(|| "a while".to_owned());
        match self.pending_reason.as_deref() {
            Some("scheduled") => format!("scheduled, in {}", until(self.ready_at)),
            Some("retry") => {
                let error = self.last_error.as_ref().map(|error| format!(" ({})", error.code)).unwrap_or_default();
                format!("retry in {}{error}", until(self.ready_at))
            }
            Some("paused") => format!("the queue {} is paused", self.queue),
            Some("no_worker") => format!("no worker for {} in the queue {}", self.task_type, self.queue),
            Some("ready") | None => {
                let place = self.queue_position.map(|place| format!(", position {place}")).unwrap_or_default();
                let start = self.estimated_start_at.map(|at| at - now).filter(|time| *time > TimeDelta::seconds(1));
                let start = start.map(|time| format!(", about {}", time::span(time))).unwrap_or_default();
                format!("in line{place}{start}")
            }
            Some(other) => other.to_owned(),
        }
    }
}

impl Progress {
    /// `63%`, `63% 630/1000` or `630`, and what it is doing.
    pub fn shown(&self) -> String {
        let mut words = Vec::new();
        if let Some(percent) = self.percent {
            words.push(format!("{percent:.0}%"));
        }
        words.push(self.count());
        words.extend(self.message.clone());
        words.join(" ")
    }

    /// `630/1000`, or `630` where there is no total.
    pub fn count(&self) -> String {
        match self.total {
            Some(total) => format!("{}/{total}", self.current),
            None => self.current.to_string(),
        }
    }
}

impl TaskError {
    /// `timeout: no answer in 30s`.
    pub fn shown(&self) -> String {
        format!("{}: {}", self.code, self.message)
    }
}

/// Reads an answer.
pub fn read<T: DeserializeOwned>(body: &str) -> Result<T, Failure> {
    serde_json::from_str(body).map_err(|error| {
        Failure::unexpected(format!("the server's answer cannot be read ({error}): is it a longrun server?"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending(reason: &str) -> Task {
        read(&format!(
            r#"{{"task_id":"01","task_type":"web_scrape","status":"PENDING","queue":"bulk","priority":"normal","progress":null,
            "attempt":1,"max_attempts":4,"metadata":{{}},"pending_reason":"{reason}","ready_at":"2026-01-01T00:00:28Z",
            "queue_position":3,"last_error":{{"code":"timeout","message":"m","retryable":true}},"result":null,
            "created_at":"2026-01-01T00:00:00Z","something_new":[1]}}"#
        ))
        .unwrap()
    }

    #[test]
    fn a_pending_task_says_why() {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        for (reason, words) in [
            ("ready", "in line, position 3"),
            ("scheduled", "scheduled, in 28s"),
            ("retry", "retry in 28s (timeout)"),
            ("paused", "the queue bulk is paused"),
            ("no_worker", "no worker for web_scrape in the queue bulk"),
            ("newer", "newer"),
        ] {
            assert_eq!(pending(reason).why_pending(now), words);
        }
    }

    #[test]
    fn progress_without_a_total_has_no_percent() {
        let progress = Progress { current: 630, total: None, percent: None, message: Some("Reading".into()) };
        assert_eq!(progress.shown(), "630 Reading");
        let progress = Progress { total: Some(1000), percent: Some(63.0), message: None, ..progress };
        assert_eq!(progress.shown(), "63% 630/1000");
    }

    #[test]
    fn words_of_newer_servers_are_no_error() {
        assert_eq!(serde_json::from_str::<Status>("\"SNOOZED\"").unwrap(), Status::Unknown);
    }
}
