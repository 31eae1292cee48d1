//! Quantity: rates, sizes and shares as people write them.

use std::{fmt, str::FromStr};

/// Tasks per second, written `100/s`, `600/m`, `5000/h` or `1000000/d`.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Rate(pub f64);

/// Bytes, written `512Mi`, `2Gi`, `100M` or as a number.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Bytes(pub f64);

/// A share between 0 and 1, written in percent: `99.9` or `99.9%`.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Percent(pub f64);

const UNITS: [(&str, f64); 10] = [
    ("Ki", 1024.0),
    ("Mi", 1_048_576.0),
    ("Gi", 1_073_741_824.0),
    ("Ti", 1_099_511_627_776.0),
    ("k", 1e3),
    ("M", 1e6),
    ("G", 1e9),
    ("T", 1e12),
    ("B", 1.0),
    ("", 1.0),
];

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a rate: write 100/s, 600/m, 5000/h or 1000000/d");
        let (tasks, unit) = text.split_once('/').ok_or_else(wrong)?;
        let seconds = match unit.trim() {
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            "d" => 86_400.0,
            _ => return Err(wrong()),
        };
        let tasks = positive(tasks).filter(|tasks| *tasks / seconds <= 1e6).ok_or_else(wrong)?;
        Ok(Self(tasks / seconds))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            rate if rate < 1.0 / 60.0 => write!(f, "{}/h", short(rate * 3_600.0)),
            rate if rate < 1.0 => write!(f, "{}/m", short(rate * 60.0)),
            rate => write!(f, "{}/s", short(rate)),
        }
    }
}

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = &text[number.len()..];
        let unit = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, bytes)| bytes);
        let bytes = unit.zip(positive(number)).map(|(unit, number)| unit * number);
        bytes.map(Self).ok_or_else(|| format!("{text:?} is not a size: write 512Mi, 2Gi, 100M or a number of bytes"))
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = UNITS[..4].iter().rev().find(|(_, bytes)| self.0 >= *bytes).unwrap_or(&UNITS[9]);
        write!(f, "{} {}B", short(self.0 / unit.1), unit.0)
    }
}

impl FromStr for Percent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let percent = positive(text.trim_end_matches('%')).filter(|percent| *percent < 100.0);
        percent
            .map(|percent| Self(percent / 100.0))
            .ok_or_else(|| format!("{text:?} is not a share of the time: write 99.9, more than 0 and less than 100"))
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Rounded to what people write: 0.999 · 100 is 99.9 and a little.
        write!(f, "{} %", (self.0 * 1e8).round() / 1e6)
    }
}

/// Three digits that count, without the zeros after the point.
pub fn short(number: f64) -> String {
    if number == 0.0 || !number.is_finite() {
        return number.to_string();
    }
    let digits = (2 - number.abs().log10().floor() as i32).clamp(0, 9);
    let text = format!("{number:.*}", digits as usize);
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// A time in seconds, for people.
pub fn time(seconds: f64) -> String {
    match seconds {
        seconds if seconds < 0.000_5 => "0 s".to_owned(),
        seconds if seconds < 1.0 => format!("{} ms", short(seconds * 1e3)),
        seconds if seconds < 120.0 => format!("{} s", short(seconds)),
        seconds if seconds < 7_200.0 => format!("{} min", short(seconds / 60.0)),
        seconds if seconds < 172_800.0 => format!("{} h", short(seconds / 3_600.0)),
        seconds => format!("{} days", short(seconds / 86_400.0)),
    }
}

fn positive(text: &str) -> Option<f64> {
    text.trim().parse().ok().filter(|number: &f64| number.is_finite() && *number > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_and_written() {
        assert_eq!("600/m".parse(), Ok(Rate(10.0)));
        assert_eq!(Rate(0.5).to_string(), "30/m");
        assert_eq!("512Mi".parse(), Ok(Bytes(536_870_912.0)));
        assert_eq!(Bytes(536_870_912.0).to_string(), "512 MiB");
        assert_eq!("99.9%".parse::<Percent>().map(|percent| percent.to_string()), Ok("99.9 %".to_owned()));
        assert_eq!((short(1234.5), short(0.012_34), short(100.0)), ("1234".into(), "0.0123".into(), "100".into()));
        assert_eq!((time(0.0042), time(90.0), time(600.0)), ("4.2 ms".into(), "90 s".into(), "10 min".into()));
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in ["", "100", "0/s", "-1/s", "NaN/s", "inf/s", "1/w", "9e9/s"] {
            assert!(bad.parse::<Rate>().is_err(), "{bad}");
        }
        for bad in ["", "Mi", "0", "-1Mi", "1Xi", "1 Mi i"] {
            assert!(bad.parse::<Bytes>().is_err(), "{bad}");
        }
        for bad in ["", "0", "100", "101%", "x"] {
            assert!(bad.parse::<Percent>().is_err(), "{bad}");
        }
    }
}
