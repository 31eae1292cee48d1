//! `GET /tasks/{id}/timeline`: what became of a task, step by step: its waits, its deliveries, hand-backs and losses.

use actix_web::{HttpRequest, HttpResponse, http::header::CACHE_CONTROL, web::Data};
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    Api,
    caller::{Caller, Named},
    problem::Problem,
    query::Query,
    read::found,
    task_view::Time,
};
use crate::core::{
    model::{Status, TaskError, TaskId, WorkerId},
    store::{Present, StatusChange},
};

/// What became of a task.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Timeline")]
pub struct TimelineView<'a> {
    task_id: TaskId,
    /// Oldest first.
    entries: Vec<EntryView<'a>>,
    /// The delivery that runs; null when none does.
    current: Option<CurrentView<'a>>,
}

/// From one change of status to the next.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "TimelineEntry")]
struct EntryView<'a> {
    seq: i32,
    at: Time,
    status: Status,
    /// "submitted", "worker lost" and the like, where there is something to say.
    reason: Option<&'a str>,
    /// Until the next entry, or until now while the task is not final.
    lasted_ms: Option<i64>,
    delivery: i32,
    attempt: i32,
    worker: Option<WorkerView<'a>>,
    error: Option<&'a TaskError>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "TimelineWorker")]
struct WorkerView<'a> {
    /// For an HTTP worker the id of its lease: every delivery has one of its own.
    worker_id: WorkerId,
    /// An HTTP worker's name for itself; null for a worker of the server.
    name: Option<&'a str>,
    host: Option<&'a str>,
    version: Option<&'a str>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "TimelineCurrent")]
struct CurrentView<'a> {
    worker_id: Option<WorkerId>,
    /// An HTTP worker's name for itself; null for a worker of the server.
    worker_name: Option<&'a str>,
    lease_renewed_at: Option<Time>,
    checkpoint_at: Option<Time>,
    percent: Option<f64>,
    progress_at: Option<Time>,
}

/// The handler.
pub async fn timeline(
    api: Data<Api>,
    caller: Caller,
    named: Named,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    Query::of(&request, &[], None)?;
    let (changes, present) = found(api.core.store.timeline(named.0, &caller.scope).await?)?;
    let runs = present.status == Status::Running;
    let view = TimelineView {
        task_id: named.0,
        entries: entries(&changes, Utc::now()),
        current: runs.then(|| current(&present, &changes)),
    };
    Ok(HttpResponse::Ok().insert_header((CACHE_CONTROL, "private, no-cache")).json(view))
}

fn entries(changes: &[StatusChange], now: DateTime<Utc>) -> Vec<EntryView<'_>> {
    let ends = changes.iter().skip(1).map(|next| Some(next.at)).chain([None]);
    changes
        .iter()
        .zip(ends)
        .map(|(change, end)| EntryView {
            seq: change.seq,
            at: Time(change.at),
            status: change.status,
            reason: change.reason.as_deref(),
            lasted_ms: end
                .or((!change.status.is_final()).then_some(now))
                .map(|end| (end - change.at).num_milliseconds().max(0)),
            delivery: change.delivery,
            attempt: change.attempt,
            worker: change.worker.as_ref().map(|worker| WorkerView {
                worker_id: worker.id,
                name: worker.name.as_deref(),
                host: worker.host.as_deref(),
                version: worker.version.as_deref(),
            }),
            error: change.error.as_ref(),
        })
        .collect()
}

fn current<'a>(present: &Present, changes: &'a [StatusChange]) -> CurrentView<'a> {
    let runners = changes.iter().rev().filter_map(|change| change.worker.as_ref());
    let runner = runners.into_iter().find(|runner| Some(runner.id) == present.worker);
    CurrentView {
        worker_id: present.worker,
        worker_name: runner.and_then(|runner| runner.name.as_deref()),
        lease_renewed_at: present.lease_renewed_at.map(Time),
        checkpoint_at: present.checkpoint_at.map(Time),
        percent: present.progress.as_ref().and_then(|progress| progress.percent()),
        progress_at: present.progress.as_ref().map(|progress| Time(progress.updated_at)),
    }
}
