//! Held: the deliveries that are this worker's, from before their claim is sent until their end is settled.
//!
//! Kept in memory and compared with what PostgreSQL says at every renewal of the lease. Neither side alone is right:
//! a claim's reply can be lost on the way here, and a cancel's message can be lost on the way there.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    core::{model::TaskId, store::InItsName},
    tasks::{
        StopReason,
        context::{Outbox, Pulse, Stop},
    },
};

/// A delivery whose claim is confirmed.
#[derive(Clone)]
pub(super) struct Delivery {
    pub(super) number: i32,
    pub(super) confirmed_at: Instant,
    /// How long its type may take to stop, where that is longer than what all have.
    pub(super) grace: Duration,
    pub(super) stop: Stop,
    pub(super) outbox: Arc<Outbox>,
}

enum Entry {
    /// The claim is sent, or about to be.
    Claiming,
    /// The claim is confirmed; the end is not settled.
    Delivered(Delivery),
}

/// Ids whose claim is on its way.
pub(super) struct Claiming<'a> {
    held: &'a Held,
    ids: &'a [TaskId],
}

impl Drop for Claiming<'_> {
    fn drop(&mut self) {
        let mut entries = self.held.lock();
        for id in self.ids {
            if matches!(entries.get(id), Some(Entry::Claiming)) {
                entries.remove(id);
            }
        }
    }
}

/// Lets go of a delivery whose attempt ends without having said how: a panic of this program's own code. The next
/// reconciliations find a row that nobody holds, and hand it back.
pub(super) struct Vanishing<'a> {
    held: &'a Held,
    id: TaskId,
    number: i32,
    told: bool,
}

impl Vanishing<'_> {
    /// The attempt has said how it ended.
    pub(super) fn told(mut self) {
        self.told = true;
    }
}

impl Drop for Vanishing<'_> {
    fn drop(&mut self) {
        if !self.told {
            self.held.release(self.id, self.number);
        }
    }
}

/// The set. Its lock is held for moments only and never across an await.
#[derive(Default)]
pub(super) struct Held {
    entries: Mutex<HashMap<TaskId, Entry>>,
    /// What PostgreSQL had in this worker's name and nobody here held, at the last comparison.
    strangers: Mutex<Vec<(TaskId, i32)>>,
    /// Attempts that were dropped because they did not stop. Threads of theirs may go on.
    dropped: Mutex<Vec<Pulse>>,
}

impl Held {
    /// Notes that a claim of this id is about to be sent. False when it is held already: a second doorbell.
    pub(super) fn begin(&self, id: TaskId) -> bool {
        let mut entries = self.lock();
        let free = !entries.contains_key(&id);
        if free {
            entries.insert(id, Entry::Claiming);
        }
        free
    }

    /// The claim is confirmed.
    pub(super) fn confirm(&self, id: TaskId, delivery: Delivery) {
        self.lock().insert(id, Entry::Delivered(delivery));
    }

    /// Lets go of these ids when the guard is dropped, except of those that are confirmed by then: their claim did not
    /// happen, or its outcome is unknown and the next comparison decides. A guard, so that no way out forgets it: an
    /// id that stayed here would be left out of every comparison for ever.
    pub(super) fn claiming<'a>(&'a self, ids: &'a [TaskId]) -> Claiming<'a> {
        Claiming { held: self, ids }
    }

    /// Lets go of this delivery when the guard is dropped before the attempt has told its end.
    pub(super) fn until_told(&self, id: TaskId, number: i32) -> Vanishing<'_> {
        Vanishing { held: self, id, number, told: false }
    }

    /// The end of this delivery is settled: confirmed or fenced off.
    pub(super) fn release(&self, id: TaskId, number: i32) {
        let mut entries = self.lock();
        if matches!(entries.get(&id), Some(Entry::Delivered(delivery)) if delivery.number == number) {
            entries.remove(&id);
        }
    }

    /// Whether this id is held in any way.
    pub(super) fn contains(&self, id: TaskId) -> bool {
        self.lock().contains_key(&id)
    }

    /// The delivery of this id.
    pub(super) fn delivery(&self, id: TaskId) -> Option<Delivery> {
        match self.lock().get(&id) {
            Some(Entry::Delivered(delivery)) => Some(delivery.clone()),
            Some(Entry::Claiming) | None => None,
        }
    }

    /// All confirmed deliveries.
    pub(super) fn deliveries(&self) -> Vec<(TaskId, i32)> {
        let delivered = |(id, entry): (&TaskId, &Entry)| match entry {
            Entry::Delivered(delivery) => Some((*id, delivery.number)),
            Entry::Claiming => None,
        };
        self.lock().iter().filter_map(delivered).collect()
    }

    /// How many deliveries are confirmed and not settled.
    pub(super) fn running(&self) -> usize {
        self.lock().values().filter(|entry| matches!(entry, Entry::Delivered(_))).count()
    }

    /// An attempt did not stop when it was asked to, and its handler was dropped.
    pub(super) fn note_dropped(&self, pulse: Pulse) {
        self.dropped.lock().unwrap_or_else(PoisonError::into_inner).push(pulse);
    }

    /// How many attempts ignore a request to stop: their handlers have not returned within `patience` and could not
    /// even be dropped, or they were dropped and a thread of theirs goes on. `GET /workers` shows it: until a restart
    /// of the worker, each of them uses what it uses. Attempts that are within their time to stop are not counted.
    pub(super) fn unstopped(&self, patience: Duration) -> usize {
        let ignores = |entry: &&Entry| match entry {
            Entry::Delivered(delivery) => {
                delivery.stop.asked_for().is_some_and(|time| time > patience.max(delivery.grace))
            }
            Entry::Claiming => false,
        };
        let stuck = self.lock().values().filter(ignores).count();
        let mut dropped = self.dropped.lock().unwrap_or_else(PoisonError::into_inner);
        dropped.retain(Pulse::beats);
        stuck + dropped.len()
    }

    /// Asks every attempt to stop.
    pub(super) fn ask_all(&self, reason: StopReason) {
        for entry in self.lock().values() {
            if let Entry::Delivered(delivery) = entry {
                delivery.stop.ask(reason);
            }
        }
    }

    /// Compares with what PostgreSQL had in this worker's name, read after `asked_at`. Stops deliveries that are not
    /// RUNNING in it although their claim was confirmed before: cancelled or stolen. Returns what is in it and nobody
    /// here has held in two readings running: what runs is to be handed back, and what was cancelled has stopped. The
    /// latter is a claim whose reply was lost before the cancel, or a confirmation that was lost after it; an operator's
    /// retry would have to wait for either as long as this worker lives.
    pub(super) fn reconcile(&self, named: &InItsName, asked_at: Instant) -> InItsName {
        let entries = self.lock();
        let known: HashMap<TaskId, i32> = named.running.iter().copied().collect();
        for (id, entry) in entries.iter() {
            if let Entry::Delivered(delivery) = entry
                && delivery.confirmed_at < asked_at
                && known.get(id) != Some(&delivery.number)
            {
                let is_cancelled = named.stopping.contains(&(*id, delivery.number));
                delivery.stop.ask(if is_cancelled { StopReason::Cancelled } else { StopReason::Lost });
            }
        }
        let strange = |&(id, number): &(TaskId, i32)| match entries.get(&id) {
            Some(Entry::Claiming) => false,
            Some(Entry::Delivered(delivery)) => delivery.number != number,
            None => true,
        };
        let mut before = self.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        let twice = |all: &[(TaskId, i32)]| {
            all.iter().copied().filter(strange).filter(|stranger| before.contains(stranger)).collect()
        };
        let strangers = InItsName { running: twice(&named.running), stopping: twice(&named.stopping) };
        *before = named.running.iter().chain(&named.stopping).copied().filter(strange).collect();
        strangers
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TaskId, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(number: i32, confirmed_at: Instant) -> Delivery {
        Delivery {
            number,
            confirmed_at,
            grace: Duration::ZERO,
            stop: Stop::default(),
            outbox: Arc::new(Outbox::new(|| {})),
        }
    }

    #[test]
    fn a_confirmed_delivery_that_postgres_does_not_have_is_stopped() {
        let (held, id, now) = (Held::default(), TaskId::new(), Instant::now());
        assert!(held.begin(id));
        held.confirm(id, delivery(1, now));
        // Confirmed after the reading was sent: it could not be in it.
        held.reconcile(&InItsName::default(), now);
        assert_eq!(held.delivery(id).unwrap().stop.reason(), None);
        held.reconcile(&InItsName::default(), now + std::time::Duration::from_millis(1));
        assert_eq!(held.delivery(id).unwrap().stop.reason(), Some(StopReason::Lost));
    }

    #[test]
    fn a_cancelled_delivery_hears_that_it_is_cancelled() {
        let (held, id, now) = (Held::default(), TaskId::new(), Instant::now());
        assert!(held.begin(id));
        held.confirm(id, delivery(1, now));
        held.reconcile(&stopping(id, 1), now + std::time::Duration::from_millis(1));
        assert_eq!(held.delivery(id).unwrap().stop.reason(), Some(StopReason::Cancelled));
    }

    fn running(id: TaskId, number: i32) -> InItsName {
        InItsName { running: vec![(id, number)], ..InItsName::default() }
    }

    fn stopping(id: TaskId, number: i32) -> InItsName {
        InItsName { stopping: vec![(id, number)], ..InItsName::default() }
    }

    #[test]
    fn a_stranger_is_settled_at_its_second_sighting() {
        let (held, id, now) = (Held::default(), TaskId::new(), Instant::now());
        let nothing = InItsName::default();
        assert_eq!(held.reconcile(&running(id, 3), now), nothing);
        assert_eq!(held.reconcile(&running(id, 3), now), running(id, 3));
        assert_eq!(held.reconcile(&stopping(id, 4), now), nothing);
        assert_eq!(held.reconcile(&stopping(id, 4), now), stopping(id, 4));
        // Seen as RUNNING, then cancelled: that is the second sighting.
        assert_eq!(held.reconcile(&running(id, 5), now), nothing);
        assert_eq!(held.reconcile(&stopping(id, 5), now), stopping(id, 5));
        // An id whose claim is unanswered is no stranger.
        assert!(held.begin(id));
        for _ in 0..2 {
            assert_eq!(held.reconcile(&running(id, 6), now), nothing);
            assert_eq!(held.reconcile(&stopping(id, 6), now), nothing);
        }
        // Nor is a cancelled one whose attempt still stops.
        held.confirm(id, delivery(6, now));
        for _ in 0..2 {
            assert_eq!(held.reconcile(&stopping(id, 6), now), nothing);
        }
    }

    #[test]
    fn a_second_doorbell_is_noticed_and_a_late_release_is_not_obeyed() {
        let (held, id, now) = (Held::default(), TaskId::new(), Instant::now());
        assert!(held.begin(id));
        assert!(!held.begin(id));
        held.confirm(id, delivery(2, now));
        held.release(id, 1);
        assert!(held.contains(id));
        held.release(id, 2);
        assert!(!held.contains(id));
    }
}
