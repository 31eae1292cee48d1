//! Sweep: finds the dead, and what they held. Every worker sweeps; single statements that skip what another one has
//! locked, so there is no leader whose end would end recovery.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{Worker, heartbeat::Unbroken, pace};
use crate::{
    core::{
        faults::mutant,
        model::WorkerId,
        queue::{Side, keys::Inflight},
    },
    metrics::{Outcome, Recovery},
};

/// The longest pause between two sweeps is a sixth of the lease, which is five seconds with the default one, and in
/// these bounds. A shorter lease asks for a quicker recovery.
const SHORTEST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(5);

/// What one sweep found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Swept {
    /// Workers declared dead.
    pub(super) dead: usize,
    /// Tasks taken from them.
    pub(super) stolen: usize,
    /// Doorbells that were in their lists.
    pub(super) drained: usize,
}

/// Sweeps until it is stopped.
pub(super) async fn run(worker: Arc<Worker>, unbroken: Arc<Unbroken>, stop: CancellationToken) {
    let period = (worker.settings.lease / 6).clamp(SHORTEST, LONGEST);
    pace::every(period, &stop, "sweep", || async {
        let swept = run_once(&worker, || unbroken.for_a_lease(worker.settings.lease)).await;
        worker.core.metrics.work.swept(if swept.is_ok() { Outcome::Ok } else { Outcome::Failed });
        let swept = swept?;
        if swept != Swept::default() {
            tracing::info!(swept.dead, swept.stolen, swept.drained, "swept");
        }
        Ok(())
    })
    .await;
}

/// One sweep. Who has not renewed in time for one lease may have been cut off itself, or stood still as others beside
/// it did: it declares nobody dead, but takes what the dead held. `may_judge` is asked after PostgreSQL has answered: a
/// server that stood still answers questions of before, and whoever asked has failed to renew meanwhile.
pub(super) async fn run_once(worker: &Worker, may_judge: impl Fn() -> bool) -> anyhow::Result<Swept> {
    let mut swept = Swept::default();
    if mutant("no-sweep") {
        return Ok(swept);
    }
    let store = &worker.core.store;
    let found = store.to_recover().await?;
    if found.expired && may_judge() {
        let dead = store.declare_dead(worker.id, found.at).await?;
        dead.iter().for_each(|id| tracing::warn!(worker.id = %id, "declared dead: its lease is over"));
        swept.dead = dead.len();
        worker.core.metrics.work.declared_dead.inc_by(dead.len() as u64);
    }
    if found.orphans || swept.dead > 0 {
        steal(worker, &mut swept).await?;
    }
    if found.unconfirmed || swept.dead > 0 {
        store.confirm_stopped_of_the_dead().await?;
    }
    if worker.core.redis_is_up() {
        swept.drained = drain_lists_of_the_dead(worker).await?;
        worker.core.metrics.work.recovered(Recovery::ListOfTheDead, swept.drained);
    }
    Ok(swept)
}

/// Takes what the dead were running, and rings for it.
async fn steal(worker: &Worker, swept: &mut Swept) -> anyhow::Result<()> {
    loop {
        let stolen = worker.core.store.steal().await?;
        swept.stolen += stolen.changed.len();
        let retried = stolen.changed.len() - stolen.failed;
        worker.core.metrics.work.lost(retried, stolen.failed);
        worker.core.metrics.work.recovered(Recovery::WorkerLost, retried);
        if stolen.failed > 0 {
            tracing::warn!(tasks = stolen.failed, "failed as worker_lost: their workers died too often");
        }
        worker.core.queue.outlet().ring(stolen.bells, Side::Front);
        worker.core.queue.outlet().changed(stolen.changed);
        if !stolen.more {
            return Ok(());
        }
    }
}

async fn drain_lists_of_the_dead(worker: &Worker) -> anyhow::Result<usize> {
    let lists: Vec<Inflight> =
        worker.core.queue.inflight_lists().await?.into_iter().filter(|list| list.worker != worker.id).collect();
    if lists.is_empty() {
        return Ok(0);
    }
    let owners: BTreeSet<WorkerId> = lists.iter().map(|list| list.worker).collect();
    let owners: Vec<WorkerId> = owners.into_iter().collect();
    let not_live = worker.core.store.not_live(&owners).await?;
    let mut drained = 0;
    for list in lists.iter().filter(|list| not_live.contains(&list.worker)) {
        drained += worker.core.queue.drain(list).await?;
    }
    Ok(drained)
}
