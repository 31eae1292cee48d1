//! Tally: how many deliveries of each queue this worker has begun and ended, told to PostgreSQL every few seconds; and
//! the sampler, one worker for all, which notes once a minute what waits.
//!
//! What a worker has not told yet goes with it when it dies: the samples are for people and estimates.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use super::{Worker, pace};
use crate::core::Counting;

/// How often a worker tells its counts.
const TELL: Duration = Duration::from_secs(5);
/// The longest pause between two notes of what waits: each minute has one.
const SAMPLE: Duration = Duration::from_secs(55);
/// How long one worker is the sampler for all.
const LEASE: Duration = Duration::from_secs(75);

/// Counts since they were told last: started and ended, by queue.
#[derive(Default)]
pub(super) struct Tally(Mutex<BTreeMap<String, (i64, i64)>>);

impl Tally {
    /// A delivery has begun.
    pub(super) fn started(&self, queue: &str) {
        self.add(queue, 1, 0);
    }

    /// A handler has returned.
    pub(super) fn ended(&self, queue: &str) {
        self.add(queue, 0, 1);
    }

    fn add(&self, queue: &str, started: i64, ended: i64) {
        let mut counts = self.lock();
        if !counts.contains_key(queue) {
            counts.insert(queue.to_owned(), (0, 0));
        }
        if let Some(count) = counts.get_mut(queue) {
            count.0 += started;
            count.1 += ended;
        }
    }

    fn take(&self) -> Vec<(String, i64, i64)> {
        std::mem::take(&mut *self.lock()).into_iter().map(|(queue, (started, ended))| (queue, started, ended)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, (i64, i64)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells and samples until it is stopped.
pub(super) async fn run(worker: Arc<Worker>, stop: CancellationToken) {
    let tell = pace::every(TELL, &stop, "tally", || tell_once(&worker));
    let sample = pace::every(SAMPLE, &stop, "queue samples", || sample_once(&worker));
    tokio::join!(tell, sample);
    // The last ones, as far as PostgreSQL takes them at once.
    let _ = tokio::time::timeout(Duration::from_secs(1), tell_once(&worker)).await;
}

async fn tell_once(worker: &Worker) -> anyhow::Result<()> {
    let counts = worker.tally.take();
    if counts.is_empty() {
        return Ok(());
    }
    // Not repeated when it fails: it may have arrived, and a sample may miss a few.
    Ok(worker.core.store.add_to_sample(&counts).await?)
}

async fn sample_once(worker: &Worker) -> anyhow::Result<()> {
    let elected = worker.core.store.hold_lease("sampler", worker.id, LEASE).await?;
    worker.core.count_queues(if elected { Counting::Elected } else { Counting::Elsewhere });
    if elected {
        worker.core.store.sample().await?;
    }
    Ok(())
}
