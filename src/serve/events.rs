//! `GET /events`: what a dashboard shows, as server-sent events: the rows in view, how many are newer, counts, queues,
//! workers. One stream per tab, however many rows it shows.
//!
//! The first frame is the state now; later ones carry only what has changed, at most two a second. The rows are those
//! that matched when the stream began: one that matches no longer is still told, so that it need not vanish from under
//! a pointer. Nothing is replayed: who comes back gets the state now.

use std::{collections::HashMap, convert::Infallible, time::Duration};

use actix_web::{
    HttpRequest, HttpResponse,
    http::Method,
    web::{Bytes, Data},
};
use chrono::Utc;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use tokio::{
    sync::{broadcast, mpsc},
    time::{Instant, sleep_until},
};

use super::{
    Api,
    caller::Caller,
    list::{CountsView, FILTERS, filter},
    problem::{Code, Problem},
    query::Query,
    queues::{QueueView, samples_by_queue},
    sse::{self, PING_EVERY},
    stream::{accepts_events, event_stream, retry_later, streaming},
    streams::Kind,
    task_view::{TaskView, Time, Told},
    workers::WorkerView,
};
use crate::core::{
    StoreError, TaskFilter,
    events::Hint,
    model::{Scope, Task, TaskId},
};

/// Between two looks at everything.
const PERIOD: Duration = Duration::from_secs(1);
/// Between two looks, when a row in view has changed.
const SHORTEST: Duration = Duration::from_millis(500);
/// Rows of one view.
const ROWS: i64 = 200;
/// Newer tasks are counted up to this.
const MOST_NEWER: i64 = 1_000;

/// One frame. Members that have not changed since the frame before are left out.
#[derive(Debug, Default, Serialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "DashboardFrame")]
pub struct FrameView<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    server_time: Option<Time>,
    /// The version of the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'static str>,
    /// `ok` or `away`; while it is away, nothing else is told.
    #[serde(skip_serializing_if = "Option::is_none")]
    postgres: Option<&'static str>,
    /// `ok` or `away`: starts are delayed then, and nothing else.
    #[serde(skip_serializing_if = "Option::is_none")]
    redis: Option<&'static str>,
    /// Those of the rows in view that have changed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rows: Vec<TaskView<'a>>,
    /// How many matching tasks are newer than the first row; counting stops at 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    newer: Option<i64>,
    /// The filters of the list without `status`, counted by status.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<CountsView>")]
    counts: Option<Value>,
    /// The queues, without their samples.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Vec<QueueView<'static>>>")]
    queues: Option<Value>,
    /// The samples by queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<serde_json::Map<String, Value>>")]
    samples: Option<Value>,
    /// The workers, without the age of their leases, which `lease_renewed_at` tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Vec<serde_json::Map<String, Value>>>")]
    workers: Option<Value>,
}

/// The handler. What may pass is answered with a stream that says when to come back.
pub async fn events(api: Data<Api>, caller: Caller, request: HttpRequest) -> Result<HttpResponse, Problem> {
    match open(&api, caller, &request) {
        Ok(_) if *request.method() == Method::HEAD => Ok(event_stream().finish()),
        Ok(frames) => {
            let chunks = futures_util::stream::unfold(frames, |mut frames| async move {
                let chunk = frames.recv().await?;
                Some((Ok::<Bytes, Infallible>(chunk), frames))
            });
            Ok(streaming(&request, chunks))
        }
        Err(problem) if problem.code() == Code::Unavailable && accepts_events(&request) => Ok(retry_later()),
        Err(problem) => Err(problem),
    }
}

fn open(api: &Data<Api>, caller: Caller, request: &HttpRequest) -> Result<mpsc::Receiver<Bytes>, Problem> {
    let known: Vec<&str> = FILTERS.iter().chain(&["first", "last"]).copied().collect();
    let query = Query::of(request, &known, Some("metadata."))?;
    if api.closing.is_cancelled() {
        return Err(Problem::new(Code::Unavailable, "This process is shutting down: ask again."));
    }
    let place = api.streams.open(&caller, request, Kind::Dashboard)?;
    let in_view = query.parsed::<TaskId>("first")?.zip(query.parsed::<TaskId>("last")?);
    let pairs = request.query_string().split('&');
    let name: Vec<&str> = pairs.filter(|pair| !["status", "first", "last"].contains(&key(pair))).collect();
    let viewer = Viewer {
        hints: api.core.events.subscribe(),
        api: api.clone(),
        scope: caller.scope,
        filter: filter(&query)?,
        name: name.join("&"),
        in_view,
        seen: HashMap::new(),
        told: HashMap::new(),
        began: false,
        looked: Instant::now(),
    };
    // Two frames may wait for a client that is slow to take them; then nothing is read for it.
    let (sender, frames) = mpsc::channel(2);
    let ends = caller.ends;
    api.runtime.spawn(async move {
        tokio::select! {
            () = viewer.run(sender) => {}
            () = ends.come() => {}
        }
        drop(place);
    });
    Ok(frames)
}

fn key(pair: &str) -> &str {
    pair.split('=').next().unwrap_or_default()
}

/// One tab.
struct Viewer {
    api: Data<Api>,
    scope: Scope,
    filter: TaskFilter,
    /// The filter without its statuses, as the request spelled it.
    name: String,
    /// The newest and the oldest row.
    in_view: Option<(TaskId, TaskId)>,
    hints: broadcast::Receiver<Hint>,
    /// The rows, with the version that was read last and what was told of it.
    seen: HashMap<TaskId, (i32, Option<Told>)>,
    /// The other members of the frame, as they were told last.
    told: HashMap<&'static str, Value>,
    /// Whether the rows have been read.
    began: bool,
    looked: Instant,
}

impl Viewer {
    async fn run(mut self, frames: mpsc::Sender<Bytes>) {
        let closing = self.api.closing.clone();
        let mut sent = Instant::now();
        if frames.send(sse::RETRY).await.is_err() {
            return;
        }
        loop {
            let permit = tokio::select! {
                () = closing.cancelled() => return,
                permit = frames.reserve() => permit,
            };
            let Ok(permit) = permit else { return };
            self.looked = Instant::now();
            if let Some(frame) = self.look().await {
                permit.send(frame);
                sent = Instant::now();
            } else if sent.elapsed() >= PING_EVERY {
                permit.send(sse::PING);
                sent = Instant::now();
            }
            tokio::select! {
                () = closing.cancelled() => return,
                () = frames.closed() => return,
                () = self.due() => {}
            }
        }
    }

    /// Waits until it is time to look again.
    async fn due(&mut self) {
        let next = self.looked + PERIOD;
        sleep_until(self.looked + SHORTEST).await;
        loop {
            tokio::select! {
                () = sleep_until(next) => return,
                hint = self.hints.recv() => match hint {
                    Ok(Hint::Changed { id, .. }) if self.seen.contains_key(&id) => return,
                    Ok(_) => {}
                    Err(_) => return sleep_until(next).await,
                },
            }
        }
    }

    /// What has changed since the last look.
    async fn look(&mut self) -> Option<Bytes> {
        let panorama = &self.api.panorama;
        let others = TaskFilter { statuses: Vec::new(), ..self.filter.clone() };
        let read = tokio::try_join!(
            self.rows(),
            self.newer(),
            panorama.counts(&self.name, &others, &self.scope),
            panorama.overview(),
            panorama.workers(&self.scope),
        );
        let (rows, newer, counts, overview, workers) = match read {
            Ok(read) => read,
            Err(error) => {
                tracing::debug!(%error, "a dashboard could not be read; tried again soon");
                let postgres = self.changed("postgres", "away".into()).map(|_| "away")?;
                return Some(encode(&FrameView { postgres: Some(postgres), ..FrameView::default() }));
            }
        };
        let counts = value(&CountsView::of(&counts));
        let queues: Vec<_> = overview
            .queues
            .iter()
            .map(|state| QueueView::new(state, Vec::new()).served_by(&overview.http_workers))
            .collect();
        let mut workers = value(&workers.iter().map(WorkerView::from).collect::<Vec<_>>());
        for worker in workers.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
            worker.remove("lease_age_seconds");
        }
        let redis = if self.api.core.redis_is_up() { "ok" } else { "away" };
        let mut frame = FrameView {
            version: (!self.began).then_some(env!("CARGO_PKG_VERSION")),
            postgres: self.changed("postgres", "ok".into()).map(|_| "ok"),
            redis: self.changed("redis", redis.into()).map(|_| redis),
            newer: newer.filter(|newer| self.changed("newer", (*newer).into()).is_some()),
            counts: self.changed("counts", counts),
            queues: self.changed("queues", value(&queues)),
            samples: self.changed("samples", value(&samples_by_queue(&overview.samples))),
            workers: self.changed("workers", workers),
            ..FrameView::default()
        };
        self.began = true;
        for task in &rows {
            let view = self.api.outlook.view_at_once(task);
            let told = Some(view.told());
            let before = self.seen.insert(task.id, (task.version, told));
            if before.is_none_or(|(_, before)| before != told) {
                frame.rows.push(view);
            }
        }
        let is_news = !frame.rows.is_empty()
            || [&frame.counts, &frame.queues, &frame.samples, &frame.workers].iter().any(|part| part.is_some())
            || frame.newer.is_some()
            || frame.postgres.or(frame.redis).is_some();
        is_news.then(|| {
            frame.server_time = Some(Time(Utc::now()));
            encode(&frame)
        })
    }

    /// The rows that have changed or may have; the first time, all of them.
    async fn rows(&self) -> Result<Vec<Task>, StoreError> {
        let Some((first, last)) = self.in_view else { return Ok(Vec::new()) };
        let store = &self.api.panorama.store;
        if !self.began {
            let before = Some(first.above());
            let filter = TaskFilter { before, from: Some(last), limit: ROWS, ..self.filter.clone() };
            return Ok(store.list(&filter, &self.scope).await?.tasks);
        }
        let seen: Vec<_> = self.seen.iter().map(|(id, (version, _))| (*id, *version)).collect();
        if seen.is_empty() { Ok(Vec::new()) } else { store.moved_on(&seen).await }
    }

    /// How many match above the first row; `None` when counting takes too long, or nobody has a first row.
    async fn newer(&self) -> Result<Option<i64>, StoreError> {
        let Some((first, _)) = self.in_view else { return Ok(None) };
        let filter = TaskFilter { from: Some(first.above()), ..self.filter.clone() };
        Ok(self.api.panorama.store.count_up_to(MOST_NEWER, &filter, &self.scope).await.ok())
    }

    /// The value, when it is another one than was told last.
    fn changed(&mut self, member: &'static str, value: Value) -> Option<Value> {
        match self.told.get(member) {
            Some(before) if *before == value => None,
            _ => {
                self.told.insert(member, value.clone());
                Some(value)
            }
        }
    }
}

/// These views hold strings, numbers and JSON that has been checked: writing them cannot fail.
fn value(view: &impl Serialize) -> Value {
    serde_json::to_value(view).unwrap_or_default()
}

fn encode(frame: &FrameView<'_>) -> Bytes {
    sse::unnamed(frame)
}
