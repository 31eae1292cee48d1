//! Seen: the row of a running delivery as this worker last saw it. It changes by this worker's reports alone.

use std::sync::{Mutex, PoisonError};

/// Shared by the attempt, which begins with it, and the writer, which notes what it has written.
pub(super) struct Seen(Mutex<Numbers>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Numbers {
    /// That of its last event.
    pub(super) seq: i32,
    pub(super) version: i32,
}

impl Seen {
    /// As the claim left it.
    pub(super) fn new(numbers: Numbers) -> Self {
        Self(Mutex::new(numbers))
    }

    /// As it was seen last.
    pub(super) fn numbers(&self) -> Numbers {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As it is seen now.
    pub(super) fn note(&self, numbers: Numbers) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = numbers;
    }
}
