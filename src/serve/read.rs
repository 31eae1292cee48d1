//! One task: its state (polls and long polls), its input, its cancellation and its retry.

use actix_web::{
    HttpRequest, HttpResponse, HttpResponseBuilder,
    http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderName, IF_NONE_MATCH, LOCATION, RETRY_AFTER, VARY},
    web::Data,
};

use super::{
    Api,
    caller::{Caller, Named},
    problem::{Code, Problem},
    query::Query,
    task_view::path_of,
    wait::{self, Wait},
};
use crate::core::{CancelOutcome, Lookup, RetryOutcome, model::Task};

/// Says which preference was kept (RFC 7240, 3).
pub const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// `GET /tasks/{id}`: 200 whatever became of the task, 304 when the client has this version. A version is that of the
/// row: what its queue and the workers do to a waiting task (`pending_reason`, `notice`, its place and its start) has none.
pub async fn task(api: Data<Api>, caller: Caller, named: Named, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let query = Query::of(&request, &["wait"], None)?;
    let wait = Wait::of(&request, &query)?;
    let known = Known::of(&request);
    let lookup = match wait {
        None => api.core.get(named.0, &caller.scope).await?,
        // With a version in hand the client waits for another one, without for the end.
        Some(wait) => {
            let enough = |task: &Task| task.status.is_final() || (known.is_some() && !known.has(task.version));
            wait::until(&api, named.0, &caller, wait, enough).await?
        }
    };
    let task = found(lookup)?;
    let mut response = match known.has(task.version) {
        true => HttpResponse::NotModified(),
        false => HttpResponse::Ok(),
    };
    response
        .insert_header((ETAG, format!("W/\"{}\"", task.version)))
        .insert_header((CACHE_CONTROL, "private, no-cache"))
        .insert_header((VARY, "Prefer"));
    if let Some(applied) = wait.and_then(Wait::applied) {
        response.insert_header((PREFERENCE_APPLIED, applied));
    }
    say_when_to_ask_again(&mut response, &api, &task);
    match known.has(task.version) {
        true => Ok(response.finish()),
        false => Ok(response.json(api.outlook.view(&task).await)),
    }
}

/// `GET /tasks/{id}/input`: the type's own input, as it came.
pub async fn input(
    api: Data<Api>,
    caller: Caller,
    named: Named,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    Query::of(&request, &[], None)?;
    let input = found(api.core.input(named.0, &caller.scope).await?)?;
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "application/json"))
        .insert_header((CACHE_CONTROL, "private, no-cache"))
        .body(Box::<str>::from(input).into_string()))
}

/// `DELETE /tasks/{id}`: CANCELLED at once and for good, or 409 with the state that came first.
pub async fn cancel(
    api: Data<Api>,
    caller: Caller,
    named: Named,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    Query::of(&request, &[], None)?;
    match found(api.core.cancel(named.0, &caller.scope).await?)? {
        CancelOutcome::Cancelled => Ok(HttpResponse::NoContent().finish()),
        CancelOutcome::TooLate(task) => {
            let detail = format!("The task is {}: there is nothing left to cancel.", task.status);
            Err(Problem::conflict(Code::AlreadyFinal, detail, task))
        }
    }
}

/// `POST /tasks/{id}/retry`: a FAILED or CANCELLED task gets a new run with a new budget.
pub async fn retry(
    api: Data<Api>,
    caller: Caller,
    named: Named,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    Query::of(&request, &[], None)?;
    match found(api.core.retry(named.0, &caller.scope).await?)? {
        RetryOutcome::Retried(task) => {
            let mut response = HttpResponse::Accepted();
            response.insert_header((LOCATION, path_of(task.id)));
            say_when_to_ask_again(&mut response, &api, &task);
            Ok(response.json(api.outlook.view(&task).await))
        }
        RetryOutcome::StillStopping => {
            let detail =
                "The task is cancelled, and its last attempt has not stopped yet: ask again after Retry-After.";
            Err(Problem::new(Code::StillStopping, detail).after(1))
        }
        RetryOutcome::NotFinal(task) => {
            let detail = format!("The task is {}: only a FAILED or CANCELLED task gets a new run.", task.status);
            Err(Problem::conflict(Code::NotRetryable, detail, task))
        }
    }
}

/// The thing itself, or the problem of its absence.
pub fn found<T>(lookup: Lookup<T>) -> Result<T, Problem> {
    match lookup {
        Lookup::Found(found) => Ok(found),
        Lookup::Gone => Err(Problem::task_gone()),
        Lookup::Missing => Err(Problem::task_not_found()),
    }
}

/// Adds `Retry-After` while the task is not final.
pub fn say_when_to_ask_again(response: &mut HttpResponseBuilder, api: &Api, task: &Task) {
    if let Some(seconds) = api.outlook.retry_after(task) {
        response.insert_header((RETRY_AFTER, seconds));
    }
}

/// The versions that the client says it has: `If-None-Match`, compared weakly (RFC 9110, 13.1.2).
#[derive(Debug, PartialEq, Eq)]
pub enum Known {
    /// None.
    Nothing,
    /// `*`: whatever there is.
    Anything,
    /// These.
    Versions(Vec<i32>),
}

impl Known {
    /// What a request says.
    pub fn of(request: &HttpRequest) -> Self {
        let mut values = request.headers().get_all(IF_NONE_MATCH).filter_map(|value| value.to_str().ok()).peekable();
        if values.peek().is_none() {
            return Known::Nothing;
        }
        let mut versions = Vec::new();
        for tag in values.flat_map(|value| value.split(',')).map(str::trim) {
            if tag == "*" {
                return Known::Anything;
            }
            let opaque = tag.strip_prefix("W/").unwrap_or(tag).strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
            versions.extend(opaque.and_then(|tag| tag.parse::<i32>().ok()));
        }
        Known::Versions(versions)
    }

    fn is_some(&self) -> bool {
        *self != Known::Nothing
    }

    /// Whether this version is among them.
    pub fn has(&self, version: i32) -> bool {
        match self {
            Known::Nothing => false,
            Known::Anything => true,
            Known::Versions(versions) => versions.contains(&version),
        }
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn versions_are_compared_weakly() {
        let known =
            |value: &str| Known::of(&TestRequest::get().insert_header((IF_NONE_MATCH, value)).to_http_request());
        assert!(known("W/\"7\"").has(7) && known("\"7\"").has(7) && known("\"x\", W/\"7\" ").has(7));
        assert!(known("*").has(7));
        assert!(!known("W/\"8\"").has(7) && !known("7").has(7) && !known("garbage").has(7));
        assert!(!Known::of(&TestRequest::get().to_http_request()).is_some());
    }
}
