//! The hub: one per process, between Redis' hints and everybody who waits for a task (streams and long polls).
//!
//! A watched task has one feed. When a hint says that its version rose, the hub reads the row and the new events
//! once, encodes them once, and hands the same bytes to all who watch. No watcher holds a database connection.
//!
//! Who watches subscribes first and reads second, then asks [`Watch::settle`] whether the updates since it subscribed
//! join what it read without a gap; what they repeat is told by `seq` and `version`. Nobody has to catch a moment in
//! which the task is at rest: one that logs a thousand lines a second is followed like any other.
//! Hints may be lost: every five seconds, and after every new subscription, one statement asks for the versions of all
//! watched tasks. So a lost hint costs five seconds, never an event.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use actix_web::web::Bytes;
use tokio::{
    runtime::Handle,
    sync::{Semaphore, broadcast},
};
use tokio_util::sync::CancellationToken;

use super::sse::{self, Page};
use crate::core::{
    Core, EventFilter, Lookup, StoreError,
    events::Hint,
    model::{Scope, Status, Task, TaskEvent, TaskId, What},
};

/// Events of one reading.
pub const PAGE: i64 = 200;
/// Updates that wait for the slowest watcher of a task; whoever falls behind reads for itself.
const UPDATES: usize = 16;
/// Readings at a time, so that a burst of hints leaves connections to everybody else.
const READS: usize = 4;
/// Between two readings of a task that never rests: its watchers see it move, and PostgreSQL is asked fifty times a
/// second at most, however many they are.
const PAUSE: Duration = Duration::from_millis(20);
/// How often the versions of all watched tasks are asked for.
const CHECK: Duration = Duration::from_secs(5);

/// A task with the events after some point, complete or a page of them.
pub struct Reading {
    /// The task.
    pub task: Task,
    /// Oldest first.
    pub events: Vec<TaskEvent>,
    /// Whether the events reach up to the task's own `seq`.
    pub page: Page,
    /// Whether there were as many events as fit: what follows may be far ahead.
    pub is_full: bool,
}

impl Reading {
    /// Reads one page. The task is read after its events, so it may be ahead of them: then more follow.
    pub async fn of(core: &Core, id: TaskId, scope: &Scope, after: i32) -> Result<Lookup<Self>, StoreError> {
        let mut missing_up_to = None;
        loop {
            let filter = EventFilter { after, limit: PAGE, ..EventFilter::default() };
            let (task, events) = match core.history(id, scope, &filter).await? {
                Lookup::Found(found) => found,
                Lookup::Gone => return Ok(Lookup::Gone),
                Lookup::Missing => return Ok(Lookup::Missing),
            };
            let last = events.last().map_or(after, |event| event.seq);
            // A page that is full and reaches the task's seq is the last all the same: its last event may be the end.
            let page = match last < task.seq {
                // Events that were committed before the last reading and are not in this one are there no more.
                true if events.is_empty() && missing_up_to >= Some(task.seq) => Page::Last,
                true if events.is_empty() => {
                    missing_up_to = Some(task.seq);
                    continue;
                }
                true => Page::MoreFollow,
                false => Page::Last,
            };
            let is_full = events.len() as i64 >= PAGE;
            return Ok(Lookup::Found(Self { task, events, page, is_full }));
        }
    }
}

/// What one reading found, encoded.
pub struct Update {
    /// New events, oldest first.
    pub frames: Vec<(i32, Bytes)>,
    /// The state they lead to; `None` when more events follow in the next update and might say otherwise.
    pub state: Option<State>,
}

/// The state of a task at a reading.
pub struct State {
    /// The task.
    pub task: Arc<Task>,
    /// Its frame, without an id.
    pub frame: Bytes,
    /// Whether the frame says something that neither the events of this update nor the state before it said.
    pub news: News,
}

/// Whether a state is worth a frame of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// It differs from the state before, and no event tells it.
    Untold,
    /// One of the events carries it.
    ToldByEvent,
    /// Nothing of it that a stream shows has changed.
    None,
}

/// One task that somebody watches.
struct Feed {
    id: TaskId,
    position: Mutex<Position>,
    updates: broadcast::Sender<Arc<Update>>,
}

#[derive(Default)]
struct Position {
    /// The last event handed out and the version read; `None` until the first watcher has read.
    read: Option<(i32, i32)>,
    /// What `read` was at first.
    begun: Option<(i32, i32)>,
    /// The highest version heard of.
    wanted: i32,
    /// A reading is under way.
    reading: bool,
    /// The last state handed out.
    frame: Option<Bytes>,
    /// Its status.
    status: Option<Status>,
}

struct Entry {
    feed: Arc<Feed>,
    watchers: usize,
}

/// The hub. Shared by reference count.
pub struct Hub {
    core: Core,
    runtime: Handle,
    feeds: Mutex<HashMap<TaskId, Entry>>,
    reads: Semaphore,
    started: Instant,
    /// Milliseconds from `started` to the last turn of the loop.
    turned: AtomicU64,
}

impl Hub {
    /// A hub that reads on `runtime`, which must outlive the server's own threads.
    pub fn new(core: Core, runtime: Handle) -> Arc<Self> {
        Arc::new(Self {
            core,
            runtime,
            feeds: Mutex::default(),
            reads: Semaphore::new(READS),
            started: Instant::now(),
            turned: AtomicU64::new(0),
        })
    }

    /// Watches a task: call it before reading the task.
    pub fn watch(self: &Arc<Self>, id: TaskId) -> Watch {
        let mut feeds = lock(&self.feeds);
        let entry = feeds.entry(id).or_insert_with(|| Entry {
            feed: Arc::new(Feed { id, position: Mutex::default(), updates: broadcast::Sender::new(UPDATES) }),
            watchers: 0,
        });
        entry.watchers += 1;
        let (updates, joined) = entry.feed.join();
        Watch { hub: self.clone(), feed: entry.feed.clone(), updates, joined }
    }

    /// Turns hints into readings until told to stop.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut hints = self.core.events.subscribe();
        // A phase of its own, so that the servers of an installation do not ask all at once.
        let phase = CHECK.mul_f64(rand::random::<f64>());
        let mut check = tokio::time::interval_at(tokio::time::Instant::now() + phase, CHECK);
        check.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.turned.store(self.started.elapsed().as_millis() as u64, Ordering::Relaxed);
            let hint = tokio::select! {
                () = stop.cancelled() => return,
                _ = check.tick() => None,
                hint = hints.recv() => Some(hint),
            };
            match hint {
                Some(Ok(Hint::Changed { id, version })) => self.heard(id, version),
                Some(Ok(Hint::Cancelled { .. })) => {}
                None | Some(Ok(Hint::Resubscribed) | Err(broadcast::error::RecvError::Lagged(_))) => {
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = self.check_all() => {}
                    }
                }
                // The sender lives in Core, which this hub holds; should that change, the check goes on alone.
                Some(Err(broadcast::error::RecvError::Closed)) => {
                    check.tick().await;
                    self.check_all().await;
                }
            }
        }
    }

    /// How long ago the loop turned.
    pub fn last_turn(&self) -> Duration {
        self.started.elapsed().saturating_sub(Duration::from_millis(self.turned.load(Ordering::Relaxed)))
    }

    /// Asks PostgreSQL for the versions of everything watched, in one statement.
    async fn check_all(self: &Arc<Self>) {
        let ids: Vec<TaskId> = lock(&self.feeds).keys().copied().collect();
        if ids.is_empty() {
            return;
        }
        match self.core.versions(&ids).await {
            Ok(versions) => versions.into_iter().for_each(|(id, version)| self.heard(id, version)),
            Err(error) => tracing::debug!(%error, "the versions of watched tasks could not be read; asked again soon"),
        }
    }

    fn heard(self: &Arc<Self>, id: TaskId, version: i32) {
        let feed = lock(&self.feeds).get(&id).map(|entry| entry.feed.clone());
        if let Some(feed) = feed {
            let mut position = lock(&feed.position);
            position.wanted = position.wanted.max(version);
            self.read_if_behind(&feed, &mut position);
        }
    }

    /// Starts a reading when one is due and none is under way.
    fn read_if_behind(self: &Arc<Self>, feed: &Arc<Feed>, position: &mut Position) {
        if !position.reading && position.read.is_some_and(|(_, version)| version < position.wanted) {
            position.reading = true;
            self.runtime.spawn(self.clone().read(feed.clone()));
        }
    }

    /// Reads until the feed has what was heard of. A failure waits for the next hint or check.
    async fn read(self: Arc<Self>, feed: Arc<Feed>) {
        loop {
            let (after, wanted) = {
                let mut position = lock(&feed.position);
                let wanted = position.wanted;
                match position.read {
                    // Nobody listens any more: whoever comes next makes a new feed.
                    Some((seq, _)) if feed.updates.receiver_count() > 0 => (seq, wanted),
                    _ => {
                        position.reading = false;
                        return;
                    }
                }
            };
            let found = {
                let _permit = self.reads.acquire().await;
                Reading::of(&self.core, feed.id, &Scope::All, after).await
            };
            match found {
                Ok(Lookup::Found(reading)) => match feed.publish(reading, after, wanted) {
                    Then::Rest => return,
                    Then::ReadOn => {}
                    Then::ReadOnSoon => tokio::time::sleep(PAUSE).await,
                },
                other => {
                    if let Err(error) = other {
                        tracing::debug!(%error, task.id = %feed.id, "a watched task could not be read; tried again soon");
                    }
                    lock(&feed.position).reading = false;
                    return;
                }
            }
        }
    }
}

/// What a feed does after a reading.
enum Then {
    /// Nothing, until it hears of something new.
    Rest,
    /// There is a full page more.
    ReadOn,
    /// The task has moved on meanwhile.
    ReadOnSoon,
}

impl Feed {
    /// A receiver of all updates from here on, and where here is.
    fn join(&self) -> (broadcast::Receiver<Arc<Update>>, Option<(i32, i32)>) {
        // Updates are sent under this lock, so none falls in between.
        let position = lock(&self.position);
        (self.updates.subscribe(), position.read)
    }

    /// Encodes a reading and hands it to all who watch. `after` and `wanted` are what it was read for.
    fn publish(&self, reading: Reading, after: i32, wanted: i32) -> Then {
        let Reading { task, events, page, is_full } = reading;
        let frames = sse::event_frames(&task, &events, page);
        let seq = frames.last().map_or(after, |(seq, _)| *seq);
        let changes = events.iter().any(|event| matches!(event.what, What::Status { .. }));
        let mut position = lock(&self.position);
        position.read = match page {
            Page::Last => Some((task.seq, task.version)),
            // The version stays behind, so that the next round reads on.
            Page::MoreFollow => position.read.map(|(_, version)| (seq, version)),
        };
        // A task that never rests must not hide its progress: as long as no change of status can lie in between, its
        // row may be told ahead of its last lines.
        let is_tellable = match page {
            Page::Last => true,
            Page::MoreFollow => !is_full && !changes && !task.status.is_final() && position.status == Some(task.status),
        };
        let state = is_tellable.then(|| {
            let frame = sse::state_frame(&task, None);
            position.status = Some(task.status);
            let news = match position.frame.replace(frame.clone()) {
                _ if page == Page::Last && sse::tells_the_state(&task, &events) => News::ToldByEvent,
                Some(before) if before == frame => News::None,
                _ => News::Untold,
            };
            State { task: Arc::new(task), frame, news }
        });
        let _ = self.updates.send(Arc::new(Update { frames, state }));
        // A hint may be ahead of what this reading saw only when it came during it: no hint makes us spin.
        if page == Page::Last && position.wanted <= wanted {
            position.reading = false;
            return Then::Rest;
        }
        if is_full { Then::ReadOn } else { Then::ReadOnSoon }
    }
}

/// One watcher's hold on a task. Dropping it lets go.
pub struct Watch {
    hub: Arc<Hub>,
    feed: Arc<Feed>,
    updates: broadcast::Receiver<Arc<Update>>,
    /// Where the feed was when `updates` began.
    joined: Option<(i32, i32)>,
}

impl Watch {
    /// The task.
    pub fn id(&self) -> TaskId {
        self.feed.id
    }

    /// Begins anew: updates from here on. Call it before each reading that is to be [settled](Self::settle).
    pub fn rejoin(&mut self) {
        (self.updates, self.joined) = self.feed.join();
    }

    /// Tells the feed what this watcher has read since it joined: the task, and its events up to `seq`. `true`: every
    /// later change arrives through [`next`](Self::next). `false`: something lies in between, join and read again.
    pub fn settle(&self, seq: i32, task: &Task) -> bool {
        let mut position = lock(&self.feed.position);
        // The first watcher's reading is where the feed begins. Events are still missing: the feed fetches them.
        let here = (seq, if seq >= task.seq { task.version } else { 0 });
        position.read.get_or_insert(here);
        let begun = *position.begun.get_or_insert(here);
        position.wanted = position.wanted.max(task.version);
        self.hub.read_if_behind(&self.feed, &mut position);
        let (joined_seq, joined_version) = self.joined.unwrap_or(begun);
        joined_seq <= seq && joined_version <= task.version
    }

    /// The next update; `None` when this watcher has fallen behind and must read for itself.
    pub async fn next(&mut self) -> Option<Arc<Update>> {
        self.updates.recv().await.ok()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut feeds = lock(&self.hub.feeds);
        if let Some(entry) = feeds.get_mut(&self.feed.id) {
            entry.watchers -= 1;
            if entry.watchers == 0 {
                feeds.remove(&self.feed.id);
            }
        }
    }
}

/// A panic while one of these is held leaves a whole value behind: each is changed in single steps.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
