//! Many tasks at once.

use serde_json::json;

use super::{
    super::{
        super::problem::Code,
        examples::{Stage, task},
        operation::{Answer, Operation, schema},
    },
    RATE, REFUSED, TASK_OPERATIONS, examples_of,
};
use crate::tasks::Registry;

pub(super) fn submit_batch(registry: &Registry) -> Operation {
    let examples = examples_of(registry).into_iter().map(|(_, body)| body).collect::<Vec<_>>();
    Operation::new("POST", "/tasks/batch", "submitBatch")
        .about(
            "many tasks",
            "Submit many tasks",
            "All of them are committed, or none is. One Idempotency-Key covers the batch. A batch may have 8 MiB.",
        )
        .takes(&["Idempotency-Key"])
        .body(schema("Batch"), [("one_of_each".to_owned(), examples.into())])
        .answers(
            Answer::json(
                202,
                "Accepted: the tasks, in the order of their bodies.",
                json!({"type": "array", "items": schema("Task")}),
                json!([task(Stage::Waiting)]),
            )
            .may_have(&["Retry-After", "Idempotency-Replayed"])
            .may_have(RATE)
            .leads_to("id", "$response.body#/0/task_id", TASK_OPERATIONS),
        )
        .fails(REFUSED)
}

pub(super) fn bulk(path: &'static str, id: &'static str, summary: &'static str, which: &'static str) -> Operation {
    Operation::new("POST", path, id)
        .about("many tasks", summary, which)
        .body(
            schema("Bulk"),
            [("dry_run".to_owned(), json!({"filter": {"queue": "default", "error": "timeout"}, "dry_run": true}))],
        )
        .answers(Answer::json(
            200,
            "How many.",
            schema("BulkOutcome"),
            json!({"dry_run": true, "count": 3, "more": false}),
        ))
        .fails(&[Code::InvalidParameter, Code::InvalidInput])
}

pub(super) fn count_tasks() -> Operation {
    Operation::new("GET", "/tasks/counts", "countTasks")
        .about("many tasks", "Count tasks", "By status, with the filters of the list. Counting stops at `limit`.")
        .takes(&["status", "task_type", "queue", "priority", "error", "created_after", "created_before", "metadata"])
        .answers(
            Answer::json(
                200,
                "The counts.",
                schema("Counts"),
                json!({"counts": {"RUNNING": 4, "SUCCESS": 10_000}, "limit": 10_000, "more": ["SUCCESS"]}),
            )
            .with(&["Cache-Control"]),
        )
        .fails(&[Code::InvalidParameter])
}
