//! Problems: every error of the API is `application/problem+json` (RFC 9457), and every code stands in one table.
//!
//! A handler returns `Err(Problem)`; [`frame`](super::frame) adds the request's id and path and writes the body, also
//! for the errors that actix makes itself. A message never names a connection string or an inner address.

use std::{borrow::Cow, fmt};

use actix_web::{
    HttpResponse, ResponseError,
    http::{
        StatusCode,
        header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER},
    },
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;

use super::task_view::TaskView;
use crate::{
    core::{StoreError, SubmitError, model::Task},
    tasks::Finding,
};

/// The table: one line per kind of problem. Codes are stable; titles may change.
macro_rules! problem_table {
    ($($(#[$doc:meta])* $name:ident $status:literal $code:literal $title:literal;)*) => {
        /// What went wrong, for programs.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code {
            $($(#[$doc])* $name,)*
        }

        impl Code {
            /// All of them, for the documentation.
            pub const ALL: &'static [Code] = &[$(Code::$name,)*];

            /// The HTTP status.
            pub fn status(self) -> StatusCode {
                let number: u16 = match self { $(Code::$name => $status,)* };
                StatusCode::from_u16(number).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
            }

            /// The stable word.
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$name => $code,)* }
            }

            /// A short title, the same for every occurrence.
            pub fn title(self) -> &'static str {
                match self { $(Code::$name => $title,)* }
            }
        }
    };
}

problem_table! {
    /// The request breaks HTTP.
    BadRequest           400 "bad_request"            "The request cannot be read";
    /// The body is not JSON.
    MalformedJson        400 "malformed_json"         "The body is not JSON";
    /// A query parameter or a header has a value that cannot be.
    InvalidParameter     400 "invalid_parameter"      "A parameter is invalid";
    /// Nobody has said who they are, or not believably.
    Unauthorized         401 "unauthorized"           "Sign in first";
    /// The caller's role is not enough.
    Forbidden            403 "forbidden"              "The role does not allow this";
    /// A browser sends it for the page of another site.
    CrossSite            403 "cross_site"             "The request comes from another site";
    /// No such task, or somebody else's.
    TaskNotFound         404 "task_not_found"         "There is no such task";
    /// No such path.
    PathNotFound         404 "path_not_found"         "There is nothing at this path";
    /// The path is there, the method is not.
    MethodNotAllowed     405 "method_not_allowed"     "The method is not allowed here";
    /// The client took too long to send its request.
    RequestTimeout       408 "request_timeout"        "The request took too long to arrive";
    /// The task has already ended otherwise.
    AlreadyFinal         409 "already_final"          "The task has already ended";
    /// Only a FAILED or CANCELLED task gets a new run.
    NotRetryable         409 "not_retryable"          "The task cannot be retried";
    /// The task is cancelled, and its attempt has not stopped yet.
    StillStopping        409 "still_stopping"         "The task is still stopping";
    /// The token is not that of the running delivery.
    LeaseLost            409 "lease_lost"             "The lease is not this worker's any more";
    /// A type of this name is part of the program.
    BuiltInTaskType      409 "built_in_task_type"     "The task type is part of the program";
    /// Retention deleted the task.
    TaskGone             410 "task_gone"              "The task was deleted by retention";
    /// The body is larger than the limit.
    BodyTooLarge         413 "body_too_large"         "The body is too large";
    /// The path or the query is longer than the limit.
    UriTooLong           414 "uri_too_long"           "The address is too long";
    /// The body is not declared as JSON, or is compressed.
    UnsupportedMediaType 415 "unsupported_media_type" "The body is not plain JSON";
    /// The body is JSON, with parts that are not accepted anywhere.
    InvalidJson          422 "invalid_json"           "The JSON is not acceptable";
    /// `task_type` names no registered type.
    UnknownTaskType      422 "unknown_task_type"      "There is no such task type";
    /// The input, the metadata or the options are wrong.
    InvalidInput         422 "invalid_input"          "The input is invalid";
    /// The key came before with another body.
    IdempotencyConflict  422 "idempotency_key_reused" "The idempotency key was used for another body";
    /// The caller submits faster than its rate.
    RateLimited          429 "rate_limited"           "Too many submits";
    /// Headers larger than the limit.
    HeadersTooLarge      431 "headers_too_large"      "The headers are too large";
    /// A defect of this program.
    Internal             500 "internal_error"         "The server failed";
    /// The queue is as deep as it may be.
    QueueFull            503 "queue_full"             "The queue is full";
    /// PostgreSQL is away or overloaded.
    Unavailable          503 "unavailable"            "The server cannot do this now";
}

/// One occurrence of a problem.
#[derive(Debug, Clone)]
pub struct Problem {
    code: Code,
    detail: String,
    errors: Vec<Finding>,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// The task's state, where the conflict is with it.
    task: Option<Box<Task>>,
}

/// An error (RFC 9457).
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Problem")]
pub struct ProblemBody<'a> {
    /// `urn:longrun:problem:` and the code.
    r#type: String,
    /// The same for every occurrence of the code.
    title: &'a str,
    /// The HTTP status.
    status: u16,
    /// What is wrong here, and what to do.
    detail: &'a str,
    /// The path of the request.
    instance: &'a str,
    #[schemars(with = "Code")]
    code: &'a str,
    /// The parts of the body that are wrong.
    #[serde(skip_serializing_if = "<[Finding]>::is_empty")]
    errors: &'a [Finding],
    /// The request's id, which the log has too.
    request_id: &'a str,
    /// The trace of the request, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<&'a str>,
    /// The task that stands in the way, where the conflict is with its state.
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<TaskView<'a>>,
}

impl JsonSchema for Code {
    fn schema_name() -> Cow<'static, str> {
        "ProblemCode".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let words: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        json_schema!({"type": "string", "description": "What went wrong, for programs. Stable.", "enum": words})
    }
}

impl Problem {
    /// A problem with a sentence about this occurrence: what is wrong and what to do.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), errors: Vec::new(), headers: Vec::new(), task: None }
    }

    /// No such task, or somebody else's: the same bytes, so that nobody can tell.
    pub fn task_not_found() -> Self {
        Self::new(Code::TaskNotFound, "No task has this id.")
    }

    /// Retention deleted it.
    pub fn task_gone() -> Self {
        Self::new(Code::TaskGone, "The task ended long ago and was deleted by retention.")
    }

    /// A query parameter or a header that cannot be.
    pub fn parameter(name: &str, detail: impl fmt::Display) -> Self {
        Self::new(Code::InvalidParameter, format!("{name}: {detail}"))
    }

    /// Parts of the body that are wrong.
    pub fn invalid(code: Code, errors: Vec<Finding>) -> Self {
        let detail = match errors.as_slice() {
            [] => "The body is not acceptable.".to_owned(),
            [one] if one.pointer.is_empty() => one.detail.clone(),
            [one] => format!("{}: {}", one.pointer, one.detail),
            many => format!("{} parts of the body are wrong: see errors.", many.len()),
        };
        Self { errors, ..Self::new(code, detail) }
    }

    /// The task stands in the way; its state goes with the answer.
    pub fn conflict(code: Code, detail: impl Into<String>, task: Box<Task>) -> Self {
        Self { task: Some(task), ..Self::new(code, detail) }
    }

    /// Adds the methods that the path has (RFC 9110, 15.5.6).
    pub fn allowing(self, methods: HeaderValue) -> Self {
        self.with_header(ALLOW, methods)
    }

    /// Adds a header.
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Says when to try again, in seconds.
    pub fn after(self, seconds: u64) -> Self {
        self.with_header(RETRY_AFTER, HeaderValue::from(seconds))
    }

    /// The problem for an error that actix answered by itself.
    pub fn from_status(status: StatusCode, detail: Option<String>) -> Self {
        let code = match status.as_u16() {
            404 => Code::PathNotFound,
            405 => Code::MethodNotAllowed,
            408 => Code::RequestTimeout,
            413 => Code::BodyTooLarge,
            414 => Code::UriTooLong,
            415 => Code::UnsupportedMediaType,
            431 => Code::HeadersTooLarge,
            400..=499 => Code::BadRequest,
            503 => Code::Unavailable,
            _ => Code::Internal,
        };
        // The text of an inner error is for the log, not for the caller.
        let detail = detail.filter(|_| status.is_client_error()).unwrap_or_else(|| format!("{}.", code.title()));
        Self::new(code, detail)
    }

    /// What it is.
    pub fn code(&self) -> Code {
        self.code
    }

    /// The body for one request.
    pub fn body(&self, instance: &str, request_id: &str, trace_id: Option<&str>) -> Vec<u8> {
        let body = ProblemBody {
            r#type: format!("urn:longrun:problem:{}", self.code.as_str()),
            title: self.code.title(),
            status: self.code.status().as_u16(),
            detail: &self.detail,
            instance,
            code: self.code.as_str(),
            errors: &self.errors,
            request_id,
            trace_id,
            task: self.task.as_deref().map(TaskView::from),
        };
        serde_json::to_vec(&body).unwrap_or_else(|_| b"{}".to_vec())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.as_str(), self.detail)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.code.status()
    }

    /// The head only: the frame finds the problem in the response's extensions and writes the body.
    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.code.status());
        response.insert_header((CONTENT_TYPE, "application/problem+json"));
        if self.code == Code::Unavailable {
            response.insert_header((RETRY_AFTER, "2"));
        }
        for (name, value) in &self.headers {
            response.insert_header((name.clone(), value.clone()));
        }
        let mut response = response.finish();
        response.extensions_mut().insert(self.clone());
        response
    }
}

impl From<SubmitError> for Problem {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::KeyReused => Self::new(
                Code::IdempotencyConflict,
                "Another body came with this Idempotency-Key before. Send the same body again, or choose a new key.",
            ),
            SubmitError::Store(error) => error.into(),
        }
    }
}

impl From<StoreError> for Problem {
    /// Logged here, once: the caller is told what to do, the operator what happened.
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) if error.is_behind() => {
                tracing::warn!("a request cannot be served: {error}");
                Self::new(
                    Code::Unavailable,
                    "The schema of the database is behind this program: an operator has to run app migrate.",
                )
            }
            StoreError::Unavailable(_) => {
                tracing::warn!("a request cannot be served: {error}");
                Self::new(
                    Code::Unavailable,
                    "PostgreSQL cannot be reached just now. Try again after Retry-After seconds.",
                )
            }
            StoreError::Refused(_) => {
                tracing::error!(%error, "a request failed");
                Self::new(Code::Internal, "The server failed. The log has the reason under this request_id.")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_are_errors() {
        let words: std::collections::HashSet<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(words.len(), Code::ALL.len());
        assert!(Code::ALL.iter().all(|code| code.status().is_client_error() || code.status().is_server_error()));
    }

    #[test]
    fn the_reference_lists_every_code() {
        let line = |code: &Code| format!("| {} | `{}` | {} |\n", code.status().as_u16(), code.as_str(), code.title());
        let table: String = Code::ALL.iter().map(line).collect();
        let page = include_str!("../../docs/api.md");
        assert!(page.contains(&table), "docs/api.md must end with this table:\n{table}");
    }

    #[test]
    fn a_body_has_every_member() {
        let finding = Finding { pointer: "/url".into(), detail: "is missing".into() };
        let problem = Problem::invalid(Code::InvalidInput, vec![finding]);
        let body: serde_json::Value = serde_json::from_slice(&problem.body("/tasks", "r1", None)).unwrap();
        assert_eq!(
            body,
            serde_json::json!({
                "type": "urn:longrun:problem:invalid_input", "title": "The input is invalid", "status": 422,
                "detail": "/url: is missing", "instance": "/tasks", "code": "invalid_input",
                "errors": [{"pointer": "/url", "detail": "is missing"}], "request_id": "r1",
            })
        );
    }

    #[test]
    fn inner_errors_keep_their_text_to_themselves() {
        let problem = Problem::from_status(StatusCode::INTERNAL_SERVER_ERROR, Some("postgres://user:secret@db".into()));
        assert!(!String::from_utf8(problem.body("/", "r", None)).unwrap().contains("secret"));
        let problem = Problem::from(StoreError::Refused("secret".into()));
        assert!(!String::from_utf8(problem.body("/", "r", None)).unwrap().contains("secret"));
    }
}
