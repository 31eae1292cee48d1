//! `GET /tasks/{id}/stream`: a task's life as server-sent events.
//!
//! A stream replays what the client missed, tells the state now, follows the task through the [hub](super::hub) and
//! ends with the final state. It may be cut at any moment, here or by the network: the ids of its frames let the
//! client go on at any replica without a gap or a repeat.

use std::{collections::VecDeque, convert::Infallible, sync::Arc};

use actix_web::{
    HttpRequest, HttpResponse,
    http::{
        ConnectionType, Method, Version,
        header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE},
    },
    web::{Bytes, Data},
};
use futures_util::Stream;
use tokio::time::{Instant, Interval, interval_at};

use super::{
    Api,
    caller::{Caller, Ends, Named},
    hub::{News, Reading, Update, Watch},
    problem::{Code, Problem},
    query::Query,
    read::found,
    sse::{self, PING_EVERY, Page},
    streams::{Kind, Place},
};
use crate::{
    core::{
        Lookup,
        model::{Scope, Task},
    },
    metrics::Counted,
};

/// The handler. 401, 404 and 410 come before the headers; what may pass is answered with a stream that says when to
/// come back, since a browser gives up for ever on any other status.
pub async fn stream(
    api: Data<Api>,
    caller: Caller,
    named: Named,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    match open(&api, &caller, named, &request).await {
        // HEAD asks for the head alone, and must not wait for the end of the task.
        Ok(Some(_)) if *request.method() == Method::HEAD => Ok(event_stream().finish()),
        Ok(Some(reader)) => Ok(streaming(&request, chunks(reader))),
        Ok(None) => Ok(HttpResponse::NoContent().finish()),
        Err(problem) if problem.code() == Code::Unavailable && accepts_events(&request) => Ok(retry_later()),
        Err(problem) => Err(problem),
    }
}

/// A reader with its first frames, or `None` when the client has the final frame already.
async fn open(
    api: &Data<Api>,
    caller: &Caller,
    named: Named,
    request: &HttpRequest,
) -> Result<Option<Reader>, Problem> {
    let query = Query::of(request, &["after"], None)?;
    if api.closing.is_cancelled() {
        return Err(Problem::new(Code::Unavailable, "This process is shutting down: ask again."));
    }
    let place = api.streams.open(caller, request, Kind::Task)?;
    let watch = api.hub.watch(named.0);
    let asked = resume_point(request, &query)?;
    // Nothing lies after the largest number: that reads the task alone.
    let reading = found(Reading::of(&api.core, named.0, &caller.scope, asked.unwrap_or(i32::MAX)).await?)?;
    let task = &reading.task;
    // An id above the last one is not of this task, and counts as none.
    let after = asked.filter(|after| *after <= task.seq);
    if after == Some(task.seq) && task.status.is_final() {
        return Ok(None);
    }
    let mut reader = Reader {
        api: api.clone(),
        scope: caller.scope.clone(),
        ends: caller.ends.clone(),
        watch,
        cursor: after.unwrap_or(task.seq),
        version: 0,
        ready: VecDeque::from([sse::RETRY]),
        phase: Phase::CatchUp,
        ping: interval_at(Instant::now() + PING_EVERY, PING_EVERY),
        _place: place,
        _counted: api.core.metrics.http.stream(),
    };
    match after {
        Some(_) => reader.take_page(&reading),
        None => {
            reader.ready.push_back(sse::state_frame(task, Some(task.seq)));
            reader.arrive(task);
        }
    }
    Ok(Some(reader))
}

/// The id after which to go on. The header wins: a browser that reconnects sends it along with the old address.
fn resume_point(request: &HttpRequest, query: &Query) -> Result<Option<i32>, Problem> {
    let id = |text: &str| text.trim().parse::<i32>().ok().filter(|id| *id >= 0);
    let header = request.headers().get("last-event-id").and_then(|value| value.to_str().ok()).and_then(id);
    Ok(header.or(query.one("after")?.and_then(id)))
}

/// Whether the client knows what an event stream is.
pub(super) fn accepts_events(request: &HttpRequest) -> bool {
    let mut accepted = request.headers().get_all(ACCEPT).filter_map(|value| value.to_str().ok());
    accepted.any(|text| text.to_ascii_lowercase().contains("text/event-stream"))
}

/// An answer that streams these bytes as they come.
pub(super) fn streaming(
    request: &HttpRequest,
    chunks: impl Stream<Item = Result<Bytes, Infallible>> + 'static,
) -> HttpResponse {
    let mut response = event_stream().streaming(chunks);
    if request.version() < Version::HTTP_11 {
        // Chunks came with HTTP/1.1; before, the end of the connection is the end of the body. Proxies speak it.
        response.head_mut().no_chunking(true);
        response.head_mut().set_connection_type(ConnectionType::Close);
    }
    response
}

/// An empty stream that says when to come back.
pub fn retry_later() -> HttpResponse {
    event_stream().body(sse::RETRY_LATER)
}

/// The head of an event stream.
pub(super) fn event_stream() -> actix_web::HttpResponseBuilder {
    let mut response = HttpResponse::Ok();
    response
        .insert_header((CONTENT_TYPE, "text/event-stream"))
        .insert_header((CACHE_CONTROL, "no-store, no-transform"))
        .insert_header(("x-accel-buffering", "no"));
    response
}

enum Phase {
    /// There may be events that this stream has not read: it reads them itself, page by page, as its client takes
    /// them.
    CatchUp,
    /// The hub's updates join without a gap.
    Follow,
    /// The final state is out.
    Done,
}

/// One client's stream. It holds a few frames, shared with the other streams of its task, and no connection.
struct Reader {
    api: Data<Api>,
    scope: Scope,
    /// When its client may no longer be here.
    ends: Ends,
    watch: Watch,
    /// The last event sent.
    cursor: i32,
    /// The version of the last state sent.
    version: i32,
    ready: VecDeque<Bytes>,
    phase: Phase,
    ping: Interval,
    /// Given back with the reader.
    _place: Place,
    _counted: Counted,
}

fn chunks(reader: Reader) -> impl Stream<Item = Result<Bytes, Infallible>> {
    futures_util::stream::unfold(reader, |mut reader| async move {
        let chunk = reader.next().await?;
        Some((Ok(chunk), reader))
    })
}

impl Reader {
    /// The next bytes; `None` ends the stream.
    async fn next(&mut self) -> Option<Bytes> {
        let api = self.api.clone();
        loop {
            // A server that leaves ends its streams at once: they go on elsewhere. And what a slow client has not taken
            // when its right ends it does not get.
            if api.closing.is_cancelled() || self.ends.have_come() {
                return None;
            }
            if let Some(bytes) = self.ready.pop_front() {
                return Some(bytes);
            }
            match self.phase {
                Phase::Done => return None,
                Phase::CatchUp => {
                    let id = self.watch.id();
                    self.watch.rejoin();
                    let read = tokio::select! {
                        () = api.closing.cancelled() => return None,
                        () = self.ends.come() => return None,
                        read = Reading::of(&api.core, id, &self.scope, self.cursor) => read,
                    };
                    // What cannot be read ends the stream; the client comes back with the id of its last event.
                    let Ok(Lookup::Found(reading)) = read else { return None };
                    self.take_page(&reading);
                }
                Phase::Follow => tokio::select! {
                    () = api.closing.cancelled() => return None,
                    () = self.ends.come() => return None,
                    update = self.watch.next() => match update {
                        Some(update) => self.take_update(&update),
                        None => self.phase = Phase::CatchUp,
                    },
                    _ = self.ping.tick() => return Some(sse::PING),
                },
            }
        }
    }

    /// What this stream has read itself.
    fn take_page(&mut self, reading: &Reading) {
        let Reading { task, events, page, is_full } = reading;
        let frames = sse::event_frames(task, events, *page);
        self.cursor = frames.last().map_or(self.cursor, |(seq, _)| *seq);
        self.ready.extend(frames.into_iter().map(|(_, frame)| frame));
        if *page == Page::Last {
            let ended = task.status.is_final() && sse::tells_the_state(task, events);
            if !ended && task.version > self.version {
                self.ready.push_back(sse::state_frame(task, None));
            }
            self.arrive(task);
        } else if !is_full && self.watch.settle(self.cursor, task) {
            // Near enough: what is missing comes with the next update, and the state after it.
            self.phase = Phase::Follow;
        }
    }

    /// The state of `task` is on its way to the client, all its events are: follow it from here.
    fn arrive(&mut self, task: &Task) {
        self.cursor = self.cursor.max(task.seq);
        self.version = self.version.max(task.version);
        self.phase = match task.status.is_final() {
            true => Phase::Done,
            false if self.watch.settle(self.cursor, task) => Phase::Follow,
            false => Phase::CatchUp,
        };
    }

    /// What the hub has read for all.
    fn take_update(&mut self, update: &Arc<Update>) {
        for (seq, frame) in &update.frames {
            if *seq > self.cursor {
                self.cursor = *seq;
                self.ready.push_back(frame.clone());
            }
        }
        let Some(state) = &update.state else { return };
        if state.task.version <= self.version {
            return;
        }
        self.version = state.task.version;
        if state.news == News::Untold {
            self.ready.push_back(state.frame.clone());
        }
        if state.task.status.is_final() {
            self.phase = Phase::Done;
        }
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn the_header_wins_and_garbage_counts_as_none() {
        for (header, after, expected) in [
            (None, None, None),
            (Some("7"), Some("3"), Some(7)),
            (None, Some("0"), Some(0)),
            (Some("garbage"), None, None),
            (Some("-1"), None, None),
            (Some("99999999999"), None, None),
            (Some(""), Some("2"), Some(2)),
            (None, Some("x"), None),
        ] {
            let uri = after.map_or("/s".to_owned(), |after| format!("/s?after={after}"));
            let mut request = TestRequest::get().uri(&uri);
            if let Some(header) = header {
                request = request.insert_header(("last-event-id", header));
            }
            let request = request.to_http_request();
            let query = Query::of(&request, &["after"], None).unwrap();
            assert_eq!(resume_point(&request, &query).unwrap(), expected, "{header:?} {after:?}");
        }
    }
}
