//! Bodies of HTTP workers: what they ask for, and what they say with a token.

use std::time::Duration;

use actix_web::{HttpRequest, web::Payload};
use schemars::JsonSchema;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use super::super::{
    body, json,
    problem::{Code, Problem},
    query::Query,
};
use crate::{
    config::duration,
    core::model::{Level, TYPE_NAME_PATTERN},
    tasks::Finding,
};

/// Tasks of one lease.
pub const MOST_TASKS: usize = 100;
/// Types that one worker can name.
pub const MOST_TYPES: usize = 100;
/// Lines of one call.
pub const MOST_LINES: usize = 1_000;
/// Where a worker names none.
pub const LEASE: Duration = Duration::from_secs(60);
/// A lease must outlast a busy moment of the network, and end before people give up on a dead worker.
pub const LEASES: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3_600);
/// Longer names of workers help nobody.
pub const LONGEST_NAME: usize = 200;
/// What a token looks like.
const TOKEN_PATTERN: &str = "^[0-9]{1,10}\\.[0-9a-f]{64}$";

/// What a worker asks for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Lease")]
pub struct LeaseBody {
    /// The worker's name for itself: a host and a process, perhaps. The task's history tells it.
    #[schemars(length(min = 1, max = LONGEST_NAME))]
    pub worker: String,
    /// The types that it can do.
    #[schemars(length(min = 1, max = MOST_TYPES), inner(regex(pattern = TYPE_NAME_PATTERN)))]
    pub task_types: Vec<String>,
    /// How many tasks it can take now.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = MOST_TASKS))]
    pub max_tasks: usize,
    /// Seconds for which the answer is held while there is nothing to do. More than 50 counts as 50.
    #[serde(default)]
    pub wait: u64,
    /// How long it holds a task without a heartbeat: 1s to 1h.
    #[serde(default)]
    #[schemars(regex(pattern = "^[1-9][0-9]{0,3}(s|m)$"))]
    pub lease: Option<String>,
}

fn one() -> usize {
    1
}

/// A sign of life.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Heartbeat")]
pub struct HeartbeatBody {
    /// As the lease gave it.
    #[schemars(regex(pattern = TOKEN_PATTERN))]
    pub lease_token: String,
}

/// How far a task is.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ReportProgress")]
pub struct ProgressBody {
    /// As the lease gave it.
    #[schemars(regex(pattern = TOKEN_PATTERN))]
    pub lease_token: String,
    /// Steps done.
    #[schemars(range(max = i64::MAX))]
    pub current: u64,
    /// Steps in all, where that is known.
    #[schemars(range(max = i64::MAX))]
    pub total: Option<u64>,
    /// What it is doing.
    pub message: Option<String>,
}

/// Lines for the task's log.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ReportLog")]
pub struct LogBody {
    /// As the lease gave it.
    #[schemars(regex(pattern = TOKEN_PATTERN))]
    pub lease_token: String,
    /// Oldest first.
    #[schemars(length(min = 1, max = MOST_LINES))]
    pub lines: Vec<LineBody>,
}

/// One line.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ReportLine")]
pub struct LineBody {
    /// How heavy.
    #[serde(default = "info")]
    pub level: Level,
    /// The text; beyond 8 KiB it is cut.
    pub message: String,
}

fn info() -> Level {
    Level::Info
}

/// A position that the next delivery can go on from.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ReportCheckpoint")]
pub struct CheckpointBody {
    /// As the lease gave it.
    #[schemars(regex(pattern = TOKEN_PATTERN))]
    pub lease_token: String,
    /// Any JSON.
    #[schemars(with = "serde_json::Value")]
    pub checkpoint: Box<RawValue>,
}

/// The result.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Complete")]
pub struct CompleteBody {
    /// As the lease gave it.
    #[schemars(regex(pattern = TOKEN_PATTERN))]
    pub lease_token: String,
    /// Any JSON; null is stored as `{}`.
    #[schemars(with = "serde_json::Value")]
    pub result: Box<RawValue>,
}

/// Why there is no result.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Fail")]
pub struct FailBody {
    /// As the lease gave it.
    #[schemars(regex(pattern = TOKEN_PATTERN))]
    pub lease_token: String,
    /// Stable, for programs.
    #[serde(default = "failed")]
    #[schemars(regex(pattern = "^[a-z0-9_]{1,64}$"))]
    pub code: String,
    /// For people.
    pub message: String,
    /// Whether another attempt could succeed.
    #[serde(default = "yes")]
    pub retryable: bool,
    /// Wait this long instead of the type's own backoff.
    #[serde(default)]
    #[schemars(regex(pattern = "^[1-9][0-9]{0,3}(ms|s|m|h)$"))]
    pub retry_after: Option<String>,
}

fn failed() -> String {
    "failed".to_owned()
}

fn yes() -> bool {
    true
}

/// Reads a body of this shape, of so many bytes at most.
pub async fn read<T: DeserializeOwned>(
    request: &HttpRequest,
    payload: &mut Payload,
    most: usize,
) -> Result<T, Problem> {
    Query::of(request, &[], None)?;
    let body = body::read_json(request, payload, most).await?;
    let text = json::check(&body)?;
    serde_json::from_str(text).map_err(|error| wrong("", error.to_string()))
}

/// A time of a body.
pub fn time(pointer: &str, text: &str, bounds: std::ops::RangeInclusive<Duration>) -> Result<Duration, Problem> {
    let time = duration(text).map_err(|detail| wrong(pointer, detail))?;
    if bounds.contains(&time) {
        return Ok(time);
    }
    let (least, most) = (humantime::format_duration(*bounds.start()), humantime::format_duration(*bounds.end()));
    Err(wrong(pointer, format!("must be from {least} to {most}")))
}

/// A part of a body that is wrong.
pub fn wrong(pointer: &str, detail: impl Into<String>) -> Problem {
    Problem::invalid(Code::InvalidInput, vec![Finding { pointer: pointer.to_owned(), detail: detail.into() }])
}
