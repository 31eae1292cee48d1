//! Rate: how many tasks a caller may submit, kept in Redis so that all replicas agree.
//!
//! The algorithm is GCRA (ITU-T I.371, the "leaky bucket as a meter"): one number per caller, the moment at which its
//! allowance would be whole again, by the clock of Redis. A request that costs more than the whole allowance passes
//! when nothing is owed, and is paid off afterwards, so a batch is never refused for ever. While Redis is away every
//! caller passes: a limiter that is down must not be an outage.

use std::{sync::Arc, time::Duration};

use redis::{Client, RedisResult, Script, aio::MultiplexedConnection};
use sha2::{Digest, Sha256};
use tokio::{sync::Mutex, time::Instant};

use super::{Queue, connection_config, keys};
use crate::config::RateLimit;

/// A submit does not wait longer for the limiter.
const PATIENCE: Duration = Duration::from_millis(250);
/// After a failure nobody asks for this long.
const PAUSE: Duration = Duration::from_secs(1);

/// Microseconds throughout. ARGV: the time that one task costs, the whole allowance in time, the number of tasks.
/// Returns whether it passes, the debt in front of now, and how long to wait where it does not.
const CHARGE: &str = "
    local time = redis.call('TIME')
    local now = time[1] * 1000000 + time[2]
    local each, whole, tasks = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
    local paid_at = math.max(tonumber(redis.call('GET', KEYS[1]) or now), now)
    local wait = paid_at + each * math.min(tasks, math.floor(whole / each + 0.5)) - whole - now
    if wait > 1 then return {0, paid_at - now, wait} end
    paid_at = paid_at + each * tasks
    redis.call('SET', KEYS[1], string.format('%.0f', paid_at), 'PX', math.ceil((paid_at - now) / 1000) + 1000)
    return {1, paid_at - now, 0}";

/// What a charge came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateVerdict {
    /// `None`: it passes. Otherwise nothing was charged, and it would pass after this time.
    pub retry_after: Option<Duration>,
    /// Tasks that may still come at once.
    pub left: u64,
    /// When all of them may come again.
    pub full_in: Duration,
}

/// The connection of the limiter, shared by all requests of a process.
#[derive(Clone)]
pub(super) struct Limiter {
    script: Arc<Script>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    conn: Option<MultiplexedConnection>,
    failed_at: Option<Instant>,
}

impl Limiter {
    pub(super) fn new() -> Self {
        Self { script: Arc::new(Script::new(CHARGE)), state: Arc::default() }
    }

    /// A connection, unless the last try has just failed.
    async fn connected(&self, client: &Client) -> Option<MultiplexedConnection> {
        let mut state = self.state.lock().await;
        if state.failed_at.is_some_and(|at| at.elapsed() < PAUSE) {
            return None;
        }
        if state.conn.is_none() {
            let config = connection_config(PATIENCE);
            let opened = client.get_multiplexed_async_connection_with_config(&config);
            match tokio::time::timeout(PATIENCE, opened).await {
                Ok(Ok(conn)) => state.conn = Some(conn),
                Ok(Err(_)) | Err(_) => {
                    state.failed_at = Some(Instant::now());
                    return None;
                }
            }
        }
        state.conn.clone()
    }

    async fn failed(&self) {
        *self.state.lock().await = State { conn: None, failed_at: Some(Instant::now()) };
    }
}

impl Queue {
    /// Charges a caller for some tasks. `None` when Redis cannot be asked: then everybody passes.
    pub async fn charge(&self, caller: &str, limit: &RateLimit, tasks: u64) -> Option<RateVerdict> {
        self.health.ours().ok()?;
        let mut conn = self.limiter.connected(&self.client).await?;
        let whole = limit.period.as_micros() as f64;
        let each = whole / limit.tasks as f64;
        // A name may be anything and of any length.
        let hash = Sha256::digest(caller.as_bytes());
        let caller: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        let mut call = self.limiter.script.key(keys::rate(&caller));
        call.arg(each).arg(whole).arg(tasks);
        let traced = self.server.call("charge");
        let charged: RedisResult<(u8, i64, i64)> =
            match tokio::time::timeout(PATIENCE, call.invoke_async(&mut conn)).await {
                Ok(charged) => charged,
                Err(_) => Err((redis::ErrorKind::Io, "no answer").into()),
            };
        if let Some(traced) = traced {
            traced.ended_here(charged.is_err().then_some("unavailable"));
        }
        match charged {
            Ok((passes, debt, wait)) => {
                let debt = debt.max(0) as f64;
                Some(RateVerdict {
                    retry_after: (passes == 0).then(|| Duration::from_micros(wait.max(1) as u64)),
                    left: ((whole - debt).max(0.0) / each + 1e-6) as u64,
                    full_in: Duration::from_micros(debt as u64),
                })
            }
            Err(error) => {
                tracing::debug!(%error, "the rate limit cannot be kept: every caller passes");
                self.limiter.failed().await;
                None
            }
        }
    }
}
