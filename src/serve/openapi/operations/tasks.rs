//! One task: submitting it, following it, and what may be done with it.

use serde_json::json;

use super::{
    super::{
        super::problem::Code,
        examples::{self, Stage, task},
        operation::{Answer, Operation, schema},
    },
    ID_IN_TASK, NO_SUCH_TASK, RATE, REFUSED, TASK_OPERATIONS, examples_of,
};
use crate::tasks::Registry;

pub(super) fn submit(registry: &Registry) -> Operation {
    Operation::new("POST", "/tasks", "submitTask")
        .about(
            "tasks",
            "Submit a task",
            "The task is committed before it is answered with 202. Send an Idempotency-Key, and a request whose answer \
             was lost can be repeated without making a second task. With `Prefer: wait=N` the answer is held until the \
             task has ended: then it is 200 with the result in it.",
        )
        .takes(&["Idempotency-Key", "Prefer"])
        .body(schema("Submit"), examples_of(registry))
        .answers(
            Answer::json(202, "Accepted: the task is committed, and goes on.", schema("Task"), task(Stage::Waiting))
                .with(&["Location", "Vary"])
                // A task that was replayed, or that was held for the whole time, may have ended.
                .may_have(&["Retry-After", "Preference-Applied", "Idempotency-Replayed"])
                .may_have(RATE)
                .leads_to("id", ID_IN_TASK, TASK_OPERATIONS),
        )
        .answers(
            Answer::json(200, "The task has ended while the answer was held.", schema("Task"), task(Stage::Done))
                .with(&["Location", "Vary"])
                .may_have(&["Preference-Applied", "Idempotency-Replayed"])
                .may_have(RATE)
                .leads_to("id", ID_IN_TASK, TASK_OPERATIONS),
        )
        .fails(REFUSED)
}

pub(super) fn list_tasks() -> Operation {
    Operation::new("GET", "/tasks", "listTasks")
        .about(
            "tasks",
            "List tasks",
            "Newest first, page by page: the Link header has the address of the next page. Results over 1 KiB are left \
             out, and `result_omitted` says so.",
        )
        .takes(&[
            "status",
            "task_type",
            "queue",
            "priority",
            "error",
            "created_after",
            "created_before",
            "metadata",
            "limit",
            "cursor",
            "skip",
        ])
        .answers(
            Answer::json(
                200,
                "The tasks.",
                json!({"type": "array", "items": schema("Task")}),
                json!([task(Stage::Running)]),
            )
            .with(&["Cache-Control"])
            .may_have(&["Link"])
            .leads_to("id", "$response.body#/0/task_id", TASK_OPERATIONS),
        )
        .fails(&[Code::InvalidParameter])
}

pub(super) fn get_task() -> Operation {
    Operation::new("GET", "/tasks/{id}", "getTask")
        .about(
            "tasks",
            "Poll a task",
            "200 whatever became of the task. While it has not ended, Retry-After says when it is worth asking again. \
             With `wait`, or `Prefer: wait=N`, the answer is held until there is something to tell.",
        )
        .takes(&["id", "wait", "Prefer", "If-None-Match"])
        .answers(
            Answer::json(200, "The task as it is now.", schema("Task"), task(Stage::Running))
                .with(&["ETag", "Cache-Control", "Vary"])
                .may_have(&["Retry-After", "Preference-Applied"]),
        )
        .answers(
            Answer::empty(304, "The client has this version already.")
                .with(&["ETag", "Cache-Control", "Vary"])
                .may_have(&["Retry-After", "Preference-Applied"]),
        )
        .fails(NO_SUCH_TASK)
        .fails(&[Code::InvalidParameter])
}

pub(super) fn cancel_task() -> Operation {
    Operation::new("DELETE", "/tasks/{id}", "cancelTask")
        .about(
            "tasks",
            "Cancel a task",
            "CANCELLED at once and for good; its worker is told to stop. The task stays where it is, and tells how it \
             ended. To cancel twice is to cancel once.",
        )
        .takes(&["id"])
        .answers(Answer::empty(204, "The task is CANCELLED."))
        .fails(NO_SUCH_TASK)
        .fails(&[Code::InvalidParameter, Code::AlreadyFinal])
}

pub(super) fn get_input() -> Operation {
    Operation::new("GET", "/tasks/{id}/input", "getTaskInput")
        .about("tasks", "The input of a task", "What was submitted for the task type, as it came.")
        .takes(&["id"])
        .answers(
            Answer::json(200, "The input.", json!({"type": "object"}), json!({"url": "https://example.com"}))
                .with(&["Cache-Control"]),
        )
        .fails(NO_SUCH_TASK)
        .fails(&[Code::InvalidParameter])
}

pub(super) fn get_logs() -> Operation {
    Operation::new("GET", "/tasks/{id}/logs", "getTaskLogs")
        .about("tasks", "The log of a task", "Oldest first, page by page: the Link header has the next page.")
        .takes(&["id", "after", "level", "delivery", "logs-limit", "logs-last"])
        .answers(
            Answer::json(
                200,
                "The lines.",
                json!({"type": "array", "items": schema("LogLine")}),
                json!([examples::log_line()]),
            )
            .with(&["Cache-Control"])
            .may_have(&["Link"]),
        )
        .fails(NO_SUCH_TASK)
        .fails(&[Code::InvalidParameter])
}

pub(super) fn stream_task() -> Operation {
    Operation::new("GET", "/tasks/{id}/stream", "streamTask")
        .about(
            "tasks",
            "Follow a task",
            "Server-sent events. Status and progress are unnamed events, whose data is a `StreamState`; log lines are \
             `event: log`, whose data is a `LogLine`. The last event is the final state, then the server closes. Every \
             event but a progress has an id; with the last id that it has, in Last-Event-ID or `after`, a client goes \
             on where it was, without a gap or a repeat. When the server cannot serve the stream just now, and the \
             request accepts text/event-stream, it answers with an empty stream that says when to come back.",
        )
        .takes(&["id", "Last-Event-ID", "stream-after"])
        .answers(
            Answer::events("The events.", &["StreamState", "LogLine"], examples::stream_events())
                .with(&["Cache-Control"]),
        )
        .answers(Answer::empty(204, "The client has the final event already."))
        .fails(NO_SUCH_TASK)
        .fails(&[Code::InvalidParameter])
}

pub(super) fn get_timeline() -> Operation {
    Operation::new("GET", "/tasks/{id}/timeline", "getTaskTimeline")
        .about(
            "tasks",
            "What became of a task",
            "Step by step: its waits, its deliveries, hand-backs and losses, with times, workers and errors.",
        )
        .takes(&["id"])
        .answers(
            Answer::json(
                200,
                "The steps, oldest first.",
                schema("Timeline"),
                json!({
                    "task_id": examples::example_id(), "current": null,
                    "entries": [{
                        "seq": 1, "at": "2026-01-01T00:00:00.000Z", "status": "PENDING", "reason": "submitted",
                        "lasted_ms": 12, "delivery": 0, "attempt": 1, "worker": null, "error": null,
                    }],
                }),
            )
            .with(&["Cache-Control"]),
        )
        .fails(NO_SUCH_TASK)
        .fails(&[Code::InvalidParameter])
}

pub(super) fn retry_task() -> Operation {
    Operation::new("POST", "/tasks/{id}/retry", "retryTask")
        .about(
            "tasks",
            "Retry a task",
            "A FAILED or CANCELLED task becomes PENDING with a new budget. A cancelled one can be retried as soon as \
             its last attempt has stopped.",
        )
        .takes(&["id"])
        .answers(
            Answer::json(202, "It has a new run.", schema("Task"), task(Stage::Waiting))
                .with(&["Location"])
                .may_have(&["Retry-After"])
                .leads_to("id", ID_IN_TASK, TASK_OPERATIONS),
        )
        .fails(NO_SUCH_TASK)
        .fails(&[Code::InvalidParameter, Code::NotRetryable, Code::StillStopping])
}
