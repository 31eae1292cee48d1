//! Cancel: tells attempts that their task was cancelled, within a second when the message arrives and at the next
//! renewal of the lease when it is lost.

use std::sync::Arc;

use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use super::Worker;
use crate::{
    core::{
        events::Hint,
        model::{Status, TaskId},
    },
    tasks::StopReason,
};

/// Listens until it is stopped.
pub(super) async fn run(worker: Arc<Worker>, stop: CancellationToken) {
    let mut hints = worker.core.events.subscribe_cancels();
    loop {
        let hint = tokio::select! {
            () = stop.cancelled() => return,
            hint = hints.recv() => hint,
        };
        let asked = match hint {
            Ok(Hint::Cancelled { id }) => vec![id],
            Ok(Hint::Changed { .. }) => continue,
            // Something may have been missed: ask for everything.
            Ok(Hint::Resubscribed) | Err(RecvError::Lagged(_)) => {
                worker.held.deliveries().into_iter().map(|(id, _)| id).collect()
            }
            Err(RecvError::Closed) => return,
        };
        if let Err(error) = run_once(&worker, &asked).await {
            tracing::debug!("could not look after a cancel: {error:#}; the next renewal does");
        }
    }
}

/// Why a delivery must stop whose row has this status, where it has to.
pub(super) fn reason_to_stop(status: Option<Status>) -> Option<StopReason> {
    match status {
        Some(Status::Running) => None,
        Some(Status::Cancelled) => Some(StopReason::Cancelled),
        _ => Some(StopReason::Lost),
    }
}

/// Stops those of these tasks that this worker runs and PostgreSQL no longer has running. A message alone stops
/// nothing: it may be late, and meant for an earlier delivery.
pub(super) async fn run_once(worker: &Worker, ids: &[TaskId]) -> anyhow::Result<()> {
    let held = ids.iter().filter_map(|id| worker.held.delivery(*id).map(|delivery| (*id, delivery.number)));
    let deliveries: Vec<(TaskId, i32)> = held.collect();
    if deliveries.is_empty() {
        return Ok(());
    }
    for standing in worker.core.store.standings(&deliveries).await? {
        let asked = deliveries.iter().find(|(id, _)| *id == standing.id);
        if let (Some(reason), Some(&(id, number))) = (reason_to_stop(standing.status), asked)
            && let Some(delivery) = worker.held.delivery(id).filter(|delivery| delivery.number == number)
        {
            delivery.stop.ask(reason);
        }
    }
    Ok(())
}
