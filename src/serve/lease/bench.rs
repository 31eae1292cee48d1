//! Bench: where HTTP workers sit that wait for work.
//!
//! Who waits holds no connection and asks nothing. For all who want the same, one look per second counts what there is
//! for them, in one statement, and calls as many as there are tasks; a submit to this process has them looked after at
//! once. Called, a worker claims for itself.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    runtime::Handle,
    sync::{Notify, Semaphore},
};

use crate::core::Core;

/// Between two looks, with jitter.
const PERIOD: Duration = Duration::from_secs(1);
/// How often it is noted in PostgreSQL that somebody asks for a kind of work. It counts for 90 seconds.
const NOTED: Duration = Duration::from_secs(15);
/// Kinds of wishes that are remembered, and noted, at a time.
const WISHES: usize = 10_000;

/// What a worker wants: a queue, and types in order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Wish {
    /// The queue.
    pub queue: String,
    /// The types, sorted.
    pub task_types: Vec<String>,
}

/// Those who want the same.
struct Row {
    waiting: AtomicUsize,
    /// One permit per call that nobody has followed yet.
    calls: Semaphore,
    look: Notify,
}

/// A worker that waits; it gets up when this is dropped.
pub struct Seat {
    row: Arc<Row>,
}

/// The bench of one process.
pub struct Bench {
    core: Core,
    runtime: Handle,
    rows: Mutex<HashMap<Wish, Arc<Row>>>,
    noted: Mutex<HashMap<Wish, Instant>>,
}

impl Default for Row {
    fn default() -> Self {
        Self { waiting: AtomicUsize::new(0), calls: Semaphore::new(0), look: Notify::new() }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.row.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Seat {
    /// Returns when there may be something for whoever sits here.
    pub async fn called(&self) {
        if let Ok(call) = self.row.calls.acquire().await {
            call.forget();
        }
    }
}

impl Bench {
    /// A bench that looks on `runtime`, which must outlive the server's own threads.
    pub fn new(core: Core, runtime: Handle) -> Arc<Self> {
        Arc::new(Self { core, runtime, rows: Mutex::default(), noted: Mutex::default() })
    }

    /// Sits down. Looked after at once: what came between the last claim and this is not missed.
    pub fn sit(self: &Arc<Self>, wish: &Wish) -> Seat {
        let mut rows = lock(&self.rows);
        if let Some(row) = rows.get(wish) {
            row.waiting.fetch_add(1, Ordering::Relaxed);
            row.look.notify_one();
            return Seat { row: row.clone() };
        }
        let row = Arc::new(Row::default());
        row.waiting.fetch_add(1, Ordering::Relaxed);
        rows.insert(wish.clone(), row.clone());
        self.runtime.spawn(self.clone().look_after(wish.clone(), row.clone()));
        Seat { row }
    }

    /// There may be something in this queue now.
    pub fn rung(&self, queue: &str) {
        let rows = lock(&self.rows);
        rows.iter().filter(|(wish, _)| wish.queue == queue).for_each(|(_, row)| row.look.notify_one());
    }

    /// Notes in PostgreSQL that somebody asks for this, unless that was noted just now. Nobody waits for it.
    pub fn note(self: &Arc<Self>, wish: &Wish) {
        let mut noted = lock(&self.noted);
        if noted.get(wish).is_some_and(|at| at.elapsed() < NOTED) {
            return;
        }
        if noted.len() >= WISHES {
            noted.retain(|_, at| at.elapsed() < NOTED);
            if noted.len() >= WISHES {
                // Whoever makes up wishes fills neither memory nor tables; what they ask for is leased all the same.
                return;
            }
        }
        noted.insert(wish.clone(), Instant::now());
        let (this, wish) = (self.clone(), wish.clone());
        self.runtime.spawn(async move {
            if let Err(error) = this.core.store.note_asked(&wish.queue, &wish.task_types).await {
                tracing::debug!(%error, "could not note that an HTTP worker asks");
                lock(&this.noted).remove(&wish);
            }
        });
    }

    /// Looks for those of a row as long as somebody sits there.
    async fn look_after(self: Arc<Self>, wish: Wish, row: Arc<Row>) {
        loop {
            let uncalled = row.waiting.load(Ordering::Relaxed).saturating_sub(row.calls.available_permits());
            if uncalled > 0 {
                match self.core.store.leasable(&wish.queue, &wish.task_types, uncalled).await {
                    Ok(tasks) => row.calls.add_permits(tasks.min(uncalled)),
                    Err(error) => tracing::debug!(%error, "could not look for work; looking again soon"),
                }
            }
            tokio::select! {
                () = tokio::time::sleep(PERIOD.mul_f64(rand::random_range(0.75..1.25))) => {}
                () = row.look.notified() => {}
            }
            let mut rows = lock(&self.rows);
            if row.waiting.load(Ordering::Relaxed) == 0 {
                rows.remove(&wish);
                return;
            }
        }
    }
}

/// A panic while this is held leaves a whole map behind.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
