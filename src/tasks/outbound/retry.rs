//! Retry: how long to wait before the same request is made again.

use std::time::{Duration, SystemTime};

use crate::core::model::RetryPolicy;

/// No `Retry-After` is honoured beyond this: a server may not park a task for a day.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// The wait before the next try after `failures` failed ones (from 1), or `None` when the policy's tries are used up.
/// What the server asked for counts when it is longer than the policy's own backoff.
pub fn wait_before_next(policy: &RetryPolicy, failures: i32, asked_for: Option<Duration>) -> Option<Duration> {
    (failures < policy.max_attempts)
        .then(|| policy.backoff(failures, rand::random()).max(asked_for.unwrap_or_default()))
}

/// Reads a `Retry-After` (RFC 9110, section 10.2.3): seconds, or a date. At most an hour; `None` when it is neither.
pub fn parse_retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    let wait = if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit are still a very long time.
        Duration::from_secs(value.parse().unwrap_or(u64::MAX))
    } else {
        httpdate::parse_http_date(value).ok()?.duration_since(now).unwrap_or_default()
    };
    Some(wait.min(LONGEST_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_dates_are_read() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        for (value, seconds) in [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("99999999999999999999999", Some(3600)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("Mon, 06 Nov 2034 08:00:00 GMT", Some(3600)),
            ("-5", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(parse_retry_after(value, now), seconds.map(Duration::from_secs), "{value:?}");
        }
    }

    #[test]
    fn the_longer_wait_counts_until_the_tries_are_used_up() {
        let policy = RetryPolicy { max_attempts: 3, initial: Duration::from_secs(1), longest: Duration::from_secs(8) };
        let wait = wait_before_next(&policy, 1, None).unwrap();
        assert!((Duration::from_millis(500)..=Duration::from_secs(1)).contains(&wait), "{wait:?}");
        assert_eq!(wait_before_next(&policy, 2, Some(Duration::from_secs(7))), Some(Duration::from_secs(7)));
        assert_eq!(wait_before_next(&policy, 3, None), None);
    }
}
