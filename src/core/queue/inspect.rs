//! Inspect: what a Redis (or Valkey) server says of itself, for `app doctor`. INFO alone: managed servers hide CONFIG.

use std::{collections::HashMap, time::Duration};

use super::{RESPONSE_TIMEOUT, connection_config};
use crate::config;

/// One try, and no longer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Of the protocol's commands: `7.0.15`.
    pub version: String,
    /// `master` or `slave`, in its own words.
    pub role: String,
    /// What it does when it is full.
    pub maxmemory_policy: String,
    /// In bytes; 0: no limit.
    pub maxmemory: u64,
    /// In bytes.
    pub used_memory: u64,
    /// Whether it keeps an append-only file.
    pub appendonly: bool,
    /// Whether it could save the last time it tried.
    pub last_save_ok: bool,
}

/// Asks, once.
pub async fn inspect(redis: &config::Redis) -> anyhow::Result<Facts> {
    let asked = async {
        let client = super::client(redis)?;
        let config = connection_config(RESPONSE_TIMEOUT);
        let connected = client.get_multiplexed_async_connection_with_config(&config).await;
        // The error's own text has its causes.
        let mut conn = connected.map_err(|error| anyhow::anyhow!("no connection: {error}"))?;
        let mut text = String::new();
        for section in ["server", "replication", "memory", "persistence"] {
            text += &redis::cmd("INFO").arg(section).query_async::<String>(&mut conn).await?;
        }
        Ok(read(&text))
    };
    tokio::time::timeout(PATIENCE, asked)
        .await
        .unwrap_or_else(|_| Err(anyhow::anyhow!("no answer within {PATIENCE:?}")))
}

/// Reads INFO: `name:value` per line.
fn read(info: &str) -> Facts {
    let fields: HashMap<&str, &str> = info.lines().filter_map(|line| line.trim_end().split_once(':')).collect();
    let text = |name: &str| fields.get(name).copied().unwrap_or_default().to_owned();
    let number = |name: &str| fields.get(name).and_then(|value| value.parse().ok()).unwrap_or(0);
    let is_ok = |name: &str| fields.get(name).is_none_or(|status| *status == "ok");
    Facts {
        version: text("redis_version"),
        role: text("role"),
        maxmemory_policy: text("maxmemory_policy"),
        maxmemory: number("maxmemory"),
        used_memory: number("used_memory"),
        appendonly: text("aof_enabled") == "1",
        last_save_ok: is_ok("rdb_last_bgsave_status") && is_ok("aof_last_write_status"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn info_is_read() {
        let facts = read(
            "# Server\r\nredis_version:7.0.15\r\nrole:master\r\nmaxmemory:100\r\nused_memory:7\r\naof_enabled:1\r\n",
        );
        assert_eq!((facts.version.as_str(), facts.role.as_str()), ("7.0.15", "master"));
        assert_eq!((facts.maxmemory, facts.used_memory, facts.appendonly, facts.last_save_ok), (100, 7, true, true));
        assert!(!read("rdb_last_bgsave_status:err\r\n").last_save_ok);
    }
}
