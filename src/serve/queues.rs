//! Queues: what waits and runs in each, pausing and resuming, and what an autoscaler needs.

use std::collections::BTreeMap;

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::CACHE_CONTROL,
    web::{Data, Path},
};
use schemars::JsonSchema;
use serde::Serialize;

use super::{Api, caller::Caller, problem::Problem, query::Query, task_view::Time};
use crate::core::{
    model::is_queue_name,
    store::{HttpWorker, QueueSample, QueueState},
};

/// A queue on the wire.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Queue")]
pub struct QueueView<'a> {
    queue: &'a str,
    paused: bool,
    ready: i64,
    running: i64,
    /// Waits for a time: a delay, or a retry.
    scheduled: i64,
    /// How long the first in line has been ready; null when nothing is.
    oldest_age_seconds: Option<f64>,
    /// Slots of the live workers that serve it.
    slots: i64,
    workers: i64,
    /// Workers over HTTP that hold its tasks, by the names that they gave themselves. Left out where only one queue was
    /// asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    http_workers: Option<Vec<HttpWorkerView<'a>>>,
    /// Whether workers over HTTP have asked for its tasks within 90 seconds, or renewed a lease. Left out likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    http_asked: Option<bool>,
    throughput: Throughput,
    /// The last hour, oldest first, one per minute; minutes in which nothing was seen are left out.
    samples: Vec<SampleView>,
}

/// A worker over HTTP.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "HttpWorker")]
struct HttpWorkerView<'a> {
    worker: &'a str,
    /// Tasks that it runs.
    running: i64,
}

/// Per minute, over the last five minutes.
#[derive(Debug, Serialize, JsonSchema)]
struct Throughput {
    started_per_minute: f64,
    ended_per_minute: f64,
}

/// One minute of a queue.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "QueueSample")]
pub struct SampleView {
    minute: Time,
    started: i64,
    ended: i64,
    ready: Option<i64>,
    running: Option<i64>,
    scheduled: Option<i64>,
    oldest_age_seconds: Option<f64>,
}

impl From<&QueueSample> for SampleView {
    fn from(sample: &QueueSample) -> Self {
        Self {
            minute: Time(sample.minute),
            started: sample.started,
            ended: sample.ended,
            ready: sample.ready,
            running: sample.running,
            scheduled: sample.scheduled,
            oldest_age_seconds: sample.oldest_age_seconds.map(tenths),
        }
    }
}

impl<'a> QueueView<'a> {
    /// A queue with its last hour.
    pub fn new(state: &'a QueueState, samples: Vec<SampleView>) -> Self {
        Self {
            queue: &state.name,
            paused: state.paused,
            ready: state.ready,
            running: state.running,
            scheduled: state.scheduled,
            oldest_age_seconds: state.oldest_age_seconds.map(tenths),
            slots: state.slots,
            workers: state.workers,
            http_workers: None,
            http_asked: None,
            throughput: Throughput {
                started_per_minute: tenths(state.started_per_minute),
                ended_per_minute: tenths(state.ended_per_minute),
            },
            samples,
        }
    }

    /// With those of `workers` that serve it.
    pub fn served_by(mut self, workers: &'a [HttpWorker]) -> Self {
        let mine = || workers.iter().filter(|worker| worker.queue == self.queue);
        let view = |worker: &'a HttpWorker| {
            let name = worker.worker.as_deref()?;
            Some(HttpWorkerView { worker: name, running: worker.running })
        };
        self.http_asked = Some(mine().any(|worker| worker.worker.is_none()));
        self.http_workers = Some(mine().filter_map(view).collect());
        self
    }
}

/// The last hour of each queue.
pub fn samples_by_queue(samples: &[QueueSample]) -> BTreeMap<&str, Vec<SampleView>> {
    let mut by_queue: BTreeMap<&str, Vec<SampleView>> = BTreeMap::new();
    for sample in samples {
        by_queue.entry(&sample.queue).or_default().push(sample.into());
    }
    by_queue
}

fn tenths(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

/// `GET /queues`: all of them, counted at most once a second.
pub async fn queues(api: Data<Api>, _caller: Caller, request: HttpRequest) -> Result<HttpResponse, Problem> {
    Query::of(&request, &[], None)?;
    let overview = api.panorama.overview().await?;
    let mut samples = samples_by_queue(&overview.samples);
    let mut views = Vec::with_capacity(overview.queues.len());
    for state in &overview.queues {
        let samples = samples.remove(state.name.as_str()).unwrap_or_default();
        views.push(QueueView::new(state, samples).served_by(&overview.http_workers));
    }
    Ok(HttpResponse::Ok().insert_header((CACHE_CONTROL, "private, no-cache")).json(views))
}

/// `POST /queues/{name}/pause`: nothing new starts; what runs goes on.
pub async fn pause(
    api: Data<Api>,
    _caller: Caller,
    name: Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    Query::of(&request, &[], None)?;
    set_paused(&api, &name, true).await
}

/// `POST /queues/{name}/resume`.
pub async fn resume(
    api: Data<Api>,
    _caller: Caller,
    name: Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    Query::of(&request, &[], None)?;
    set_paused(&api, &name, false).await
}

async fn set_paused(api: &Api, name: &str, paused: bool) -> Result<HttpResponse, Problem> {
    api.core.store.set_paused(named(name)?, paused).await?;
    api.panorama.forget_overview();
    let state = state_of(api, name).await?;
    let samples = api.core.store.samples(Some(name.to_owned())).await?;
    Ok(HttpResponse::Ok().json(QueueView::new(&state, samples.iter().map(SampleView::from).collect())))
}

/// What an autoscaler needs to know of a queue.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Autoscale")]
pub struct AutoscaleView {
    queue: String,
    /// Ready tasks.
    queued: i64,
    running: i64,
    oldest_age_seconds: f64,
    /// Of the live workers that serve the queue.
    slots: i64,
    workers: i64,
    /// So many workers of the present kind would have a slot for every task that is ready or runs. Without a worker to
    /// measure by, one as long as there is anything to do.
    desired_workers: i64,
}

/// `GET /autoscale/{queue}`: counted in PostgreSQL, what runs included, so a busy queue is not scaled down while its
/// last tasks run.
pub async fn autoscale(
    api: Data<Api>,
    _caller: Caller,
    name: Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    Query::of(&request, &[], None)?;
    let state = state_of(&api, named(&name)?).await?;
    let view = AutoscaleView {
        queued: if state.paused { 0 } else { state.ready },
        running: state.running,
        oldest_age_seconds: tenths(state.oldest_age_seconds.unwrap_or(0.0)),
        slots: state.slots,
        workers: state.workers,
        desired_workers: desired_workers(&state),
        queue: state.name,
    };
    Ok(HttpResponse::Ok().insert_header((CACHE_CONTROL, "private, no-cache")).json(view))
}

fn desired_workers(state: &QueueState) -> i64 {
    // What is paused cannot start, however many workers come.
    let tasks = state.running + if state.paused { 0 } else { state.ready };
    match (state.workers, state.slots) {
        (1.., 1..) => {
            (tasks * state.workers).div_euclid(state.slots) + i64::from(tasks * state.workers % state.slots > 0)
        }
        _ => tasks.min(1),
    }
}

async fn state_of(api: &Api, name: &str) -> Result<QueueState, Problem> {
    let states = api.core.store.queues(Some(vec![name.to_owned()])).await?;
    states.into_iter().next().ok_or_else(|| Problem::parameter("queue", "there is no such queue"))
}

fn named(name: &str) -> Result<&str, Problem> {
    match is_queue_name(name) {
        true => Ok(name),
        false => Err(Problem::parameter("queue", "a name of 1 to 64 of a-z 0-9 _ . -")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_asked_for_as_tasks_need_slots() {
        let state = |ready, running, slots, workers, paused| QueueState {
            name: "q".into(),
            paused,
            ready,
            running,
            scheduled: 0,
            oldest_age_seconds: None,
            slots,
            workers,
            task_types: Vec::new(),
            started_per_minute: 0.0,
            ended_per_minute: 0.0,
        };
        assert_eq!(desired_workers(&state(0, 0, 16, 2, false)), 0);
        assert_eq!(desired_workers(&state(17, 0, 16, 2, false)), 3);
        assert_eq!(desired_workers(&state(0, 1, 16, 2, false)), 1);
        assert_eq!(desired_workers(&state(100, 1, 16, 2, true)), 1);
        assert_eq!(desired_workers(&state(500, 0, 0, 0, false)), 1);
    }
}
