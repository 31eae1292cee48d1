//! Protocol: the lines of a payload. A line that is a JSON object with one of these keys, and nothing else, says
//! something; every other line is a line of the task's log.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    config::duration,
    core::model::{Level, allowance::Kept, is_type_name},
    tasks::Failure,
};

/// What a line says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// `{"progress": {"current": 3, "total": 10, "message": "…"}}`
    Progress(Progress),
    /// `{"log": {"level": "WARNING", "message": "…"}}`
    Log(Log),
    /// `{"checkpoint": …}`: any JSON.
    Checkpoint(Box<RawValue>),
    /// `{"result": …}`: any JSON. The last one counts, if the payload then succeeds.
    Result(Box<RawValue>),
    /// `{"error": {"code": "…", "message": "…"}}`: why the payload is about to fail.
    Error(ErrorLine),
    /// How an attempt of a Rust type ended without a result.
    Failure(FailureLine),
}

/// How far.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// Steps done.
    pub current: u64,
    /// Steps in all, where that is known.
    #[serde(default)]
    pub total: Option<u64>,
    /// What it is doing.
    #[serde(default)]
    pub message: Option<String>,
}

/// A line of the log.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// How heavy.
    #[serde(default = "info")]
    pub level: Level,
    /// The text.
    pub message: String,
}

/// Why a command is about to fail. Whether it is tried again, its exit code says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErrorLine {
    /// Stable, for programs.
    #[serde(default)]
    pub code: Option<String>,
    /// For people.
    pub message: String,
    /// Before the next attempt, where there is one: `30s`.
    #[serde(default)]
    pub retry_after: Option<String>,
}

/// A [`Failure`], or an input that the type does not decode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureLine {
    /// See [`Failure::Retry`].
    Retry {
        /// Stable, for programs.
        code: String,
        /// For people.
        message: String,
        /// Instead of the policy's backoff.
        after: Option<Duration>,
    },
    /// See [`Failure::Fatal`].
    Fatal {
        /// Stable, for programs.
        code: String,
        /// For people.
        message: String,
    },
    /// See [`Failure::Snooze`].
    Snooze {
        /// How long.
        time: Duration,
    },
    /// See [`Failure::Stopped`].
    Stopped,
    /// The input does not decode, and why.
    Undecodable(String),
}

fn info() -> Level {
    Level::Info
}

impl Message {
    /// What a line says; `None` when it is a line of the log.
    pub fn parse(line: &str) -> Option<Self> {
        // Most lines of most programs are none: they need no parser.
        line.starts_with('{').then(|| serde_json::from_str(line).ok()).flatten()
    }

    /// What a line would leave behind of which only the beginning is known.
    pub(super) fn kept(beginning: &str) -> Option<Kept> {
        let key = beginning.strip_prefix('{')?.trim_start().strip_prefix('"')?;
        let is = |kept: &Kept| {
            let rest = key.strip_prefix(kept.word()).and_then(|rest| rest.strip_prefix('"'));
            rest.is_some_and(|rest| rest.trim_start().starts_with(':'))
        };
        [Kept::Checkpoint, Kept::Result].into_iter().find(is)
    }

    /// As a payload writes it.
    pub fn line(&self) -> String {
        let mut line = serde_json::to_string(self).unwrap_or_default();
        line.push('\n');
        line
    }
}

impl ErrorLine {
    /// The time before the next attempt, where one is given that can be read.
    pub fn after(&self) -> Option<Duration> {
        self.retry_after.as_deref().and_then(|text| duration(text).ok())
    }

    /// Takes out what cannot be used, and says so: lines for the task's log.
    pub fn made_usable(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(code) = self.code.take_if(|code| !is_type_name(code)) {
            lines.push(format!("the error's code {code:?} is left out: it must be 1 to 64 of a-z, 0-9 and _"));
        }
        if let Some(text) = &self.retry_after
            && let Err(why) = duration(text)
        {
            lines.push(format!("the error's retry_after {text:?} is left out: {why}"));
            self.retry_after = None;
        }
        lines
    }
}

impl From<Failure> for FailureLine {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Retry { code, message, after } => FailureLine::Retry { code, message, after },
            Failure::Fatal { code, message } => FailureLine::Fatal { code, message },
            Failure::Snooze { time } => FailureLine::Snooze { time },
            Failure::Stopped => FailureLine::Stopped,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_known_by_its_beginning() {
        for (line, kept) in [
            (r#"{"result":"xx"#, Some(Kept::Result)),
            (r#"{ "checkpoint" : [1"#, Some(Kept::Checkpoint)),
            (r#"{"results":"xx"#, None),
            (r#"{"result"xx"#, None),
            (r#"{"log":{"message":"#, None),
            ("xx", None),
        ] {
            assert_eq!(Message::kept(line), kept, "{line}");
        }
    }

    #[test]
    fn lines_say_something_or_are_the_log() {
        assert!(
            matches!(Message::parse(r#"{"progress":{"current":1}}"#), Some(Message::Progress(p)) if p.current == 1)
        );
        assert!(
            matches!(Message::parse(r#"{"log":{"message":"x"}}"#), Some(Message::Log(log)) if log.level == Level::Info)
        );
        assert!(
            matches!(Message::parse(r#"{"checkpoint":[1, 2.50]}"#), Some(Message::Checkpoint(c)) if c.get() == "[1, 2.50]")
        );
        assert!(matches!(Message::parse(r#"{"result":null}"#), Some(Message::Result(r)) if r.get() == "null"));
        for other in
            ["", "hello", "{", "{}", "[1]", r#"{"progress":{"current":-1}}"#, r#"{"result":1,"log":2}"#, r#"{"x":1}"#]
        {
            assert!(Message::parse(other).is_none(), "{other}");
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let failure =
            FailureLine::Retry { code: "a".into(), message: "b\nc".into(), after: Some(Duration::from_millis(5)) };
        let line = Message::Failure(failure.clone()).line();
        assert_eq!(line.matches('\n').count(), 1);
        assert!(matches!(Message::parse(line.trim_end()), Some(Message::Failure(read)) if read == failure));
    }
}
