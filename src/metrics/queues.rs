//! Queues: what waits and runs in each, as PostgreSQL has it.
//!
//! A client may submit to any queue it can name, so the number of names has no bound, and the number of series must
//! have one. Queues that a worker serves come first, then those with the most tasks; from the hundred-and-first on they
//! are added up as `(other)`, which no queue can be called.

use std::sync::{Mutex, PoisonError};

use prometheus_client::{
    metrics::{family::Family, gauge::Gauge},
    registry::Registry,
};
use std::sync::atomic::AtomicU64;

use super::{Gauges, Labels, made};

/// Queues that are shown by name.
const SHOWN: usize = 100;
const OTHER: &str = "(other)";

/// A queue at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct QueueNumbers {
    /// Its name.
    pub name: String,
    /// Tasks that wait for a slot.
    pub ready: i64,
    /// Tasks that wait for a time.
    pub scheduled: i64,
    /// Tasks that run.
    pub running: i64,
    /// How long the first in line has been ready, in seconds.
    pub oldest_age_seconds: f64,
    /// Slots of the live workers that serve it.
    pub slots: i64,
    /// Live workers that serve it.
    pub workers: i64,
    /// Whether an operator paused it: 1, or 0.
    pub paused: i64,
}

/// The gauges.
pub struct Queues {
    ready: Gauges<1>,
    scheduled: Gauges<1>,
    running: Gauges<1>,
    oldest_age: Family<Labels<1>, Gauge<f64, AtomicU64>>,
    slots: Gauges<1>,
    workers: Gauges<1>,
    paused: Gauges<1>,
    /// Held while the numbers change and while they are written out, so that nobody sees half of them.
    whole: Mutex<()>,
}

impl Queues {
    pub(super) fn register(registry: &mut Registry) -> Self {
        Self {
            ready: made(registry, "queue_ready", "Tasks that wait for a slot"),
            scheduled: made(registry, "queue_scheduled", "Tasks that wait for a time: a delay, or a retry"),
            running: made(registry, "queue_running", "Tasks that run, on whichever worker"),
            oldest_age: made(
                registry,
                "queue_oldest_age_seconds",
                "How long the first in line has been ready; 0 when nothing is",
            ),
            slots: made(registry, "queue_slots", "Slots of the live workers that serve the queue"),
            workers: made(registry, "queue_workers", "Live workers that serve the queue"),
            paused: made(registry, "queue_paused", "1 when an operator paused the queue"),
            whole: Mutex::new(()),
        }
    }

    /// These are the queues now. Those that are not among them are no longer shown.
    pub fn show(&self, queues: Vec<QueueNumbers>) {
        let _whole = self.whole.lock().unwrap_or_else(PoisonError::into_inner);
        for gauges in [&self.ready, &self.scheduled, &self.running, &self.slots, &self.workers, &self.paused] {
            gauges.clear();
        }
        self.oldest_age.clear();
        for queue in bounded(queues) {
            let label: Labels<1> = [("queue", queue.name.into())];
            self.ready.get_or_create(&label).set(queue.ready);
            self.scheduled.get_or_create(&label).set(queue.scheduled);
            self.running.get_or_create(&label).set(queue.running);
            self.oldest_age.get_or_create(&label).set(queue.oldest_age_seconds);
            self.slots.get_or_create(&label).set(queue.slots);
            self.workers.get_or_create(&label).set(queue.workers);
            self.paused.get_or_create(&label).set(queue.paused);
        }
    }

    /// Runs `write` while the numbers stand still.
    pub fn still<T>(&self, write: impl FnOnce() -> T) -> T {
        let _whole = self.whole.lock().unwrap_or_else(PoisonError::into_inner);
        write()
    }
}

fn bounded(mut queues: Vec<QueueNumbers>) -> Vec<QueueNumbers> {
    if queues.len() <= SHOWN {
        return queues;
    }
    queues.sort_by_key(|queue| (queue.workers == 0, -(queue.ready + queue.scheduled + queue.running)));
    let rest = queues.split_off(SHOWN);
    let mut other = QueueNumbers { name: OTHER.to_owned(), ..QueueNumbers::default() };
    for queue in rest {
        other.ready += queue.ready;
        other.scheduled += queue.scheduled;
        other.running += queue.running;
        other.oldest_age_seconds = other.oldest_age_seconds.max(queue.oldest_age_seconds);
        other.slots += queue.slots;
        other.workers = other.workers.max(queue.workers);
        other.paused = other.paused.max(queue.paused);
    }
    queues.push(other);
    queues
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_that_clients_made_up_are_added_up() {
        let queue = |n: usize| QueueNumbers {
            name: format!("q{n}"),
            ready: n as i64,
            workers: i64::from(n == 0),
            oldest_age_seconds: n as f64,
            ..QueueNumbers::default()
        };
        assert_eq!(bounded((0..SHOWN).map(queue).collect()).len(), SHOWN);
        let shown = bounded((0..1_000).map(queue).collect());
        assert_eq!(shown.len(), SHOWN + 1);
        assert_eq!(shown[0].name, "q0", "what a worker serves is always shown");
        assert_eq!(shown[1].name, "q999");
        let other = shown.last().unwrap();
        assert_eq!((other.name.as_str(), other.oldest_age_seconds), (OTHER, 900.0));
        let all: i64 = shown.iter().map(|queue| queue.ready).sum();
        assert_eq!(all, (0..1_000).sum::<i64>());
    }
}
