//! Time: moments and durations as people write and read them.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use chrono::{DateTime, Local, SecondsFormat, TimeDelta, Utc};

/// In which zone a person reads times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Zone {
    /// That of this machine.
    Local,
    /// UTC.
    Utc,
}

/// By how much the server's clock is ahead of ours: an age is then never negative, nor ten minutes wrong.
#[derive(Debug, Default)]
pub struct Clock {
    ahead_ms: AtomicI64,
}

impl Clock {
    /// Learns from the `Date` of an answer, which has whole seconds.
    pub fn learn(&self, date: &str) {
        let Ok(date) = httpdate::parse_http_date(date) else { return };
        let ahead = (DateTime::<Utc>::from(date) - Utc::now()).num_milliseconds();
        // Less than that is the rounding of the header, or its way.
        self.ahead_ms.store(if ahead.abs() > 2_000 { ahead } else { 0 }, Ordering::Relaxed);
    }

    /// The time of the server.
    pub fn now(&self) -> DateTime<Utc> {
        Utc::now() + TimeDelta::milliseconds(self.ahead_ms.load(Ordering::Relaxed))
    }
}

impl Zone {
    /// `14:02:13`.
    pub fn time_of_day(self, at: DateTime<Utc>) -> String {
        match self {
            Zone::Utc => at.format("%H:%M:%S").to_string(),
            Zone::Local => at.with_timezone(&Local).format("%H:%M:%S").to_string(),
        }
    }

    /// `2026-01-01 14:02:13 UTC`, or with the offset of the zone.
    pub fn moment(self, at: DateTime<Utc>) -> String {
        match self {
            Zone::Utc => at.format("%Y-%m-%d %H:%M:%S UTC").to_string(),
            Zone::Local => at.with_timezone(&Local).format("%Y-%m-%d %H:%M:%S %:z").to_string(),
        }
    }
}

/// `2026-01-01T14:55:57.204Z`, for programs.
pub fn rfc3339(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// `0.4s`, `12s`, `25m34s`, `2h05m`, `3d04h`: two units at most.
pub fn span(time: TimeDelta) -> String {
    let tenths = time.num_milliseconds().max(0) / 100;
    let seconds = tenths / 10;
    match seconds {
        0..10 if tenths % 10 != 0 => format!("{seconds}.{}s", tenths % 10),
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{:02}m", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

/// `5s`, `58m`, `3h`, `12d`: one unit, for "58m ago".
pub fn rough(time: TimeDelta) -> String {
    let seconds = time.num_seconds().max(0);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// A point in time as a person gives it: so long ago, or a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// `1h`: an hour before now.
    Ago(Duration),
    /// A moment.
    At(DateTime<Utc>),
}

impl Since {
    /// The moment.
    pub fn moment(self, now: DateTime<Utc>) -> DateTime<Utc> {
        match self {
            Since::At(at) => at,
            // What is longer ago than that is its beginning: a year before 0 has no RFC 3339.
            Since::Ago(ago) => {
                let at = TimeDelta::from_std(ago).ok().and_then(|ago| now.checked_sub_signed(ago));
                at.unwrap_or_default().max(DateTime::UNIX_EPOCH)
            }
        }
    }
}

impl std::str::FromStr for Since {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(at) = DateTime::parse_from_rfc3339(text) {
            return Ok(Since::At(at.to_utc()));
        }
        humantime::parse_duration(text).map(Since::Ago).map_err(|_| "write 30m, 1h or 2026-01-31T23:59:59Z".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_two_units_at_most() {
        for (ms, text) in [
            (-5, "0s"),
            (400, "0.4s"),
            (2_100, "2.1s"),
            (9_950, "9.9s"),
            (12_700, "12s"),
            (60_000, "1m00s"),
            (1_534_000, "25m34s"),
            (3_252_000, "54m12s"),
            (7_500_000, "2h05m"),
            (273_600_000, "3d04h"),
        ] {
            assert_eq!(span(TimeDelta::milliseconds(ms)), text);
        }
        assert_eq!(rough(TimeDelta::seconds(3_480)), "58m");
    }

    #[test]
    fn a_point_in_time_is_an_age_or_a_moment() {
        let now: DateTime<Utc> = "2026-01-01T12:00:00Z".parse().unwrap();
        let moment = |text: &str| rfc3339(text.parse::<Since>().unwrap().moment(now));
        assert_eq!(moment("1h"), "2026-01-01T11:00:00.000Z");
        assert_eq!(moment("2026-01-01T01:00:00+01:00"), "2026-01-01T00:00:00.000Z");
        assert_eq!(moment("100000years"), "1970-01-01T00:00:00.000Z");
        assert!("yesterday".parse::<Since>().is_err());
    }

    #[test]
    fn a_clock_that_is_off_is_noticed() {
        let clock = Clock::default();
        clock.learn(&httpdate::fmt_http_date((Utc::now() + TimeDelta::minutes(10)).into()));
        let ahead = clock.now() - Utc::now();
        assert!((TimeDelta::minutes(9)..TimeDelta::minutes(11)).contains(&ahead), "{ahead}");
        clock.learn(&httpdate::fmt_http_date(Utc::now().into()));
        assert!((clock.now() - Utc::now()).abs() < TimeDelta::seconds(1));
    }
}
