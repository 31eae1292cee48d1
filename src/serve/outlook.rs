//! Outlook: what waiting tasks are told about their wait, and how deep each queue is, without asking per request.
//!
//! One reading per queue and process, repeated about once a second as long as somebody asks and forgotten when nobody
//! has for a while. A reading counts the queue and takes the first thousand places of its line, which costs little (5 ms
//! of a core at 100,000, nearly all of it to count), and the next one waits at least twenty times as long as the last
//! one took. The whole line costs eight times as much, in one piece, which the requests of that moment would feel: it is
//! read as rarely as keeps it below half a percent of a core, and in between `Line` tells the places behind the
//! thousandth from the last one. So the place of any task is found by binary search in at most some five thousand
//! entries, however many polls come and however long the line is.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use chrono::{DateTime, TimeDelta, Utc};
use tokio::{runtime::Handle, sync::watch};

use super::{
    line::{EXACT, Line},
    task_view::{TaskView, Waiting, retry_after},
};
use crate::core::{
    Core, StoreError,
    model::{PendingReason, Status, Task},
    store::{Place, QueueState},
};

/// The shortest time between two readings of a queue.
const PERIOD: Duration = Duration::from_secs(1);
/// A reading is repeated after this many times as long as it took, if that is longer.
const REST: u32 = 20;
/// The same for the whole line, as far as it is longer than what each reading takes.
const WHOLE_REST: u32 = 200;
/// A queue that nobody has asked about for this long is read no more.
const FORGOTTEN: Duration = Duration::from_secs(10);
/// How long the first who asks waits for the first reading.
const FIRST: Duration = Duration::from_millis(250);
/// Queues that are read at a time. Beyond it no places are told, and depth is counted with every submit.
const QUEUES: usize = 1_000;

/// Seconds between two polls of a task that nothing can start.
const BLOCKED: i64 = 5;
/// Nobody who stands in line is sent away for longer, in seconds.
const LONGEST_PATIENCE: i64 = 30;

/// A queue at one moment.
pub struct Reading {
    /// Its numbers.
    pub state: QueueState,
    /// When it was taken, by this machine's clock.
    pub at: DateTime<Utc>,
    line: Line,
    /// What `Watched::submitted` was when it began.
    submitted: u64,
}

/// The last whole reading of a line.
struct Whole {
    places: Vec<Place>,
    /// Not before then the next one.
    next: Instant,
}

struct Watched {
    reading: watch::Sender<Option<Arc<Reading>>>,
    /// Milliseconds from the start of the outlook to the last question.
    asked: AtomicU64,
    /// Tasks that this process has accepted for the queue.
    submitted: AtomicU64,
}

/// The outlook of one process. Shared by reference count.
pub struct Outlook {
    core: Core,
    runtime: Handle,
    started: Instant,
    queues: Mutex<HashMap<String, Arc<Watched>>>,
}

impl Outlook {
    /// An outlook that reads on `runtime`, which must outlive the server's own threads.
    pub fn new(core: Core, runtime: Handle) -> Arc<Self> {
        Arc::new(Self { core, runtime, started: Instant::now(), queues: Mutex::default() })
    }

    /// The last reading of a queue; the first who asks waits a moment for it.
    pub async fn look(self: &Arc<Self>, queue: &str) -> Option<Arc<Reading>> {
        let watched = self.watched(queue)?;
        let mut readings = watched.reading.subscribe();
        let first = tokio::time::timeout(FIRST, readings.wait_for(Option::is_some)).await;
        first.ok()?.ok()?.clone()
    }

    /// The last reading of a queue, where there is one already.
    pub fn glance(self: &Arc<Self>, queue: &str) -> Option<Arc<Reading>> {
        self.watched(queue)?.reading.borrow().clone()
    }

    /// How many tasks of a queue wait, for a slot or for a time: as of the last reading, and what this process has
    /// accepted since. `None` before the first reading. Of a queue that is one too many to be read regularly, as many as
    /// there are now, counted up to `limit`.
    pub async fn depth(self: &Arc<Self>, queue: &str, limit: u64) -> Option<u64> {
        let Some(watched) = self.watched(queue) else { return self.core.store.depth(queue, limit).await.ok() };
        let reading = watched.reading.borrow().clone()?;
        let since = watched.submitted.load(Ordering::Relaxed).saturating_sub(reading.submitted);
        Some((reading.state.ready + reading.state.scheduled).max(0) as u64 + since)
    }

    /// Notes that this process accepts tasks for a queue.
    pub fn submitting(self: &Arc<Self>, queue: &str, tasks: u64) {
        if let Some(watched) = self.watched(queue) {
            watched.submitted.fetch_add(tasks, Ordering::Relaxed);
        }
    }

    /// A task as its row has it, with its place in the line.
    pub async fn view<'a>(self: &Arc<Self>, task: &'a Task) -> TaskView<'a> {
        match task.status {
            Status::Pending => view(task, self.look(&task.queue).await.as_deref()),
            _ => TaskView::from(task),
        }
    }

    /// Like [`view`](Self::view), without waiting for a first reading: for long lists.
    pub fn view_at_once<'a>(self: &Arc<Self>, task: &'a Task) -> TaskView<'a> {
        match task.status {
            Status::Pending => view(task, self.glance(&task.queue).as_deref()),
            _ => TaskView::from(task),
        }
    }

    /// After how many seconds it is worth asking again for a task; `None` when it is final. Whoever waits far behind in
    /// the line is asked to come back after a quarter of the expected wait, so that deep queues are not polled hard.
    pub fn retry_after(self: &Arc<Self>, task: &Task) -> Option<i64> {
        let at_least = retry_after(task, Utc::now())?;
        if task.status != Status::Pending {
            return Some(at_least);
        }
        let further = self.glance(&task.queue).map_or(0, |reading| reading.tell(task).patience(Utc::now()));
        Some(at_least.max(further))
    }

    fn watched(self: &Arc<Self>, queue: &str) -> Option<Arc<Watched>> {
        let now = self.started.elapsed().as_millis() as u64;
        let mut queues = lock(&self.queues);
        if let Some(watched) = queues.get(queue) {
            watched.asked.store(now, Ordering::Relaxed);
            return Some(watched.clone());
        }
        if queues.len() >= QUEUES {
            return None;
        }
        let watched = Arc::new(Watched {
            reading: watch::Sender::new(None),
            asked: AtomicU64::new(now),
            submitted: AtomicU64::new(0),
        });
        queues.insert(queue.to_owned(), watched.clone());
        self.runtime.spawn(self.clone().keep_reading(queue.to_owned(), watched.clone()));
        Some(watched)
    }

    async fn keep_reading(self: Arc<Self>, queue: String, watched: Arc<Watched>) {
        let mut whole = Whole { places: Vec::new(), next: Instant::now() };
        loop {
            let began = Instant::now();
            match self.read(&queue, &watched, &mut whole).await {
                Ok(reading) => drop(watched.reading.send_replace(Some(Arc::new(reading)))),
                Err(error) => {
                    tracing::debug!(queue, %error, "a queue could not be read; tried again soon");
                    // Better to say nothing than to go on saying what was.
                    watched.reading.send_replace(None);
                }
            }
            tokio::time::sleep(PERIOD.max(began.elapsed() * REST)).await;
            let mut queues = lock(&self.queues);
            let idle =
                self.started.elapsed().saturating_sub(Duration::from_millis(watched.asked.load(Ordering::Relaxed)));
            if idle > FORGOTTEN {
                queues.remove(&queue);
                return;
            }
        }
    }

    async fn read(&self, queue: &str, watched: &Watched, whole: &mut Whole) -> Result<Reading, StoreError> {
        // First the counter: what is accepted during the reading is counted twice rather than not at all.
        let submitted = watched.submitted.load(Ordering::Relaxed);
        let (state, head) = self.core.store.queue_with_head(queue, EXACT).await?;
        if state.ready <= EXACT {
            whole.places = Vec::new();
        } else if whole.next <= Instant::now() {
            let began = Instant::now();
            whole.places = self.core.store.line(queue).await?;
            whole.next = Instant::now() + began.elapsed() * WHOLE_REST;
        }
        let at = Utc::now();
        let line = Line::new(head, &whole.places, state.ready, at);
        Ok(Reading { state, at, line, submitted })
    }
}

/// A task with what its queue's reading tells.
fn view<'a>(task: &'a Task, reading: Option<&Reading>) -> TaskView<'a> {
    let waiting = reading
        .map(|reading| reading.tell(task))
        .unwrap_or_else(|| Waiting { notice: notice(task, task.pending_reason), ..Waiting::default() });
    TaskView::from(task).waiting(waiting)
}

impl Waiting {
    /// Seconds before which nothing will have changed, probably.
    fn patience(&self, now: DateTime<Utc>) -> i64 {
        match (self.reason, self.start) {
            (Some(PendingReason::NoWorker | PendingReason::Paused), _) => BLOCKED,
            (_, Some(start)) => ((start - now).num_seconds() / 4).clamp(0, LONGEST_PATIENCE),
            (_, None) => 0,
        }
    }
}

fn notice(task: &Task, reason: Option<PendingReason>) -> Option<String> {
    match reason? {
        PendingReason::NoWorker => Some(format!(
            "No live worker serves the queue {:?} and knows the type {:?}: the task waits until one comes.",
            task.queue, task.task_type
        )),
        PendingReason::Paused => {
            Some(format!("The queue {:?} is paused: the task waits until it is resumed.", task.queue))
        }
        PendingReason::Ready | PendingReason::Scheduled | PendingReason::Retry => None,
    }
}

impl Reading {
    fn tell(&self, task: &Task) -> Waiting {
        let reason = match task.pending_reason {
            // The answer to a submit is made without looking at the queue.
            Some(PendingReason::Ready) if task.delivery == 0 && task.created_at + TimeDelta::seconds(1) > self.at => {
                self.reason(task)
            }
            reason => reason,
        };
        let notice = notice(task, reason);
        if matches!(reason, None | Some(PendingReason::Scheduled | PendingReason::Retry)) {
            return Waiting { reason, notice, ..Waiting::default() };
        }
        let position = self.line.position(task);
        let start = position.filter(|_| reason == Some(PendingReason::Ready)).and_then(|place| self.start(place));
        Waiting { reason, position: position.map(rounded), start, notice }
    }

    fn reason(&self, task: &Task) -> Option<PendingReason> {
        Some(match (self.state.paused, self.state.task_types.contains(&task.task_type)) {
            (true, _) => PendingReason::Paused,
            (false, false) => PendingReason::NoWorker,
            (false, true) => PendingReason::Ready,
        })
    }

    /// When a task at this place will probably start, from how many started lately.
    fn start(&self, position: i64) -> Option<DateTime<Utc>> {
        let free = (self.state.slots - self.state.running).max(0);
        if position <= free {
            return Some(Utc::now());
        }
        let per_second = self.state.started_per_minute / 60.0;
        let seconds = (position - free) as f64 / per_second;
        let wait = (per_second > 0.0 && seconds < 1e9).then(|| TimeDelta::milliseconds((seconds * 1000.0) as i64))?;
        Utc::now().checked_add_signed(wait)
    }
}

/// Exact below a thousand, to three digits above.
fn rounded(position: i64) -> i64 {
    let mut unit = 1;
    while position / unit >= 1_000 {
        unit *= 10;
    }
    (position + unit / 2) / unit * unit
}

/// A panic while this is held leaves a whole map behind.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        core::model::{Priority, TaskId},
        serve::task_view::tests::sample,
    };

    fn reading(places: Vec<Place>, slots: i64, running: i64, started_per_minute: f64) -> Reading {
        let state = QueueState {
            name: "default".into(),
            paused: false,
            ready: places.len() as i64,
            running,
            scheduled: 0,
            oldest_age_seconds: None,
            slots,
            workers: 1,
            task_types: vec!["web_scrape".into()],
            started_per_minute,
            ended_per_minute: 0.0,
        };
        let at = Utc::now();
        let line = Line::new(places, &[], state.ready, at);
        Reading { state, at, line, submitted: 0 }
    }

    fn waiting(id: TaskId, priority: Priority, delivery: i32) -> Task {
        Task { id, priority, delivery, status: Status::Pending, pending_reason: Some(PendingReason::Ready), ..sample() }
    }

    fn place(priority: Priority, is_fresh: bool, ms: u64, rank: i64) -> Place {
        Place { priority, is_fresh, id: TaskId::first_at(ms), rank }
    }

    #[test]
    fn three_digits_are_told() {
        for (exact, told) in [(1, 1), (999, 999), (1_000, 1_000), (1_004, 1_000), (1_005, 1_010), (123_456, 123_000)] {
            assert_eq!(rounded(exact), told);
        }
    }

    #[test]
    fn a_start_is_told_from_what_started_lately() {
        let line = (1..=10).map(|n| place(Priority::Normal, true, n, n as i64)).collect();
        let busy = reading(line, 4, 2, 60.0);
        let task = |ms| waiting(TaskId::first_at(ms), Priority::Normal, 0);
        let seconds = |ms| (busy.tell(&task(ms)).start.unwrap() - Utc::now()).num_milliseconds() as f64 / 1000.0;
        assert!(seconds(2) <= 0.0);
        assert!((7.0..=8.0).contains(&seconds(10)), "{}", seconds(10));
        assert_eq!(reading(vec![], 0, 0, 0.0).tell(&task(1)).start, None);
    }

    #[test]
    fn polls_are_asked_to_wait_as_the_line_is_long() {
        let line: Vec<Place> = (1..=400).map(|n| place(Priority::Normal, true, n, n as i64)).collect();
        let patience = |ms, started_per_minute| {
            let task = waiting(TaskId::first_at(ms), Priority::Normal, 0);
            reading(line.clone(), 4, 4, started_per_minute).tell(&task).patience(Utc::now())
        };
        assert_eq!(patience(1, 60.0), 0);
        assert!((9..=10).contains(&patience(40, 60.0)), "{}", patience(40, 60.0));
        assert_eq!(patience(400, 60.0), 30);
        assert_eq!(patience(400, 0.0), 0, "nothing is known");
        let blocked = Waiting { reason: Some(PendingReason::NoWorker), ..Waiting::default() };
        assert_eq!(blocked.patience(Utc::now()), 5);
    }

    #[test]
    fn a_fresh_submit_hears_that_nobody_serves_it() {
        let fresh =
            Task { created_at: Utc::now(), task_type: "other".into(), ..waiting(TaskId::new(), Priority::Normal, 0) };
        let told = reading(vec![], 1, 0, 0.0).tell(&fresh);
        assert_eq!(told.reason, Some(PendingReason::NoWorker));
        assert!(told.notice.unwrap().contains("other"));
        assert_eq!(told.start, None);
    }
}
