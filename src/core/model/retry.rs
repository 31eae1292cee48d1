//! Retry policy: how often a failing task is tried, and how long it waits in between.

use std::time::Duration;

/// Exponential backoff with full jitter on its upper half: the wait after the n-th failure lies between one half
/// and the whole of `initial × 2^(n-1)`, never over `longest`. Jitter, so that a thousand tasks that failed together
/// on a struggling service do not come back together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetryPolicy {
    /// Attempts in all, the first one included. At least 1.
    pub max_attempts: i32,
    /// The wait after the first failure, before jitter.
    pub initial: Duration,
    /// No wait is longer.
    pub longest: Duration,
}

impl Default for RetryPolicy {
    /// 4 attempts; 2 s, 4 s, 8 s; never over 10 minutes.
    fn default() -> Self {
        Self { max_attempts: 4, initial: Duration::from_secs(2), longest: Duration::from_secs(600) }
    }
}

impl RetryPolicy {
    /// A policy that never tries again.
    pub fn never() -> Self {
        Self { max_attempts: 1, ..Self::default() }
    }

    /// The wait after the `failures`-th failure (from 1). `jitter` is a random number in 0..1.
    pub fn backoff(&self, failures: i32, jitter: f64) -> Duration {
        let doublings = (failures.max(1) - 1).min(30) as u32;
        let whole = self.initial.saturating_mul(2u32.saturating_pow(doublings)).min(self.longest);
        whole.mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_within_its_bounds() {
        let policy = RetryPolicy::default();
        for (failures, seconds) in [(1, 2.0), (2, 4.0), (3, 8.0), (9, 512.0), (10, 600.0), (i32::MAX, 600.0)] {
            assert_eq!(policy.backoff(failures, 1.0).as_secs_f64(), seconds);
            assert_eq!(policy.backoff(failures, 0.0).as_secs_f64(), seconds / 2.0);
        }
    }
}
