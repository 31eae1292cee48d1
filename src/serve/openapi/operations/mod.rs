//! The operations: for each route what it takes and answers. Schemas and examples come from the code; the sentences
//! are here: [`tasks`] is one task, [`many`] is many at once, [`look`] is the server itself, [`session`] signs browsers
//! in.

mod lease;
mod look;
mod many;
mod session;
mod tasks;

use serde_json::{Value, json, value::to_raw_value};

use super::{super::problem::Code, operation::Operation, schemas::example_input};
use crate::tasks::{Registry, registry::ErasedKind};

/// What can be done with the task that an answer shows.
const TASK_OPERATIONS: &[&str] =
    &["getTask", "getTaskInput", "getTaskLogs", "streamTask", "getTaskTimeline", "cancelTask", "retryTask"];
const ID_IN_TASK: &str = "$response.body#/task_id";
const RATE: &[&str] = &["RateLimit", "RateLimit-Policy"];
const NO_SUCH_TASK: &[Code] = &[Code::TaskNotFound, Code::TaskGone];

/// What a submit may be refused for.
const REFUSED: &[Code] = &[
    Code::InvalidParameter,
    Code::UnknownTaskType,
    Code::InvalidInput,
    Code::IdempotencyConflict,
    // A replayed key whose task retention has deleted.
    Code::TaskGone,
    Code::RateLimited,
    Code::QueueFull,
];

/// The groups, in reading order.
pub fn tags() -> Value {
    json!([
        {"name": "tasks", "description": "Submit, follow, cancel."},
        {"name": "many tasks", "description": "Submit, cancel, retry and count many at once."},
        {"name": "queues", "description": "What waits, who works, and pausing."},
        {"name": "HTTP workers", "description": "Run tasks in any language, over HTTP."},
        {"name": "session", "description": "For browsers: signing in and out. Programs send their key with every request."},
        {"name": "look around", "description": "What this server has and does."},
        {"name": "health", "description": "For load balancers and orchestrators."},
    ])
}

/// All of them.
pub fn all(registry: &Registry) -> Vec<Operation> {
    vec![
        look::home(),
        tasks::submit(registry),
        tasks::list_tasks(),
        tasks::get_task(),
        tasks::cancel_task(),
        tasks::get_input(),
        tasks::get_logs(),
        tasks::stream_task(),
        tasks::get_timeline(),
        tasks::retry_task(),
        many::submit_batch(registry),
        many::bulk("/tasks/cancel", "cancelTasks", "Cancel many tasks", "Of these tasks, those that have not ended."),
        many::bulk(
            "/tasks/retry",
            "retryTasks",
            "Retry many tasks",
            "Of these tasks, those that are FAILED or CANCELLED.",
        ),
        many::count_tasks(),
        look::queues(),
        look::pause("/queues/{name}/pause", "pauseQueue", "Pause a queue", "Nothing new starts; what runs goes on."),
        look::pause("/queues/{name}/resume", "resumeQueue", "Resume a queue", "What waits may start again."),
        look::autoscale(),
        look::workers(),
        lease::lease(),
        lease::heartbeat(),
        lease::progress(),
        lease::log(),
        lease::checkpoint(),
        lease::complete(),
        lease::fail(),
        look::events(),
        session::show(),
        session::sign_in(),
        session::sign_out(),
        look::task_types(registry),
        lease::declare(),
        look::openapi(),
        look::docs(),
        look::docs_file(),
        look::dashboard(),
        look::dashboard_boot(),
        look::dashboard_asset(),
        look::dashboard_page(),
        look::livez(),
        look::readyz(),
        look::metrics(),
    ]
}

/// A body for each type that has examples.
fn examples_of(registry: &Registry) -> Vec<(String, Value)> {
    let example = |kind: &std::sync::Arc<dyn ErasedKind>| {
        let mut body = example_input(kind.as_ref());
        // A declared schema may have no examples that fit it.
        kind.check(&to_raw_value(&body).ok()?).ok()?;
        body.insert("task_type".to_owned(), kind.name().into());
        body.insert("metadata".to_owned(), json!({"source": "docs"}));
        Some((kind.name().to_owned(), Value::Object(body)))
    };
    registry.iter().filter_map(example).collect()
}
