//! Fetch: takes ids from one queue and claims their rows, as many as there are free slots and never ahead of them.
//!
//! A slot comes first. Then a pass over the lists that does not block, and only when it finds nothing, a blocking pop
//! on the list of normal priority. While Redis fails, tasks are claimed straight from PostgreSQL.

mod claim;

use std::{
    convert::Infallible,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::{Worker, attempt, pace, unknown::Unknown};
use crate::core::{
    model::Priority,
    queue::{Bell, Side, Taken, Taker},
};

/// Ids per claim.
const BATCH: usize = 256;
/// One pass in so many goes from low to high, so low gets at least this share of the starts.
const FAIRNESS: u32 = 20;
/// How often the worker's own in-flight list is compared with what it holds.
const COMPARE: Duration = Duration::from_secs(10);
/// How often Redis is asked whether it is back.
const PROBE: Duration = Duration::from_millis(500);
/// How long a worker waits before it asks again for what it could not claim.
const BREATH: Duration = Duration::from_millis(300);
/// How often a paused queue is looked at.
const PAUSED: Duration = Duration::from_millis(700);

const HIGH_FIRST: [Priority; 3] = Priority::ALL;
const LOW_FIRST: [Priority; 3] = [Priority::Low, Priority::Normal, Priority::High];

/// A pass and a pop that take longer than this together hang: each of their steps has a shorter limit of its own.
const HANGS: Duration = Duration::from_secs(15);
/// A worker with free slots that has got nothing for this long looks whether there really is nothing.
const HUNGRY: Duration = Duration::from_secs(10);

struct Fetch {
    worker: Arc<Worker>,
    queue: String,
    slots: Arc<Semaphore>,
    taker: Taker,
    passes: u32,
    /// When the own list was last seen to hold nothing else than what is held; `None`: to be compared at once.
    compared_at: Option<Instant>,
    /// What was taken last came out of that comparison.
    compared: bool,
    /// Since when nothing has come, and whether the last look found that there was something.
    hungry: Option<(Instant, bool)>,
    unknown: Unknown,
}

/// What a claim came to, for the rhythm of the loop.
enum Next {
    Again,
    /// Something was in the way that will pass: rows locked by others, or a lease that is not renewed yet.
    Breathe,
    /// The queue is paused.
    Rest,
}

/// Takes from a queue until it is stopped. A loop that panics is a defect, and begins anew: a worker that renews its
/// lease and takes nothing would look healthy for ever.
pub(super) async fn run(worker: Arc<Worker>, queue: String, slots: usize, stop: CancellationToken) {
    let slots = Arc::new(Semaphore::new(slots));
    while let Err(error) =
        tokio::spawn(take_and_claim(worker.clone(), queue.clone(), slots.clone(), stop.clone())).await
    {
        tracing::error!(queue, "taking from the queue failed, it begins anew: {error}");
        pace::jittered(Duration::from_secs(1)).await;
    }
}

async fn take_and_claim(worker: Arc<Worker>, queue: String, slots: Arc<Semaphore>, stop: CancellationToken) {
    let taker = worker.core.queue.taker(queue.clone(), worker.id);
    let mut fetch = Fetch {
        worker,
        queue,
        slots,
        taker,
        passes: 0,
        compared_at: Some(Instant::now()),
        compared: false,
        hungry: None,
        unknown: Unknown::default(),
    };
    loop {
        // Stopping drops whatever waits here, the blocking pop included. A claim in its middle is not dropped.
        let slots = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            slots = fetch.next_slots() => slots,
        };
        let taken = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            taken = fetch.watched(slots.len()) => taken,
        };
        let next = match taken {
            Ok(taken) => fetch.claim(taken, slots).await,
            Err(error) => {
                tracing::debug!(queue = fetch.queue, "cannot take from Redis: {error:#}");
                fetch.without_redis(slots, &stop).await;
                // What Redis moved and nobody received is in the own list.
                fetch.compared_at = None;
                Ok(Next::Again)
            }
        };
        if next.is_err() {
            // What was taken is claimed before anything else is taken: while PostgreSQL is away, a worker would
            // otherwise gather ids that nobody else can start.
            fetch.compared_at = None;
        }
        let rest = async {
            match next {
                Ok(Next::Again) => {}
                Ok(Next::Breathe) => pace::jittered(BREATH).await,
                Ok(Next::Rest) => fetch.until_resumed().await,
                Err(error) => {
                    tracing::warn!(queue = fetch.queue, "cannot claim: {error}");
                    pace::jittered(Duration::from_secs(1)).await;
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => break,
            () = rest => {}
        }
    }
    fetch.release().await;
}

impl Fetch {
    /// At least one free slot. Until there is one the own list is compared all the same: what Redis moved and nobody
    /// received can be started by nobody else, and here it might wait for as long as a task takes.
    async fn next_slots(&mut self) -> Vec<OwnedSemaphorePermit> {
        let semaphore = self.slots.clone();
        tokio::select! {
            biased;
            slots = free_slots(&semaphore) => slots,
            never = self.compare_meanwhile() => match never {},
        }
    }

    async fn compare_meanwhile(&mut self) -> Infallible {
        loop {
            let due = self.compared_at.map_or(Duration::ZERO, |at| COMPARE.saturating_sub(at.elapsed()));
            pace::jittered(due).await;
            match self.unheld().await {
                Ok(unheld) => {
                    self.give_back(unheld);
                    self.compared_at = Some(Instant::now());
                }
                Err(error) => {
                    tracing::debug!(queue = self.queue, "cannot look at the own list: {error:#}");
                    pace::jittered(Duration::from_secs(1)).await;
                }
            }
        }
    }

    /// [`take`](Self::take) under the eyes of a watchdog: with free slots here and ids there, something has to come.
    /// Whatever stands in the way, a step that hangs or a connection that leads to where nothing is, is thrown away.
    async fn watched(&mut self, limit: usize) -> anyhow::Result<Vec<Taken>> {
        let Ok(taken) = tokio::time::timeout(HANGS, self.take(limit)).await else {
            tracing::warn!(queue = self.queue, "taking from Redis hangs: it begins anew with new connections");
            self.begin_anew();
            return Ok(Vec::new());
        };
        let taken = taken?;
        if !taken.is_empty() {
            self.hungry = None;
            return Ok(taken);
        }
        let (since, seen) = *self.hungry.get_or_insert((Instant::now(), false));
        if since.elapsed() > HUNGRY {
            // Seen twice, since ids that come and go between two looks are others'.
            let there = self.worker.core.queue.ready_count(&self.queue).await? > 0;
            self.hungry = Some((since, there));
            if there && seen {
                tracing::warn!(queue = self.queue, "the queue is not empty and nothing comes: new connections");
                self.begin_anew();
            }
        }
        Ok(taken)
    }

    fn begin_anew(&mut self) {
        self.taker = self.worker.core.queue.taker(self.queue.clone(), self.worker.id);
        self.hungry = None;
        // What Redis moved and nobody received is in the own list.
        self.compared_at = None;
    }

    /// Up to `limit` ids that are now in this worker's list.
    async fn take(&mut self, limit: usize) -> anyhow::Result<Vec<Taken>> {
        if self.compared_at.is_none_or(|at| at.elapsed() > COMPARE) {
            let mut unheld = self.unheld().await?;
            // What does not fit need not wait for a slot here.
            self.give_back(unheld.split_off(unheld.len().min(limit)));
            self.compared_at = Some(Instant::now());
            if !unheld.is_empty() {
                self.compared = true;
                return Ok(unheld);
            }
        }
        self.compared = false;
        self.passes = self.passes.wrapping_add(1);
        let order = if self.passes.is_multiple_of(FAIRNESS) { LOW_FIRST } else { HIGH_FIRST };
        let taken = self.taker.take(limit, order).await?;
        if !taken.is_empty() {
            return Ok(taken);
        }
        Ok(self.taker.wait().await?.into_iter().collect())
    }

    /// What is in the own in-flight lists and not held.
    async fn unheld(&mut self) -> anyhow::Result<Vec<Taken>> {
        let mut unheld = self.not_held().await?;
        if !unheld.is_empty() {
            // Most of it may be settled, and its acknowledgement on its way. What is there after that is nobody's.
            anyhow::ensure!(self.worker.core.queue.outlet().flushed().await, "Redis takes no writes");
            let still = self.not_held().await?;
            unheld.retain(|taken| still.contains(taken));
        }
        Ok(unheld)
    }

    async fn not_held(&mut self) -> anyhow::Result<Vec<Taken>> {
        let own = self.taker.own_list().await?;
        Ok(own.into_iter().filter(|taken| !self.worker.held.contains(taken.id)).collect())
    }

    /// Rings for ids that this worker will not start. First rung, then removed: each is always in some list.
    fn give_back(&self, unheld: Vec<Taken>) {
        let outlet = self.worker.core.queue.outlet();
        if !unheld.is_empty() {
            let (queue, ids) = (&self.queue, unheld.len());
            tracing::info!(queue, ids, "gave back ids that were taken and not claimed");
        }
        let bell = |taken: &Taken| Bell { id: taken.id, queue: self.queue.clone(), priority: taken.list };
        outlet.ring(unheld.iter().map(bell).collect(), Side::Front);
        for taken in unheld {
            outlet.acknowledge(&self.queue, taken.list, self.worker.id, taken.id);
        }
    }

    /// Takes nothing while the queue is paused: taking would only move its ids back and forth.
    async fn until_resumed(&self) {
        tracing::info!(queue = self.queue, "the queue is paused");
        loop {
            pace::jittered(PAUSED).await;
            match self.worker.core.store.is_paused(&self.queue).await {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => tracing::debug!(queue = self.queue, "cannot see whether it is paused: {error}"),
            }
        }
        tracing::info!(queue = self.queue, "the queue is resumed");
    }

    /// Claims straight from PostgreSQL until Redis answers again or the worker is to stop: at once as long as the table
    /// gives all that is asked for, else about once a second or when a slot was freed. Redis is asked beside it, since
    /// a server that hangs takes seconds to say nothing. Only waiting is ever broken off: a claim that is dropped in
    /// its middle may have happened, and its tasks would be charged with the loss of a worker.
    async fn without_redis(&mut self, mut slots: Vec<OwnedSemaphorePermit>, stop: &CancellationToken) {
        let Self { worker, queue, slots: semaphore, taker, .. } = self;
        let mut back = pin!(async {
            while taker.probe().await.is_err() {
                pace::jittered(PROBE).await;
            }
        });
        loop {
            let limit = slots.len();
            // From before the claim on: a task that ends while the claim is on its way may be what the next one waits for.
            let mut slot_freed = pin!(worker.slot_freed.notified());
            slot_freed.as_mut().enable();
            let claimed = worker.core.store.claim_from_table(worker.id, queue, limit, &worker.types).await;
            let full = match claimed {
                Ok(claimed) => {
                    let full = claimed.len() == limit;
                    worker.core.queue.outlet().changed(claimed.iter().map(|task| (task.id, task.version)).collect());
                    for (task, slot) in claimed.into_iter().zip(slots.drain(..)) {
                        attempt::start(worker, task, None, slot);
                    }
                    full
                }
                Err(error) => {
                    tracing::debug!(queue, "cannot claim from the table: {error}");
                    false
                }
            };
            slots.clear();
            let freed = async {
                if !full {
                    tokio::select! {
                        () = pace::jittered(Duration::from_secs(1)) => {}
                        () = slot_freed => {}
                    }
                }
                free_slots(semaphore).await
            };
            slots = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = &mut back => return,
                slots = freed => slots,
            };
        }
    }

    /// Gives back what was taken and not claimed. The pop was cut off with its connection.
    async fn release(&mut self) {
        if let Ok(unheld) = self.not_held().await {
            self.give_back(unheld);
        }
    }
}

/// At least one free slot, and as many as there are up to a batch.
async fn free_slots(semaphore: &Arc<Semaphore>) -> Vec<OwnedSemaphorePermit> {
    let mut slots: Vec<_> = semaphore.clone().acquire_owned().await.into_iter().collect();
    while slots.len() < BATCH
        && let Ok(slot) = semaphore.clone().try_acquire_owned()
    {
        slots.push(slot);
    }
    slots
}
