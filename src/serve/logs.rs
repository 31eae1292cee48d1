//! `GET /tasks/{id}/logs`: a task's log lines, oldest first, page by page.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{CACHE_CONTROL, LINK},
    web::Data,
};

use super::{
    Api,
    caller::{Caller, Named},
    problem::Problem,
    query::{Query, next_link},
    read::found,
    sse::LogView,
};
use crate::core::{
    End, EventFilter,
    model::{Level, TaskEvent, What},
};

const DEFAULT_LIMIT: i64 = 1_000;
/// Lines on a page.
pub const LARGEST_LIMIT: i64 = 10_000;
/// Bytes of lines on a page, and perhaps one line more.
const PAGE_BYTES: i64 = 4 * 1024 * 1024;

/// The handler.
pub async fn logs(api: Data<Api>, caller: Caller, named: Named, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let query = Query::of(&request, &["after", "level", "delivery", "limit", "last"], None)?;
    let last = query.number("last", 1..=LARGEST_LIMIT)?;
    let filter = EventFilter {
        after: query.number("after", 0..=i32::MAX)?.unwrap_or(0),
        logs_only: true,
        level: query.parsed::<Level>("level")?,
        delivery: query.number("delivery", 0..=i32::MAX)?,
        limit: last.or(query.number("limit", 1..=LARGEST_LIMIT)?).unwrap_or(DEFAULT_LIMIT),
        end: if last.is_some() { End::Newest } else { End::Oldest },
        bytes: Some(PAGE_BYTES),
    };
    let (_, events) = found(api.core.history(named.0, &caller.scope, &filter).await?)?;
    let mut response = HttpResponse::Ok();
    response.insert_header((CACHE_CONTROL, "private, no-cache"));
    let is_full = events.len() as i64 == filter.limit || bytes_of(&events) >= PAGE_BYTES;
    if let Some(last) = events.last().filter(|_| last.is_none() && is_full) {
        response.insert_header((LINK, next_link(&request, &["after"], &[("after", &last.seq)])));
    }
    Ok(response.json(
        events.iter().filter_map(|event| LogView::of(event).or_else(|| LogView::of_end(event))).collect::<Vec<_>>(),
    ))
}

fn bytes_of(events: &[TaskEvent]) -> i64 {
    let bytes = |event: &TaskEvent| match &event.what {
        What::Log { message, .. } => message.len() as i64,
        What::Status { .. } => 0,
    };
    events.iter().map(bytes).sum()
}
