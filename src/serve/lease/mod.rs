//! Leases: how a worker in any language takes tasks over HTTP, says how far it is, and ends them.
//!
//! `POST /queues/{queue}/lease` gives tasks, each with a token; every further call names the task in its path and shows
//! the token in its body. What a call writes goes through the statements of every other attempt, fenced by the
//! delivery; a token that is not the running delivery's is answered 409 `lease_lost`, and the worker drops the task.

pub mod bench;
pub mod body;

use std::{sync::Arc, time::Duration};

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{CACHE_CONTROL, HeaderValue},
    web::{Data, Path, Payload},
};
use chrono::Utc;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;

use self::{
    bench::Wish,
    body::{
        CheckpointBody, CompleteBody, FailBody, HeartbeatBody, LEASE, LEASES, LONGEST_NAME, LeaseBody, LogBody,
        MOST_LINES, MOST_TASKS, MOST_TYPES, ProgressBody, read, time, wrong,
    },
};
use super::{
    Api,
    caller::{Caller, Named},
    problem::{Code, Problem},
    task_view::Time,
};
use crate::{
    core::{
        Held,
        model::{
            LeaseToken, Level, LogLine, Progress, RetryPolicy, Status, TaskError, TaskId, is_queue_name, is_type_name,
            storable,
        },
        store::{Ask, Ending, Finish, LeaseStanding, Leased, Report},
    },
    tasks::{
        context::{MAX_LOG_LINES, cut},
        registry::encode,
    },
};

/// No answer is held longer: proxies close what is silent for a minute.
const LONGEST_WAIT: u64 = 50;
/// A worker that fails a task cannot put it off for longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(24 * 3_600);
/// Longer texts of errors are cut.
const MAX_ERROR_BYTES: usize = 4 * 1024;

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

/// Until when the worker holds the task.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "LeaseRenewed")]
pub struct RenewedView {
    lease_until: Time,
}

/// How the task stands after its delivery has ended.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "LeaseEnded")]
pub struct EndedView {
    /// PENDING when it will be tried again.
    status: Status,
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
    _caller: Caller,
    queue: Path<String>,
    request: HttpRequest,
    mut payload: Payload,
) -> Result<HttpResponse, Problem> {
    let body: LeaseBody = read(&api, &request, &mut payload).await?;
    if !is_queue_name(&queue) {
        return Err(Problem::parameter("queue", "a name of 1 to 64 of a-z 0-9 _ . -"));
    }
    let (ask, wish) = asked(queue.into_inner(), body.lease.as_deref(), &body)?;
    let end = tokio::time::Instant::now() + Duration::from_secs(body.wait.min(LONGEST_WAIT));
    api.bench.note(&wish);
    loop {
        let leased = api.core.lease(ask.clone()).await?;
        if !leased.is_empty() {
            let views: Vec<LeasedView> = leased.into_iter().map(LeasedView::from).collect();
            return Ok(HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(views));
        }
        // Sits only while it waits: a claim that is under way is not counted among those to be called.
        let seat = api.bench.sit(&wish);
        tokio::select! {
            () = api.closing.cancelled() => return Ok(HttpResponse::NoContent().finish()),
            () = tokio::time::sleep_until(end) => return Ok(HttpResponse::NoContent().finish()),
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

/// `POST /tasks/{id}/lease/heartbeat`: renews the lease. The only call that does.
pub async fn heartbeat(
    api: Data<Api>,
    _caller: Caller,
    named: Named,
    request: HttpRequest,
    mut payload: Payload,
) -> Result<HttpResponse, Problem> {
    let body: HeartbeatBody = read(&api, &request, &mut payload).await?;
    let (token, standing) = held(&api, named.0, &body.lease_token).await?;
    if let Some(limit) = standing.overdue {
        let message = format!("the attempt took longer than its limit of {}", humantime::format_duration(limit));
        let error = TaskError { code: "timeout".to_owned(), message, retryable: true, attempt: standing.attempt };
        let ending = Ending::after_failure(error, standing.failures, standing.max_attempts, backoff(&api, &standing));
        end(&api, named.0, &token, &standing, ending).await?;
        return Err(lost("The attempt has passed its time limit, and was ended."));
    }
    match api.core.renew_lease(named.0, &token).await? {
        Held::Yes(until) => Ok(HttpResponse::Ok().json(RenewedView { lease_until: Time(until) })),
        _ => Err(lost("The task is not leased with this token any more.")),
    }
}

/// `POST /tasks/{id}/lease/progress`.
pub async fn progress(
    api: Data<Api>,
    _caller: Caller,
    named: Named,
    request: HttpRequest,
    mut payload: Payload,
) -> Result<HttpResponse, Problem> {
    let body: ProgressBody = read(&api, &request, &mut payload).await?;
    let (token, _) = held(&api, named.0, &body.lease_token).await?;
    let clamp = |steps: u64| i64::try_from(steps).unwrap_or(i64::MAX);
    let progress = Progress {
        current: clamp(body.current),
        total: body.total.map(clamp),
        message: body.message.map(|text| cut(storable(&text).into_owned())),
        updated_at: Utc::now(),
    };
    report(&api, Report { progress: Some(progress), ..nothing(named.0, &token) }).await
}

/// `POST /tasks/{id}/lease/log`: what is beyond ten thousand lines of a delivery is dropped, and one line says so.
pub async fn log(
    api: Data<Api>,
    _caller: Caller,
    named: Named,
    request: HttpRequest,
    mut payload: Payload,
) -> Result<HttpResponse, Problem> {
    let body: LogBody = read(&api, &request, &mut payload).await?;
    if body.lines.is_empty() || body.lines.len() > MOST_LINES {
        return Err(wrong("/lines", format!("must be 1 to {MOST_LINES} lines")));
    }
    let (token, standing) = held(&api, named.0, &body.lease_token).await?;
    let room = MAX_LOG_LINES.saturating_sub(standing.lines.max(0) as usize);
    let at = Utc::now();
    let line =
        |line: body::LineBody| LogLine { at, level: line.level, message: cut(storable(&line.message).into_owned()) };
    let mut lines: Vec<LogLine> = body.lines.into_iter().map(line).collect();
    if lines.len() >= room {
        lines.truncate(room.saturating_sub(1));
        if room > 0 {
            let message = format!("this delivery has written {MAX_LOG_LINES} lines; further ones are dropped");
            lines.push(LogLine { at, level: Level::Warning, message });
        }
    }
    match lines.is_empty() {
        true => Ok(HttpResponse::NoContent().finish()),
        false => report(&api, Report { lines, ..nothing(named.0, &token) }).await,
    }
}

/// `POST /tasks/{id}/lease/checkpoint`.
pub async fn checkpoint(
    api: Data<Api>,
    _caller: Caller,
    named: Named,
    request: HttpRequest,
    mut payload: Payload,
) -> Result<HttpResponse, Problem> {
    let body: CheckpointBody = read(&api, &request, &mut payload).await?;
    let (token, _) = held(&api, named.0, &body.lease_token).await?;
    report(&api, Report { checkpoint: Some(body.checkpoint), ..nothing(named.0, &token) }).await
}

/// `POST /tasks/{id}/lease/complete`. Repeating it is harmless.
pub async fn complete(
    api: Data<Api>,
    _caller: Caller,
    named: Named,
    request: HttpRequest,
    mut payload: Payload,
) -> Result<HttpResponse, Problem> {
    let body: CompleteBody = read(&api, &request, &mut payload).await?;
    let token = token_of(&body.lease_token)?;
    let standing = match api.core.lease_standing(named.0, &token).await? {
        Held::Already(status @ Status::Success) => return Ok(ended(status)),
        other => running(other)?,
    };
    let result = encode(&body.result).map_err(|failure| wrong("/result", format!("{failure:?}")))?;
    end(&api, named.0, &token, &standing, Ending::Success(result)).await?;
    Ok(ended(Status::Success))
}

/// `POST /tasks/{id}/lease/fail`. Repeating it is harmless.
pub async fn fail(
    api: Data<Api>,
    _caller: Caller,
    named: Named,
    request: HttpRequest,
    mut payload: Payload,
) -> Result<HttpResponse, Problem> {
    let body: FailBody = read(&api, &request, &mut payload).await?;
    if !is_type_name(&body.code) {
        return Err(wrong("/code", "must be 1 to 64 of a-z, 0-9 and _"));
    }
    let after = body.retry_after.as_deref().map(|text| time("/retry_after", text, Duration::ZERO..=LONGEST_PAUSE));
    let after = after.transpose()?;
    let token = token_of(&body.lease_token)?;
    let standing = match api.core.lease_standing(named.0, &token).await? {
        Held::Already(status @ (Status::Failed | Status::Pending)) => return Ok(ended(status)),
        other => running(other)?,
    };
    let mut message = storable(&body.message).into_owned();
    message.truncate(message.floor_char_boundary(MAX_ERROR_BYTES));
    let error = TaskError { code: body.code, message, retryable: body.retryable, attempt: standing.attempt };
    let ending = match body.retryable {
        false => Ending::Failed(error),
        true => {
            let wait = after.unwrap_or_else(|| backoff(&api, &standing));
            Ending::after_failure(error, standing.failures, standing.max_attempts, wait)
        }
    };
    let status = match ending {
        Ending::Failed(_) => Status::Failed,
        _ => Status::Pending,
    };
    end(&api, named.0, &token, &standing, ending).await?;
    Ok(ended(status))
}

/// The token of a body, and how the delivery stands: still this worker's, or an answer that it is not.
async fn held(api: &Api, id: TaskId, text: &str) -> Result<(LeaseToken, LeaseStanding), Problem> {
    let token = token_of(text)?;
    let standing = running(api.core.lease_standing(id, &token).await?)?;
    Ok((token, standing))
}

fn token_of(text: &str) -> Result<LeaseToken, Problem> {
    text.parse().map_err(|_| wrong("/lease_token", "is not a token of this server: send it as the lease gave it"))
}

fn running(standing: Held<LeaseStanding>) -> Result<LeaseStanding, Problem> {
    match standing {
        Held::Yes(standing) => Ok(standing),
        Held::Cancelled => Err(lost("The task was cancelled: stop working on it.")),
        Held::Already(status) => Err(lost(format!("The delivery has ended: the task is {status}."))),
        Held::No => Err(lost("The task is not leased with this token: drop it, and lease anew.")),
    }
}

fn lost(detail: impl Into<String>) -> Problem {
    Problem::new(Code::LeaseLost, detail)
}

fn nothing(id: TaskId, token: &LeaseToken) -> Report {
    Report { id, delivery: token.delivery, progress: None, checkpoint: None, lines: Vec::new() }
}

async fn report(api: &Api, report: Report) -> Result<HttpResponse, Problem> {
    match api.core.report(report).await? {
        Held::Yes(()) => Ok(HttpResponse::NoContent().finish()),
        _ => Err(lost("The task is not leased with this token any more: drop it.")),
    }
}

async fn end(
    api: &Api,
    id: TaskId,
    token: &LeaseToken,
    standing: &LeaseStanding,
    ending: Ending,
) -> Result<(), Problem> {
    match api.core.end_lease(standing, Finish { report: nothing(id, token), ending, trace_context: None }).await? {
        Held::Yes(()) => Ok(()),
        _ => Err(lost("The task is not leased with this token any more: what was sent does not count.")),
    }
}

fn ended(status: Status) -> HttpResponse {
    HttpResponse::Ok().insert_header((CACHE_CONTROL, HeaderValue::from_static("no-store"))).json(EndedView { status })
}

fn backoff(api: &Api, standing: &LeaseStanding) -> Duration {
    let types: Arc<_> = api.types.now();
    let policy =
        types.registry.get(&standing.task_type).map_or_else(RetryPolicy::default, |kind| kind.defaults().retry);
    policy.backoff(standing.failures + 1, rand::random())
}
