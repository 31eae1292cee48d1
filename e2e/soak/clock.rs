//! Clock: one clock for everything that a soak compares. Clients, servers and PostgreSQL run on this machine, so their
//! wall clocks are the same one.

use std::time::{SystemTime, UNIX_EPOCH};

/// Microseconds since 1970.
pub type Moment = i64;

/// One second.
pub const SECOND: Moment = 1_000_000;

/// Now.
pub fn now() -> Moment {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_micros() as Moment
}

/// The moment of an RFC 3339 text.
pub fn parse(text: &str) -> Option<Moment> {
    chrono::DateTime::parse_from_rfc3339(text).ok().map(|time| time.timestamp_micros())
}
