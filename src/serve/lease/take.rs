//! Taking: the call that waits for tasks and gives each with a lease.

use std::time::Duration;

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::CACHE_CONTROL,
    web::{Data, Path, Payload},
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::time::{Instant, sleep_until};

use super::{
    super::{Api, caller::Caller, problem::Problem, task_view::Time},
    bench::Wish,
    body::{LEASE, LEASES, LONGEST_NAME, LeaseBody, MOST_TASKS, MOST_TYPES, read, time, wrong},
};
use crate::core::{
    model::{TaskId, is_queue_name, is_type_name},
    store::{Ask, Leased},
};

/// No answer is held longer: proxies close what is silent for a minute.
const LONGEST_WAIT: u64 = 50;
/// Who finds no place on the bench is held for so long and no longer: it cannot be called. Answered at once, it would
/// ask again at once, and so on.
const UNSEATED: Duration = Duration::from_secs(5);

/// A task in the hands of a worker.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "LeasedTask")]
pub struct LeasedView {
    task_id: TaskId,
    /// Shown with every further call. Whoever has it can end the task.
    lease_token: String,
    /// When the task is taken from the worker, unless a heartbeat comes before.
    lease_until: Time,
    task_type: String,
    queue: String,
    attempt: i32,
    max_attempts: i32,
    /// Rises with every start, also after a lease that ran out.
    delivery: i32,
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    input: Box<RawValue>,
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    metadata: Box<RawValue>,
    /// What an earlier delivery saved; null at the first start.
    #[schemars(with = "serde_json::Value")]
    checkpoint: Option<Box<RawValue>>,
    /// How long this attempt may take; null: as long as it likes.
    timeout_seconds: Option<f64>,
    /// W3C `traceparent` of the submit.
    trace_context: Option<String>,
}

impl From<Leased> for LeasedView {
    fn from(leased: Leased) -> Self {
        let task = leased.task;
        Self {
            task_id: task.id,
            lease_token: leased.token.to_string(),
            lease_until: Time(leased.until),
            task_type: task.task_type,
            queue: task.queue,
            attempt: task.attempt,
            max_attempts: task.max_attempts,
            delivery: task.delivery,
            input: task.input,
            metadata: task.metadata,
            checkpoint: task.checkpoint,
            timeout_seconds: task.timeout.map(|time| time.as_secs_f64()),
            trace_context: task.trace_context,
        }
    }
}

/// `POST /queues/{queue}/lease`: 200 with tasks, or 204 when none came.
pub async fn lease(
    api: Data<Api>,
    caller: Caller,
    queue: Path<String>,
    request: HttpRequest,
    mut payload: Payload,
) -> Result<HttpResponse, Problem> {
    let body: LeaseBody = read(&request, &mut payload, api.max_body).await?;
    if !is_queue_name(&queue) {
        return Err(Problem::parameter("queue", "a name of 1 to 64 of a-z 0-9 _ . -"));
    }
    let (ask, wish) = asked(queue.into_inner(), body.lease.as_deref(), &body)?;
    let end = Instant::now() + Duration::from_secs(body.wait.min(LONGEST_WAIT));
    api.bench.note(&wish, &caller.owner);
    loop {
        let leased = api.core.lease(ask.clone()).await?;
        if !leased.is_empty() {
            let views: Vec<LeasedView> = leased.into_iter().map(LeasedView::from).collect();
            return Ok(HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(views));
        }
        let nothing = || Ok(HttpResponse::NoContent().finish());
        if Instant::now() >= end {
            return nothing();
        }
        // Sits only while it waits: a claim that is under way is not counted among those to be called.
        let Some(seat) = api.bench.sit(&wish, &caller.owner) else {
            tokio::select! {
                () = api.closing.cancelled() => {}
                () = sleep_until(end.min(Instant::now() + UNSEATED)) => {}
            }
            return nothing();
        };
        tokio::select! {
            () = api.closing.cancelled() => return nothing(),
            () = sleep_until(end) => return nothing(),
            () = seat.called() => {}
        }
    }
}

fn asked(queue: String, lease: Option<&str>, body: &LeaseBody) -> Result<(Ask, Wish), Problem> {
    let worker = body.worker.trim();
    if worker.is_empty() || worker.len() > LONGEST_NAME || worker.chars().any(char::is_control) {
        return Err(wrong("/worker", format!("must be 1 to {LONGEST_NAME} printable bytes")));
    }
    if !(1..=MOST_TASKS).contains(&body.max_tasks) {
        return Err(wrong("/max_tasks", format!("must be from 1 to {MOST_TASKS}")));
    }
    if body.task_types.is_empty() || body.task_types.len() > MOST_TYPES {
        return Err(wrong("/task_types", format!("must be 1 to {MOST_TYPES} names")));
    }
    if let Some(at) = body.task_types.iter().position(|name| !is_type_name(name)) {
        return Err(wrong(&format!("/task_types/{at}"), "must be 1 to 64 of a-z, 0-9 and _"));
    }
    let lease = lease.map(|text| time("/lease", text, LEASES)).transpose()?.unwrap_or(LEASE);
    let mut task_types = body.task_types.clone();
    task_types.sort_unstable();
    task_types.dedup();
    let wish = Wish { queue: queue.clone(), task_types: task_types.clone() };
    Ok((Ask { worker: worker.to_owned(), queue, task_types, most: body.max_tasks, lease }, wish))
}
