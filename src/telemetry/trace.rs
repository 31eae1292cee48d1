//! Trace context: the `traceparent` that comes with a request, lies in the task's row, and goes out with every call.
//!
//! It hangs on the `tracing` span. With an exporter the OpenTelemetry layer keeps it; without one, [`PassOn`] does, and
//! what came in goes out unchanged.

use std::collections::HashMap;

use opentelemetry::{
    Context,
    propagation::TextMapPropagator,
    trace::{SpanContext, TraceContextExt},
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::{OpenTelemetrySpanExt, SetParentError};
use tracing_subscriber::{Layer, Registry, registry::LookupSpan};

use super::is_exporting;

const TRACEPARENT: &str = "traceparent";

/// Makes `span` a child of the context in a `traceparent` header. Call it before the span is entered for the first
/// time: a span that has started keeps its parent. A header that is not one is ignored, as the W3C asks.
pub fn set_parent_from_header(span: &Span, traceparent: &str) {
    let Some(parent) = parse(traceparent) else { return };
    let remote = Context::new().with_remote_span_context(parent.clone());
    if let Err(SetParentError::LayerNotFound) = span.set_parent(remote) {
        span.with_subscriber(|(id, dispatch)| {
            if let Some(span) = dispatch.downcast_ref::<Registry>().and_then(|registry| registry.span(id)) {
                span.extensions_mut().replace(Inherited(parent));
            }
        });
    }
}

/// Notes on `span` that another trace has to do with it: a second delivery with its submit.
pub fn add_link(span: &Span, traceparent: &str) {
    if let Some(other) = parse(traceparent) {
        span.add_link(other);
    }
}

/// The `traceparent` of here and now, to be stored with a task. `None` where no context came in and none is recorded.
pub fn current_traceparent() -> Option<String> {
    let mut headers = HashMap::new();
    let here = Context::new().with_remote_span_context(current()?);
    TraceContextPropagator::new().inject_context(&here, &mut headers);
    headers.remove(TRACEPARENT)
}

/// Writes the trace's id into the field `trace_id` of a span that has one, so that log lines carry it.
pub fn note_trace_id(span: &Span) {
    if let Some(id) = span.in_scope(current_trace_id) {
        span.record("trace_id", id);
    }
}

/// The headers to send with an outbound call; none where there is no context.
pub fn trace_headers() -> Vec<(&'static str, String)> {
    current_traceparent().map(|value| (TRACEPARENT, value)).into_iter().collect()
}

/// The trace of here and now, 32 hexadecimal digits, as a person types it into a search for traces.
pub fn current_trace_id() -> Option<String> {
    current().map(|context| context.trace_id().to_string())
}

pub(super) fn current() -> Option<SpanContext> {
    let span = Span::current();
    if span.is_none() && !is_exporting() {
        return None;
    }
    // The span here may be one that is not exported (a DEBUG one); then the nearest exported one around it counts.
    [span.context(), Context::current()]
        .iter()
        .map(|context| context.span().span_context().clone())
        .find(SpanContext::is_valid)
        .or_else(|| inherited(&span))
}

fn inherited(span: &Span) -> Option<SpanContext> {
    span.with_subscriber(|(id, dispatch)| {
        let registry = dispatch.downcast_ref::<Registry>()?;
        registry.span(id)?.scope().find_map(|span| span.extensions().get::<Inherited>().map(|found| found.0.clone()))
    })?
}

pub(super) fn parse(traceparent: &str) -> Option<SpanContext> {
    let headers = HashMap::from([(TRACEPARENT.to_owned(), traceparent.to_owned())]);
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &headers);
    Some(context.span().span_context().clone()).filter(SpanContext::is_valid)
}

/// Keeps spans alive that no log line needs, because a context may hang on them.
pub(super) struct PassOn;

impl<S: tracing::Subscriber> Layer<S> for PassOn {}

/// The context that came in, on the span it came to.
struct Inherited(SpanContext);
