//! Declaration: a task type that is data. Its work is done by programs that are not part of this one.

use std::time::Duration;

use serde_json::Value;

use super::RetryPolicy;

/// What a task type may be called.
pub const TYPE_NAME_PATTERN: &str = "^[a-z0-9_]{1,64}$";

/// Checks the name of a task type against [`TYPE_NAME_PATTERN`].
pub fn is_type_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'))
}

/// A task type as somebody declared it.
#[derive(Debug, Clone, PartialEq)]
pub struct Declaration {
    /// What `task_type` names.
    pub name: String,
    /// One line for people.
    pub description: String,
    /// JSON Schema (draft 2020-12) of the input.
    pub input_schema: Value,
    /// The queue where the submitter names none.
    pub queue: String,
    /// How often and how soon it is tried again.
    pub retry: RetryPolicy,
    /// How long one attempt may take.
    pub timeout: Option<Duration>,
}
