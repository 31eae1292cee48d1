//! Task types: what a user implements, and the built-in ones.
//!
//! A type is one file and one line: a struct that implements [`TaskKind`], and `.with(MyTask)` in `main.rs`.
//! This room imports `core::model` and nothing else of the crate, so a type can be written, and tested with
//! [`testing`], without a server.

use std::{borrow::Cow, future::Future, time::Duration};

use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};

use crate::core::model::{RetryPolicy, allowance::TooLarge};

pub mod command;
pub mod context;
pub mod declared;
pub mod making;
pub mod outbound;
pub mod process;
pub mod registry;
pub mod scrape;
#[cfg(test)]
mod test_site;
#[cfg(feature = "faults")]
pub(crate) mod test_types;
pub mod testing;
pub mod vector;

pub use context::{Context, StopReason};
pub use making::TaskTypes;
pub use process::{Isolation, Limits};
pub use registry::Registry;

/// A kind of work. One value serves all attempts: it holds the type's dependencies, not the state of a task.
pub trait TaskKind: Send + Sync + 'static {
    /// The name in `task_type`: stable, `snake_case`.
    const NAME: &'static str;
    /// Names that it had before, or has elsewhere: tasks submitted under them run here too. So a type can be renamed.
    const ALIASES: &'static [&'static str] = &[];
    /// One line for people who choose from a list.
    const DESCRIPTION: &'static str;
    /// What a client sends beside `task_type`, `metadata` and `options`. Its JSON Schema is checked at submit;
    /// `#[serde(deny_unknown_fields)]` makes a misspelled key a 422 instead of a surprise.
    type Input: DeserializeOwned + JsonSchema + Send + 'static;
    /// What a client gets as `result`.
    type Output: Serialize + Send + 'static;

    /// Queue, retries and time limit where the submitter names none, and where attempts run.
    fn defaults(&self) -> Defaults {
        Defaults::default()
    }

    /// What a JSON Schema cannot say: each finding is a JSON pointer into the input and a sentence.
    fn check(&self, input: &Self::Input) -> Vec<Finding> {
        let _ = input;
        Vec::new()
    }

    /// One attempt. It may run again after a crash, so what it does outside should bear repetition.
    fn run(&self, input: Self::Input, ctx: Context) -> impl Future<Output = Result<Self::Output, Failure>> + Send;
}

/// Something wrong with an input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Finding {
    /// JSON pointer (RFC 6901) to the place.
    pub pointer: String,
    /// What is wrong there, and what would be right.
    pub detail: String,
}

/// What a type uses where the submitter says nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct Defaults {
    /// The queue.
    pub queue: Cow<'static, str>,
    /// How often and how soon it is tried again.
    pub retry: RetryPolicy,
    /// How long one attempt may take; `None`: as long as it likes.
    pub timeout: Option<Duration>,
    /// Where attempts run: in the worker, or each in a process of its own.
    pub isolation: Isolation,
}

impl Default for Defaults {
    fn default() -> Self {
        Self { queue: "default".into(), retry: RetryPolicy::default(), timeout: None, isolation: Isolation::Inline }
    }
}

/// How an attempt ends without a result. Any error becomes [`Failure::Retry`] through `?`; "never again" is one word,
/// [`Failure::fatal`].
#[derive(Debug)]
pub enum Failure {
    /// Charged to the budget, and tried again when the budget allows.
    Retry {
        /// Stable, for programs.
        code: String,
        /// For people.
        message: String,
        /// Wait this long instead of the policy's backoff: a Retry-After.
        after: Option<Duration>,
    },
    /// Permanent: another attempt would fail alike.
    Fatal {
        /// Stable, for programs.
        code: String,
        /// For people.
        message: String,
    },
    /// Nothing is wrong, it is only too early: given back, uncharged, and not started again before this long.
    Snooze {
        /// How long.
        time: Duration,
    },
    /// The attempt was asked to stop and did. Returned by the cancellation points of [`Context`]; pass it on with `?`.
    Stopped,
}

impl Failure {
    /// Worth another attempt.
    pub fn retry(code: impl Into<String>, message: impl Into<String>) -> Self {
        Failure::Retry { code: code.into(), message: message.into(), after: None }
    }

    /// Worth another attempt, not before this long.
    pub fn retry_after(code: impl Into<String>, message: impl Into<String>, after: Duration) -> Self {
        Failure::Retry { code: code.into(), message: message.into(), after: Some(after) }
    }

    /// Not a failure: the task is given back, uncharged, and starts again after this long, from its last checkpoint.
    pub fn snooze(time: Duration) -> Self {
        Failure::Snooze { time }
    }

    /// Never again.
    pub fn fatal(code: impl Into<String>, message: impl Into<String>) -> Self {
        Failure::Fatal { code: code.into(), message: message.into() }
    }
}

impl From<TooLarge> for Failure {
    fn from(too_large: TooLarge) -> Self {
        Failure::fatal(too_large.code, too_large.message)
    }
}

impl<E: std::error::Error> From<E> for Failure {
    /// `?` means retry: the error and its causes in one line.
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(inner) = cause {
            message.push_str(": ");
            message.push_str(&inner.to_string());
            cause = inner.source();
        }
        Failure::retry("error", message)
    }
}
