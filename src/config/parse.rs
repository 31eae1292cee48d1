//! Parse: settings from what was written. What cannot be is told with what to write, which the library's own parsers leave
//! out.

use std::{
    fmt::Display,
    net::SocketAddr,
    ops::{Bound, RangeBounds},
    str::FromStr,
    time::Duration,
};

use ipnet::IpNet;

/// No time is longer: what never happens and what overflows are hard to tell apart.
const LONGEST_TIME: Duration = Duration::from_secs(1_000 * 365 * 24 * 60 * 60);

/// A setting that cannot be, alone or beside the others: it is named, with what to write. The program ends with 2 for it,
/// as for a command line that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SettingError(String);

impl SettingError {
    /// Must name the setting, and must hold no secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// Reads a whole number within these bounds.
pub(super) fn number<N>(
    bounds: impl RangeBounds<N> + Clone + Send + Sync,
) -> impl Fn(&str) -> Result<N, String> + Clone + Send + Sync
where
    N: FromStr + Display + PartialOrd,
{
    move |text| {
        let number = text.parse().ok().filter(|number| bounds.contains(number));
        number.ok_or_else(|| match (bounds.start_bound(), bounds.end_bound()) {
            (Bound::Included(least), Bound::Included(most)) => format!("write a whole number from {least} to {most}"),
            (Bound::Included(least), _) => format!("write a whole number of at least {least}"),
            _ => "write a whole number".to_owned(),
        })
    }
}

/// Reads an IP address and a port.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "not an IP address and a port: write 127.0.0.1:8001, or [::1]:8001".to_owned())
}

/// Reads `30s`, `5m`, `1h30m`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|error| format!("{error}: write 30s, 5m or 1h"))?;
    if time <= LONGEST_TIME { Ok(time) } else { Err("longer than 1000 years: write 7d, or 10years".to_owned()) }
}

/// Reads a network, `10.0.0.0/8`.
pub(super) fn network(text: &str) -> Result<IpNet, String> {
    text.parse().map_err(|error| format!("{error}: write 10.0.0.0/8, or fd00::/8"))
}
