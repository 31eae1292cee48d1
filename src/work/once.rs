//! Once: a worker that leaves by itself when its queues are drained (`--once`).

use std::time::Duration;

use super::{Worker, pace};

/// How often it looks.
const PERIOD: Duration = Duration::from_millis(200);
/// Who is due later than this is for another worker: the first retries of the default policy are not.
const SOON: Duration = Duration::from_secs(30);

/// Returns when nothing is ready, running or due soon in the queues of this worker, for the types that it knows. What
/// runs elsewhere counts: it may come back.
pub(super) async fn drained(worker: &Worker) {
    let queues: Vec<String> = worker.settings.slots().into_iter().map(|(queue, _)| queue).collect();
    loop {
        match worker.core.store.is_drained(&queues, &worker.types, SOON).await {
            Ok(true) => return,
            Ok(false) => {}
            Err(error) => tracing::debug!("cannot see whether the queues are drained: {error}"),
        }
        pace::jittered(PERIOD).await;
    }
}
