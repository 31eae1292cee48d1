//! Telemetry: what a process tells of itself. Log lines on stderr, and spans to an OpenTelemetry collector when one
//! is named.
//!
//! Telemetry never holds up the work: spans wait in a bounded queue that drops what does not fit, a collector that is
//! away costs one warning a minute, and leaving waits a few seconds for the last spans and no longer.
//!
//! Trace context is a [W3C `traceparent`](https://www.w3.org/TR/trace-context/). It is passed on from request to row to
//! attempt to outbound call whether or not anything is exported; a new one is made only where spans are recorded.

pub mod calls;
mod export;
mod log;
mod trace;
mod variables;

use std::{
    io::IsTerminal,
    sync::atomic::{AtomicBool, Ordering},
};

use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::{Metadata, Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::{FilterExt, filter_fn},
    fmt::MakeWriter,
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

pub use calls::is_exporting;
pub use trace::{
    add_link, current_trace_id, current_traceparent, note_trace_id, set_parent_from_header, trace_headers,
};

use crate::config::{self, SettingError};

/// It logs an error for every request that is no HTTP, so any client could fill the log. Shown where the filter names it.
const NOISE: &str = "actix_http::h1::dispatcher";

/// Somebody sees the spans of this crate: the log has INFO, or they are exported.
static SPANS_ARE_SEEN: AtomicBool = AtomicBool::new(true);

/// Whether a span is to be made: somebody sees it, or a context that came in hangs on it.
pub fn wants_span(context: Option<&str>) -> bool {
    context.is_some() || SPANS_ARE_SEEN.load(Ordering::Relaxed)
}

/// Holds the exporter open. Dropping it sends the spans that still wait, for at most three seconds: keep it until the
/// process ends.
#[must_use = "spans that still wait are lost when the guard is dropped early"]
pub struct Guard {
    provider: Option<SdkTracerProvider>,
    /// The log has INFO, or spans are exported.
    spans_are_seen: bool,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(provider) = &self.provider {
            // A collector that is away has been reported by the exporter itself.
            let _ = provider.shutdown_with_timeout(export::FLUSH_TIMEOUT);
        }
    }
}

/// Starts logging and, where a collector is named, tracing, for the whole process. `role` names the service:
/// `longrun-serve` where `OTEL_SERVICE_NAME` says nothing else. Panics become one log line each from here on.
pub fn init(telemetry: &config::Telemetry, role: &str) -> anyhow::Result<Guard> {
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let (subscriber, guard) = subscriber(telemetry, role, colour, std::io::stderr)?;
    subscriber.try_init()?;
    SPANS_ARE_SEEN.store(guard.spans_are_seen, Ordering::Relaxed);
    if let Some(provider) = &guard.provider {
        calls::begin_to_export(export::tracer(provider));
        variables::ignored(variables::from_environment).iter().for_each(|line| tracing::warn!("{line}"));
    }
    log_panics();
    Ok(guard)
}

/// Refuses the settings that [`init`] refuses.
pub fn check(telemetry: &config::Telemetry) -> Result<(), SettingError> {
    filter(telemetry)?;
    export::endpoint(telemetry)?;
    Ok(())
}

fn filter(telemetry: &config::Telemetry) -> Result<EnvFilter, SettingError> {
    EnvFilter::builder().parse(&telemetry.log).map_err(|error| {
        SettingError::new(format!("RUST_LOG is not a filter ({error}): write info, or info,longrun=debug"))
    })
}

fn subscriber<W>(
    telemetry: &config::Telemetry,
    role: &str,
    colour: bool,
    writer: W,
) -> anyhow::Result<(impl Subscriber + Send + Sync + 'static, Guard)>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let mut filter = filter(telemetry)?;
    // The HTTP library shows whole URLs, and an operator's URL may hold a secret.
    for quiet in ["ureq=warn", "ureq_proto=warn"] {
        filter = filter.add_directive(quiet.parse()?);
    }
    if !telemetry.log.contains(NOISE) {
        filter = filter.add_directive(format!("{NOISE}=off").parse()?);
    }
    let in_the_log = filter.max_level_hint().is_none_or(|most| most >= LevelFilter::INFO);
    let mut layers: Vec<Box<dyn Layer<Registry> + Send + Sync>> =
        vec![log::layer(telemetry.log_format, colour, writer).with_filter(filter).boxed()];

    // The spans of this crate carry the trace context, so they exist whatever the log's filter says.
    let own = || filter_fn(is_own).and(LevelFilter::INFO);
    let provider = export::endpoint(telemetry)?.map(|url| export::provider(&url, role)).transpose()?;
    match &provider {
        Some(provider) => layers.push(export::layer(provider).with_filter(own()).boxed()),
        None => layers.push(trace::PassOn.with_filter(own()).boxed()),
    }
    let spans_are_seen = in_the_log || provider.is_some();
    Ok((tracing_subscriber::registry().with(layers), Guard { provider, spans_are_seen }))
}

fn is_own(metadata: &Metadata<'_>) -> bool {
    let target = metadata.target();
    target == "longrun" || target.starts_with("longrun::")
}

/// One log line instead of the several that the standard hook prints, so that a log reader sees the panic whole.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let payload = panic.payload();
        let formatted = payload.downcast_ref::<String>().map(String::as_str);
        let message = formatted.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("(no message)");
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let thread = std::thread::current().name().unwrap_or("unnamed").to_owned();
        let backtrace = std::backtrace::Backtrace::capture();
        match backtrace.status() {
            std::backtrace::BacktraceStatus::Captured => {
                tracing::error!(place, thread, %backtrace, "panicked: {message}")
            }
            _ => tracing::error!(place, thread, "panicked: {message}"),
        }
    }));
}

#[cfg(test)]
mod tests;
