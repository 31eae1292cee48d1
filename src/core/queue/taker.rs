//! Taker: moves ids from a queue's ready lists to one worker's in-flight lists.
//!
//! Two connections of its own, both thrown away after any error: one for the pass that does not block, one for the pop
//! that does. A multiplexed connection that is shared would make everybody wait for the pop.

use std::time::Duration;

use redis::{Client, RedisError, RedisResult, Script, aio::MultiplexedConnection};

use super::{Health, RESPONSE_TIMEOUT, at, connection_config, keys, keys::Inflight};
use crate::core::{
    faults::mutant,
    model::{Priority, TaskId, WorkerId},
};

/// How long one blocking pop lasts.
const BLOCK: Duration = Duration::from_secs(2);

/// Moves up to ARGV[1] ids, one list after the other. KEYS are pairs of a ready and an in-flight list. One round trip,
/// whatever the number; ids move one by one, and Redis runs nothing else meanwhile.
const TAKE: &str = "
    local taken = {}
    for i = 1, #KEYS, 2 do
        while #taken < 2 * tonumber(ARGV[1]) do
            local id = redis.call('RPOPLPUSH', KEYS[i], KEYS[i + 1])
            if not id then break end
            taken[#taken + 1] = id
            taken[#taken + 1] = i
        end
    end
    return taken";

fn take_script() -> String {
    match mutant("plain-pop") {
        true => TAKE.replace("'RPOPLPUSH', KEYS[i], KEYS[i + 1]", "'RPOP', KEYS[i]"),
        false => TAKE.to_owned(),
    }
}

/// An id that is now in this worker's in-flight list of this priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// The task.
    pub id: TaskId,
    /// The list it came from. Not necessarily the task's own priority: a wake-up rings on `normal`.
    pub list: Priority,
}

/// One queue, as one worker incarnation takes from it.
pub struct Taker {
    client: Client,
    health: Health,
    queue: String,
    worker: WorkerId,
    take: Script,
    quick: Option<MultiplexedConnection>,
    blocking: Option<MultiplexedConnection>,
}

impl Taker {
    pub(super) fn new(client: Client, health: Health, queue: String, worker: WorkerId) -> Self {
        Self { client, health, queue, worker, take: Script::new(&take_script()), quick: None, blocking: None }
    }

    /// Takes up to `limit` ids without waiting, in this order of the lists.
    pub async fn take(&mut self, limit: usize, order: [Priority; 3]) -> RedisResult<Vec<Taken>> {
        let mut call = self.take.prepare_invoke();
        for priority in order {
            call.key(keys::ready(&self.queue, priority)).key(keys::inflight(&self.queue, priority, self.worker));
        }
        call.arg(limit);
        let outcome = at("redis.take", async {
            let conn = connected(&self.client, &self.health, &mut self.quick, RESPONSE_TIMEOUT).await?;
            call.invoke_async::<Vec<(Vec<u8>, usize)>>(conn).await
        });
        let outcome = outcome.await;
        let taken = self.noted(outcome)?;
        self.hints(taken.into_iter().map(|(element, place)| (order[place / 2], element)).collect()).await
    }

    /// Waits up to two seconds for an id on the list of normal priority: BRPOPLPUSH. Dropping the future closes the
    /// connection and so ends the pop; an id that Redis moved at that moment stays in the in-flight list.
    pub async fn wait(&mut self) -> RedisResult<Option<Taken>> {
        let list = Priority::Normal;
        if mutant("plain-pop") {
            tokio::time::sleep(BLOCK / 20).await;
            return Ok(None);
        }
        // Taken out while it waits: a future that is dropped drops the connection with it.
        let mut conn = self.blocking.take();
        let mut pop = redis::cmd("BRPOPLPUSH");
        pop.arg(keys::ready(&self.queue, list))
            .arg(keys::inflight(&self.queue, list, self.worker))
            .arg(BLOCK.as_secs());
        let outcome = at("redis.wait", async {
            let conn = connected(&self.client, &self.health, &mut conn, BLOCK + RESPONSE_TIMEOUT).await?;
            pop.query_async::<Option<Vec<u8>>>(conn).await
        });
        let outcome = outcome.await;
        let popped = self.noted(outcome)?;
        self.blocking = conn;
        Ok(self.hints(popped.map(|element| (list, element)).into_iter().collect()).await?.pop())
    }

    /// This worker's own in-flight ids of this queue: what Redis has moved, received or not.
    pub async fn own_list(&mut self) -> RedisResult<Vec<Taken>> {
        let mut pipeline = redis::pipe();
        for priority in Priority::ALL {
            pipeline.cmd("LRANGE").arg(keys::inflight(&self.queue, priority, self.worker)).arg(0).arg(-1);
        }
        let outcome = at("redis.own_list", async {
            let conn = connected(&self.client, &self.health, &mut self.quick, RESPONSE_TIMEOUT).await?;
            pipeline.query_async::<Vec<Vec<Vec<u8>>>>(conn).await
        });
        let outcome = outcome.await;
        let lists = self.noted(outcome)?;
        let taken = Priority::ALL.into_iter().zip(lists);
        self.hints(taken.flat_map(|(list, ids)| ids.into_iter().map(move |id| (list, id))).collect()).await
    }

    /// The elements that are ids. What is none was put there by somebody else; it is removed, or it would be moved to
    /// and fro between the lists for ever.
    async fn hints(&mut self, elements: Vec<(Priority, Vec<u8>)>) -> RedisResult<Vec<Taken>> {
        let id = |element: &[u8]| std::str::from_utf8(element).ok()?.parse().ok();
        let mut hints = Vec::with_capacity(elements.len());
        let mut removal = redis::pipe();
        for (list, element) in elements {
            match id(&element) {
                Some(id) => hints.push(Taken { id, list }),
                None => {
                    let shown: String = String::from_utf8_lossy(&element).chars().take(64).collect();
                    tracing::warn!(queue = self.queue, element = shown, "removed a foreign element from a list of ids");
                    let key = keys::inflight(&self.queue, list, self.worker);
                    removal.cmd("LREM").arg(key).arg(1).arg(element).ignore();
                }
            }
        }
        if !removal.is_empty() {
            let conn = connected(&self.client, &self.health, &mut self.quick, RESPONSE_TIMEOUT).await?;
            removal.exec_async(conn).await?;
        }
        Ok(hints)
    }

    /// Whether Redis answers and takes writes. One that is full or read-only answers every question and moves nothing.
    pub async fn probe(&mut self) -> RedisResult<()> {
        let outcome = at("redis.probe", async {
            let conn = connected(&self.client, &self.health, &mut self.quick, RESPONSE_TIMEOUT).await?;
            let mut probe = redis::cmd("SET");
            probe.arg(keys::PROBE).arg("1").arg("EX").arg(60).exec_async(conn).await
        });
        let outcome = outcome.await;
        self.noted(outcome)
    }

    /// This worker's in-flight lists of this queue, to be drained when it leaves.
    pub fn lists(&self) -> [Inflight; 3] {
        Priority::ALL.map(|priority| Inflight { queue: self.queue.clone(), priority, worker: self.worker })
    }

    fn noted<T>(&mut self, outcome: RedisResult<T>) -> Result<T, RedisError> {
        let outcome = self.health.note(outcome);
        if outcome.is_err() {
            // What state they are in nobody can say.
            self.quick = None;
            self.blocking = None;
        }
        outcome
    }
}

async fn connected<'a>(
    client: &Client,
    health: &Health,
    conn: &'a mut Option<MultiplexedConnection>,
    response: Duration,
) -> RedisResult<&'a mut MultiplexedConnection> {
    health.ours()?;
    if conn.is_none() {
        *conn = Some(client.get_multiplexed_async_connection_with_config(&connection_config(response)).await?);
    }
    conn.as_mut().ok_or_else(|| RedisError::from((redis::ErrorKind::Io, "not connected")))
}
