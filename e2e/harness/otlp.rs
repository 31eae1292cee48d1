//! OTLP receiver: a collector for traces (OTLP over HTTP, protobuf bodies) that shows the spans it got.

use std::sync::{Arc, Mutex, PoisonError};

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::any_value,
    trace::v1::{span::SpanKind, status::StatusCode},
};
use prost::Message;

use super::{HttpServer, Reply};

/// One span, with its ids in hexadecimal.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// `service.name` of the process.
    pub service: String,
    /// Its name.
    pub name: String,
    /// 32 digits.
    pub trace_id: String,
    /// 16 digits.
    pub span_id: String,
    /// 16 digits, or empty for a root.
    pub parent_id: String,
    /// `server`, `client`, `producer`, `consumer` or `internal`.
    pub kind: &'static str,
    /// Ids of the spans that it is linked to.
    pub links: Vec<String>,
    /// Whether its status is an error.
    pub failed: bool,
    /// The attributes; numbers are written out.
    pub attributes: Vec<(String, String)>,
}

impl Span {
    /// An attribute.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }
}

/// A running collector.
pub struct OtlpReceiver {
    server: HttpServer,
    spans: Arc<Mutex<Vec<Span>>>,
}

impl OtlpReceiver {
    /// Starts one on a free port.
    pub fn start() -> Self {
        let spans = Arc::new(Mutex::new(Vec::new()));
        let sink = spans.clone();
        let server = HttpServer::start(move |request, _| {
            if request.path != "/v1/traces" || request.header("content-type") != Some("application/x-protobuf") {
                return Reply::Whole(404, vec![], Vec::new());
            }
            match ExportTraceServiceRequest::decode(request.body.as_slice()) {
                Ok(batch) => sink.lock().unwrap_or_else(PoisonError::into_inner).extend(flatten(batch)),
                Err(_) => return Reply::Whole(400, vec![], Vec::new()),
            }
            Reply::Whole(200, vec![("content-type", "application/x-protobuf".to_owned())], Vec::new())
        });
        Self { server, spans }
    }

    /// What `OTEL_EXPORTER_OTLP_ENDPOINT` should say.
    pub fn endpoint(&self) -> String {
        self.server.url("")
    }

    /// The spans so far.
    pub fn spans(&self) -> Vec<Span> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn flatten(batch: ExportTraceServiceRequest) -> Vec<Span> {
    let mut flat = Vec::new();
    for of_resource in batch.resource_spans {
        let resource = of_resource.resource.map(|resource| texts(resource.attributes)).unwrap_or_default();
        let service = resource.into_iter().find(|(name, _)| name == "service.name").map(|(_, value)| value);
        let service = service.unwrap_or_default();
        for span in of_resource.scope_spans.into_iter().flat_map(|of_scope| of_scope.spans) {
            flat.push(Span {
                service: service.clone(),
                name: span.name,
                kind: kind(span.kind),
                links: span.links.iter().map(|link| hexadecimal(&link.span_id)).collect(),
                failed: span.status.is_some_and(|status| status.code == StatusCode::Error as i32),
                trace_id: hexadecimal(&span.trace_id),
                span_id: hexadecimal(&span.span_id),
                parent_id: hexadecimal(&span.parent_span_id),
                attributes: texts(span.attributes),
            });
        }
    }
    flat
}

fn texts(attributes: Vec<opentelemetry_proto::tonic::common::v1::KeyValue>) -> Vec<(String, String)> {
    attributes
        .into_iter()
        .filter_map(|pair| match pair.value?.value? {
            any_value::Value::StringValue(text) => Some((pair.key, text)),
            any_value::Value::IntValue(number) => Some((pair.key, number.to_string())),
            _ => None,
        })
        .collect()
}

fn kind(number: i32) -> &'static str {
    match SpanKind::try_from(number) {
        Ok(SpanKind::Server) => "server",
        Ok(SpanKind::Client) => "client",
        Ok(SpanKind::Producer) => "producer",
        Ok(SpanKind::Consumer) => "consumer",
        _ => "internal",
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
