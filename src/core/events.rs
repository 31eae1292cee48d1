//! Events: Redis pub/sub, which only wakes. What it says is read in PostgreSQL; what it loses costs a few seconds.
//!
//! One subscription per process and kind, opened when the first listener asks. It never holds anybody up: a listener
//! that lags is told so and reads PostgreSQL for everything that it watches.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use futures_util::StreamExt;
use redis::Client;
use tokio::sync::{broadcast, watch};

use super::{
    model::TaskId,
    queue::{Queue, keys},
};
use crate::metrics::Metrics;

/// Hints that one listener may be behind before it is told that it lags.
const BUFFER: usize = 16_384;

/// A hint that something about a task has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hint {
    /// The task's `version` is at least this now.
    Changed {
        /// The task.
        id: TaskId,
        /// Its version.
        version: i32,
    },
    /// The task is cancelled: whoever runs it should stop.
    Cancelled {
        /// The task.
        id: TaskId,
    },
    /// The subscription is new, or was lost and is back: anything may have been missed, ask PostgreSQL.
    Resubscribed,
}

/// The subscriptions of a process. Cheap to clone.
#[derive(Clone)]
pub struct Events {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    runtime: tokio::runtime::Handle,
    metrics: Metrics,
    changes: OnceLock<broadcast::Sender<Hint>>,
    cancels: OnceLock<broadcast::Sender<Hint>>,
    /// How many subscriptions there have been.
    connections: watch::Sender<u64>,
}

impl Events {
    /// No connection is opened before somebody listens. Subscriptions live on the runtime that calls this.
    pub fn new(queue: &Queue, metrics: &Metrics) -> Self {
        let inner = Inner {
            client: queue.client().clone(),
            runtime: tokio::runtime::Handle::current(),
            metrics: metrics.clone(),
            changes: OnceLock::new(),
            cancels: OnceLock::new(),
            connections: watch::Sender::new(0),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Changes of tasks, from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Hint> {
        self.listen(&self.inner.changes, keys::CHANGED)
    }

    /// Cancels, from now on.
    pub fn subscribe_cancels(&self) -> broadcast::Receiver<Hint> {
        self.listen(&self.inner.cancels, keys::CANCELLED)
    }

    /// Rises with every new connection of a subscription, the first one included: Redis may have lost its data since
    /// the one before.
    pub fn connections(&self) -> watch::Receiver<u64> {
        self.inner.connections.subscribe()
    }

    fn listen(&self, hints: &OnceLock<broadcast::Sender<Hint>>, channel: &'static str) -> broadcast::Receiver<Hint> {
        let mut first = None;
        let sender = hints.get_or_init(|| {
            let (sender, receiver) = broadcast::channel(BUFFER);
            first = Some(receiver);
            self.inner.runtime.spawn(keep_subscribed(self.inner.clone(), channel, sender.clone()));
            sender
        });
        first.unwrap_or_else(|| sender.subscribe())
    }
}

async fn keep_subscribed(inner: Arc<Inner>, channel: &'static str, hints: broadcast::Sender<Hint>) {
    loop {
        if let Err(error) = subscription(&inner, channel, &hints).await {
            tracing::debug!(channel, "the subscription failed: {error:#}");
        }
        tokio::time::sleep(Duration::from_millis(rand::random_range(300..700))).await;
    }
}

/// One connection's life. It ends when the connection does.
async fn subscription(inner: &Inner, channel: &str, hints: &broadcast::Sender<Hint>) -> anyhow::Result<()> {
    let mut subscriber = tokio::time::timeout(Duration::from_secs(3), inner.client.get_async_pubsub()).await??;
    tokio::time::timeout(Duration::from_secs(3), subscriber.subscribe(channel)).await??;
    // An error here means that nobody listens, now: the subscription stays for the next one.
    let _ = hints.send(Hint::Resubscribed);
    inner.connections.send_modify(|number| *number += 1);
    inner.metrics.stores.subscriptions.inc();
    let mut messages = subscriber.on_message();
    while let Some(message) = messages.next().await {
        let Ok(text) = std::str::from_utf8(message.get_payload_bytes()) else { continue };
        for hint in text.lines().filter_map(parse) {
            let _ = hints.send(hint);
        }
    }
    Ok(())
}

/// Reads a line: `id version` or `id`. Anything else is not ours.
fn parse(line: &str) -> Option<Hint> {
    match line.split_once(' ') {
        Some((id, version)) => Some(Hint::Changed { id: id.parse().ok()?, version: version.parse().ok()? }),
        None => Some(Hint::Cancelled { id: line.parse().ok()? }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_hints_or_nothing() {
        let id = TaskId::new();
        assert_eq!(parse(&format!("{id} 7")), Some(Hint::Changed { id, version: 7 }));
        assert_eq!(parse(&id.to_string()), Some(Hint::Cancelled { id }));
        for foreign in ["", "hello", "hello 7", "01J x"] {
            assert_eq!(parse(foreign), None, "{foreign}");
        }
    }
}
