//! `options`: how a submitter wants its task run, and the findings where that cannot be.

use std::{fmt::Display, ops::RangeInclusive, time::Duration};

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::json::{self, Member, pointer_to};
use crate::{
    config::duration,
    core::model::{Priority, QUEUE_NAME_PATTERN, Start, is_queue_name},
    tasks::Finding,
};

/// No delay, expiry or time limit is longer.
const LONGEST: Duration = Duration::from_secs(3_650 * 24 * 60 * 60);
/// Attempts, and losses, that may be asked for.
const MOST: i32 = 1_000;
const KNOWN: &str = "known are queue, priority, delay, run_at, expires_in, max_attempts, max_lost, timeout";

/// What the submitter asked for; `None` where it asked for nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Options {
    /// The queue.
    pub queue: Option<String>,
    /// The place in it.
    pub priority: Option<Priority>,
    /// Not before.
    pub start: Option<Start>,
    /// Ends FAILED `expired` when nobody started it this long after the submit.
    pub expires_in: Option<Duration>,
    /// Attempts in all.
    pub max_attempts: Option<i32>,
    /// Deliveries that may be lost with their worker between two checkpoints.
    pub max_lost: Option<i32>,
    /// How long one attempt may take.
    pub timeout: Option<Duration>,
}

impl Options {
    /// Reads the text of `options`, which has passed [`json::check`].
    pub fn read(text: &str) -> Result<Self, Vec<Finding>> {
        let Some(members) = json::members(text) else {
            return Err(vec![Finding { pointer: "/options".into(), detail: "must be an object".into() }]);
        };
        let mut options = Self::default();
        let mut findings = Vec::new();
        for member in &members {
            if let Err(detail) = options.set(member) {
                findings.push(Finding { pointer: pointer_to("/options", &member.key), detail });
            }
        }
        if findings.is_empty() && options.expires_before_its_start() {
            let detail = "must be longer than what the task waits for: it would expire before it may start".to_owned();
            findings.push(Finding { pointer: "/options/expires_in".into(), detail });
        }
        if findings.is_empty() { Ok(options) } else { Err(findings) }
    }

    fn expires_before_its_start(&self) -> bool {
        let Some(expires_in) = self.expires_in else { return false };
        match self.start {
            None | Some(Start::Now) => false,
            Some(Start::After(delay)) => expires_in <= delay,
            Some(Start::At(at)) => (at - Utc::now()).to_std().is_ok_and(|wait| expires_in <= wait),
        }
    }

    fn set(&mut self, member: &Member<'_>) -> Result<(), String> {
        match &*member.key {
            "queue" => {
                let name = string(member, "a queue's name")?;
                if !is_queue_name(&name) {
                    return Err("must be 1 to 64 of a-z 0-9 _ . -".to_owned());
                }
                self.queue = Some(name);
            }
            "priority" => self.priority = Some(string(member, "high, normal or low")?.parse()?),
            "delay" => {
                let delay = time(member, Duration::ZERO..=LONGEST)?;
                self.start_once(Start::After(delay))?;
            }
            "run_at" => {
                let text = string(member, "a time like 2026-01-31T23:59:59Z")?;
                let at = DateTime::parse_from_rfc3339(&text)
                    .map_err(|_| "must be a time like 2026-01-31T23:59:59Z".to_owned())?;
                self.start_once(Start::At(at.to_utc()))?;
            }
            "expires_in" => self.expires_in = Some(time(member, Duration::from_millis(1)..=LONGEST)?),
            "timeout" => self.timeout = Some(time(member, Duration::from_millis(1)..=LONGEST)?),
            "max_attempts" => self.max_attempts = Some(number(member, 1..=MOST)?),
            "max_lost" => self.max_lost = Some(number(member, 0..=MOST)?),
            _ => return Err(format!("is not an option: {KNOWN}")),
        }
        Ok(())
    }

    fn start_once(&mut self, start: Start) -> Result<(), String> {
        match self.start.replace(start) {
            None => Ok(()),
            Some(_) => Err("delay and run_at exclude each other: give one".to_owned()),
        }
    }
}

/// The JSON Schema of `options`. Of the times that are accepted it has those that a person writes.
pub fn schema() -> Value {
    let time = |description: &str| {
        let part = "([1-9][0-9]{0,3}(ms|s|m|h)|[1-9][0-9]{0,2}d)";
        let pattern = format!("^{part}( ?{part}){{0,2}}$");
        json!({"type": "string", "pattern": pattern, "description": description, "examples": ["30s", "1h 30m"]})
    };
    let number = |least: i32, description: &str| json!({"type": "integer", "minimum": least, "maximum": MOST, "description": description});
    json!({
        "type": "object",
        "description": "How the task is to be run; the defaults are those of its type.",
        "additionalProperties": false,
        "not": {"required": ["delay", "run_at"]},
        "properties": {
            "queue": {"type": "string", "pattern": QUEUE_NAME_PATTERN, "description": "The queue to wait in."},
            "priority": {"enum": Priority::ALL, "default": Priority::default(), "description": "The place in it."},
            "delay": time("Not before this long from now. Excludes run_at."),
            "run_at": {
                "type": "string",
                "format": "date-time",
                "description": "Not before this moment. Excludes delay.",
            },
            "expires_in": time("Ends FAILED, code expired, when nobody has started it this long after the submit. Longer than the delay, or than the time until run_at."),
            "max_attempts": number(1, "Attempts in all."),
            "max_lost": number(0, "Deliveries that may be lost with their worker between two checkpoints."),
            "timeout": time("How long one attempt may take."),
        },
    })
}

fn string(member: &Member<'_>, what: impl Display) -> Result<String, String> {
    let is_string = member.value.starts_with('"');
    is_string.then(|| json::decoded(member.value).into_owned()).ok_or_else(|| format!("must be a string: {what}"))
}

fn time(member: &Member<'_>, bounds: RangeInclusive<Duration>) -> Result<Duration, String> {
    let time = duration(&string(member, "a time like 30s, 5m or 1h")?)?;
    if bounds.contains(&time) { Ok(time) } else { Err("must be above nothing and at most ten years".to_owned()) }
}

fn number(member: &Member<'_>, bounds: RangeInclusive<i32>) -> Result<i32, String> {
    let number = member.value.parse().ok().filter(|number| bounds.contains(number));
    number.ok_or_else(|| format!("must be a whole number from {} to {}", bounds.start(), bounds.end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_options_are_read() {
        let text = r#"{"queue":"gpu","priority":"high","delay":"1m30s","expires_in":"1h","max_attempts":7,"max_lost":0,
                       "timeout":"500ms"}"#;
        assert_eq!(
            Options::read(text),
            Ok(Options {
                queue: Some("gpu".into()),
                priority: Some(Priority::High),
                start: Some(Start::After(Duration::from_secs(90))),
                expires_in: Some(Duration::from_secs(3_600)),
                max_attempts: Some(7),
                max_lost: Some(0),
                timeout: Some(Duration::from_millis(500)),
            })
        );
        let at = Options::read(r#"{"run_at":"2026-01-01T01:00:00+01:00"}"#).unwrap().start;
        assert_eq!(at, Some(Start::At("2026-01-01T00:00:00Z".parse().unwrap())));
        assert_eq!(Options::read("{}"), Ok(Options::default()));
    }

    #[test]
    fn the_schema_and_the_reader_agree() {
        let schema = schema();
        let names: Vec<_> = schema["properties"].as_object().unwrap().keys().map(String::as_str).collect();
        let mut known: Vec<_> = KNOWN.trim_start_matches("known are ").split(", ").collect();
        known.sort_unstable();
        assert_eq!(names, known);
        let validator = jsonschema::draft202012::new(&schema).unwrap();
        for text in ["9999h 9999h 9999h", "999d999d 999d", "1ms", "1h 30m", "1d"] {
            for options in [json!({"delay": text, "timeout": text}), json!({"expires_in": text})] {
                assert!(validator.is_valid(&options), "{text}");
                assert!(Options::read(&options.to_string()).is_ok(), "{text}");
            }
        }
        for text in ["", "1", "-1s", "1y", "01s", " 1s"] {
            assert!(!validator.is_valid(&json!({"delay": text})), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_is_told_with_its_place() {
        for (text, pointer) in [
            ("[]", "/options"),
            ("null", "/options"),
            (r#"{"queue":"A*"}"#, "/options/queue"),
            (r#"{"queue":1}"#, "/options/queue"),
            (r#"{"priority":"urgent"}"#, "/options/priority"),
            (r#"{"delay":30}"#, "/options/delay"),
            (r#"{"delay":"-1s"}"#, "/options/delay"),
            (r#"{"delay":"99999999999999999999y"}"#, "/options/delay"),
            (r#"{"delay":"1s","run_at":"2026-01-01T00:00:00Z"}"#, "/options/run_at"),
            (r#"{"run_at":"tomorrow"}"#, "/options/run_at"),
            (r#"{"timeout":"0s"}"#, "/options/timeout"),
            (r#"{"timeout":"4000d"}"#, "/options/timeout"),
            (r#"{"max_attempts":0}"#, "/options/max_attempts"),
            (r#"{"max_attempts":1.0}"#, "/options/max_attempts"),
            (r#"{"max_lost":"1"}"#, "/options/max_lost"),
            (r#"{"owner":"me"}"#, "/options/owner"),
            (r#"{"delay":"10s","expires_in":"5s"}"#, "/options/expires_in"),
            (r#"{"run_at":"2999-01-01T00:00:00Z","expires_in":"5s"}"#, "/options/expires_in"),
        ] {
            let findings = Options::read(text).unwrap_err();
            assert_eq!(findings[0].pointer, pointer, "{text}");
        }
    }
}
