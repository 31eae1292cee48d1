//! Writer: the other end of the mailbox. It has the one connection, and keeps the rings while Redis is away.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use redis::{Client, Pipeline, RedisResult, aio::MultiplexedConnection};
use tokio::sync::mpsc;

use super::super::{Bell, Health, RESPONSE_TIMEOUT, at, connection_config, keys};
use super::{Copies, Order, Side, Waiting};
use crate::{core::model::Priority, metrics::Metrics, telemetry::calls::Server};

/// Orders per round.
const ROUND: usize = 1_024;
/// Ids per push: a script cannot take more than some thousands at a time.
const PUSH: usize = 1_000;
/// Rings that are kept while Redis is away. Beyond it they are forgotten, and found again by membership.
const KEPT: usize = 100_000;
/// How long pushes are skipped after one has failed.
const PAUSE: Duration = Duration::from_secs(1);

pub(super) struct Writer {
    client: Client,
    health: Health,
    metrics: Metrics,
    server: Server,
    conn: Option<MultiplexedConnection>,
    /// Rings that could not be made.
    kept: VecDeque<(Bell, Side)>,
    forgotten: usize,
    waiting: Arc<Waiting>,
}

impl Writer {
    pub(super) fn new(client: Client, health: Health, metrics: Metrics, server: Server, waiting: Arc<Waiting>) -> Self {
        Self { client, health, metrics, server, conn: None, kept: VecDeque::new(), forgotten: 0, waiting }
    }

    /// Writes what comes, until nobody can order anything any more.
    pub(super) async fn run(mut self, mut mailbox: mpsc::UnboundedReceiver<Order>) {
        let mut round = Vec::with_capacity(ROUND);
        loop {
            let received = if self.kept.is_empty() {
                mailbox.recv_many(&mut round, ROUND).await
            } else {
                // Away: gather for a moment, then probe with what was kept.
                tokio::time::sleep(PAUSE.mul_f64(rand::random_range(0.8..1.2))).await;
                self.ring_kept().await;
                while let Ok(order) = mailbox.try_recv() {
                    round.push(order);
                }
                round.len().max(1)
            };
            if received == 0 {
                return;
            }
            self.waiting.taken(&round);
            if let Err(rings) = self.write(&mut round).await {
                self.keep(rings);
            }
        }
    }

    /// One round. Failed, it gives back the rings that it had.
    async fn write(&mut self, round: &mut Vec<Order>) -> Result<(), Vec<(Bell, Side)>> {
        let mut pipeline = redis::pipe();
        let mut rings = Vec::new();
        let mut removed = Vec::new();
        let (mut waiting, mut publications) = (Vec::new(), 0);
        let mut shown_in = Vec::new();
        let (mut changed, mut cancelled) = (String::new(), String::new());
        for order in round.drain(..) {
            match order {
                Order::Ring(bells, side) => rings.extend(bells.into_iter().map(|bell| (bell, side))),
                Order::Remove { queue, list, worker, id, copies } => {
                    // LREM takes zero for all, and looks from the end that is popped when it is given a negative
                    // number: ids are pushed at the other end, and what was taken first mostly ends first.
                    let count = if copies == Copies::One { -1 } else { 0 };
                    removed.push((keys::inflight(&queue, list, worker), count, id));
                }
                Order::Unring(bells) => {
                    removed.extend(bells.iter().map(|bell| (keys::ready(&bell.queue, bell.priority), -1, bell.id)))
                }
                Order::Changed(tasks) => {
                    publications += tasks.len();
                    tasks.iter().for_each(|(id, version)| changed.push_str(&format!("{id} {version}\n")));
                }
                Order::Cancelled(tasks) => {
                    publications += tasks.len();
                    tasks.iter().for_each(|id| cancelled.push_str(&format!("{id}\n")));
                }
                Order::Shown(traceparents) => shown_in.extend(traceparents),
                Order::Flush(written) => waiting.push(written),
            }
        }
        // Rings keep their order: behind those that could not be made. The rest need not wait for them, and removing
        // elements is what makes room in a Redis that is full.
        let in_order = self.kept.is_empty();
        if in_order {
            add_rings(&mut pipeline, &rings);
        }
        let removals = removed.len();
        for (key, count, id) in removed {
            pipeline.cmd("LREM").arg(key).arg(count).arg(id.to_string()).ignore();
        }
        for (channel, message) in [(keys::CANCELLED, &cancelled), (keys::CHANGED, &changed)] {
            if !message.is_empty() {
                pipeline.cmd("PUBLISH").arg(channel).arg(message.as_bytes()).ignore();
            }
        }
        let server = self.server.clone();
        let call = server.call("push");
        let sent = self.send(&pipeline).await.is_ok();
        if let Some(call) = call {
            call.ended_for(shown_in.iter().map(String::as_str), (!sent).then_some("unavailable"));
        }
        let stores = &self.metrics.stores;
        if sent {
            stores.acknowledgements.inc_by(removals as u64);
            stores.publications.inc_by(publications as u64);
        }
        let written = sent && in_order;
        if written {
            stores.rings.inc_by(rings.len() as u64);
        }
        // Nobody may be waiting any more.
        waiting.into_iter().for_each(|settled| {
            let _ = settled.send(written);
        });
        if written { Ok(()) } else { Err(rings) }
    }

    async fn ring_kept(&mut self) {
        while !self.kept.is_empty() {
            let some: Vec<(Bell, Side)> = self.kept.drain(..self.kept.len().min(ROUND)).collect();
            let mut pipeline = redis::pipe();
            add_rings(&mut pipeline, &some);
            if self.send(&pipeline).await.is_err() {
                some.into_iter().rev().for_each(|ring| self.kept.push_front(ring));
                return;
            }
            self.metrics.stores.rings.inc_by(some.len() as u64);
            self.metrics.stores.rings_waiting.set(self.kept.len() as i64);
        }
        if self.forgotten > 0 {
            tracing::warn!(
                forgotten = self.forgotten,
                "doorbells were forgotten while Redis was away; they are found again"
            );
            self.forgotten = 0;
        }
    }

    fn keep(&mut self, rings: Vec<(Bell, Side)>) {
        let room = KEPT.saturating_sub(self.kept.len());
        let forgotten = rings.len().saturating_sub(room);
        self.forgotten += forgotten;
        self.kept.extend(rings.into_iter().take(room));
        self.metrics.stores.rings_forgotten.inc_by(forgotten as u64);
        self.metrics.stores.rings_waiting.set(self.kept.len() as i64);
    }

    async fn send(&mut self, pipeline: &Pipeline) -> RedisResult<()> {
        if pipeline.is_empty() {
            return Ok(());
        }
        let outcome = at("redis.send", async { pipeline.exec_async(self.connected().await?).await }).await;
        if outcome.is_err() {
            self.metrics.stores.write_failures.inc();
            self.conn = None;
        }
        self.health.note(outcome)
    }

    async fn connected(&mut self) -> RedisResult<&mut MultiplexedConnection> {
        self.health.ours()?;
        if self.conn.is_none() {
            let config = connection_config(RESPONSE_TIMEOUT);
            self.conn = Some(self.client.get_multiplexed_async_connection_with_config(&config).await?);
        }
        self.conn.as_mut().ok_or_else(|| (redis::ErrorKind::Io, "not connected").into())
    }
}

/// A push to `high` or `low` also puts its ids, sixteen at most, on an empty `normal`, the list that idle workers block
/// on. The workers that this wakes look at the lists in their order; the second doorbells are harmless.
const RING_AND_WAKE: &str = "redis.call(ARGV[1], KEYS[1], unpack(ARGV, 2)) \
                             if redis.call('EXISTS', KEYS[2]) == 0 then \
                             redis.call('LPUSH', KEYS[2], unpack(ARGV, 2, math.min(#ARGV, 17))) end";

/// Whatever the end of the list: what comes first in `rings` is popped first.
fn add_rings(pipeline: &mut Pipeline, rings: &[(Bell, Side)]) {
    let mut lists: BTreeMap<(&str, Priority, Side), Vec<String>> = BTreeMap::new();
    for (bell, side) in rings {
        lists.entry((&bell.queue, bell.priority, *side)).or_default().push(bell.id.to_string());
    }
    for ((queue, priority, side), mut ids) in lists {
        let push = match side {
            Side::Back => "LPUSH",
            Side::Front => {
                ids.reverse();
                "RPUSH"
            }
        };
        let (key, normal) = (keys::ready(queue, priority), keys::ready(queue, Priority::Normal));
        for some in ids.chunks(PUSH) {
            if priority == Priority::Normal {
                pipeline.cmd(push).arg(&key).arg(some).ignore();
            } else {
                pipeline.cmd("EVAL").arg(RING_AND_WAKE).arg(2).arg(&key).arg(&normal).arg(push).arg(some).ignore();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::TaskId;

    fn pushes(priority: Priority, side: Side, count: usize) -> Vec<Vec<String>> {
        let bell = || Bell { id: TaskId::new(), queue: "default".to_owned(), priority };
        let rings: Vec<(Bell, Side)> = (0..count).map(|_| (bell(), side)).collect();
        let ids: Vec<String> = rings.iter().map(|(bell, _)| bell.id.to_string()).collect();
        let mut pipeline = redis::pipe();
        add_rings(&mut pipeline, &rings);
        let mut commands = Vec::new();
        for command in pipeline.cmd_iter() {
            let words = command.args_iter().filter_map(|word| match word {
                redis::Arg::Simple(word) => Some(String::from_utf8_lossy(word).into_owned()),
                _ => None,
            });
            // In place of an id its number in `rings`.
            let number = |word: String| ids.iter().position(|id| *id == word).map_or(word, |at| at.to_string());
            commands.push(words.map(number).collect());
        }
        commands
    }

    #[test]
    fn what_is_rung_first_is_popped_first_at_both_ends() {
        let key = "v1:ready:{default}:normal";
        assert_eq!(pushes(Priority::Normal, Side::Back, 3), [["LPUSH", key, "0", "1", "2"]]);
        assert_eq!(pushes(Priority::Normal, Side::Front, 3), [["RPUSH", key, "2", "1", "0"]]);
    }

    #[test]
    fn no_push_is_longer_than_a_script_can_take() {
        for priority in Priority::ALL {
            let commands = pushes(priority, Side::Back, 2 * PUSH + 1);
            assert_eq!(commands.len(), 3, "{priority:?}");
            assert!(commands.iter().all(|words| words.len() < PUSH + 10));
        }
    }
}
