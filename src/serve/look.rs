//! Looking around: what this server can do, for people and programs that come without a manual.

use actix_web::{HttpRequest, HttpResponse, web::Data};

use schemars::JsonSchema;
use serde::Serialize;

use super::{Api, problem::Problem, query::Query};
use crate::tasks::registry::ErasedKind;

/// A task type as clients see it.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "TaskType")]
pub struct TypeView<'a> {
    /// What `task_type` names.
    task_type: &'a str,
    /// One line for people.
    description: &'a str,
    /// The JSON Schema (draft 2020-12) of the input.
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    input_schema: &'a serde_json::Value,
    defaults: DefaultsView,
}

/// What a type uses where the submitter says nothing.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "TaskTypeDefaults")]
struct DefaultsView {
    queue: String,
    max_attempts: i32,
    /// How long one attempt may take, such as `5m`.
    timeout: Option<String>,
}

impl<'a> TypeView<'a> {
    /// A type, whoever runs it.
    pub fn of(kind: &'a dyn ErasedKind) -> Self {
        let defaults = kind.defaults();
        TypeView {
            task_type: kind.name(),
            description: kind.description(),
            input_schema: kind.schema(),
            defaults: DefaultsView {
                queue: defaults.queue.into_owned(),
                max_attempts: defaults.retry.max_attempts,
                timeout: defaults.timeout.map(|time| humantime::format_duration(time).to_string()),
            },
        }
    }
}

/// `GET /task-types`: names, what they do, the JSON Schemas of their inputs, and their defaults.
pub async fn task_types(api: Data<Api>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    Query::of(&request, &[], None)?;
    let types = api.types.now();
    let views: Vec<_> = types.registry.iter().map(|kind| TypeView::of(kind.as_ref())).collect();
    Ok(HttpResponse::Ok().json(views))
}
