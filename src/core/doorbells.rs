//! Doorbells: when Redis has lost its data, every one is rung again.
//!
//! Noticed by the epoch, a random value that both stores hold, and never by comparing counts: two errors can cancel
//! out. Every process compares, at its start and after every reconnect, and whoever wins the lease rings, so that a
//! crowd of them rings once.

use std::time::Duration;

use super::{
    Core,
    model::WorkerId,
    queue::{Bell, Side},
    store::Waiting,
};
use crate::metrics::Recovery;

/// How long the lease is won for.
const LEASE: Duration = Duration::from_secs(15);
/// The name of the lease; its value is the epoch.
const LEASE_NAME: &str = "doorbells";

/// What came of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compared {
    /// Redis has lost nothing.
    Alike,
    /// It had, and every doorbell was rung.
    Rung,
    /// It has, and not every doorbell was rung: somebody else holds the lease, or Redis took only some.
    NotRung,
}

/// The epoch that Redis shows to this database; an error where it is another's.
pub(crate) async fn shown(core: &Core) -> anyhow::Result<Option<String>> {
    core.queue.epoch(core.store.identity().await?).await
}

/// Compares the epochs, and rings for all when they differ.
pub(crate) async fn ring_all_if_redis_was_emptied(core: &Core, holder: WorkerId) -> anyhow::Result<Compared> {
    let (stored, shown) = (core.store.doorbell_state().await?.epoch, shown(core).await?);
    if stored.is_some() && stored == shown { Ok(Compared::Alike) } else { ring_all(core, holder).await }
}

/// Redis shows another epoch than PostgreSQL stores, or none: it has lost its data. Whoever wins the lease rings for
/// every ready task, then both get a new epoch.
pub(crate) async fn ring_all(core: &Core, holder: WorkerId) -> anyhow::Result<Compared> {
    let (store, queue) = (&core.store, &core.queue);
    if !store.hold_lease(LEASE_NAME, holder, LEASE).await? {
        return Ok(Compared::NotRung);
    }
    // Somebody else may have rung between our comparison and our winning.
    let (stored, shown) = (store.doorbell_state().await?.epoch, self::shown(core).await?);
    if stored.is_some() && stored == shown {
        return Ok(Compared::Alike);
    }
    // Shown while ringing. Gone at the end, Redis was emptied again meanwhile, and the next turn begins anew.
    let new = WorkerId::new().to_string();
    let provisional = format!("ringing {new}");
    queue.set_epoch(&provisional).await?;
    let mut last: Option<Waiting> = None;
    let mut rung = 0;
    loop {
        let page = store.ready(last.as_ref()).await?;
        last = page.parts.last().cloned();
        for part in page.parts {
            rung += part.ids.len();
            let Waiting { queue: name, priority, ids, .. } = part;
            let bells = ids.into_iter().map(|id| Bell { id, queue: name.clone(), priority });
            // Those once taken come first in the walk, and so stay before the others.
            queue.outlet().ring(bells.collect(), Side::Back);
        }
        // Page by page: the whole backlog does not pile up in memory, and the epoch is not shown before all is rung.
        if !queue.outlet().flushed().await || !store.hold_lease(LEASE_NAME, holder, LEASE).await? {
            return Ok(Compared::NotRung);
        }
        if page.is_last {
            break;
        }
    }
    if !(store.set_epoch(holder, &new).await? && queue.advance_epoch(&provisional, &new).await?) {
        return Ok(Compared::NotRung);
    }
    if stored.is_some() {
        core.metrics.work.recovered(Recovery::RedisEmptied, rung);
        tracing::warn!(rung, "Redis had lost its data: every doorbell was rung again");
    }
    Ok(Compared::Rung)
}
