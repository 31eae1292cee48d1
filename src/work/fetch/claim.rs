//! Claim: what becomes of the ids that were taken: rows that start, and doorbells that brought none.

use std::time::Instant;

use futures_util::future::join_all;
use tokio::sync::OwnedSemaphorePermit;

use super::{Fetch, Next};
use crate::{
    core::{
        faults::mutant,
        model::{Claimed, TaskId},
        queue::{Bell, Side, Taken},
        store::{NotClaimed, StoreError},
    },
    metrics::Recovery,
    work::attempt,
};

/// From so many ids on a claim is divided.
const DIVIDED: usize = 64;

impl Fetch {
    /// Claims what was taken and starts it; deals with the rest.
    pub(super) async fn claim(
        &mut self,
        taken: Vec<Taken>,
        slots: Vec<OwnedSemaphorePermit>,
    ) -> Result<Next, StoreError> {
        let worker = self.worker.clone();
        let outlet = worker.core.queue.outlet();
        let mut fresh: Vec<Taken> = Vec::with_capacity(taken.len());
        for taken in taken {
            // A task that this worker holds already: a second doorbell, or that of the next delivery, rung before this
            // one's end is settled. It stays in the own list, and the comparison after the end deals with it.
            if worker.held.begin(taken.id) {
                fresh.push(taken);
            }
        }
        if fresh.is_empty() {
            return Ok(Next::Again);
        }
        let ids: Vec<TaskId> = fresh.iter().map(|taken| taken.id).collect();
        if mutant("acknowledge-first") {
            fresh.iter().for_each(|taken| outlet.acknowledge(&self.queue, taken.list, worker.id, taken.id));
        }
        let _until_known = worker.held.claiming(&ids);
        let (claimed, failed) = self.claim_rows(&ids).await;
        if self.compared && !claimed.is_empty() {
            // Not those whose acknowledgement is only on its way: they are settled, and no claim comes of them.
            let (queue, ids) = (&self.queue, claimed.len());
            worker.core.metrics.work.recovered(Recovery::NeverReceived, ids);
            tracing::info!(queue, ids, "found ids that Redis had moved and nobody received");
        }
        outlet.changed(claimed.iter().map(|task| (task.id, task.version)).collect());
        let mut slots = slots;
        for task in claimed {
            let place = fresh.iter().position(|taken| taken.id == task.id);
            let list = place.map(|place| fresh.swap_remove(place).list);
            if let Some(slot) = slots.pop() {
                attempt::start(&worker, task, list, slot);
            }
        }
        drop(slots);
        if let Some(error) = failed {
            return Err(error);
        }
        let next = if fresh.is_empty() { Next::Again } else { self.turn_away(fresh).await? };
        // A comparison that brings nothing must not become a loop: where Redis takes no writes, what was acknowledged
        // stays in the list.
        Ok(if self.compared && matches!(next, Next::Again) { Next::Breathe } else { next })
    }

    /// The rows that could be claimed, and what went wrong. An error says nothing about what happened. Claimed, the next
    /// renewals find rows that nobody holds; not claimed, the doorbells are in the own list, and the next comparison finds
    /// them there.
    ///
    /// A large batch is two statements at a time, since PostgreSQL works on each with one core.
    async fn claim_rows(&self, ids: &[TaskId]) -> (Vec<Claimed>, Option<StoreError>) {
        let size = if ids.len() < DIVIDED { ids.len() } else { ids.len().div_ceil(2) };
        let claim = |ids| self.worker.core.store.claim(self.worker.id, ids, &self.worker.types);
        let (mut claimed, mut failed) = (Vec::with_capacity(ids.len()), None);
        for outcome in join_all(ids.chunks(size.max(1)).map(claim)).await {
            match outcome {
                Ok(some) => claimed.extend(some),
                Err(error) => failed = Some(error),
            }
        }
        (claimed, failed)
    }

    /// Doorbells that brought no task.
    async fn turn_away(&mut self, rest: Vec<Taken>) -> Result<Next, StoreError> {
        let outlet = self.worker.core.queue.outlet();
        let ids: Vec<TaskId> = rest.iter().map(|taken| taken.id).collect();
        let reasons = self.worker.core.store.why_not_claimed(&ids, &self.worker.types).await?;
        let unknown = |(id, why): &(TaskId, NotClaimed)| match why {
            NotClaimed::UnknownType { delivery } => Some((*id, *delivery)),
            _ => None,
        };
        let unknown: Vec<(TaskId, i32)> = reasons.iter().filter_map(unknown).collect();
        if !unknown.is_empty() {
            // Before their doorbells are acknowledged: failed, they are still in the own list.
            let types = self.worker.core.store.put_off_unknown(&unknown).await?;
            for name in self.unknown.news(types, Instant::now()) {
                tracing::warn!(
                    queue = self.queue,
                    task.r#type = name,
                    "this worker does not know the type of tasks that wait: they are left to another one"
                );
            }
        }
        let mut next = Next::Again;
        for (taken, (id, why)) in rest.into_iter().zip(reasons) {
            let bell = || vec![Bell { id, queue: self.queue.clone(), priority: taken.list }];
            match why {
                NotClaimed::Settled | NotClaimed::UnknownType { .. } => {}
                NotClaimed::Paused => {
                    outlet.ring(bell(), Side::Front);
                    next = Next::Rest;
                }
                NotClaimed::Contended => {
                    outlet.ring(bell(), Side::Front);
                    next = Next::Breathe;
                }
            }
            // Rung anew where it is worth something, so all copies of it that lie here can go.
            outlet.forget(&self.queue, taken.list, self.worker.id, id);
        }
        Ok(next)
    }
}
