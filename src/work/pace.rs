//! Pace: how often loops turn. Always jittered, so that a hundred workers that started together do not act together.

use std::{future::Future, time::Duration};

use tokio_util::sync::CancellationToken;

/// Waits between three quarters and five quarters of `time`.
pub(super) async fn jittered(time: Duration) {
    tokio::time::sleep(time.mul_f64(rand::random_range(0.75..1.25))).await;
}

/// Turns a loop until it is stopped, with pauses of three fifths of `time` up to all of it and never more: what is
/// promised to happen within a turn does. An error is logged and the loop goes on: what failed is tried again at the
/// next turn.
pub(super) async fn every<F>(time: Duration, stop: &CancellationToken, name: &'static str, mut turn: impl FnMut() -> F)
where
    F: Future<Output = anyhow::Result<()>>,
{
    while !stop.is_cancelled() {
        if let Err(error) = turn().await {
            tracing::warn!("{name}: {error:#}");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(time.mul_f64(rand::random_range(0.6..1.0))) => {}
        }
    }
}
