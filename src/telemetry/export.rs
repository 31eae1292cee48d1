//! Export: spans to a collector, OTLP over HTTP with protobuf bodies, from a thread of its own.
//!
//! Of the standard variables the SDK's own code reads those of the sampler, the headers, the resource and the limits of a
//! span; [`variables`](super::variables) has the others.

use std::{
    pin::Pin,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use opentelemetry::{KeyValue, trace::TracerProvider as _};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracer, SdkTracerProvider},
};
use tracing_opentelemetry::OpenTelemetryLayer;
use tracing_subscriber::Registry;
use url::Url;

use super::variables::{
    MAX_BATCH_SIZE, MAX_QUEUE_SIZE, Number, SCHEDULE_DELAY, TIMEOUT, TRACES_TIMEOUT, from_environment, is_switched_off,
};
use crate::config::{self, SettingError};

/// How long a process that leaves waits for its last spans.
pub(super) const FLUSH_TIMEOUT: Duration = Duration::from_secs(3);
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const TRACES_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
/// A collector that stays away is reported this often.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(60);
/// What a collector answers is a few bytes; more is not read.
const MAX_ANSWER_BYTES: u64 = 64 * 1024;

/// Where spans go: as the variable for traces alone says or, without it, below the base URL. `None` where they go nowhere.
pub(super) fn endpoint(telemetry: &config::Telemetry) -> Result<Option<String>, SettingError> {
    if is_switched_off(from_environment) {
        return Ok(None);
    }
    if let Some(url) = from_environment(TRACES_ENDPOINT) {
        return checked(&url, TRACES_ENDPOINT, "http://host:4318/v1/traces").map(Some);
    }
    match telemetry.otlp_endpoint.as_ref().map(|base| base.expose().trim().trim_end_matches('/')) {
        None | Some("") => Ok(None),
        Some(base) => checked(&format!("{base}/v1/traces"), ENDPOINT, "http://host:4318").map(Some),
    }
}

/// The URL as every library reads it, with whatever is odd in it escaped.
fn checked(url: &str, name: &str, example: &str) -> Result<String, SettingError> {
    match Url::parse(url.trim()) {
        Ok(parsed) if ["http", "https"].contains(&parsed.scheme()) => Ok(parsed.into()),
        _ => Err(SettingError::new(format!("{name} is not the URL of a collector: write {example}"))),
    }
}

/// A provider whose spans go to this URL.
pub(super) fn provider(endpoint: &str, role: &str) -> Result<SdkTracerProvider, SettingError> {
    let timeout = if TRACES_TIMEOUT.is_set(from_environment) { TRACES_TIMEOUT } else { TIMEOUT };
    let timeout = Duration::from_millis(timeout.read(from_environment));
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(CollectorClient::new(timeout))
        .with_protocol(Protocol::HttpBinary)
        .with_timeout(timeout)
        .with_endpoint(endpoint)
        .build()
        // Its own words repeat the URL, which may hold a secret.
        .map_err(|_| SettingError::new(format!("{ENDPOINT}, or {TRACES_ENDPOINT}, cannot be used")))?;
    let size = |number: Number| usize::try_from(number.read(from_environment)).unwrap_or(usize::MAX);
    let batches = BatchConfigBuilder::default()
        .with_scheduled_delay(Duration::from_millis(SCHEDULE_DELAY.read(from_environment)))
        .with_max_queue_size(size(MAX_QUEUE_SIZE))
        .with_max_export_batch_size(size(MAX_BATCH_SIZE));
    let processor = BatchSpanProcessor::builder(exporter).with_batch_config(batches.build()).build();
    Ok(SdkTracerProvider::builder().with_span_processor(processor).with_resource(resource(role)).build())
}

/// The layer that turns the crate's `tracing` spans into spans of this provider.
pub(super) fn layer(provider: &SdkTracerProvider) -> OpenTelemetryLayer<Registry, SdkTracer> {
    tracing_opentelemetry::layer().with_threads(false).with_location(false).with_tracer(tracer(provider))
}

/// For spans that are made without `tracing`.
pub(super) fn tracer(provider: &SdkTracerProvider) -> SdkTracer {
    provider.tracer("longrun")
}

fn resource(role: &str) -> Resource {
    let named = from_environment("OTEL_SERVICE_NAME").is_some()
        || from_environment("OTEL_RESOURCE_ATTRIBUTES")
            .is_some_and(|all| all.split(',').any(|pair| pair.trim_start().starts_with("service.name=")));
    let resource = Resource::builder().with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
    if named { resource.build() } else { resource.with_service_name(format!("longrun-{role}")).build() }
}

/// The way to the collector: `ureq`, which the crate has anyway, with every wait bounded. It blocks, and may, because
/// the SDK calls it from the export thread only.
#[derive(Debug)]
struct CollectorClient {
    agent: ureq::Agent,
    last_complaint: Mutex<Option<Instant>>,
}

impl CollectorClient {
    fn new(timeout: Duration) -> Self {
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(timeout))
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .user_agent(concat!("longrun/", env!("CARGO_PKG_VERSION")))
            .build()
            .new_agent();
        Self { agent, last_complaint: Mutex::new(None) }
    }

    fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let sent = self.agent.run(request.map(|body| body.to_vec())).and_then(|answer| {
            let (parts, mut body) = answer.into_parts();
            let body = body.with_config().limit(MAX_ANSWER_BYTES).read_to_vec()?;
            Ok(Response::from_parts(parts, Bytes::from(body)))
        });
        match &sent {
            Ok(answer) if answer.status().is_success() => {}
            Ok(answer) => self.complain(&format!("it answered {}", answer.status())),
            Err(error) => self.complain(&error.to_string()),
        }
        sent.map_err(Into::into)
    }

    fn complain(&self, reason: &str) {
        let mut last = self.last_complaint.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|at| at.elapsed() >= COMPLAINT_INTERVAL) {
            *last = Some(Instant::now());
            tracing::warn!(reason, "the OpenTelemetry collector takes no spans; they are dropped until it does");
        }
    }
}

impl HttpClient for CollectorClient {
    fn send_bytes<'client, 'answer>(
        &'client self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'answer>>
    where
        'client: 'answer,
        Self: 'answer,
    {
        Box::pin(async move { self.send(request) })
    }
}
