//! The server itself: its queues and workers, its task types, its descriptions, its health.

use serde_json::{Value, json};

use super::super::{
    super::problem::Code,
    examples,
    operation::{Answer, Operation, schema},
};
use crate::tasks::Registry;

/// A queue on the wire.
fn queue() -> Value {
    json!({
        "queue": "default", "paused": false, "ready": 12, "running": 4, "scheduled": 1, "oldest_age_seconds": 1.5,
        "slots": 4, "workers": 1, "throughput": {"started_per_minute": 31.2, "ended_per_minute": 30.8},
        "samples": [{
            "minute": "2026-01-01T00:00:00.000Z", "started": 31, "ended": 30, "ready": 12, "running": 4,
            "scheduled": 1, "oldest_age_seconds": 1.5,
        }],
    })
}

pub(super) fn queues() -> Operation {
    Operation::new("GET", "/queues", "listQueues")
        .about("queues", "The queues", "What waits and runs in each, its throughput, and its last hour by minutes.")
        .answers(
            Answer::json(200, "The queues.", json!({"type": "array", "items": schema("Queue")}), json!([queue()]))
                .with(&["Cache-Control"])
                .leads_to("name", "$response.body#/0/queue", &["pauseQueue", "resumeQueue"]),
        )
        .fails(&[Code::InvalidParameter])
}

pub(super) fn pause(
    path: &'static str,
    id: &'static str,
    summary: &'static str,
    description: &'static str,
) -> Operation {
    Operation::new("POST", path, id)
        .about("queues", summary, description)
        .takes(&["name"])
        .answers(Answer::json(200, "The queue as it is now.", schema("Queue"), queue()))
        .fails(&[Code::InvalidParameter])
}

pub(super) fn autoscale() -> Operation {
    Operation::new("GET", "/autoscale/{queue}", "autoscaleQueue")
        .about("queues", "How many workers a queue needs", "For an autoscaler. What runs is counted in.")
        .takes(&["queue-in-path"])
        .answers(
            Answer::json(
                200,
                "The queue, and the workers that it needs.",
                schema("Autoscale"),
                json!({
                    "queue": "default", "queued": 12, "running": 4, "oldest_age_seconds": 1.5, "slots": 4,
                    "workers": 1, "desired_workers": 4,
                }),
            )
            .with(&["Cache-Control"]),
        )
        .fails(&[Code::InvalidParameter])
}

pub(super) fn workers() -> Operation {
    Operation::new("GET", "/workers", "listWorkers")
        .about("queues", "The workers", "Who works, who drains, and who left or died within the last hour.")
        .answers(
            Answer::json(
                200,
                "The workers.",
                json!({"type": "array", "items": schema("Worker")}),
                json!([{
                    "worker_id": examples::example_id(), "state": "alive", "host": "worker-1", "pid": 7,
                    "version": "1.0.0", "queues": {"default": 4}, "task_types": ["web_scrape"],
                    "lease_age_seconds": 3.2, "lease_renewed_at": "2026-01-01T00:00:00.000Z",
                    "lease_until": "2026-01-01T00:00:30.000Z", "started_at": "2026-01-01T00:00:00.000Z",
                    "ended_at": null, "running": 1, "running_tasks": [examples::example_id()], "unstopped": 0,
                }]),
            )
            .with(&["Cache-Control"]),
        )
        .fails(&[Code::InvalidParameter])
}

pub(super) fn events() -> Operation {
    Operation::new("GET", "/events", "streamDashboard")
        .about(
            "look around",
            "Follow everything",
            "What a dashboard shows, as server-sent events: those rows between `first` and `last` that match, how many \
             matching tasks are newer, counts, queues and workers. The first event is the state now; later ones carry \
             only what has changed, at most two a second. They have no ids, and nothing is replayed.",
        )
        .takes(&["status", "task_type", "queue", "priority", "error", "created_after", "created_before", "metadata"])
        .takes(&["first", "last"])
        .answers(
            Answer::events(
                "The events.",
                &["DashboardFrame"],
                vec![("newer", json!({"data": r#"{"server_time":"2026-01-01T00:00:00.000Z","newer":12}"#}))],
            )
            .with(&["Cache-Control"]),
        )
        .fails(&[Code::InvalidParameter])
}

pub(super) fn task_types(registry: &Registry) -> Operation {
    let example = registry.iter().next().map(|kind| {
        json!({
            "task_type": kind.name(), "description": kind.description(), "input_schema": {"type": "object"},
            "defaults": {"queue": "default", "max_attempts": 4, "timeout": "5m"},
        })
    });
    Operation::new("GET", "/task-types", "listTaskTypes")
        .about("look around", "The task types", "Names, JSON Schemas of their inputs, and defaults.")
        .answers(Answer::json(
            200,
            "The types.",
            json!({"type": "array", "items": schema("TaskType")}),
            example.into_iter().collect(),
        ))
        .fails(&[Code::InvalidParameter])
}

fn to_the_dashboard(path: &'static str, id: &'static str) -> Operation {
    Operation::new("GET", path, id)
        .about("look around", "To the dashboard", "The dashboard, a page for people, lives under /ui/.")
        .answers(Answer::empty(303, "The list of tasks.").with(&["Location"]))
}

pub(super) fn home() -> Operation {
    to_the_dashboard("/", "home")
}

pub(super) fn dashboard() -> Operation {
    to_the_dashboard("/ui", "getDashboard")
}

pub(super) fn dashboard_page() -> Operation {
    Operation::new("GET", "/ui/{page}", "getDashboardPage")
        .about("look around", "A page of the dashboard", "Its script shows what the address says, by this API.")
        .takes(&["page", "If-None-Match"])
        .answers(Answer::text(200, "The page.", "text/html").with(&["Cache-Control", "Content-Security-Policy"]))
        .answers(Answer::empty(303, "The list of tasks, where the address names no page.").with(&["Location"]))
        .answers(Answer::empty(304, "The client has it already.").with(&["Cache-Control"]))
}

pub(super) fn dashboard_boot() -> Operation {
    Operation::new("GET", "/ui/boot.js", "getDashboardBoot")
        .about("look around", "What loads the dashboard", "The one script that every version has at the same address.")
        .takes(&["If-None-Match"])
        .answers(Answer::text(200, "The script.", "text/javascript").with(&["Cache-Control"]))
        .answers(Answer::empty(304, "The client has it already.").with(&["Cache-Control"]))
}

pub(super) fn dashboard_asset() -> Operation {
    Operation::new("GET", "/ui/assets/{hash}/{file}", "getDashboardFile")
        .about("look around", "What the dashboard is made of", "Kept for a year: another version has another hash.")
        .takes(&["hash", "asset", "If-None-Match"])
        .answers(Answer::text(200, "The file.", "text/*").with(&["Cache-Control"]))
        .answers(Answer::empty(304, "The client has it already.").with(&["Cache-Control"]))
}

pub(super) fn openapi() -> Operation {
    Operation::new("GET", "/openapi.json", "getOpenApi")
        .about("look around", "This document", "The API in OpenAPI 3.1, with the input of every task type.")
        .takes(&["If-None-Match"])
        .answers(
            Answer::json(
                200,
                "The document.",
                json!({"type": "object", "required": ["openapi", "info", "paths", "components"]}),
                json!({"openapi": "3.1.0", "info": {}, "paths": {}, "components": {}}),
            )
            .with(&["ETag", "Cache-Control"]),
        )
        .answers(Answer::empty(304, "The client has it already.").with(&["ETag", "Cache-Control"]))
}

pub(super) fn docs() -> Operation {
    Operation::new("GET", "/docs", "getDocs")
        .about("look around", "A page for people", "Shows this document, and sends requests.")
        .answers(Answer::text(200, "The page.", "text/html").with(&["Cache-Control", "Content-Security-Policy"]))
}

pub(super) fn docs_file() -> Operation {
    Operation::new("GET", "/docs/{file}", "getDocsFile")
        .about("look around", "What that page is made of", "Its script and its style sheet.")
        .takes(&["file"])
        .answers(Answer::text(200, "The file.", "text/*").with(&["Cache-Control", "Content-Security-Policy"]))
}

fn health(description: &'static str, more: Value) -> Answer {
    let mut schema = json!({
        "type": "object", "required": ["status"], "properties": {"status": {"const": "ok"}},
    });
    let mut example = json!({"status": "ok"});
    for (name, words) in more.as_object().into_iter().flatten() {
        schema["properties"][name] = json!({"enum": words});
        example[name] = words[0].clone();
    }
    Answer::json(200, description, schema, example)
}

pub(super) fn livez() -> Operation {
    Operation::new("GET", "/livez", "livez")
        .about("health", "Whether the process lives", "Its own loops turn. Never a dependency.")
        .answers(health("It lives.", json!({})))
}

pub(super) fn readyz() -> Operation {
    Operation::new("GET", "/readyz", "readyz")
        .about(
            "health",
            "Whether it is of use",
            "PostgreSQL answers within 2 s and has the schema. Without Redis tasks start later, and nothing else.",
        )
        .answers(health("It is ready.", json!({"postgres": ["ok"], "redis": ["ok", "degraded"]})))
}

pub(super) fn metrics() -> Operation {
    Operation::new("GET", "/metrics", "metrics")
        .about(
            "health",
            "What the process counts",
            "For Prometheus, in its text format 0.0.4. A server that has an admin address has them there and not here.",
        )
        .answers(Answer::text(200, "The metrics.", "text/plain"))
        .fails(&[Code::PathNotFound])
}
