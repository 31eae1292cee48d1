//! Plan: what a worker tells the supervisor of an attempt, and what the supervisor tells the worker.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use super::Limits;

/// Asks the supervisor to end the payload: SIGTERM, and SIGKILL after the grace.
pub const STOP: u8 = b'S';
/// Asks the supervisor to send SIGTERM and to wait for as long as it takes: the payload may save a checkpoint, and the
/// worker's own patience decides.
pub const ASK: u8 = b'A';

/// One line on the supervisor's stdin. What follows are single bytes, and the end says that the worker is gone.
#[derive(Debug, Serialize, Deserialize)]
pub struct Plan {
    /// Begins the supervisor's own lines on stderr, so that nothing else is taken for them.
    pub mark: String,
    /// The payload and its arguments.
    pub command: Vec<String>,
    /// The folder that it starts in.
    pub folder: Option<PathBuf>,
    /// Its whole environment.
    pub environment: Vec<(String, String)>,
    /// That of its supervisor, which is this program and may need something in order to begin.
    #[serde(skip)]
    pub supervisor_environment: Vec<(String, String)>,
    /// What it may use.
    pub limits: Limits,
    /// Between SIGTERM and SIGKILL.
    pub grace: Duration,
    /// What it reads on stdin.
    pub input: String,
}

/// A line of the supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    /// The payload runs, and leads a process group of this number.
    Started(i32),
    /// The payload cannot be started.
    NotStarted(String),
    /// The payload has ended, and nothing of it is left.
    Ended(Ended),
}

/// How a payload ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Its exit code, unless a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// It used more than `limits.memory`: so many bytes.
    pub too_large: Option<u64>,
}
