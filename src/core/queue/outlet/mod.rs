//! Outlet: the one writer to Redis of a process. Rings, acknowledgements and publications go into its mailbox and
//! nobody waits for them.
//!
//! It writes in rounds: whatever came while the last round was on its way goes out together in the next, so an idle
//! process adds no delay and a busy one pipelines. Within a round and between rounds the order is kept: a task that
//! is handed back is rung before it is acknowledged.
//!
//! The mailbox is bounded. What comes while it is full is dropped: a ring is then a lost doorbell, which is found, and
//! the rest is of the kind that may be lost anyway.
//!
//! While Redis is away it keeps the rings, a bounded number of them, and tries once a second. It drops the rest: an
//! acknowledgement that is lost leaves a harmless element in a list that its owner compares, and a publication that is
//! lost costs its readers five seconds.

mod writer;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use redis::Client;
use tokio::sync::{mpsc, oneshot};

use super::{Bell, Health};
use crate::{
    core::model::{Priority, TaskId, WorkerId},
    metrics::Metrics,
    telemetry::calls::Server,
};
use writer::Writer;

/// Ids that may wait to be written.
const WAITING: usize = 200_000;

/// Which of the equal elements of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Copies {
    One,
    All,
}

/// Which end of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// Behind everything that waits.
    Back,
    /// Before everything that waits: for tasks once taken.
    Front,
}

impl Side {
    /// Where a task belongs. The same order as that of the claims that need no doorbell, and of the places that people
    /// are shown.
    pub fn of(once_taken: bool) -> Self {
        if once_taken { Side::Front } else { Side::Back }
    }
}

enum Order {
    Ring(Vec<Bell>, Side),
    Remove { queue: String, list: Priority, worker: WorkerId, id: TaskId, copies: Copies },
    Unring(Vec<Bell>),
    Changed(Vec<(TaskId, i32)>),
    Shown(Vec<String>),
    Cancelled(Vec<TaskId>),
    Flush(oneshot::Sender<bool>),
}

impl Order {
    /// How many ids it names: what it takes of the room.
    fn size(&self) -> usize {
        match self {
            Order::Ring(bells, _) => bells.len(),
            Order::Remove { .. } => 1,
            Order::Unring(bells) => bells.len(),
            Order::Changed(tasks) => tasks.len(),
            Order::Shown(traceparents) => traceparents.len(),
            Order::Cancelled(tasks) => tasks.len(),
            // Whoever leaves is not turned away.
            Order::Flush(_) => 0,
        }
    }
}

/// The mailbox. Cheap to clone.
#[derive(Clone)]
pub struct Outlet {
    orders: mpsc::UnboundedSender<Order>,
    waiting: Arc<Waiting>,
}

/// What is in the mailbox.
#[derive(Default)]
struct Waiting {
    ids: AtomicUsize,
    /// Ids that found no room since the writer last said so.
    dropped: AtomicUsize,
}

impl Waiting {
    fn has_room(&self, size: usize) -> bool {
        let took = self.ids.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |ids| {
            (size == 0 || ids + size <= WAITING).then_some(ids + size)
        });
        if took.is_err() {
            self.dropped.fetch_add(size, Ordering::Relaxed);
        }
        took.is_ok()
    }

    fn taken(&self, orders: &[Order]) {
        self.ids.fetch_sub(orders.iter().map(Order::size).sum(), Ordering::Relaxed);
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            tracing::warn!(dropped, "too much was waiting to be written to Redis; lost doorbells are found again");
        }
    }
}

impl Outlet {
    pub(super) fn start(client: Client, health: Health, metrics: Metrics, server: Server) -> Self {
        let (orders, mailbox) = mpsc::unbounded_channel();
        let waiting = Arc::new(Waiting::default());
        let writer = Writer::new(client, health, metrics, server, waiting.clone());
        tokio::spawn(writer.run(mailbox));
        Self { orders, waiting }
    }

    /// Rings the doorbells of tasks that may be taken.
    pub fn ring(&self, bells: Vec<Bell>, side: Side) {
        if !bells.is_empty() {
            self.send(Order::Ring(bells, side));
        }
    }

    /// Rings each at the end where it belongs.
    pub fn ring_each(&self, bells: Vec<(Bell, Side)>) {
        let (front, back): (Vec<_>, Vec<_>) = bells.into_iter().partition(|(_, side)| *side == Side::Front);
        for (bells, side) in [(front, Side::Front), (back, Side::Back)] {
            self.ring(bells.into_iter().map(|(bell, _)| bell).collect(), side);
        }
    }

    /// Takes doorbells away: their tasks were claimed without them. What lies at the end that is popped next is found
    /// at once; a copy elsewhere is harmless.
    pub fn unring(&self, bells: Vec<Bell>) {
        if !bells.is_empty() {
            self.send(Order::Unring(bells));
        }
    }

    /// Removes an id from its in-flight list. Only after the finish is committed, or when the doorbell was worthless.
    pub fn acknowledge(&self, queue: &str, list: Priority, worker: WorkerId, id: TaskId) {
        self.send(Order::Remove { queue: queue.to_owned(), list, worker, id, copies: Copies::One });
    }

    /// Removes every copy of an id from its in-flight list: its row says that none of them is worth anything.
    pub fn forget(&self, queue: &str, list: Priority, worker: WorkerId, id: TaskId) {
        self.send(Order::Remove { queue: queue.to_owned(), list, worker, id, copies: Copies::All });
    }

    /// What is ordered next is shown in the traces of these `traceparent`s.
    pub fn show_in(&self, traceparents: Vec<String>) {
        if !traceparents.is_empty() {
            self.send(Order::Shown(traceparents));
        }
    }

    /// Wakes whoever watches these tasks.
    pub fn changed(&self, tasks: Vec<(TaskId, i32)>) {
        if !tasks.is_empty() {
            self.send(Order::Changed(tasks));
        }
    }

    /// Wakes the workers that run these tasks: they are cancelled.
    pub fn cancelled(&self, tasks: Vec<TaskId>) {
        if !tasks.is_empty() {
            self.send(Order::Cancelled(tasks));
        }
    }

    /// Returns when everything ordered so far was written, or given up; true when all of it was written. For whoever
    /// leaves, and for whoever has so much to ring that it must not pile up.
    pub async fn flushed(&self) -> bool {
        let (written, done) = oneshot::channel();
        self.send(Order::Flush(written));
        done.await.unwrap_or(false)
    }

    fn send(&self, order: Order) {
        if !self.waiting.has_room(order.size()) {
            return;
        }
        // The writer lives as long as its runtime; when that ends, nothing is to be written any more.
        let _ = self.orders.send(order);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mailbox_is_bounded_and_has_room_again_when_it_is_read() {
        let waiting = Waiting::default();
        assert!(waiting.has_room(WAITING - 1));
        assert!(!waiting.has_room(2) && waiting.has_room(1) && !waiting.has_room(1));
        assert!(waiting.has_room(0), "a flush is not turned away");
        assert_eq!(waiting.dropped.load(Ordering::Relaxed), 3);
        waiting.taken(&[Order::Changed(vec![(TaskId::new(), 1); 5])]);
        assert_eq!(waiting.dropped.load(Ordering::Relaxed), 0);
        assert!(waiting.has_room(5) && !waiting.has_room(1));
    }
}
