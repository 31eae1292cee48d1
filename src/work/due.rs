//! Due: rings for tasks whose time has come, and ends those whose time has passed.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::Worker;

/// The longest sleep: a task that becomes due earlier than the next known one is noticed within this.
const LONGEST: Duration = Duration::from_secs(1);
/// How long to leave alone what another worker is just taking.
const TAKEN_BY_OTHERS: Duration = Duration::from_millis(50);

/// Rings until it is stopped. Sleeps until the next task is due.
pub(super) async fn run(worker: Arc<Worker>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let sleep = match run_once(&worker).await {
            Ok(next) => next,
            Err(error) => {
                tracing::debug!("cannot look for due tasks: {error:#}");
                LONGEST
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            // A little jitter on top: many workers sleep until the same moment.
            () = tokio::time::sleep(sleep.min(LONGEST) + Duration::from_millis(rand::random_range(0..20))) => {}
        }
    }
}

/// Rings for everything that is due now, and ends what has expired. Returns how long the next one waits. While nothing
/// is due this is one small question. The rows are committed as ready before their doorbells ring; a crash in between is
/// a lost doorbell, and those are found.
pub(super) async fn run_once(worker: &Worker) -> anyhow::Result<Duration> {
    let (store, outlet) = (&worker.core.store, worker.core.queue.outlet());
    loop {
        let wait = store.next_due().await?.unwrap_or(LONGEST);
        if !wait.is_zero() {
            return Ok(wait);
        }
        let (bells, changed) = store.take_due().await?;
        let expired = store.expire().await?;
        // Somebody else is at it.
        let none = changed.is_empty() && expired.is_empty();
        let work = &worker.core.metrics.work;
        work.due.inc_by(bells.len() as u64);
        work.expired.inc_by(expired.len() as u64);
        // One that waited for its next attempt starts before those that never did.
        outlet.ring_each(bells);
        outlet.changed(changed);
        outlet.changed(expired);
        if none {
            return Ok(TAKEN_BY_OTHERS);
        }
    }
}
