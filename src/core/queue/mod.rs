//! Queue: Redis lists of task ids, which ring and prove nothing.
//!
//! An element is a hint: the id and nothing else. Duplicate, missing and foreign hints are harmless, because the claim
//! in PostgreSQL decides. A worker moves an id with one command from the ready list to a list of its own, so an id is
//! always in one of the two, and removes it there after the finish is committed.

pub mod inspect;
pub mod keys;
mod outlet;
mod rate;
mod taker;

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use deadpool_redis::{Manager, Pool, Runtime};
use redis::{
    AsyncConnectionConfig, Client, IntoConnectionInfo, RedisError, RedisResult, TlsCertificates, io::tcp::TcpSettings,
};

use super::{
    faults,
    model::{Priority, TaskId, WorkerId},
};
use crate::{
    config::{self, SettingError},
    metrics::{Metrics, Pool as PoolName, PoolNumbers},
    telemetry::calls::Server,
    tls,
};
use keys::Inflight;

pub use outlet::{Outlet, Side};
pub use rate::RateVerdict;
pub use taker::{Taken, Taker};

/// A push that takes longer has failed; nobody waits for it.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a connection may be silent before the kernel asks whether the other side is still there.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// Elements per reading of a list: it takes Redis a millisecond, in which it answers nobody else.
const CHUNK: isize = 10_000;

/// Ids that are given back at a time.
const GIVEN_BACK: usize = 500;
/// Moves up to ARGV[1] ids from the left of KEYS[1] to the right of KEYS[2]. Commands of every Redis and Valkey.
const GIVE_BACK: &str = "
    local moved = 0
    while moved < tonumber(ARGV[1]) do
        local id = redis.call('LINDEX', KEYS[1], 0)
        if not id then break end
        redis.call('RPUSH', KEYS[2], id)
        redis.call('LPOP', KEYS[1])
        moved = moved + 1
    end
    return moved";

/// A doorbell: a task that may be taken from a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bell {
    /// The task.
    pub id: TaskId,
    /// Its queue.
    pub queue: String,
    /// Its place there.
    pub priority: Priority,
}

/// The handle on Redis. Cheap to clone.
#[derive(Clone)]
pub struct Queue {
    client: Client,
    pool: Pool,
    health: Health,
    outlet: Outlet,
    limiter: rate::Limiter,
    /// For traces.
    server: Server,
}

/// Whether Redis answered last, as everybody who talks to it has noticed, and whether it is ours at all.
#[derive(Clone)]
pub struct Health(Arc<Condition>);

struct Condition {
    up: AtomicBool,
    /// It holds the doorbells of another database: until that changes it is as good as away.
    foreign: AtomicBool,
}

impl Health {
    fn new() -> Self {
        Self(Arc::new(Condition { up: AtomicBool::new(true), foreign: AtomicBool::new(false) }))
    }

    /// Whether Redis answered last, and is ours.
    pub fn is_up(&self) -> bool {
        self.0.up.load(Ordering::Relaxed)
    }

    /// Stands in front of every command but the question whose it is: nothing is read or written in a Redis that is
    /// known to be another database's.
    fn ours(&self) -> RedisResult<()> {
        match self.0.foreign.load(Ordering::Relaxed) {
            true => Err(RedisError::from((redis::ErrorKind::Client, "it holds the doorbells of another database"))),
            false => Ok(()),
        }
    }

    /// Notes the outcome of a command, and says so once when it changes.
    fn note<T>(&self, outcome: Result<T, RedisError>) -> Result<T, RedisError> {
        let up = self.ours().is_ok() && outcome.as_ref().err().is_none_or(|error| !is_away(error));
        if self.0.up.swap(up, Ordering::Relaxed) != up {
            match &outcome {
                Err(error) => tracing::warn!("Redis is away, starts are delayed: {error}"),
                Ok(_) if up => tracing::info!("Redis is back"),
                Ok(_) => {}
            }
        }
        outcome
    }
}

/// Whether the error says that Redis cannot do its work now: no connection, no answer, no memory, still loading.
fn is_away(error: &RedisError) -> bool {
    !matches!(error.kind(), redis::ErrorKind::Server(redis::ServerErrorKind::NoScript))
}

impl Queue {
    /// Makes the handle. Redis need not be there: everything works without it, later.
    pub fn new(redis: &config::Redis, metrics: &Metrics) -> anyhow::Result<Self> {
        let client = client(redis)?;
        let manager =
            Manager::new_with_config(client.get_connection_info().clone(), connection_config(RESPONSE_TIMEOUT))
                .map_err(|_| SettingError::new("REDIS_URL is not a Redis URL"))?;
        let pool = Pool::builder(manager)
            .max_size(4)
            .wait_timeout(Some(RESPONSE_TIMEOUT))
            .create_timeout(Some(RESPONSE_TIMEOUT))
            .recycle_timeout(Some(RESPONSE_TIMEOUT))
            .runtime(Runtime::Tokio1)
            .build()
            .context("cannot make the Redis pool")?;
        let health = Health::new();
        let server = server(&client);
        let outlet = Outlet::start(client.clone(), health.clone(), metrics.clone(), server.clone());
        Ok(Self { client, pool, health, outlet, limiter: rate::Limiter::new(), server })
    }

    /// Host and port, for messages: never the password.
    pub fn describe(&self) -> String {
        format!("Redis at {}", self.client.get_connection_info().addr())
    }

    /// How the pool stands.
    pub fn pool(&self) -> (PoolName, PoolNumbers) {
        let status = self.pool.status();
        let (limit, open, idle) = (status.max_size, status.size, status.available);
        (PoolName::Redis, PoolNumbers { limit, open, idle, waiting: status.waiting })
    }

    /// Asks Redis now.
    pub async fn answers(&self) -> bool {
        let ping = redis::cmd("PING");
        matches!(tokio::time::timeout(RESPONSE_TIMEOUT, self.command::<String>(&ping)).await, Ok(Ok(_)))
    }

    /// What everybody pushes, acknowledges and publishes through.
    pub fn outlet(&self) -> &Outlet {
        &self.outlet
    }

    /// Whether Redis answered last.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// A taker of one queue for one worker incarnation, with a blocking connection of its own.
    pub fn taker(&self, queue: String, worker: WorkerId) -> Taker {
        Taker::new(self.client.clone(), self.health.clone(), queue, worker)
    }

    /// The client, for a subscription of its own.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Every in-flight list that there is, found by SCAN.
    pub async fn inflight_lists(&self) -> anyhow::Result<Vec<Inflight>> {
        let mut cursor = 0u64;
        let mut found = Vec::new();
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(keys::INFLIGHT_PATTERN).arg("COUNT").arg(1_000);
            let (next, page): (u64, Vec<String>) = self.command(&scan).await?;
            found.extend(page.iter().filter_map(|key| Inflight::parse(key)));
            cursor = next;
            if cursor == 0 {
                // SCAN may name a key twice.
                found.sort_by_key(|list| keys::inflight(&list.queue, list.priority, list.worker));
                found.dedup();
                return Ok(found);
            }
        }
    }

    /// Moves every id of an in-flight list back to where it came from, to the end that is popped next, oldest last so
    /// that it is popped first. Pushed before it is removed, so that a Redis that is full refuses and loses nothing, and
    /// each call whole. LMOVE does it for one id, and not before Redis 6.2.
    pub async fn drain(&self, list: &Inflight) -> anyhow::Result<usize> {
        let from = keys::inflight(&list.queue, list.priority, list.worker);
        let to = keys::ready(&list.queue, list.priority);
        let mut moved = 0;
        loop {
            let mut step = redis::cmd("EVAL");
            step.arg(GIVE_BACK).arg(2).arg(&from).arg(&to).arg(GIVEN_BACK);
            let some: usize = self.command(&step).await?;
            moved += some;
            if some < GIVEN_BACK {
                return Ok(moved);
            }
        }
    }

    /// Names the ids in an in-flight list, one after the other.
    pub async fn inflight_ids(&self, list: &Inflight, each: impl FnMut(TaskId)) -> anyhow::Result<()> {
        self.list_ids(&keys::inflight(&list.queue, list.priority, list.worker), each).await
    }

    /// Names the ids in a ready list, one after the other. Read from the end that is pushed: what moves while it is
    /// read moves towards the reader's next chunk, so an id can be seen twice but not missed.
    pub async fn ready_ids(&self, queue: &str, priority: Priority, each: impl FnMut(TaskId)) -> anyhow::Result<()> {
        self.list_ids(&keys::ready(queue, priority), each).await
    }

    /// How many ids wait in the ready lists of a queue. For a look, not for a decision: duplicates count.
    pub async fn ready_count(&self, queue: &str) -> anyhow::Result<usize> {
        let mut count = 0;
        for priority in Priority::ALL {
            count += self.command::<usize>(redis::cmd("LLEN").arg(keys::ready(queue, priority))).await?;
        }
        Ok(count)
    }

    async fn list_ids(&self, key: &str, mut each: impl FnMut(TaskId)) -> anyhow::Result<()> {
        let mut from = 0;
        loop {
            let mut range = redis::cmd("LRANGE");
            range.arg(key).arg(from).arg(from + CHUNK - 1);
            let chunk: Vec<redis::Value> = self.command(&range).await?;
            let last = (chunk.len() as isize) < CHUNK;
            for element in &chunk {
                if let redis::Value::BulkString(bytes) = element
                    && let Some(id) = std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok())
                {
                    each(id);
                }
            }
            if last {
                return Ok(());
            }
            from += CHUNK;
        }
    }

    /// Whether the doorbells here are those of this database. An empty Redis becomes that of the first who asks. Where
    /// it is another's, everybody in this process takes it for away until it is asked again and found to be ours.
    pub async fn belongs_to(&self, database: &str) -> anyhow::Result<bool> {
        let mut shown = redis::cmd("GET");
        shown.arg(keys::DATABASE);
        let mut owner: Option<String> = self.ask(&shown).await?;
        if owner.is_none() {
            self.ask::<redis::Value>(redis::cmd("SET").arg(keys::DATABASE).arg(database).arg("NX")).await?;
            owner = self.ask(&shown).await?;
        }
        let foreign = owner.is_some_and(|owner| owner != database);
        if self.health.0.foreign.swap(foreign, Ordering::Relaxed) != foreign {
            // Said at once, and not when somebody next wants something of it.
            let _ = self.health.note(self.health.ours());
        }
        Ok(!foreign)
    }

    /// The epoch that Redis shows. Not that of another database: that is an error.
    pub async fn epoch(&self, database: &str) -> anyhow::Result<Option<String>> {
        self.belongs_to(database).await?;
        self.command(redis::cmd("GET").arg(keys::EPOCH)).await
    }

    /// Shows an epoch.
    pub async fn set_epoch(&self, epoch: &str) -> anyhow::Result<()> {
        self.command(redis::cmd("SET").arg(keys::EPOCH).arg(epoch)).await
    }

    /// Shows `new` if Redis still shows `old`: false means that it lost its data in between.
    pub async fn advance_epoch(&self, old: &str, new: &str) -> anyhow::Result<bool> {
        const ADVANCE: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('SET', KEYS[1], ARGV[2]) \
                               return 1 else return 0 end";
        self.command(redis::cmd("EVAL").arg(ADVANCE).arg(1).arg(keys::EPOCH).arg(old).arg(new)).await
    }

    async fn command<T: redis::FromRedisValue>(&self, command: &redis::Cmd) -> anyhow::Result<T> {
        self.health.ours()?;
        self.ask(command).await
    }

    /// A command to whatever Redis this is.
    async fn ask<T: redis::FromRedisValue>(&self, command: &redis::Cmd) -> anyhow::Result<T> {
        use deadpool_redis::PoolError;
        let mut conn = match self.pool.get().await {
            Ok(conn) => conn,
            Err(PoolError::Backend(error)) => {
                return self.health.note(Err(error)).context("cannot connect to Redis");
            }
            Err(error) => return Err(anyhow::anyhow!("cannot connect to Redis: {error}")),
        };
        Ok(self.health.note(command.query_async(&mut conn).await)?)
    }
}

/// Whether the settings lead to a Redis, there or not.
pub fn check(redis: &config::Redis) -> Result<(), SettingError> {
    client(redis).map(drop)
}

/// The client, by these settings.
fn client(redis: &config::Redis) -> Result<Client, SettingError> {
    let url = redis.redis_url.expose();
    let info = url.into_connection_info().map_err(|_| {
        SettingError::new(
            "REDIS_URL is not a Redis URL: write redis://user:password@host:port/database, or rediss:// for TLS",
        )
    })?;
    // Without these a connection that leads nowhere any more is never noticed by who only listens on it.
    let keepalive = socket2::TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 3).with_retries(3);
    let tcp = TcpSettings::default().set_nodelay(true).set_keepalive(keepalive).set_user_timeout(2 * KEEPALIVE);
    let info = info.set_tcp_settings(tcp);
    let client = match &redis.redis_ca {
        None => Client::open(info),
        Some(file) => {
            let wrong = |why: anyhow::Error| SettingError::new(format!("APP_REDIS_CA: {why:#}"));
            tls::certificates(file).map_err(wrong)?;
            let root = std::fs::read(file).map_err(|why| wrong(why.into()))?;
            Client::build_with_tls(info, TlsCertificates { client_tls: None, root_cert: Some(root) })
        }
    };
    client
        .map_err(|error| SettingError::new(format!("REDIS_URL, or APP_REDIS_CA, cannot be used: {}", error.category())))
}

/// Where it is, for traces.
fn server(client: &Client) -> Server {
    let info = client.get_connection_info();
    let address = info.addr().to_string();
    let (host, port) = address.rsplit_once(':').unwrap_or((&address, ""));
    Server::new("redis", host, port.parse().unwrap_or(6379), &info.redis_settings().db().to_string())
}

/// How a connection is opened. The library's own response timeout of half a second is shorter than a blocking pop.
fn connection_config(response: Duration) -> AsyncConnectionConfig {
    AsyncConnectionConfig::new().set_connection_timeout(Some(RESPONSE_TIMEOUT)).set_response_timeout(Some(response))
}

/// A step of the queue, where tests may make something go wrong.
async fn at<T>(point: &str, step: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
    let injected = |fault: faults::Injected| RedisError::from(std::io::Error::other(fault.to_string()));
    let fault = faults::meet(point).await.map_err(injected)?;
    let done = step.await?;
    fault.after().await.map_err(injected)?;
    Ok(done)
}
