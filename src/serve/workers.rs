//! `GET /workers`: who works, who drains, and who left or died within the last hour.

use actix_web::{HttpRequest, HttpResponse, http::header::CACHE_CONTROL, web::Data};
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::BTreeMap;

use super::{Api, caller::Caller, problem::Problem, query::Query, task_view::Time};
use crate::core::{
    model::{TaskId, WorkerId},
    store::WorkerState,
};

/// A worker incarnation on the wire.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Worker")]
pub struct WorkerView<'a> {
    worker_id: WorkerId,
    /// `left`: it signed off. `dead`: its lease ran out.
    #[schemars(extend("enum" = ["alive", "draining", "left", "dead"]))]
    state: &'a str,
    host: &'a str,
    pid: i32,
    version: &'a str,
    /// Slots by queue.
    #[schemars(with = "BTreeMap<String, u32>")]
    queues: &'a serde_json::Value,
    task_types: &'a [String],
    /// Seconds since it renewed its lease.
    lease_age_seconds: f64,
    lease_renewed_at: Time,
    lease_until: Time,
    started_at: Time,
    ended_at: Option<Time>,
    running: i64,
    /// The first hundred of them that the caller may see.
    running_tasks: &'a [TaskId],
    /// Attempts that ignore a request to stop.
    unstopped: i32,
}

impl<'a> From<&'a WorkerState> for WorkerView<'a> {
    fn from(worker: &'a WorkerState) -> Self {
        Self {
            worker_id: worker.id,
            state: &worker.state,
            host: &worker.host,
            pid: worker.pid,
            version: &worker.version,
            queues: &worker.queues,
            task_types: &worker.task_types,
            lease_age_seconds: (worker.lease_age_seconds * 10.0).round() / 10.0,
            lease_renewed_at: Time(worker.renewed_at),
            lease_until: Time(worker.lease_until),
            started_at: Time(worker.started_at),
            ended_at: worker.ended_at.map(Time),
            running: worker.running,
            running_tasks: &worker.running_tasks,
            unstopped: worker.unstopped,
        }
    }
}

/// The handler.
pub async fn workers(api: Data<Api>, caller: Caller, request: HttpRequest) -> Result<HttpResponse, Problem> {
    Query::of(&request, &[], None)?;
    let workers = api.panorama.workers(&caller.scope).await?;
    let views: Vec<_> = workers.iter().map(WorkerView::from).collect();
    Ok(HttpResponse::Ok().insert_header((CACHE_CONTROL, "private, no-cache")).json(views))
}
