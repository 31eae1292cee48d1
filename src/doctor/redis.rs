//! Redis: version, role, eviction, memory, persistence.

use super::{Finding, Findings};
use crate::{
    config::{self, SettingError},
    core::queue::inspect::{self, Facts},
};

/// Before it, a script that has asked for the time may not write: that of the rate limit does both.
const OLDEST: (u64, u64) = (5, 0);
/// The share of `maxmemory` beyond which it is nearly full, in percent.
const NEARLY_FULL: u64 = 90;

pub(super) async fn examine(redis: &config::Redis) -> Vec<Finding> {
    let mut findings = Findings::about("Redis");
    match inspect::inspect(redis).await {
        Ok(facts) => look_at(&mut findings, &facts),
        Err(error) if error.is::<SettingError>() => findings.wrong_setting(&error),
        // Not a failure: every task is accepted and run without it, later.
        Err(error) => findings.warn(
            format!("does not answer, starts are delayed by about a second: {error:#}"),
            "start it, or set REDIS_URL to where it is: redis://user:password@host:port/database",
        ),
    }
    findings.all
}

fn look_at(findings: &mut Findings, facts: &Facts) {
    let mut parts = facts.version.split('.').map(|part| part.parse().unwrap_or(0));
    let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    match version < OLDEST {
        true => findings.warn(
            format!("{} cannot keep APP_RATE_LIMIT: every caller passes", facts.version),
            "Redis 5 or newer, or Valkey",
        ),
        false => findings.ok(&facts.version),
    }
    if facts.role != "master" {
        findings.fail(
            format!("is a {}, which takes no writes", facts.role),
            "set REDIS_URL to the primary server, or REPLICAOF NO ONE",
        );
    }
    match facts.maxmemory_policy.as_str() {
        policy if policy.starts_with("allkeys") => findings.warn(
            format!("maxmemory-policy is {policy}: doorbells may be evicted"),
            "CONFIG SET maxmemory-policy noeviction",
        ),
        // The others evict only what expires, which doorbells do not.
        policy => findings.ok(format!("maxmemory-policy {policy}")),
    }
    if facts.maxmemory > 0 && facts.used_memory * 100 > facts.maxmemory * NEARLY_FULL {
        let percent = facts.used_memory * 100 / facts.maxmemory;
        findings.warn(
            format!("has used {percent} % of maxmemory; full, it takes no doorbells and starts are delayed"),
            "CONFIG SET maxmemory to more, or look for keys of others with redis-cli --bigkeys",
        );
    }
    if !facts.last_save_ok {
        findings.fail(
            "could not save to disk, and may refuse writes because of it",
            "make room on its disk and look into its log: INFO persistence",
        );
    }
    match facts.appendonly {
        true => findings.ok("persistence appendonly"),
        false => findings.warn(
            "keeps no append-only file: after its restart every doorbell has to be rung again",
            "CONFIG SET appendonly yes, and in redis.conf: appendonly yes",
        ),
    }
}
