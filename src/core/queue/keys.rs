//! Keys: every Redis key of the project, with its type and version.
//!
//! | key | type | holds |
//! |---|---|---|
//! | `v1:ready:{queue}:priority` | list | ids that wait; pushed on the left, popped on the right |
//! | `v1:inflight:{queue}:priority:worker` | list | ids that one worker incarnation has taken |
//! | `v1:epoch` | string | the same value as in PostgreSQL, as long as Redis has lost nothing |
//! | `v1:database` | string | the identity of the PostgreSQL database whose doorbells these are |
//! | `v1:probe` | string | written to see whether writes are taken; expires |
//! | `v1:rate:caller` | string | when the caller's allowance is whole again, in microseconds; goes by itself |
//! | `v1:changed` | channel | `id version` per line: these tasks have changed |
//! | `v1:cancelled` | channel | one id per line: stop these |
//!
//! The braces are literal. They are the hash tag of Redis Cluster and stand around the queue's name only, so that a
//! move between two lists of a queue stays on one node. A changed layout gets a new version, which one release reads
//! before the next one writes it.

use crate::core::model::{Priority, WorkerId, is_queue_name};

/// See the table.
pub const EPOCH: &str = "v1:epoch";
/// See the table.
pub const DATABASE: &str = "v1:database";
/// See the table.
pub const PROBE: &str = "v1:probe";
/// See the table.
pub const CHANGED: &str = "v1:changed";
/// See the table.
pub const CANCELLED: &str = "v1:cancelled";
/// Finds every in-flight list.
pub const INFLIGHT_PATTERN: &str = "v1:inflight:*";

/// The list of ids that wait.
pub fn ready(queue: &str, priority: Priority) -> String {
    format!("v1:ready:{{{queue}}}:{}", priority.as_str())
}

/// The list of ids that a worker has taken.
pub fn inflight(queue: &str, priority: Priority, worker: WorkerId) -> String {
    format!("v1:inflight:{{{queue}}}:{}:{worker}", priority.as_str())
}

/// The debt of a caller, given as a hash.
pub fn rate(caller: &str) -> String {
    format!("v1:rate:{caller}")
}

/// An in-flight list, read back from its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inflight {
    /// The queue.
    pub queue: String,
    /// The priority.
    pub priority: Priority,
    /// Whose it is.
    pub worker: WorkerId,
}

impl Inflight {
    /// `None` for a key that this program did not make.
    pub fn parse(key: &str) -> Option<Self> {
        let (queue, rest) = key.strip_prefix("v1:inflight:{")?.split_once("}:")?;
        let (priority, worker) = rest.split_once(':')?;
        is_queue_name(queue).then_some(())?;
        Some(Self { queue: queue.to_owned(), priority: priority.parse().ok()?, worker: worker.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inflight_keys_round_trip() {
        let worker = WorkerId::new();
        let key = inflight("gpu.large", Priority::Low, worker);
        assert_eq!(key, format!("v1:inflight:{{gpu.large}}:low:{worker}"));
        let read = Inflight { queue: "gpu.large".to_owned(), priority: Priority::Low, worker };
        assert_eq!(Inflight::parse(&key), Some(read));
        for foreign in ["v1:inflight:{a b}:low:x", "v1:inflight:{a}:low:notanid", "v1:ready:{a}:low", ""] {
            assert_eq!(Inflight::parse(foreign), None, "{foreign}");
        }
    }
}
