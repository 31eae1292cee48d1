//! `POST /tasks/cancel` and `POST /tasks/retry`: one word for many tasks, named by their ids or by a filter.
//!
//! Only tasks that the action can change are counted and touched: PENDING and RUNNING ones for a cancel, FAILED and
//! CANCELLED ones for a retry. Each step is a commit of its own, so what is done stays done when the client leaves.

use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, Payload},
};
use chrono::{DateTime, Utc};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{collections::BTreeMap, sync::LazyLock};

use super::{
    Api, body,
    caller::Caller,
    json,
    problem::{Code, Problem},
    query::Query,
    task_view::Time,
};
use crate::{
    core::{
        Bulk, TaskFilter,
        model::{Priority, QUEUE_NAME_PATTERN, Status, TaskId, is_queue_name},
    },
    tasks::{Finding, registry::Form},
};

/// Ids of one request.
const MOST_IDS: usize = 1_000;

static FORM: LazyLock<Form> = LazyLock::new(Form::of::<BulkBody>);

/// The body: ids, a filter, or both, which then must both hold.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Bulk")]
#[schemars(extend("anyOf" = [
    {"required": ["ids"], "properties": {"ids": {"type": "array"}}},
    {"required": ["filter"], "properties": {"filter": {"type": "object"}}},
]))]
pub struct BulkBody {
    #[schemars(length(max = MOST_IDS))]
    ids: Option<Vec<TaskId>>,
    filter: Option<FilterBody>,
    /// Only tell how many there are.
    #[serde(default)]
    dry_run: bool,
}

/// The same filters as those of the list. An empty one means every task.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Filter")]
struct FilterBody {
    #[schemars(schema_with = "one_or_many")]
    status: Option<OneOrMany>,
    task_type: Option<String>,
    #[schemars(regex(pattern = QUEUE_NAME_PATTERN))]
    queue: Option<String>,
    priority: Option<Priority>,
    error: Option<String>,
    #[schemars(with = "Option<Time>")]
    created_after: Option<DateTime<Utc>>,
    #[schemars(with = "Option<Time>")]
    created_before: Option<DateTime<Utc>>,
    metadata: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(Status),
    Many(Vec<Status>),
}

fn one_or_many(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"anyOf": [
        {"enum": Status::ALL},
        {"type": "array", "items": {"enum": Status::ALL}},
        {"type": "null"},
    ]})
}

/// What was done to many tasks.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "BulkOutcome")]
pub struct BulkView {
    /// Nothing was changed; `count` is what would have been.
    dry_run: bool,
    /// Tasks.
    count: i64,
    /// A dry run stopped counting at `count`: there are more, or may be where counting took too long.
    more: bool,
}

/// `POST /tasks/cancel`.
pub async fn cancel(
    api: Data<Api>,
    caller: Caller,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    act(&api, &caller, &request, payload, Bulk::Cancel).await
}

/// `POST /tasks/retry`.
pub async fn retry(
    api: Data<Api>,
    caller: Caller,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    act(&api, &caller, &request, payload, Bulk::Retry).await
}

async fn act(
    api: &Api,
    caller: &Caller,
    request: &HttpRequest,
    mut payload: Payload,
    action: Bulk,
) -> Result<HttpResponse, Problem> {
    Query::of(request, &[], None)?;
    let body = body::read_json(request, &mut payload, api.max_body).await?;
    let (filter, dry_run) = read(json::check(&body)?, action)?;
    let view = if filter.statuses.is_empty() {
        // The filter asks for states that the action cannot change.
        BulkView { dry_run, count: 0, more: false }
    } else if dry_run {
        let counted = api.core.count(&filter, &caller.scope).await?;
        BulkView { dry_run, count: counted.count, more: counted.more }
    } else {
        let count = api.core.all_matching(action, &filter, &caller.scope).await?;
        BulkView { dry_run, count: count as i64, more: false }
    };
    Ok(HttpResponse::Ok().json(view))
}

/// The filter of a checked body, narrowed to what the action can change, and whether this is a dry run.
fn read(text: &str, action: Bulk) -> Result<(TaskFilter, bool), Problem> {
    let wrong = |pointer: &str, detail: String| {
        Problem::invalid(Code::InvalidInput, vec![Finding { pointer: pointer.to_owned(), detail }])
    };
    // serde reads a struct from an array too: there an empty array would be an empty filter, which means all.
    let Some(members) = json::members(text) else {
        return Err(wrong("", "the body must be an object".to_owned()));
    };
    if members.iter().any(|member| member.key == "filter" && member.value.starts_with('[')) {
        return Err(wrong("/filter", "must be an object".to_owned()));
    }
    let is_given = |name| members.iter().any(|member| member.key == name && member.value != "null");
    if !is_given("ids") && !is_given("filter") {
        return Err(wrong("", "name the tasks: give ids, or a filter; an empty filter means all".to_owned()));
    }
    let value: Value = serde_json::from_str(text).map_err(|error| wrong("", error.to_string()))?;
    FORM.check(&value).map_err(|findings| Problem::invalid(Code::InvalidInput, findings))?;
    let body: BulkBody = serde_json::from_value(value).map_err(|error| wrong("", error.to_string()))?;
    let filter = body.filter.unwrap_or_default();
    if filter.queue.as_deref().is_some_and(|name| !is_queue_name(name)) {
        return Err(wrong("/filter/queue", "must be 1 to 64 of a-z 0-9 _ . -".to_owned()));
    }
    let changeable: &[Status] = match action {
        Bulk::Cancel => &[Status::Pending, Status::Running],
        Bulk::Retry => &[Status::Failed, Status::Cancelled],
    };
    let asked = match filter.status {
        None => changeable.to_vec(),
        Some(OneOrMany::One(status)) => vec![status],
        Some(OneOrMany::Many(statuses)) => statuses,
    };
    let filter = TaskFilter {
        ids: body.ids,
        statuses: asked.into_iter().filter(|status| changeable.contains(status)).collect(),
        task_type: filter.task_type,
        queue: filter.queue,
        priority: filter.priority,
        error: filter.error,
        created_after: filter.created_after,
        created_before: filter.created_before,
        metadata: filter.metadata.into_iter().collect(),
        ..TaskFilter::default()
    };
    Ok((filter, body.dry_run))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_narrowed_to_what_can_change() {
        let statuses = |text: &str, action| read(text, action).unwrap().0.statuses;
        assert_eq!(statuses(r#"{"filter":{}}"#, Bulk::Retry), [Status::Failed, Status::Cancelled]);
        assert_eq!(statuses(r#"{"filter":{"status":"FAILED"}}"#, Bulk::Retry), [Status::Failed]);
        assert_eq!(statuses(r#"{"filter":{"status":["RUNNING","SUCCESS"]}}"#, Bulk::Cancel), [Status::Running]);
        assert!(statuses(r#"{"filter":{"status":"SUCCESS"}}"#, Bulk::Cancel).is_empty());
        assert!(read(r#"{"ids":[],"dry_run":true}"#, Bulk::Cancel).unwrap().1);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (text, pointer) in [
            (r#"{"filter":{"metadata":{"n":3}}}"#, "/filter/metadata/n"),
            (r#"{"filter":{"metadata.n":"3"}}"#, "/filter/metadata.n"),
            (r#"{"filter":{"created_after":"yesterday"}}"#, "/filter/created_after"),
            (r#"{"filter":{"status":["DONE"]}}"#, "/filter/status/0"),
            (r#"{"filter":"all"}"#, "/filter"),
            (r#"{"ids":"x"}"#, "/ids"),
            (r#"{"ids":["x"]}"#, "/ids/0"),
            (r#"{"ids":[],"dry_run":"yes"}"#, "/dry_run"),
            (r#"{"ids":[],"dryrun":true}"#, "/dryrun"),
        ] {
            let problem = read(text, Bulk::Cancel).unwrap_err();
            let body: Value = serde_json::from_slice(&problem.body("/tasks/cancel", "r", None)).unwrap();
            assert_eq!(body["errors"][0]["pointer"], pointer, "{text}: {body}");
            let detail = body["errors"][0]["detail"].as_str().unwrap();
            assert!(!detail.contains("at line") && !detail.contains("expected"), "{text}: {detail}");
        }
    }

    #[test]
    fn a_slip_of_the_pen_does_not_mean_all() {
        for bad in [
            "{}",
            "[]",
            r#"{"dry_run":true}"#,
            r#"{"filter":{"quue":"x"}}"#,
            r#"{"filters":{}}"#,
            r#"{"filter":[]}"#,
            r#"{"ids":[],"filter":[null,null]}"#,
            "[null,{},false]",
            r#"{"ids":["x"]}"#,
            r#"{"filter":{"queue":"*"}}"#,
            r#"{"filter":{"status":"DONE"}}"#,
        ] {
            assert!(read(bad, Bulk::Cancel).is_err(), "{bad}");
        }
    }
}
