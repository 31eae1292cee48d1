//! What HTTP workers call, and how their types are declared.

use serde_json::{Value, json};

use super::{
    super::{
        super::problem::Code,
        examples,
        operation::{Answer, Operation, schema},
    },
    NO_SUCH_TASK,
};

/// Calls that go on with a leased task.
const CALLS: &[&str] =
    &["heartbeatLease", "reportProgress", "reportLog", "reportCheckpoint", "completeTask", "failTask"];

fn token() -> String {
    format!("1.{}", "5f0c8d0f6f4b4e0f".repeat(4))
}

pub(super) fn declare() -> Operation {
    let declaration = json!({
        "description": "Makes pictures smaller",
        "input_schema": {
            "type": "object", "required": ["url"], "additionalProperties": false,
            "properties": {"url": {"type": "string"}},
        },
        "queue": "pictures", "max_attempts": 3, "timeout": "5m",
    });
    let mut answer = json!({
        "task_type": "resize_picture", "description": "Makes pictures smaller",
        "defaults": {"queue": "pictures", "max_attempts": 3, "timeout": "5m"},
    });
    answer["input_schema"] = declaration["input_schema"].clone();
    Operation::new("PUT", "/task-types/{name}", "declareTaskType")
        .about(
            "HTTP workers",
            "Declare a task type",
            "A type that HTTP workers run. Every server knows it within five seconds. Declaring it again changes it \
             for what is submitted from then on.",
        )
        .takes(&["type-in-path"])
        .body(schema("Declaration"), [("picture".to_owned(), declaration)])
        .answers(Answer::json(200, "The type.", schema("TaskType"), answer))
        .fails(&[Code::InvalidParameter, Code::InvalidInput, Code::BuiltInTaskType])
}

pub(super) fn lease() -> Operation {
    Operation::new("POST", "/queues/{queue}/lease", "leaseTasks")
        .about(
            "HTTP workers",
            "Take tasks",
            "Claims up to `max_tasks` tasks, each with a token of its own. While there is nothing to do the answer is \
             held for `wait` seconds.",
        )
        .takes(&["queue-in-path"])
        .body(
            schema("Lease"),
            [(
                "one".to_owned(),
                json!({"worker": "host-1/7", "task_types": ["resize_picture"], "wait": 0, "lease": "60s"}),
            )],
        )
        .answers(
            Answer::json(
                200,
                "The tasks.",
                json!({"type": "array", "items": schema("LeasedTask"), "minItems": 1}),
                json!([{
                    "task_id": examples::example_id(), "lease_token": token(),
                    "lease_until": "2026-01-01T00:01:00.000Z", "task_type": "resize_picture", "queue": "pictures",
                    "attempt": 1, "max_attempts": 3, "delivery": 1, "input": {"url": "https://example.com/a.png"},
                    "metadata": {}, "checkpoint": null, "timeout_seconds": 300.0, "trace_context": null,
                }]),
            )
            .with(&["Cache-Control"])
            .leads_to("id", "$response.body#/0/task_id", CALLS),
        )
        .answers(Answer::empty(204, "There was nothing to do."))
        .fails(&[Code::InvalidParameter, Code::InvalidInput])
}

fn call(path: &'static str, id: &'static str, body: &str, mut example: Value) -> Operation {
    example["lease_token"] = token().into();
    Operation::new("POST", path, id)
        .takes(&["id"])
        .body(schema(body), [("example".to_owned(), example)])
        .fails(&[Code::InvalidParameter, Code::InvalidInput, Code::LeaseLost])
        .fails(&NO_SUCH_TASK[..1])
}

fn told() -> Answer {
    Answer::empty(204, "Written.")
}

fn ended(status: &str) -> Answer {
    Answer::json(200, "The delivery has ended.", schema("LeaseEnded"), json!({"status": status}))
        .with(&["Cache-Control"])
}

pub(super) fn heartbeat() -> Operation {
    let renewed = json!({"lease_until": "2026-01-01T00:02:00.000Z"});
    call("/tasks/{id}/lease/heartbeat", "heartbeatLease", "Heartbeat", json!({}))
        .about("HTTP workers", "Renew a lease", "The only call that does. 409: drop the task, whatever the reason.")
        .answers(Answer::json(200, "Renewed.", schema("LeaseRenewed"), renewed))
}

pub(super) fn progress() -> Operation {
    let example = json!({"current": 3, "total": 10, "message": "Resizing"});
    call("/tasks/{id}/lease/progress", "reportProgress", "ReportProgress", example)
        .about("HTTP workers", "Report progress", "The latest report wins.")
        .answers(told())
}

pub(super) fn log() -> Operation {
    let example = json!({"lines": [{"level": "INFO", "message": "read 17 KiB"}]});
    call("/tasks/{id}/lease/log", "reportLog", "ReportLog", example)
        .about("HTTP workers", "Write into the log", "Beyond 10,000 lines or 4 MiB per delivery they are dropped.")
        .answers(told())
}

pub(super) fn checkpoint() -> Operation {
    call("/tasks/{id}/lease/checkpoint", "reportCheckpoint", "ReportCheckpoint", json!({"checkpoint": {"done": 3}}))
        .about(
            "HTTP workers",
            "Save a checkpoint",
            "The next delivery begins with it. One of more than 1 MiB fails the task: 409.",
        )
        .answers(told())
}

pub(super) fn complete() -> Operation {
    call("/tasks/{id}/lease/complete", "completeTask", "Complete", json!({"result": {"width": 640}}))
        .about(
            "HTTP workers",
            "End with a result",
            "Safe to repeat with the same token. FAILED when the result is larger than the server allows.",
        )
        .answers(ended("SUCCESS"))
}

pub(super) fn fail() -> Operation {
    let example = json!({"code": "unreachable", "message": "no answer within 10 s", "retryable": true});
    call("/tasks/{id}/lease/fail", "failTask", "Fail", example)
        .about("HTTP workers", "End without a result", "Safe to repeat with the same token.")
        .answers(ended("PENDING"))
}
