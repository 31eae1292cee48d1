//! `GET /tasks`: tasks, newest first, by filter and cursor; `GET /tasks/counts`: how many there are.

use std::{collections::BTreeMap, fmt::Display, str::FromStr};

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{CACHE_CONTROL, LINK},
    web::Data,
};
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    Api,
    caller::Caller,
    cursor::Cursor,
    problem::Problem,
    query::{Query, next_link},
};
use crate::core::{
    TaskFilter,
    model::{Priority, Status, is_queue_name},
    store::COUNT_LIMIT,
};

const KNOWN: &[&str] = &[
    "status",
    "task_type",
    "queue",
    "priority",
    "error",
    "created_after",
    "created_before",
    "limit",
    "cursor",
    "skip",
];
/// What every view of the list can be narrowed by.
pub const FILTERS: &[&str] = &["status", "task_type", "queue", "priority", "error", "created_after", "created_before"];
const DEFAULT_LIMIT: i64 = 50;
/// Tasks on a page.
pub const LARGEST_LIMIT: i64 = 1_000;
/// For old clients; a cursor costs the same on every page.
pub const LARGEST_SKIP: i64 = 10_000;

/// `GET /tasks`.
pub async fn list(api: Data<Api>, caller: Caller, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let filter = filter(&Query::of(&request, KNOWN, Some("metadata."))?)?;
    let page = api.core.list(&filter, &caller.scope).await?;
    let mut response = HttpResponse::Ok();
    response.insert_header((CACHE_CONTROL, "private, no-cache"));
    if let Some(last) = page.next {
        let (cursor, skip) = (Cursor(last), page.still_to_skip);
        let put: &[(&str, &dyn Display)] = &[("cursor", &cursor), ("skip", &skip)];
        let put = if skip > 0 { put } else { &put[..1] };
        response.insert_header((LINK, next_link(&request, &["cursor", "skip"], put)));
    }
    Ok(response.json(page.tasks.iter().map(|task| api.outlook.view_at_once(task)).collect::<Vec<_>>()))
}

/// How many tasks there are in each state.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Counts")]
pub struct CountsView {
    /// Counting stops at `limit`; null where it took too long.
    counts: BTreeMap<&'static str, Option<i64>>,
    limit: i64,
    /// The states of which there are more than was counted.
    more: Vec<&'static str>,
}

impl CountsView {
    /// What was counted, as [`Store::counts`](crate::core::Store::counts) tells it.
    pub fn of(counts: &[(Status, Option<i64>)]) -> Self {
        let is_more = |count: Option<i64>| count.is_none_or(|count| count > COUNT_LIMIT);
        Self {
            limit: COUNT_LIMIT,
            more: counts.iter().filter(|(_, count)| is_more(*count)).map(|(status, _)| status.as_str()).collect(),
            counts: counts
                .iter()
                .map(|(status, count)| (status.as_str(), count.map(|count| count.min(COUNT_LIMIT))))
                .collect(),
        }
    }
}

/// `GET /tasks/counts`: the filters of the list, counted by status.
pub async fn counts(api: Data<Api>, caller: Caller, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let query = Query::of(&request, FILTERS, Some("metadata."))?;
    let counts = api.core.counts(&filter(&query)?, &caller.scope).await?;
    let view = CountsView::of(&counts);
    Ok(HttpResponse::Ok().insert_header((CACHE_CONTROL, "private, no-cache")).json(view))
}

/// The filter that a query describes.
pub fn filter(query: &Query) -> Result<TaskFilter, Problem> {
    let mut statuses = Vec::new();
    for word in query.all("status").flat_map(|text| text.split(',')) {
        let status = Status::from_str(&word.trim().to_ascii_uppercase());
        statuses.push(status.map_err(|error| Problem::parameter("status", error))?);
    }
    let queue = query.one("queue")?;
    if queue.is_some_and(|name| !is_queue_name(name)) {
        return Err(Problem::parameter("queue", "a name of 1 to 64 of a-z 0-9 _ . -"));
    }
    Ok(TaskFilter {
        ids: None,
        statuses,
        task_type: query.one("task_type")?.map(str::to_owned),
        queue: queue.map(str::to_owned),
        priority: query.parsed::<Priority>("priority")?,
        error: query.one("error")?.map(str::to_owned),
        created_after: query.time("created_after")?,
        created_before: query.time("created_before")?,
        metadata: query.family("metadata.").map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
        from: None,
        before: query.parsed::<Cursor>("cursor")?.map(|cursor| cursor.0),
        skip: query.number("skip", 0..=LARGEST_SKIP)?.unwrap_or(0),
        limit: query.number("limit", 1..=LARGEST_LIMIT)?.unwrap_or(DEFAULT_LIMIT),
    })
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn read(query: &str) -> Result<TaskFilter, Problem> {
        let request = TestRequest::get().uri(&format!("/tasks?{query}")).to_http_request();
        filter(&Query::of(&request, KNOWN, Some("metadata."))?)
    }

    #[test]
    fn filters_are_read() {
        let filter =
            read("status=failed,CANCELLED&status=PENDING&queue=gpu&priority=low&metadata.a.b=c&limit=7&skip=2")
                .unwrap();
        assert_eq!(filter.statuses, [Status::Failed, Status::Cancelled, Status::Pending]);
        assert_eq!((filter.queue.as_deref(), filter.priority), (Some("gpu"), Some(Priority::Low)));
        assert_eq!(filter.metadata, [("a.b".to_owned(), "c".to_owned())]);
        assert_eq!((filter.limit, filter.skip), (7, 2));
        assert_eq!(read("").unwrap().limit, DEFAULT_LIMIT);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for bad in [
            "status=DONE",
            "status=",
            "queue=*",
            "queue=A",
            "priority=urgent",
            "limit=0",
            "limit=1001",
            "limit=x",
            "skip=-1",
            "skip=10001",
            "cursor=abc",
            "created_after=yesterday",
            "sttaus=FAILED",
            "limit=1&limit=2",
            "metadata.=1",
            "task_type=%00",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
