//! Calls: spans for what was asked of PostgreSQL and Redis, and for what should be seen before it ends.
//!
//! Named and filled as OpenTelemetry's semantic conventions for database clients say; the name is that of the verb, and
//! neither the text of a statement nor its values are in it. One statement serves the tasks of many requests, so a call
//! is noted when it is over, in the trace of each task that it was made for. Where nothing is exported this costs one
//! look at a static, and a trace that is not sampled gets nothing.

use std::{
    sync::{Arc, OnceLock},
    time::SystemTime,
};

use opentelemetry::{
    Context, KeyValue,
    trace::{Span as _, SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt},
};
use opentelemetry_sdk::trace::SdkTracer;

use super::trace;

static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// Whether spans of this process go anywhere.
pub fn is_exporting() -> bool {
    TRACER.get().is_some()
}

/// From here on spans are made with this tracer.
pub(super) fn begin_to_export(tracer: SdkTracer) {
    // A process is set up once; whoever comes second keeps the first.
    let _ = TRACER.set(tracer);
}

/// A server that is called.
#[derive(Debug, Clone)]
pub struct Server {
    attributes: Arc<[KeyValue]>,
}

/// A call that is on its way.
pub struct Call<'a> {
    server: &'a Server,
    tracer: &'static SdkTracer,
    name: &'static str,
    began: SystemTime,
}

impl Server {
    /// `system` is its name in the conventions, `postgresql` or `redis`; `namespace` is the database in it.
    pub fn new(system: &'static str, address: &str, port: u16, namespace: &str) -> Self {
        let text = |text: &str| -> Arc<str> { text.into() };
        let attributes = [
            KeyValue::new("db.system.name", system),
            KeyValue::new("server.address", text(address)),
            KeyValue::new("server.port", i64::from(port)),
            KeyValue::new("db.namespace", text(namespace)),
        ];
        Self { attributes: Arc::new(attributes) }
    }

    /// A call begins; `None` where nothing is exported.
    pub fn call(&self, name: &'static str) -> Option<Call<'_>> {
        let tracer = TRACER.get()?;
        Some(Call { server: self, tracer, name, began: SystemTime::now() })
    }
}

impl Call<'_> {
    /// It is over, and was made for whoever runs here and now.
    pub fn ended_here(self, error: Option<&str>) {
        if let Some(parent) = trace::current() {
            self.note(parent, 1, error);
        }
    }

    /// It is over, and was made for the tasks of these traces, each given by the `traceparent` to hang it under.
    pub fn ended_for<'t>(self, traceparents: impl Iterator<Item = &'t str>, error: Option<&str>) {
        let parents: Vec<SpanContext> = traceparents.filter_map(trace::parse).collect();
        let size = parents.len();
        parents.into_iter().for_each(|parent| self.note(parent, size, error));
    }

    fn note(&self, parent: SpanContext, size: usize, error: Option<&str>) {
        if !parent.is_sampled() {
            return;
        }
        let mut attributes = self.server.attributes.to_vec();
        attributes.push(KeyValue::new("db.operation.name", self.name));
        attributes.push(KeyValue::new("db.query.summary", self.name));
        if size > 1 {
            attributes.push(KeyValue::new("db.operation.batch.size", size as i64));
        }
        let mut span = SpanBuilder::from_name(self.name)
            .with_kind(SpanKind::Client)
            .with_start_time(self.began)
            .with_attributes(attributes)
            .start_with_context(self.tracer, &Context::new().with_remote_span_context(parent));
        if let Some(error) = error {
            span.set_attribute(KeyValue::new("error.type", error.to_owned()));
            span.set_status(Status::error(error.to_owned()));
        }
        span.end();
    }
}

/// Sends a short span under the one of here and now, which may go on for hours and is not sent before it ends.
pub fn show_that_it_runs(name: String, began: SystemTime) {
    if let (Some(tracer), Some(parent)) = (TRACER.get(), trace::current())
        && parent.is_sampled()
    {
        let parent = Context::new().with_remote_span_context(parent);
        SpanBuilder::from_name(name).with_start_time(began).start_with_context(tracer, &parent).end();
    }
}
