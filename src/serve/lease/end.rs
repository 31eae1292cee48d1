//! Ending: the two calls by which a worker gives up a task, with its result or without.

use std::time::Duration;

use actix_web::{
    HttpResponse,
    http::header::{CACHE_CONTROL, HeaderValue},
};
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    super::problem::Problem,
    body::{CompleteBody, FailBody, time, wrong},
    call::{Call, failed, running},
};
use crate::{
    core::{
        Held,
        model::{Status, TaskError, allowance, is_type_name},
        store::Ending,
    },
    tasks::registry::encode,
};

/// A worker that fails a task cannot put it off for longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(24 * 3_600);

/// How the task stands after its delivery has ended.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "LeaseEnded")]
pub struct EndedView {
    /// PENDING when it will be tried again.
    status: Status,
}

/// `POST /tasks/{id}/lease/complete`. Repeating it is harmless. A result that is too large ends the task without it.
pub async fn complete(Call { holder, body }: Call<CompleteBody>) -> Result<HttpResponse, Problem> {
    let result = encode(&body.result).map_err(|_| wrong("/result", "cannot be stored"))?;
    let judged = allowance::result(result.get(), holder.api.max_result);
    let status = if judged.is_ok() { Status::Success } else { Status::Failed };
    let standing = match holder.standing().await? {
        Held::Already(before) if before == status => return Ok(ended(status)),
        other => running(other)?,
    };
    let ending = match judged {
        Ok(()) => Ending::Success(result),
        Err(too_large) => failed(too_large, &standing),
    };
    holder.end(&standing, ending).await?;
    Ok(ended(status))
}

/// `POST /tasks/{id}/lease/fail`. Repeating it is harmless.
pub async fn fail(Call { holder, body }: Call<FailBody>) -> Result<HttpResponse, Problem> {
    if !is_type_name(&body.code) {
        return Err(wrong("/code", "must be 1 to 64 of a-z, 0-9 and _"));
    }
    let after = body.retry_after.as_deref().map(|text| time("/retry_after", text, Duration::ZERO..=LONGEST_PAUSE));
    let after = after.transpose()?;
    let standing = match holder.standing().await? {
        Held::Already(status @ (Status::Failed | Status::Pending)) => return Ok(ended(status)),
        other => running(other)?,
    };
    let message = allowance::error_text(&body.message);
    let error = TaskError { code: body.code, message, retryable: body.retryable, attempt: standing.attempt };
    let ending = match body.retryable {
        false => Ending::Failed(error),
        true => {
            let wait = match after {
                Some(after) => after,
                None => holder.backoff(&standing).await,
            };
            Ending::after_failure(error, standing.failures, standing.max_attempts, wait)
        }
    };
    let status = match ending {
        Ending::Failed(_) => Status::Failed,
        _ => Status::Pending,
    };
    holder.end(&standing, ending).await?;
    Ok(ended(status))
}

fn ended(status: Status) -> HttpResponse {
    HttpResponse::Ok().insert_header((CACHE_CONTROL, HeaderValue::from_static("no-store"))).json(EndedView { status })
}
