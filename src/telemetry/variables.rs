//! Variables: the standard `OTEL_*` variables, which the SDK reads itself and whose mistakes it keeps to itself.
//!
//! The OpenTelemetry specification (Environment Variable Specification) has a value that is not understood ignored, with a
//! warning. What this crate adds is the warning, and the two switches that the SDK does not know.

const SAMPLERS: [&str; 6] = [
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
];
const PROTOCOL: &str = "http/protobuf";
const NUMBERS: [&str; 4] = [
    "OTEL_BSP_SCHEDULE_DELAY",
    "OTEL_BSP_MAX_QUEUE_SIZE",
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
    "OTEL_EXPORTER_OTLP_TIMEOUT",
];

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
    let share = read("OTEL_TRACES_SAMPLER_ARG");
    let is_share = |text: &String| text.parse::<f64>().is_ok_and(|share| (0.0..=1.0).contains(&share));
    if sampler.ends_with("traceidratio") && !share.as_ref().is_some_and(is_share) {
        let found = share.map_or("not set".to_owned(), |text| format!("{text:?}"));
        lines.push(format!(
            "OTEL_TRACES_SAMPLER_ARG is {found}, so that everything is recorded: write a share from 0 to 1, as 0.01"
        ));
    }
    for name in ["OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"] {
        if let Some(other) = read(name).filter(|protocol| protocol != PROTOCOL) {
            lines.push(format!(
                "{name} is {other:?}, which is ignored: spans go as {PROTOCOL}, to port 4318 of most collectors"
            ));
        }
    }
    if let Some(other) = read("OTEL_TRACES_EXPORTER").filter(|exporter| exporter != "otlp") {
        lines.push(format!("OTEL_TRACES_EXPORTER is {other:?}, which is ignored: write otlp, or none"));
    }
    for name in NUMBERS {
        if let Some(text) = read(name)
            && text.trim().parse::<u64>().ok().is_none_or(|number| number == 0)
        {
            lines.push(format!("{name} is {text:?}, which is ignored: write a whole number of at least 1"));
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
            ("OTEL_BSP_MAX_QUEUE_SIZE", "abc", "at least 1"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "0", "at least 1"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "5s", "at least 1"),
        ] {
            let lines = ignored(with(&[(name, value)]));
            assert!(matches!(lines.as_slice(), [line] if line.contains(words)), "{name}={value}: {lines:?}");
        }
        for share in ["7", "-0.1", "NaN", "half"] {
            let all = [("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", share)];
            assert_eq!(ignored(with(&all)).len(), 1, "{share}");
        }
    }

    #[test]
    fn spans_can_be_switched_off() {
        assert!(is_switched_off(with(&[("OTEL_SDK_DISABLED", "TRUE")])));
        assert!(is_switched_off(with(&[("OTEL_TRACES_EXPORTER", "none")])));
        assert!(!is_switched_off(with(&[("OTEL_SDK_DISABLED", "false"), ("OTEL_TRACES_EXPORTER", "otlp")])));
    }
}
