//! History: what the clients and the fault injector wrote down while it happened. The checker reads it afterwards.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde_json::Value;

use super::clock::Moment;

/// A task's id as a number: the API spells it as a ULID, PostgreSQL as a UUID.
pub type Id = u128;

/// Reads a ULID (Crockford's base 32).
pub fn id_of_ulid(text: &str) -> Id {
    const DIGITS: &str = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    assert_eq!(text.len(), 26, "{text:?} is no ULID");
    text.chars().fold(0, |id, digit| (id << 5) | DIGITS.find(digit).expect("a digit of base 32") as Id)
}

/// Reads a UUID.
pub fn id_of_uuid(text: &str) -> Id {
    Id::from_str_radix(&text.replace('-', ""), 16).expect("a UUID")
}

/// What a task is to do, and so how it may end.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// `vector_processing`.
    Vector {
        /// The vectors.
        vectors: Vec<Vec<f64>>,
    },
    /// `test_sleep`, or `test_sleep_apart`.
    Sleep {
        /// Its steps.
        steps: u64,
    },
    /// `test_fail`.
    Fail {
        /// Attempts that fail.
        times: i64,
        /// Attempts in all.
        max_attempts: i64,
    },
    /// `test_ignore_stop`.
    IgnoreStop {
        /// How long.
        ms: u64,
    },
    /// `sum_shell`, a command.
    Command {
        /// How far it counts.
        n: u64,
    },
    /// The type of the HTTP workers.
    Leased {
        /// Its steps.
        steps: u64,
        /// Attempts that fail.
        times: i64,
    },
    /// `test_abort`, which kills its workers.
    Poison {
        /// Losses that it may have and go on.
        max_lost: i64,
    },
}

/// One thing to be submitted. Its number stands in its metadata, by which its row is found even when no answer came.
#[derive(Debug, Clone)]
pub struct Submission {
    /// The Idempotency-Key, where one is sent.
    pub key: Option<String>,
    /// What it is to do.
    pub kind: Kind,
    /// The body.
    pub body: Value,
}

/// A request.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// POST /tasks of this submission.
    Submit(usize),
    /// POST /tasks of this submission's key with another body.
    Misuse(usize),
    /// GET of a task.
    Poll(Id),
    /// DELETE of a task.
    Cancel(Id),
    /// POST of an operator's retry.
    Retry(Id),
}

/// What the client knows of its outcome.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It was answered, and this is what the answer said.
    Answered {
        /// The HTTP status.
        status: u16,
        /// The task of the answer, where it has one.
        view: Option<View>,
    },
    /// No answer, or one that leaves it open: it may have happened or not.
    Unknown(String),
}

/// A task as an answer showed it.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// Its id.
    pub id: Id,
    /// Its status.
    pub status: String,
    /// Its version.
    pub version: i64,
}

/// A request with its outcome.
#[derive(Debug, Clone)]
pub struct Entry {
    /// When it was sent.
    pub from: Moment,
    /// When its outcome was known.
    pub to: Moment,
    /// What was asked.
    pub request: Request,
    /// What came of it.
    pub outcome: Outcome,
}

/// A frame with an id, as a follower got it.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    /// Its id.
    pub seq: i64,
    /// The status that it told; `None` for a log line.
    pub status: Option<String>,
    /// The log line that it told.
    pub message: Option<String>,
}

/// What one client saw of a task, over all its connections, from the beginning on.
#[derive(Debug, Clone, Default)]
pub struct Followed {
    /// The task.
    pub id: Id,
    /// All frames with an id, in the order in which they came.
    pub frames: Vec<Frame>,
    /// Frames without an id that told a final status.
    pub final_without_id: usize,
    /// Connections after the first that brought frames with an id.
    pub resumed: usize,
    /// The last frame told a final status.
    pub complete: bool,
    /// What the server answered when the client came back after the final frame.
    pub after_the_end: Option<u16>,
}

/// A time in which the workers of a slot were paused, or cut off from a server.
#[derive(Debug, Clone)]
pub struct Window {
    /// The slot; `None` for all of them.
    pub slot: Option<usize>,
    /// From when.
    pub from: Moment,
    /// Until when.
    pub to: Moment,
    /// Why.
    pub why: &'static str,
}

/// Everything that was written down.
#[derive(Debug, Default)]
pub struct Record {
    /// By their number.
    pub submissions: BTreeMap<usize, Submission>,
    /// In the order of their ends.
    pub entries: Vec<Entry>,
    /// What followers saw.
    pub followed: Vec<Followed>,
    /// Pauses and cuts.
    pub windows: Vec<Window>,
    /// Tasks whose worker died at this moment while everything else was well.
    pub prompt: Vec<(Id, Moment)>,
    /// Deliveries of which an HTTP worker was told that they are complete.
    pub completed: Vec<(Id, i32)>,
    /// What HTTP workers did and met, by name.
    pub outside: BTreeMap<&'static str, u64>,
    /// Faults, by name.
    pub faults: BTreeMap<String, usize>,
}

/// The record while it is written.
#[derive(Debug, Default)]
pub struct History(Mutex<Record>);

impl History {
    /// For whoever writes.
    pub fn lock(&self) -> MutexGuard<'_, Record> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a fault.
    pub fn count(&self, name: &str) {
        *self.lock().faults.entry(name.to_owned()).or_default() += 1;
    }

    /// The whole record, when nobody writes any more.
    pub fn take(&self) -> Record {
        std::mem::take(&mut *self.lock())
    }
}
