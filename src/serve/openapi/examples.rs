//! Examples: answers as this program really writes them, made through the same views.

use std::time::Duration;

use chrono::DateTime;
use serde_json::{Map, Value, json, value::RawValue};

use super::super::{
    problem::{Code, Problem},
    task_view::TaskView,
};
use crate::{
    core::model::{PendingReason, Priority, Progress, Status, Task, TaskId},
    tasks::Finding,
};

/// The moment at which the example's task was submitted, in seconds since 1970.
const SUBMITTED: i64 = 1_767_225_600;
const REQUEST_ID: &str = "5f0c8d0f6f4b4e0f9a1c2b3d4e5f6a7b";

/// How far the example's task is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Accepted.
    Waiting,
    /// In its first attempt.
    Running,
    /// Has its result.
    Done,
}

/// A task on the wire.
pub fn task(stage: Stage) -> Value {
    serde_json::to_value(TaskView::from(&model(stage))).unwrap_or_default()
}

fn model(stage: Stage) -> Task {
    let at = |milliseconds: i64| DateTime::from_timestamp_millis(SUBMITTED * 1_000 + milliseconds).unwrap_or_default();
    let json = |value: Value| RawValue::from_string(value.to_string()).ok();
    let (waiting, done) = (stage == Stage::Waiting, stage == Stage::Done);
    let result = json!({
        "url": "https://example.com", "final_url": "https://example.com/", "http_status": 200,
        "title": "Example Domain", "description": null, "stats": {"h1_tags": 1, "links": 1, "images": 0},
        "content_type": "text/html", "bytes": 513, "elapsed_ms": 84,
    });
    let steps = if done { 2 } else { 1 };
    Task {
        id: example_id(),
        task_type: "web_scrape".to_owned(),
        status: match stage {
            Stage::Waiting => Status::Pending,
            Stage::Running => Status::Running,
            Stage::Done => Status::Success,
        },
        queue: "default".to_owned(),
        priority: Priority::Normal,
        owner: None,
        metadata: json(json!({"source": "docs"})).unwrap_or_default(),
        progress: (!waiting).then(|| Progress {
            current: steps,
            total: Some(2),
            message: (!done).then(|| "Fetching".to_owned()),
            updated_at: at(40 * steps),
        }),
        attempt: 1,
        max_attempts: 4,
        failures: 0,
        delivery: if waiting { 0 } else { 1 },
        timeout: Some(Duration::from_secs(60)),
        pending_reason: waiting.then_some(PendingReason::Ready),
        ready_at: at(0),
        scheduled_at: None,
        last_error: None,
        result: done.then(|| json(result)).flatten(),
        result_omitted: false,
        error: None,
        created_at: at(0),
        started_at: (!waiting).then(|| at(12)),
        completed_at: done.then(|| at(98)),
        trace_context: None,
        seq: 1,
        version: if waiting { 1 } else { 1 + steps as i32 },
    }
}

/// The id of the example's task.
pub fn example_id() -> TaskId {
    // An id of that moment, and a random part that is the same in every document.
    let mut bytes = TaskId::first_at(SUBMITTED as u64 * 1_000).to_bytes();
    bytes[6..].copy_from_slice(&[0x6b, 0x1d, 0x52, 0x94, 0xe3, 0x07, 0xaf, 0x38, 0xc9, 0x5e]);
    TaskId::from_bytes(bytes)
}

/// A log line on the wire.
pub fn log_line() -> Value {
    json!({
        "timestamp": "2026-01-01T00:00:00.014Z", "level": "INFO", "message": "GET https://example.com", "attempt": 1,
        "delivery": 1, "seq": 3,
    })
}

/// Two events of a stream: a log line, and the final state.
pub fn stream_events() -> Vec<(&'static str, Value)> {
    let mut last = task(Stage::Done);
    let state = json!({
        "task_id": example_id(), "status": "SUCCESS", "progress": last["progress"].take(),
        "result": last["result"].take(), "error": null,
    });
    vec![
        ("log", json!({"event": "log", "id": "3", "data": log_line().to_string()})),
        ("state", json!({"event": "message", "id": "6", "data": state.to_string()})),
    ]
}

/// One example of every problem, by its code.
pub fn problems() -> Map<String, Value> {
    let example = |code: &Code| {
        let problem = match code {
            Code::InvalidInput => {
                let detail = "this key is missing: it must be a string".to_owned();
                Problem::invalid(*code, vec![Finding { pointer: "/url".to_owned(), detail }])
            }
            Code::UnknownTaskType => {
                let detail = "\"resise\" names no task type of this server: GET /task-types lists them".to_owned();
                Problem::invalid(*code, vec![Finding { pointer: "/task_type".to_owned(), detail }])
            }
            Code::InvalidJson => {
                let detail = "this key is there twice".to_owned();
                Problem::invalid(*code, vec![Finding { pointer: "/metadata/source".to_owned(), detail }])
            }
            Code::TaskNotFound => Problem::task_not_found(),
            Code::TaskGone => Problem::task_gone(),
            Code::InvalidParameter => Problem::parameter("limit", "a number from 1 to 1000"),
            Code::AlreadyFinal => Problem::conflict(
                *code,
                "The task is SUCCESS: there is nothing left to cancel.",
                Box::new(model(Stage::Done)),
            ),
            _ => Problem::new(*code, format!("{}.", code.title())),
        };
        let body = problem.body("/tasks", REQUEST_ID, None);
        let value: Value = serde_json::from_slice(&body).unwrap_or_default();
        (code.as_str().to_owned(), json!({"summary": code.title(), "value": value}))
    };
    Code::ALL.iter().map(example).collect()
}
