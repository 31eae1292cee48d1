//! Filter: which tasks a list shows, or a bulk action means.

use chrono::{DateTime, Utc};
use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};

use super::{
    failure::Failure,
    fields::{self, Field},
    time::{self, Since},
};

/// Conditions that must all hold.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Which tasks")]
pub struct Filter {
    /// Of these states, separated by commas
    #[arg(long, value_name = "STATUS", value_enum, ignore_case = true, value_delimiter = ',')]
    pub status: Vec<StatusWord>,
    /// Of this task type
    #[arg(long = "type", value_name = "TYPE")]
    pub task_type: Option<String>,
    /// Of this queue
    #[arg(long, value_name = "NAME")]
    pub queue: Option<String>,
    /// Of this priority
    #[arg(long, value_name = "PRIORITY", value_enum, ignore_case = true)]
    pub priority: Option<Priority>,
    /// That failed with this error code
    #[arg(long, value_name = "CODE")]
    pub error: Option<String>,
    /// Created since then: 1h is the last hour; or a time like 2026-01-31T23:59:59Z
    #[arg(long, value_name = "TIME")]
    pub since: Option<Since>,
    /// Created before then
    #[arg(long, value_name = "TIME")]
    pub until: Option<Since>,
    /// With this metadata. May be given several times
    #[arg(long = "meta", value_name = "KEY=VALUE")]
    pub metadata: Vec<Field>,
}

/// A status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StatusWord {
    Pending,
    Running,
    Success,
    Failed,
    Cancelled,
}

/// A place in a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Priority {
    High,
    Normal,
    Low,
}

impl StatusWord {
    fn word(self) -> &'static str {
        match self {
            StatusWord::Pending => "PENDING",
            StatusWord::Running => "RUNNING",
            StatusWord::Success => "SUCCESS",
            StatusWord::Failed => "FAILED",
            StatusWord::Cancelled => "CANCELLED",
        }
    }
}

impl Priority {
    /// As the API has it.
    pub fn word(self) -> &'static str {
        match self {
            Priority::High => "high",
            Priority::Normal => "normal",
            Priority::Low => "low",
        }
    }
}

impl Filter {
    /// Whether every task is meant.
    pub fn is_empty(&self) -> bool {
        let plain = [self.task_type.is_some(), self.queue.is_some(), self.priority.is_some(), self.error.is_some()];
        let others = [self.since.is_some(), self.until.is_some(), !self.status.is_empty(), !self.metadata.is_empty()];
        !plain.iter().chain(&others).any(|given| *given)
    }

    /// As the parameters of a query.
    pub fn pairs(&self, now: DateTime<Utc>) -> Result<Vec<(String, String)>, Failure> {
        let mut pairs: Vec<(String, String)> = self.plain(now);
        if !self.status.is_empty() {
            pairs.insert(0, ("status".to_owned(), self.statuses().join(",")));
        }
        for (key, value) in fields::pairs(&self.metadata)? {
            pairs.push((format!("metadata.{key}"), value));
        }
        Ok(pairs)
    }

    /// As the `filter` of a bulk action.
    pub fn body(&self, now: DateTime<Utc>) -> Result<Value, Failure> {
        let mut body: Map<String, Value> =
            self.plain(now).into_iter().map(|(key, value)| (key, value.into())).collect();
        if !self.status.is_empty() {
            body.insert("status".to_owned(), json!(self.statuses()));
        }
        let metadata: Map<String, Value> =
            fields::pairs(&self.metadata)?.into_iter().map(|(key, value)| (key, value.into())).collect();
        if !metadata.is_empty() {
            body.insert("metadata".to_owned(), metadata.into());
        }
        Ok(body.into())
    }

    /// As it would be typed, for hints: ` --status failed`.
    pub fn flags(&self, now: DateTime<Utc>) -> String {
        let mut flags = String::new();
        let mut add = |flag: &str, value: &str| {
            flags.push_str(&format!(" {flag} {}", quoted(value)));
        };
        if !self.status.is_empty() {
            add("--status", &self.statuses().join(",").to_ascii_lowercase());
        }
        for (flag, value) in [("--type", &self.task_type), ("--queue", &self.queue), ("--error", &self.error)] {
            if let Some(value) = value {
                add(flag, value);
            }
        }
        if let Some(priority) = self.priority {
            add("--priority", priority.word());
        }
        for (flag, since) in [("--since", self.since), ("--until", self.until)] {
            match since {
                Some(Since::Ago(ago)) => add(flag, &humantime::format_duration(ago).to_string().replace(' ', "")),
                Some(since @ Since::At(_)) => add(flag, &time::rfc3339(since.moment(now))),
                None => {}
            }
        }
        for (key, value) in fields::pairs(&self.metadata).unwrap_or_default() {
            add("--meta", &format!("{key}={value}"));
        }
        flags
    }

    fn statuses(&self) -> Vec<&'static str> {
        self.status.iter().map(|status| status.word()).collect()
    }

    fn plain(&self, now: DateTime<Utc>) -> Vec<(String, String)> {
        let moment = |since: Option<Since>| since.map(|since| time::rfc3339(since.moment(now)));
        let all = [
            ("task_type", self.task_type.clone()),
            ("queue", self.queue.clone()),
            ("priority", self.priority.map(|priority| priority.word().to_owned())),
            ("error", self.error.clone()),
            ("created_after", moment(self.since)),
            ("created_before", moment(self.until)),
        ];
        all.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
    }
}

/// A word as a POSIX shell reads it.
pub fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.,:/=@%+".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        filter: Filter,
    }

    #[test]
    fn a_filter_has_three_spellings() {
        let words = ["x", "--status", "failed,Running", "--type", "t", "--since", "90m", "--meta", "a=b c"];
        let filter = Line::parse_from(words).filter;
        let now = "2026-01-01T12:00:00Z".parse().unwrap();
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(
            filter.pairs(now).unwrap(),
            [
                pair("status", "FAILED,RUNNING"),
                pair("task_type", "t"),
                pair("created_after", "2026-01-01T10:30:00.000Z"),
                pair("metadata.a", "b c"),
            ]
        );
        assert_eq!(
            filter.body(now).unwrap(),
            json!({"status": ["FAILED", "RUNNING"], "task_type": "t", "created_after": "2026-01-01T10:30:00.000Z",
                "metadata": {"a": "b c"}})
        );
        assert_eq!(filter.flags(now), " --status failed,running --type t --since 1h30m --meta 'a=b c'");
        assert!(!filter.is_empty() && Filter::default().is_empty());
    }

    #[test]
    fn a_hint_can_be_pasted_into_a_shell() {
        assert_eq!(quoted("a'b; rm"), r"'a'\''b; rm'");
        assert_eq!(quoted(""), "''");
    }
}
