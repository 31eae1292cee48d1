//! Doorbells, as `serve` looks after them: it compares the epochs at its start and after every reconnect.
//!
//! Workers do so too, every few seconds. But Redis may come back empty while no worker runs, and what was submitted
//! before should be in its lists when people and autoscalers look at them, and when the first worker comes.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::core::{
    Core,
    doorbells::{self, Compared},
    model::WorkerId,
};

/// How long to wait after a comparison that failed or came to nothing: Redis or PostgreSQL is away, or others ring.
const AGAIN: Duration = Duration::from_secs(5);

/// Compares until the process leaves.
pub(super) async fn run(core: Core, closing: CancellationToken) {
    // Holds the lease of whoever rings. No row of `workers` goes with it: this process runs nothing.
    let holder = WorkerId::new();
    let mut connections = core.events.connections();
    loop {
        connections.mark_unchanged();
        let compared = doorbells::ring_all_if_redis_was_emptied(&core, holder).await;
        // Not rung although they differ: somebody else is at it and may not come to an end, or Redis went away again.
        let again = compared.inspect_err(|error| tracing::debug!("cannot compare the epochs: {error:#}"));
        let again = !again.is_ok_and(|compared| compared != Compared::NotRung);
        tokio::select! {
            () = closing.cancelled() => return,
            _ = connections.changed() => {}
            () = tokio::time::sleep(AGAIN.mul_f64(rand::random_range(0.75..1.25))), if again => {}
        }
    }
}
