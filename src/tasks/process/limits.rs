//! Limits: what an attempt in a process of its own may use.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Where an attempt runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Isolation {
    /// In the worker, beside the others: no cost, and no way to end a loop that does not ask whether it should stop.
    #[default]
    Inline,
    /// In a process of its own, within these limits: it can always be killed, and a crash ends one attempt.
    Process(Limits),
}

/// Limits of a process. What is `None` is not limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Limits {
    /// Resident memory in bytes, of all processes of the attempt together, watched from outside four times a second.
    pub memory: Option<u64>,
    /// Private data of one process in bytes (setrlimit(2), RLIMIT_DATA). Not the address space, of which some runtimes
    /// reserve much and use little.
    pub data: Option<u64>,
    /// Processor time of one process (RLIMIT_CPU), in whole seconds.
    pub cpu: Option<Duration>,
    /// Files that one process may have open (RLIMIT_NOFILE).
    pub files: Option<u64>,
    /// The largest file that it may write, in bytes (RLIMIT_FSIZE).
    pub file_size: Option<u64>,
}
