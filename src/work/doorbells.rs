//! Doorbells: what Redis has lost is found and rung again. By the epoch, when it has lost everything; by membership,
//! when single ones are missing. Never by comparing counts: two errors can cancel out.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

use super::{Worker, pace, unseen::Unseen};
use crate::{
    core::{
        doorbells,
        model::{Priority, TaskId},
        store::Waiting,
    },
    metrics::Recovery,
};

/// The longest pause between two comparisons of the epoch.
const PERIOD: Duration = Duration::from_secs(3);
/// How often one of the workers looks for single lost doorbells. With a pause of the loop and [`SETTLED`] on top, less
/// than the 35 seconds within which a lost doorbell rings again.
const LOOK: Duration = Duration::from_secs(28);
/// Between a look that failed and the next one. Not none: of many workers one turns at any moment, and a look that
/// always fails would be made all the time.
const AGAIN: Duration = Duration::from_secs(5);
/// A task that has been ready for less may have its doorbell on the way.
const SETTLED: Duration = Duration::from_secs(3);
/// Ids per question whether they still wait.
const RECHECKED: usize = 5_000;

/// Looks after the doorbells until it is stopped.
pub(super) async fn run(worker: Arc<Worker>, stop: CancellationToken) {
    pace::every(PERIOD, &stop, "doorbells", || run_once(&worker)).await;
}

/// One turn. Ringing for all and looking for single ones are never done at the same time: half of what was about to be
/// rung would be taken for lost.
pub(super) async fn run_once(worker: &Worker) -> anyhow::Result<()> {
    let store = &worker.core.store;
    // While Redis is away nothing can be rung, and whoever fetches claims straight from PostgreSQL.
    let Ok(shown) = doorbells::shown(&worker.core).await else { return Ok(()) };
    let state = store.doorbell_state().await?;
    if state.epoch.is_none() || state.epoch != shown {
        doorbells::ring_all(&worker.core, worker.id).await?;
    } else if state.look_due && store.begin_look(worker.id, LOOK).await? {
        let rung = match ring_lost(worker, state.epoch).await {
            Ok(rung) => rung,
            Err(error) => {
                // Otherwise what is lost would be looked for a whole pause later, and ring later than promised.
                if let Err(error) = store.give_look_back(worker.id, AGAIN).await {
                    tracing::warn!("could not give back the look for lost doorbells: {error}");
                }
                return Err(error);
            }
        };
        worker.core.metrics.work.recovered(Recovery::DoorbellLost, rung);
        if rung > 0 {
            tracing::warn!(rung, "rang doorbells that had been lost");
        }
    }
    Ok(())
}

/// Rings for tasks that wait and are in no list. Read in this order: an id that moves from a ready list to an in-flight
/// list while this goes on is seen in the second one. Returns how many were rung.
async fn ring_lost(worker: &Worker, epoch: Option<String>) -> anyhow::Result<usize> {
    let (store, queue) = (&worker.core.store, &worker.core.queue);
    let began = Instant::now();
    let mut waiting: Vec<TaskId> = Vec::new();
    let mut queues: BTreeSet<String> = BTreeSet::new();
    let mut last: Option<Waiting> = None;
    loop {
        let page = store.ready(last.as_ref()).await?;
        for part in &page.parts {
            waiting.extend(&part.ids);
            if !queues.contains(&part.queue) {
                queues.insert(part.queue.clone());
            }
        }
        last = page.parts.into_iter().next_back();
        if page.is_last {
            break;
        }
    }
    let mut missing = Unseen::from(waiting);
    if missing.is_empty() {
        return Ok(0);
    }
    for name in &queues {
        for priority in Priority::ALL {
            queue.ready_ids(name, priority, |id| missing.see(id)).await?;
        }
    }
    for list in queue.inflight_lists().await? {
        queue.inflight_ids(&list, |id| missing.see(id)).await?;
    }
    // Emptied while we looked: all of it is rung at the next turn, and rung twice if we rang as well.
    if missing.is_empty() || doorbells::shown(&worker.core).await? != epoch {
        return Ok(0);
    }
    let mut rung = 0;
    for some in missing.left().chunks(RECHECKED) {
        // What was not settled when this look began may have been rung since.
        let bells = store.still_ready(some, SETTLED + began.elapsed()).await?;
        rung += bells.len();
        queue.outlet().ring_each(bells);
        if !queue.outlet().flushed().await {
            break;
        }
    }
    Ok(rung)
}
