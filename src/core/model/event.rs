//! Events: the numbered history of a task, its status changes and its log lines.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Status, TaskError, WorkerId};

/// The weight of a log line, spelled as the API spells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Level {
    /// For whoever writes the task type.
    Debug,
    /// What happened.
    Info,
    /// Something was off, the task goes on.
    Warning,
    /// The attempt failed, or a part of it.
    Error,
}

impl Level {
    /// All of them, lightest first.
    pub const ALL: [Level; 4] = [Level::Debug, Level::Info, Level::Warning, Level::Error];

    /// As the API and the database spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Debug => "DEBUG",
            Level::Info => "INFO",
            Level::Warning => "WARNING",
            Level::Error => "ERROR",
        }
    }
}

impl std::str::FromStr for Level {
    type Err = String;

    /// Either case; `warn` is read as WARNING.
    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_uppercase().as_str() {
            "DEBUG" => Ok(Level::Debug),
            "INFO" => Ok(Level::Info),
            "WARNING" | "WARN" => Ok(Level::Warning),
            "ERROR" => Ok(Level::Error),
            _ => Err(format!("unknown level {text:?}: one of DEBUG, INFO, WARNING, ERROR")),
        }
    }
}

/// A line that an attempt wrote, not yet numbered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// When, by the worker's clock.
    pub at: DateTime<Utc>,
    /// How heavy.
    pub level: Level,
    /// One line or several; already [`storable`](super::storable).
    pub message: String,
}

/// A row of the history. `seq` rises by one per task, without gap, in the order of the commits.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskEvent {
    /// The number within the task, from 1.
    pub seq: i32,
    /// When.
    pub at: DateTime<Utc>,
    /// Which delivery it belongs to; 0 before the first claim.
    pub delivery: i32,
    /// Which attempt it belongs to, from 1.
    pub attempt: i32,
    /// What it tells.
    pub what: What,
}

/// The two kinds of event.
#[derive(Debug, Clone, PartialEq)]
pub enum What {
    /// A log line.
    Log {
        /// How heavy.
        level: Level,
        /// The text.
        message: String,
    },
    /// A change of status.
    Status {
        /// The status from here on.
        status: Status,
        /// Why, in words: "retry in 4.0 s", "worker lost".
        reason: Option<String>,
        /// Who ran it.
        worker_id: Option<WorkerId>,
        /// The error that caused it.
        error: Option<TaskError>,
    },
}
