//! Submission: what one request asks for: one task or a batch, and perhaps a key that says it is the same request.

use super::{NewTask, Task};

/// Tasks to be accepted together, or not at all.
#[derive(Debug, Clone)]
pub struct Submission {
    /// In the order of the request; at least one.
    pub tasks: Vec<NewTask>,
    /// Says that this request was perhaps made before.
    pub key: Option<IdempotencyKey>,
}

/// A key, and what it was used for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// The caller: two callers may use the same key for different things.
    pub scope: String,
    /// The caller's own word.
    pub key: String,
    /// SHA-256 of the body.
    pub fingerprint: Vec<u8>,
}

/// What a submission came to.
#[derive(Debug, Clone)]
pub struct Submitted {
    /// In the order of the request.
    pub tasks: Vec<Task>,
    /// An earlier request with the same key and body made them.
    pub replayed: bool,
}
