//! Compression: large JSON answers go out gzipped to clients that accept it.
//!
//! Streams never do (a frame must not wait in a compressor), and neither do errors and small answers.

use actix_web::{
    Error, HttpMessage,
    body::{BodySize, BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::header::{AcceptEncoding, CONTENT_ENCODING, CONTENT_TYPE, Encoding, Header, HeaderValue, VARY},
    middleware::Next,
    web,
};
use flate2::{Compression, write::GzEncoder};
use std::io::Write;

/// Smaller bodies fit a few packets as they are.
const LARGE: u64 = 2 * 1024;
/// Bodies from here on are compressed on a thread of their own, so that other requests do not wait.
const LONG_WORK: u64 = 128 * 1024;

/// Runs one request and compresses its answer where that is worth it.
pub async fn compress(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let accepted = accepts_gzip(&request);
    let response = next.call(request).await?.map_into_boxed_body();
    let size = match response.response().body().size() {
        BodySize::Sized(size) => size,
        BodySize::None | BodySize::Stream => return Ok(response),
    };
    let is_json = response.headers().get(CONTENT_TYPE).is_some_and(|value| value.as_bytes() == b"application/json");
    if size < LARGE || !is_json || !response.status().is_success() {
        return Ok(response);
    }
    let (request, response) = response.into_parts();
    let (mut response, body) = response.into_parts();
    response.headers_mut().append(VARY, HeaderValue::from_static("Accept-Encoding"));
    let plain = match body.try_into_bytes() {
        Ok(plain) if accepted => plain,
        Ok(plain) => return Ok(ServiceResponse::new(request, response.set_body(BoxBody::new(plain)))),
        Err(body) => return Ok(ServiceResponse::new(request, response.set_body(body))),
    };
    let zipped = match size < LONG_WORK {
        true => gzip(&plain),
        false => {
            let plain = plain.clone();
            web::block(move || gzip(&plain)).await.unwrap_or(None)
        }
    };
    let body = match zipped {
        Some(zipped) => {
            response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            BoxBody::new(zipped)
        }
        None => BoxBody::new(plain),
    };
    Ok(ServiceResponse::new(request, response.set_body(body)))
}

/// Whether the client says that it reads gzip.
pub fn accepts_gzip(request: &impl HttpMessage) -> bool {
    // Without the header anything may be sent (RFC 9110, 12.5.3), but a client that says nothing may know nothing.
    if !request.headers().contains_key("accept-encoding") {
        return false;
    }
    AcceptEncoding::parse(request).is_ok_and(|accepted| {
        accepted.negotiate([Encoding::gzip(), Encoding::identity()].iter()) == Some(Encoding::gzip())
    })
}

/// `None` when it does not work out: then the body goes as it is.
fn gzip(plain: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(plain.len() / 4), Compression::fast());
    encoder.write_all(plain).ok()?;
    encoder.finish().ok()
}
