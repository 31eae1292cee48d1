//! Reporting: the calls by which a worker keeps a task and says how far it is.

use actix_web::HttpResponse;
use chrono::Utc;
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    super::{problem::Problem, task_view::Time},
    bench::Wish,
    body::{CheckpointBody, HeartbeatBody, LineBody, LogBody, MOST_LINES, ProgressBody, wrong},
    call::{Call, failed, lost},
};
use crate::core::{
    Held,
    model::{
        LogLine, Progress, TaskError,
        allowance::{self, cut},
        storable,
    },
    store::{Ending, Report},
};

/// Until when the worker holds the task.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "LeaseRenewed")]
pub struct RenewedView {
    lease_until: Time,
}

/// `POST /tasks/{id}/lease/heartbeat`: renews the lease. The only call that does.
pub async fn heartbeat(Call { holder, .. }: Call<HeartbeatBody>) -> Result<HttpResponse, Problem> {
    let standing = holder.held().await?;
    if let Some(limit) = standing.overdue {
        let message = format!("the attempt took longer than its limit of {}", humantime::format_duration(limit));
        let error = TaskError { code: "timeout".to_owned(), message, retryable: true, attempt: standing.attempt };
        let wait = holder.backoff(&standing).await;
        let ending = Ending::after_failure(error, standing.failures, standing.max_attempts, wait);
        holder.end(&standing, ending).await?;
        return Err(lost("The attempt has passed its time limit, and was ended."));
    }
    // Who works on a kind of task knows it, also while it asks for no other.
    let api = &holder.api;
    let wish = Wish { queue: standing.queue.clone(), task_types: vec![standing.task_type.clone()] };
    api.bench.note(&wish, &holder.owner);
    match api.core.renew_lease(holder.id, &holder.token).await? {
        Held::Yes(until) => Ok(HttpResponse::Ok().json(RenewedView { lease_until: Time(until) })),
        _ => Err(lost("The task is not leased with this token any more.")),
    }
}

/// `POST /tasks/{id}/lease/progress`.
pub async fn progress(Call { holder, body }: Call<ProgressBody>) -> Result<HttpResponse, Problem> {
    holder.held().await?;
    let clamp = |steps: u64| i64::try_from(steps).unwrap_or(i64::MAX);
    let progress = Progress {
        current: clamp(body.current),
        total: body.total.map(clamp),
        message: body.message.map(|text| cut(storable(&text).into_owned())),
        updated_at: Utc::now(),
    };
    holder.report(Report { progress: Some(progress), ..holder.nothing() }).await
}

/// `POST /tasks/{id}/lease/log`: what is beyond the allowance of a delivery is dropped, and one line says so.
pub async fn log(Call { holder, body }: Call<LogBody>) -> Result<HttpResponse, Problem> {
    if body.lines.is_empty() || body.lines.len() > MOST_LINES {
        return Err(wrong("/lines", format!("must be 1 to {MOST_LINES} lines")));
    }
    holder.held().await?;
    // Calls at the same time would all find the same room.
    let _turn = holder.api.log_turns.of(holder.id).await?;
    let mut logged = holder.api.core.store.logged(holder.id, holder.token.delivery).await?;
    let at = Utc::now();
    let line = |line: LineBody| LogLine { at, level: line.level, message: line.message };
    let lines: Vec<LogLine> = body.lines.into_iter().filter_map(|text| logged.admit(line(text))).collect();
    match lines.is_empty() {
        true => Ok(HttpResponse::NoContent().finish()),
        false => holder.report(Report { lines, ..holder.nothing() }).await,
    }
}

/// `POST /tasks/{id}/lease/checkpoint`. One that is too large ends the task, as it does everywhere.
pub async fn checkpoint(Call { holder, body }: Call<CheckpointBody>) -> Result<HttpResponse, Problem> {
    let standing = holder.held().await?;
    if let Err(too_large) = allowance::checkpoint(body.checkpoint.get()) {
        let detail = format!("The task has failed: {}.", too_large.message);
        holder.end(&standing, failed(too_large, &standing)).await?;
        return Err(lost(detail));
    }
    holder.report(Report { checkpoint: Some(body.checkpoint), ..holder.nothing() }).await
}
