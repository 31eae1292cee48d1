//! The model: what a task is and which changes it may go through.
//!
//! Pure by rule: no IO, no async, no diesel, no actix. Everything else in the crate may import it; it imports
//! nothing of the crate. Row types (`core::store`) and wire types (`serve`) are other structs, converted at the edge.

pub(crate) mod allowance;
mod declaration;
mod event;
mod id;
mod lease_token;
pub mod lifecycle;
mod retry;
mod role;
mod status;
mod submission;
mod task;

pub use declaration::{Declaration, TYPE_NAME_PATTERN, is_type_name};
pub use event::{Level, LogLine, TaskEvent, What};
pub use id::{InvalidId, TaskId, WorkerId};
pub use lease_token::{InvalidToken, LeaseToken};
pub use retry::RetryPolicy;
pub use role::Role;
pub use status::{Change, Status};
pub use submission::{IdempotencyKey, Submission, Submitted};
pub use task::{Checkpoint, Claimed, NewTask, PendingReason, Priority, Progress, Scope, Start, Task, TaskError};

/// What a queue may be called.
pub const QUEUE_NAME_PATTERN: &str = "^[a-z0-9_.-]{1,64}$";

/// Checks a queue name against [`QUEUE_NAME_PATTERN`] before a Redis key or a statement is made of it.
pub fn is_queue_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.' | b'-'))
}

/// Replaces what PostgreSQL refuses in text: U+0000 becomes U+FFFD. The one choke point for texts that a task
/// makes (log lines, messages, errors); requests with U+0000 are refused before they come here.
pub fn storable(text: &str) -> std::borrow::Cow<'_, str> {
    if text.contains('\0') { text.replace('\0', "\u{FFFD}").into() } else { text.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queue_names() {
        for good in ["default", "a", "gpu-large_2.x", &"q".repeat(64)] {
            assert!(is_queue_name(good), "{good}");
        }
        for bad in ["", "Default", "a b", "a:b", "a*", "a{b}", "é", &"q".repeat(65)] {
            assert!(!is_queue_name(bad), "{bad}");
        }
    }

    #[test]
    fn storable_texts() {
        assert_eq!(storable("plain"), "plain");
        assert_eq!(storable("a\0b"), "a\u{FFFD}b");
    }
}
