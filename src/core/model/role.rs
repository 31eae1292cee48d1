//! Role: what a caller may do.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a caller may do. An administrator may do whatever the others may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Submits tasks, sees and cancels its own.
    User,
    /// Sees everybody's tasks, retries, pauses.
    Admin,
    /// Reads how much there is to do, and sees no task.
    Monitor,
    /// Leases tasks over HTTP and reports on them.
    Worker,
}

impl Role {
    /// All of them.
    pub const ALL: [Role; 4] = [Role::User, Role::Admin, Role::Monitor, Role::Worker];

    /// As the API, the command line and the database spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::User => "user",
            Role::Admin => "admin",
            Role::Monitor => "monitor",
            Role::Worker => "worker",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unknown = || format!("{text:?} is no role: one of user, admin, monitor, worker");
        Role::ALL.into_iter().find(|role| role.as_str() == text).ok_or_else(unknown)
    }
}
