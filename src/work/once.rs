//! Once: a worker that leaves by itself when its queues are drained (`--once`).

use std::time::Duration;

use super::{Worker, pace};

/// How often it looks.
const PERIOD: Duration = Duration::from_millis(200);
/// Who is due later than this is for another worker: the first retries of the default policy are not.
const SOON: Duration = Duration::from_secs(30);

/// Returns when nothing is ready, running or due soon in the queues of this worker, for the types that it knows, and
/// says so. What runs elsewhere counts: it may come back. What waits in a paused queue does not: nobody knows for how
/// long.
pub(super) async fn drained(worker: &Worker) {
    let queues: Vec<String> = worker.settings.slots().into_iter().map(|(queue, _)| queue).collect();
    loop {
        match worker.core.store.is_drained(&queues, &worker.types, SOON).await {
            Ok(true) => break,
            Ok(false) => {}
            Err(error) => tracing::debug!("cannot see whether the queues are drained: {error}"),
        }
        pace::jittered(PERIOD).await;
    }
    match worker.core.store.paused_with_tasks(&queues).await {
        Ok(paused) if !paused.is_empty() => {
            tracing::warn!("the queues are drained, but for what waits in paused ones: {}", paused.join(", "));
        }
        Ok(_) => tracing::info!("the queues are drained"),
        Err(error) => tracing::warn!("the queues are drained, but for what may wait in paused ones: {error}"),
    }
}
