//! Variables: the standard `OTEL_*` variables, where the SDK reads them and keeps mistakes to itself, or does not read them.
//!
//! The OpenTelemetry specification (Environment Variable Specification) has a value that is not understood ignored, with a
//! warning.

const SAMPLERS: [&str; 6] = [
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
];
const PROTOCOL: &str = "http/protobuf";

/// No number is larger: a queue of so many spans takes hundreds of megabytes.
const MOST: u64 = 1_000_000;

/// A whole number from 1 to [`MOST`], and what holds where there is none.
pub(super) struct Number {
    name: &'static str,
    usual: u64,
}

/// Milliseconds that spans wait for company. The SDK's own five seconds are long for somebody who looks for the task that
/// has just begun.
pub(super) const SCHEDULE_DELAY: Number = Number { name: "OTEL_BSP_SCHEDULE_DELAY", usual: 1_000 };
/// Spans that may wait.
pub(super) const MAX_QUEUE_SIZE: Number = Number { name: "OTEL_BSP_MAX_QUEUE_SIZE", usual: 2_048 };
/// Spans that are sent together.
pub(super) const MAX_BATCH_SIZE: Number = Number { name: "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", usual: 512 };
/// Milliseconds that one sending may take.
pub(super) const TIMEOUT: Number = Number { name: "OTEL_EXPORTER_OTLP_TIMEOUT", usual: 5_000 };
/// The same for traces alone, the more exact of the two.
pub(super) const TRACES_TIMEOUT: Number = Number { name: "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", ..TIMEOUT };
const NUMBERS: [Number; 5] = [SCHEDULE_DELAY, MAX_QUEUE_SIZE, MAX_BATCH_SIZE, TIMEOUT, TRACES_TIMEOUT];

impl Number {
    /// Whether there is anything, understood or not.
    pub(super) fn is_set(&self, read: impl Fn(&str) -> Option<String>) -> bool {
        read(self.name).is_some()
    }

    /// What is set, where it is understood.
    pub(super) fn read(&self, read: impl Fn(&str) -> Option<String>) -> u64 {
        read(self.name).and_then(|text| positive(&text)).unwrap_or(self.usual)
    }
}

fn positive(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|number| (1..=MOST).contains(number))
}

/// Reads one; set to nothing it counts as not set, as the specification has it.
pub(super) fn from_environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.trim().is_empty())
}

/// Whether spans are to go nowhere, whatever else is set.
pub(super) fn is_switched_off(read: impl Fn(&str) -> Option<String>) -> bool {
    read("OTEL_SDK_DISABLED").is_some_and(|value| value.trim().eq_ignore_ascii_case("true"))
        || read("OTEL_TRACES_EXPORTER").is_some_and(|value| value.trim() == "none")
}

/// What is asked for and does not happen, each with what to write: a line for the log.
pub(super) fn ignored(read: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let mut lines = Vec::new();
    let sampler = read("OTEL_TRACES_SAMPLER").unwrap_or_default();
    if !sampler.is_empty() && !SAMPLERS.contains(&&*sampler) {
        lines.push(format!(
            "OTEL_TRACES_SAMPLER is {sampler:?}, which is ignored: write one of {}",
            SAMPLERS.join(", ")
        ));
    }
    if sampler.ends_with("traceidratio") {
        let share = read("OTEL_TRACES_SAMPLER_ARG");
        let number = share.as_deref().map_or(Ok(f64::INFINITY), str::parse);
        // As the SDK has it: what is no number is 1, and a number that is no share is the nearest one, NaN the 0.
        let recorded = match number {
            Ok(share) if (0.0..=1.0).contains(&share) => None,
            Ok(share) if share > 1.0 => Some("everything"),
            Ok(_) => Some("nothing"),
            Err(_) => Some("everything"),
        };
        if let Some(recorded) = recorded {
            let found = share.map_or("not set".to_owned(), |text| format!("{text:?}"));
            lines.push(format!(
                "OTEL_TRACES_SAMPLER_ARG is {found}, so that {recorded} is recorded: write a share from 0 to 1, as 0.01"
            ));
        }
    }
    for name in ["OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"] {
        if let Some(other) = read(name).filter(|protocol| protocol != PROTOCOL) {
            lines.push(format!(
                "{name} is {other:?}, which is ignored: spans go as {PROTOCOL}, to port 4318 of most collectors"
            ));
        }
    }
    for name in ["OTEL_EXPORTER_OTLP_COMPRESSION", "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION"] {
        if let Some(other) = read(name).filter(|compression| !compression.trim().eq_ignore_ascii_case("none")) {
            lines.push(format!("{name} is {other:?}, which is ignored: spans go as they are; write none"));
        }
    }
    if let Some(other) = read("OTEL_TRACES_EXPORTER").filter(|exporter| exporter.trim() != "otlp") {
        lines.push(format!("OTEL_TRACES_EXPORTER is {other:?}, which is ignored: write otlp, or none"));
    }
    for Number { name, usual } in NUMBERS {
        if let Some(text) = read(name).filter(|text| positive(text).is_none()) {
            lines.push(format!(
                "{name} is {text:?}, which is ignored ({usual} holds): write a whole number from 1 to {MOST}"
            ));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with<'a>(all: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<String> + 'a {
        |name| all.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    }

    #[test]
    fn what_is_understood_is_no_news() {
        assert_eq!(ignored(|_| None), [""; 0]);
        let all = [
            ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
            ("OTEL_TRACES_SAMPLER_ARG", "0.01"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
            ("OTEL_TRACES_EXPORTER", "otlp"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "64"),
        ];
        assert_eq!(ignored(with(&all)), [""; 0]);
    }

    #[test]
    fn what_is_ignored_is_told_with_what_to_write() {
        for (name, value, words) in [
            ("OTEL_TRACES_SAMPLER", "sometimes", "parentbased_always_on"),
            ("OTEL_TRACES_SAMPLER", "xray", "always_on"),
            ("OTEL_TRACES_SAMPLER", "traceidratio", "OTEL_TRACES_SAMPLER_ARG is not set"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "http/protobuf"),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json", "http/protobuf"),
            ("OTEL_TRACES_EXPORTER", "zipkin", "otlp"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "abc", "from 1 to 1000000"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "0", "from 1 to 1000000"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "5s", "5000 holds"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip", "as they are"),
        ] {
            let lines = ignored(with(&[(name, value)]));
            assert!(matches!(lines.as_slice(), [line] if line.contains(words)), "{name}={value}: {lines:?}");
        }
        for (share, recorded) in [("7", "everything"), ("half", "everything"), ("-0.1", "nothing"), ("NaN", "nothing")]
        {
            let all = [("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", share)];
            let lines = ignored(with(&all));
            assert!(matches!(lines.as_slice(), [line] if line.contains(recorded)), "{share}: {lines:?}");
        }
    }

    #[test]
    fn a_number_that_is_ignored_does_not_hold() {
        for (text, number) in
            [("64", 64), (" 64 ", 64), ("0", 2_048), ("99999999999999", 2_048), ("-1", 2_048), ("many", 2_048)]
        {
            assert_eq!(MAX_QUEUE_SIZE.read(with(&[("OTEL_BSP_MAX_QUEUE_SIZE", text)])), number, "{text}");
        }
        assert_eq!(MAX_QUEUE_SIZE.read(|_| None), 2_048);
    }

    #[test]
    fn spans_can_be_switched_off() {
        assert!(is_switched_off(with(&[("OTEL_SDK_DISABLED", "TRUE")])));
        assert!(is_switched_off(with(&[("OTEL_TRACES_EXPORTER", "none")])));
        assert!(!is_switched_off(with(&[("OTEL_SDK_DISABLED", "false"), ("OTEL_TRACES_EXPORTER", "otlp")])));
    }
}
