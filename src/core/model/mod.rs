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

use std::borrow::Cow;

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
pub fn storable(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { text.replace('\0', "\u{FFFD}").into() } else { text.into() }
}

/// The same for a text that is JSON, in which half a surrogate pair becomes U+FFFD too: serde_json reads no answer that has
/// one (RFC 8259, 8.2). Everything else stays as it is written.
pub fn storable_json(text: &str) -> Cow<'_, str> {
    if !text.contains("\\u") {
        return text.into();
    }
    let mut cleaned = String::with_capacity(text.len());
    let mut rest = text;
    // In JSON a backslash begins an escape, and stands in strings alone.
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        cleaned.push_str(before);
        let (kept, length) = match utf16_unit(escape) {
            Some(0xD800..=0xDBFF) if matches!(utf16_unit(&escape[6..]), Some(0xDC00..=0xDFFF)) => (true, 12),
            Some(0 | 0xD800..=0xDFFF) => (false, 6),
            Some(_) => (true, 6),
            None => (true, escape.chars().take(2).map(char::len_utf8).sum()),
        };
        cleaned.push_str(if kept { &escape[..length] } else { r"\uFFFD" });
        rest = &escape[length..];
    }
    cleaned.push_str(rest);
    if cleaned == text { text.into() } else { cleaned.into() }
}

/// The code unit of a text that begins with `\uXXXX`.
fn utf16_unit(text: &str) -> Option<u16> {
    u16::from_str_radix(text.strip_prefix("\\u")?.get(..4)?, 16).ok()
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
    fn json_keeps_everything_but_what_no_reader_takes() {
        for same in [
            r#"{"b": 1.50, "a": 2e2, "b": "\\u0000"}"#,
            r#"["\ud83d\ude00", "\u00e9\n\"\\", "😀"]"#,
            r#""\\\\ud800""#,
            "[]",
        ] {
            assert!(matches!(storable_json(same), Cow::Borrowed(text) if text == same), "{same}");
        }
        for (text, cleaned) in [
            (r#"{"a\u0000":"\u0000b"}"#, r#"{"a\uFFFD":"\uFFFDb"}"#),
            (r#"["\ud800","\udc00","\ud800\ud83d\ude00"]"#, r#"["\uFFFD","\uFFFD","\uFFFD\ud83d\ude00"]"#),
            (r#""\ud800\n\\\udfff""#, r#""\uFFFD\n\\\uFFFD""#),
        ] {
            assert_eq!(storable_json(text), cleaned);
            assert!(serde_json::from_str::<serde_json::Value>(&storable_json(text)).is_ok());
        }
    }

    #[test]
    fn storable_texts() {
        assert_eq!(storable("plain"), "plain");
        assert_eq!(storable("a\0b"), "a\u{FFFD}b");
    }
}
