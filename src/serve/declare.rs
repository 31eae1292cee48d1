//! `PUT /task-types/{name}`: declares a type that no code of this program knows, for HTTP workers to run.

use std::time::Duration;

use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, Path, Payload},
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    Api,
    caller::Caller,
    lease::body::{read, time, wrong},
    look::TypeView,
    problem::{Code, Problem},
};
use crate::{
    core::model::{Declaration, QUEUE_NAME_PATTERN, RetryPolicy, is_type_name},
    tasks::declared::Declared,
};

/// No limit or backoff of a type is longer.
const LONGEST: Duration = Duration::from_secs(3_650 * 24 * 3_600);
const MOST_ATTEMPTS: i32 = 1_000;
/// What a person writes as a time.
const TIME_PATTERN: &str = "^[1-9][0-9]{0,3}(ms|s|m|h)$";

/// A type for HTTP workers.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Declaration")]
pub struct DeclarationBody {
    /// One line for people who choose from a list.
    #[serde(default)]
    #[schemars(length(max = 1_000))]
    description: String,
    /// JSON Schema (draft 2020-12) of the input. References lead to its own `$defs` only.
    input_schema: Map<String, Value>,
    /// The queue where the submitter names none.
    #[serde(default = "default_queue")]
    #[schemars(regex(pattern = QUEUE_NAME_PATTERN))]
    queue: String,
    /// Attempts in all.
    #[schemars(range(min = 1, max = MOST_ATTEMPTS))]
    max_attempts: Option<i32>,
    /// The wait after the first failure; it doubles with each further one.
    #[schemars(regex(pattern = TIME_PATTERN))]
    backoff: Option<String>,
    /// No wait is longer.
    #[schemars(regex(pattern = TIME_PATTERN))]
    longest_backoff: Option<String>,
    /// How long one attempt may take; without it, as long as it likes.
    #[schemars(regex(pattern = TIME_PATTERN))]
    timeout: Option<String>,
}

fn default_queue() -> String {
    "default".to_owned()
}

/// `PUT /task-types/{name}`: 200 with the type. Every replica knows it within five seconds, this one at once.
pub async fn declare(
    api: Data<Api>,
    _caller: Caller,
    name: Path<String>,
    request: HttpRequest,
    mut payload: Payload,
) -> Result<HttpResponse, Problem> {
    let body: DeclarationBody = read(&request, &mut payload, api.max_body).await?;
    if !is_type_name(&name) {
        return Err(Problem::parameter("name", "a name of 1 to 64 of a-z, 0-9 and _"));
    }
    if api.types.is_built_in(&name) {
        let detail = format!("{name:?} is a type of the program itself: choose another name.");
        return Err(Problem::new(Code::BuiltInTaskType, detail));
    }
    let declaration = declaration(name.into_inner(), body)?;
    let declared = Declared::new(declaration).map_err(|findings| Problem::invalid(Code::InvalidInput, findings))?;
    if !api.core.store.declare(declared.declaration()).await? {
        return Err(wrong("", "there are a thousand declared types already: this is not what they are for"));
    }
    api.types.refresh().await?;
    Ok(HttpResponse::Ok().json(TypeView::of(&declared)))
}

fn declaration(name: String, body: DeclarationBody) -> Result<Declaration, Problem> {
    let policy = RetryPolicy::default();
    let max_attempts = body.max_attempts.unwrap_or(policy.max_attempts);
    if !(1..=MOST_ATTEMPTS).contains(&max_attempts) {
        return Err(wrong("/max_attempts", format!("must be from 1 to {MOST_ATTEMPTS}")));
    }
    let read = |pointer: &str, text: Option<String>| {
        text.map(|text| time(pointer, &text, Duration::from_millis(1)..=LONGEST)).transpose()
    };
    Ok(Declaration {
        name,
        description: body.description,
        input_schema: Value::Object(body.input_schema),
        queue: body.queue,
        retry: RetryPolicy {
            max_attempts,
            initial: read("/backoff", body.backoff)?.unwrap_or(policy.initial),
            longest: read("/longest_backoff", body.longest_backoff)?.unwrap_or(policy.longest),
        },
        timeout: read("/timeout", body.timeout)?,
    })
}
