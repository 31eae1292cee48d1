//! Janitor: deletes what retention no longer keeps, in small batches with pauses in between.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio_util::sync::CancellationToken;

use super::{Worker, pace};

/// How often.
const PERIOD: Duration = Duration::from_secs(60);
/// How long one worker is the janitor for all.
const LEASE: Duration = Duration::from_secs(90);
/// Between two batches, so that the rest of the database hardly notices.
const PAUSE: Duration = Duration::from_millis(50);
/// Batches in one turn, of tasks and of what they leave.
const MOST: usize = 1_000;

/// Cleans until it is stopped.
pub(super) async fn run(worker: Arc<Worker>, stop: CancellationToken) {
    pace::every(PERIOD, &stop, "janitor", || async {
        let deleted = tokio::select! {
            deleted = run_once(&worker) => deleted?,
            () = stop.cancelled() => return Ok(()),
        };
        if deleted > 0 {
            tracing::info!(deleted, "deleted what was older than the retention");
        }
        Ok(())
    })
    .await;
}

/// One turn. Returns how many tasks were deleted.
pub(super) async fn run_once(worker: &Worker) -> anyhow::Result<usize> {
    let store = &worker.core.store;
    if !store.hold_lease("janitor", worker.id, LEASE).await? {
        return Ok(0);
    }
    let mut deleted = 0;
    for _ in 0..MOST {
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
        let some = store.purge_tasks(worker.settings.retention, now_ms).await?;
        deleted += some;
        worker.core.metrics.work.purged.inc_by(some as u64);
        if some == 0 {
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    for _ in 0..MOST {
        if store.purge_leftovers(worker.settings.retention).await? == 0 {
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(deleted)
}
