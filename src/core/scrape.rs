//! Scrape: what is looked up when somebody reads the metrics.
//!
//! How deep the queues are is counted in PostgreSQL, once for all who read: at most once a second, and never more than
//! a twentieth of a core, since counting takes time in proportion to what waits. A reader waits for it a moment and no
//! longer; while PostgreSQL is away the queues are missing from the answer, and everything else is there.
//!
//! Every `serve` counts. Of the workers only one does, the sampler: a hundred workers would ask the same question.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{runtime::Handle, sync::watch};

use super::{Core, Store, store::QueueState};
use crate::metrics::{Metrics, QueueNumbers};

/// The shortest time between two readings.
const PERIOD: Duration = Duration::from_secs(1);
/// A reading is repeated after this many times as long as it took, if that is longer.
const REST: u32 = 20;
/// How long somebody who reads the metrics waits for the queues.
const PATIENCE: Duration = Duration::from_millis(250);

/// Who counts the queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counting {
    /// This process does, for as long as it lives.
    Always,
    /// This process is the one worker that does.
    Elected,
    /// Another worker is.
    Elsewhere,
}

pub(super) struct Scrape {
    store: Store,
    metrics: Metrics,
    /// Readings live here and not on the runtime of whoever asks.
    runtime: Handle,
    always: AtomicBool,
    elected: AtomicBool,
    state: Mutex<State>,
    /// Notified when a reading has ended.
    read: watch::Sender<()>,
}

struct State {
    not_before: Instant,
    is_reading: bool,
}

impl Scrape {
    pub(super) fn new(store: Store, metrics: Metrics) -> Arc<Self> {
        Arc::new(Self {
            store,
            metrics,
            runtime: Handle::current(),
            always: AtomicBool::new(false),
            elected: AtomicBool::new(false),
            state: Mutex::new(State { not_before: Instant::now(), is_reading: false }),
            read: watch::Sender::new(()),
        })
    }

    fn counts(&self) -> bool {
        self.always.load(Ordering::Relaxed) || self.elected.load(Ordering::Relaxed)
    }

    /// Begins a reading when it is time for one, and waits a moment for one that is on its way.
    async fn refresh(self: &Arc<Self>) {
        let mut read = self.read.subscribe();
        {
            let mut state = self.lock();
            if !state.is_reading {
                if Instant::now() < state.not_before {
                    return;
                }
                state.is_reading = true;
                self.runtime.spawn(self.clone().take_reading());
            }
        }
        let _ = tokio::time::timeout(PATIENCE, read.changed()).await;
    }

    async fn take_reading(self: Arc<Self>) {
        let began = Instant::now();
        let queues = self.store.queues(None).await.unwrap_or_else(|error| {
            tracing::debug!(%error, "the queues could not be counted for the metrics");
            // Better to say nothing than to go on saying what was.
            Vec::new()
        });
        self.metrics.queues.show(queues.into_iter().map(QueueNumbers::from).collect());
        let rest = PERIOD.max(began.elapsed() * REST);
        *self.lock() = State { not_before: Instant::now() + rest, is_reading: false };
        self.read.send_replace(());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<QueueState> for QueueNumbers {
    fn from(state: QueueState) -> Self {
        Self {
            name: state.name,
            ready: state.ready,
            scheduled: state.scheduled,
            running: state.running,
            oldest_age_seconds: state.oldest_age_seconds.unwrap_or(0.0),
            slots: state.slots,
            workers: state.workers,
            paused: state.paused.into(),
        }
    }
}

impl Core {
    /// Everything that this process counts, as Prometheus reads it.
    pub async fn scrape(&self) -> String {
        if self.scrape.counts() {
            self.scrape.refresh().await;
        }
        let stores = &self.metrics.stores;
        stores.redis_up.set(self.redis_is_up().into());
        for (pool, numbers) in self.store.pools().into_iter().chain([self.queue.pool()]) {
            stores.show_pool(pool, numbers);
        }
        self.metrics.queues.still(|| self.metrics.text())
    }

    /// Says whether this process counts the queues.
    pub fn count_queues(&self, counting: Counting) {
        match counting {
            Counting::Always => self.scrape.always.store(true, Ordering::Relaxed),
            Counting::Elected => self.scrape.elected.store(true, Ordering::Relaxed),
            Counting::Elsewhere => {
                let was = self.scrape.elected.swap(false, Ordering::Relaxed);
                if was && !self.scrape.counts() {
                    self.metrics.queues.show(Vec::new());
                }
            }
        }
    }
}
