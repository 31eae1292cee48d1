//! The frame around every request: its id, its span, and the body of every error.
//!
//! The outermost layer. Whatever comes out of the layers below, an error leaves as problem+json with the request's id
//! and path: also those that actix made itself.

use std::time::Instant;

use actix_web::{
    Error, HttpMessage,
    body::{BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::header::{CONTENT_TYPE, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS},
    middleware::Next,
    web::Data,
};
use tracing::{Instrument, Span, field::Empty};

use super::{Api, problem::Problem};
use crate::telemetry;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The id of a request: the caller's, where it is sane, or a new one.
#[derive(Debug, Clone)]
pub struct RequestId(pub String);

/// Runs one request.
pub async fn frame(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let id = request_id(&request);
    let path = request.path().to_owned();
    let route = request.match_pattern();
    let span = span_of(&request, route.as_deref(), &id, &path);
    let method = request.method().clone();
    let metrics = request.app_data::<Data<Api>>().map(|api| api.core.metrics.clone());
    let in_flight = metrics.as_ref().map(|metrics| metrics.http.in_flight());
    let began = Instant::now();
    request.extensions_mut().insert(RequestId(id.clone()));

    let outcome = next.call(request).instrument(span.clone()).await;
    let mut response = match outcome {
        Ok(response) => response.map_into_boxed_body(),
        // Only a layer without a request of its own ends here, and its error still knows how to answer.
        Err(error) => return Err(error),
    };
    let status = response.status();
    span.record("http.response.status_code", status.as_u16());
    if status.is_server_error() {
        span.record("otel.status_code", "ERROR");
        span.record("error.type", status.as_str());
    }
    if status.is_client_error() || status.is_server_error() {
        response = with_problem_body(response, &span, &path, &id);
    }
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Ok(value) = HeaderValue::from_str(&id) {
        headers.insert(X_REQUEST_ID, value);
    }
    drop(in_flight);
    if let Some(metrics) = metrics {
        metrics.http.answered(method.as_str(), route.as_deref(), status.as_u16(), began.elapsed());
    }
    span.in_scope(|| tracing::debug!(status = status.as_u16(), "answered"));
    Ok(response)
}

/// The span of a request, named and filled as OpenTelemetry's semantic conventions for HTTP servers say.
fn span_of(request: &ServiceRequest, route: Option<&str>, id: &str, path: &str) -> Span {
    let parent = request.headers().get("traceparent").and_then(|value| value.to_str().ok());
    if !telemetry::wants_span(parent) {
        return Span::none();
    }
    let method = request.method().as_str();
    let name = match route {
        Some(route) => format!("{method} {route}"),
        None => method.to_owned(),
    };
    let span = tracing::info_span!(
        "request",
        otel.name = name,
        otel.kind = "server",
        otel.status_code = Empty,
        http.request.method = method,
        http.route = route,
        http.response.status_code = Empty,
        url.path = path,
        url.scheme = "http",
        error.type = Empty,
        request.id = id,
        trace_id = Empty,
    );
    if let Some(parent) = parent {
        telemetry::set_parent_from_header(&span, parent);
    }
    if parent.is_some() || telemetry::is_exporting() {
        telemetry::note_trace_id(&span);
    }
    span
}

fn with_problem_body(response: ServiceResponse, span: &Span, path: &str, id: &str) -> ServiceResponse {
    let (request, response) = response.into_parts();
    let known = response.extensions().get::<Problem>().cloned();
    let problem = known.unwrap_or_else(|| {
        let text = response.error().map(ToString::to_string);
        if response.status().is_server_error() {
            let error = text.as_deref().unwrap_or("no error was given");
            span.in_scope(|| tracing::error!(error, "a request failed"));
        }
        Problem::from_status(response.status(), text)
    });
    let trace_id = span.in_scope(telemetry::current_trace_id);
    let mut response = response.set_body(BoxBody::new(problem.body(path, id, trace_id.as_deref())));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    ServiceResponse::new(request, response)
}

/// The caller's `X-Request-Id` when it can be printed in a header, a log line and a JSON string as it is.
fn request_id(request: &ServiceRequest) -> String {
    let is_sane = |id: &&str| {
        (1..=128).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:/+=@".contains(&byte))
    };
    match request.headers().get(X_REQUEST_ID).and_then(|value| value.to_str().ok()).filter(is_sane) {
        Some(id) => id.to_owned(),
        None => format!("{:032x}", rand::random::<u128>()),
    }
}

#[cfg(test)]
mod tests {
    use actix_web::{App, http::StatusCode, middleware::from_fn, test, web};
    use serde_json::Value;

    use super::*;
    use crate::serve::routes;

    async fn answer(request: test::TestRequest) -> (StatusCode, actix_web::http::header::HeaderMap, Value) {
        let app = test::init_service(App::new().wrap(from_fn(frame)).configure(routes::all)).await;
        let response = test::call_service(&app, request.to_request()).await;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = test::read_body(response).await;
        (status, headers, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    #[actix_web::test]
    async fn unknown_paths_and_wrong_methods_are_problems() {
        let request = test::TestRequest::get().uri("/nothing?x=1").insert_header(("x-request-id", "mine-1"));
        let (status, headers, body) = answer(request).await;
        assert_eq!(status, 404);
        assert_eq!(headers.get("content-type").unwrap(), "application/problem+json");
        assert_eq!(headers.get("x-request-id").unwrap(), "mine-1");
        assert_eq!(body["code"], "path_not_found");
        assert_eq!(body["instance"], "/nothing");
        assert_eq!(body["request_id"], "mine-1");

        let (status, headers, body) = answer(test::TestRequest::put().uri("/tasks")).await;
        assert_eq!(status, 405);
        assert_eq!(headers.get("allow").unwrap(), "GET, HEAD, POST, OPTIONS");
        assert_eq!(body["code"], "method_not_allowed");
    }

    #[actix_web::test]
    async fn a_path_tells_its_methods() {
        let request = test::TestRequest::default().method(actix_web::http::Method::OPTIONS).uri("/tasks/x");
        let (status, headers, _) = answer(request).await;
        assert_eq!(status, 204);
        assert_eq!(headers.get("allow").unwrap(), "GET, HEAD, DELETE, OPTIONS");
    }

    #[actix_web::test]
    async fn strange_request_ids_are_replaced() {
        let request = test::TestRequest::get().uri("/nothing").insert_header(("x-request-id", "a b\"c"));
        let (_, headers, body) = answer(request).await;
        assert_eq!(body["request_id"].as_str().unwrap().len(), 32);
        assert_eq!(headers.get("x-request-id").unwrap().to_str().unwrap(), body["request_id"]);
    }

    #[actix_web::test]
    async fn errors_of_actix_itself_become_problems() {
        async fn broken(_: web::Json<u32>) -> &'static str {
            "never"
        }
        let app = test::init_service(
            App::new().wrap(from_fn(frame)).service(web::resource("/x").route(web::post().to(broken))),
        )
        .await;
        let request = test::TestRequest::post().uri("/x").insert_header(("content-type", "application/json"));
        let response = test::call_service(&app, request.set_payload("{").to_request()).await;
        assert_eq!(response.status(), 400);
        assert_eq!(response.headers().get("content-type").unwrap(), "application/problem+json");
    }
}
