//! Status: the five states of a task and the table of the changes between them.
//!
//! The SQL of `core::store` makes these changes and no others; its statements carry the same conditions.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a task stands. The last three are final: nothing but an operator's retry leaves FAILED and CANCELLED,
/// and nothing at all leaves SUCCESS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Status {
    /// Accepted; waits for a worker, a time, a retry or a queue that is resumed.
    Pending,
    /// A worker has claimed it and runs an attempt.
    Running,
    /// Final: it has a result.
    Success,
    /// Final: it has an error, and its budget is used up or the error is permanent.
    Failed,
    /// Final: somebody asked for it to stop.
    Cancelled,
}

/// What can happen to a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Change {
    /// A worker takes it.
    Claim,
    /// The attempt returned a result.
    Succeed,
    /// The attempt failed and the budget allows another.
    RetryLater,
    /// The attempt failed for good.
    Fail,
    /// The worker gives it back unfinished: a rollout, an input that it cannot decode. Nothing is charged.
    HandBack,
    /// Its worker died, and it may be delivered again.
    Lose,
    /// Its worker died once too often.
    LoseForGood,
    /// Nobody started it before `expires_at`.
    Expire,
    /// Somebody asked for it to stop.
    Cancel,
    /// An operator gives it a new run.
    Retry,
}

impl Status {
    /// All of them, in the order in which people think of them.
    pub const ALL: [Status; 5] = [Status::Pending, Status::Running, Status::Success, Status::Failed, Status::Cancelled];

    /// The transition table: the status after `change`, or `None` where the change is not allowed.
    pub fn after(self, change: Change) -> Option<Status> {
        use Change::*;
        use Status::*;
        Some(match (self, change) {
            (Pending, Claim) => Running,
            (Pending, Expire) => Failed,
            (Running, Succeed) => Success,
            (Running, Fail | LoseForGood) => Failed,
            (Running, RetryLater | HandBack | Lose) => Pending,
            (Pending | Running, Cancel) => Cancelled,
            (Failed | Cancelled, Retry) => Pending,
            _ => return None,
        })
    }

    /// Whether a run ends here.
    pub fn is_final(self) -> bool {
        matches!(self, Status::Success | Status::Failed | Status::Cancelled)
    }

    /// As the API and the database spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Pending => "PENDING",
            Status::Running => "RUNNING",
            Status::Success => "SUCCESS",
            Status::Failed => "FAILED",
            Status::Cancelled => "CANCELLED",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Status {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Status::ALL
            .into_iter()
            .find(|status| status.as_str() == text)
            .ok_or_else(|| format!("unknown status {text:?}: one of PENDING, RUNNING, SUCCESS, FAILED, CANCELLED"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn final_states_are_left_only_by_an_operators_retry() {
        use Change::*;
        let all = [Claim, Succeed, RetryLater, Fail, HandBack, Lose, LoseForGood, Expire, Cancel];
        for status in Status::ALL.into_iter().filter(|s| s.is_final()) {
            assert!(all.into_iter().all(|change| status.after(change).is_none()), "{status}");
        }
        assert_eq!(Status::Success.after(Retry), None);
        assert_eq!(Status::Failed.after(Retry), Some(Status::Pending));
        assert_eq!(Status::Cancelled.after(Retry), Some(Status::Pending));
    }

    #[test]
    fn spelling_round_trips() {
        for status in Status::ALL {
            assert_eq!(status.as_str().parse(), Ok(status));
            assert_eq!(serde_json::to_value(status).unwrap(), status.as_str());
        }
        assert!("pending".parse::<Status>().is_err());
    }
}
