//! Request bodies: read whole, within bounds of size and time, and only as plain JSON.

use std::{pin::pin, time::Duration};

use actix_web::{
    HttpRequest,
    error::PayloadError,
    http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue},
    web::{Bytes, BytesMut, Payload},
};
use futures_util::{Stream, StreamExt};

use super::problem::{Code, Problem};

/// A body must be here this long after its headers.
const ARRIVAL: Duration = Duration::from_secs(30);
/// What comes after the limit is read and thrown away up to this many bytes and this long, so that a client that
/// sends first and reads second sees the 413 and not a broken connection.
const DISCARDED: usize = 64 * 1024 * 1024;
const DISCARDING: Duration = Duration::from_secs(5);

/// Reads the body of a request that must be JSON.
pub async fn read_json(request: &HttpRequest, payload: &mut Payload, limit: usize) -> Result<Bytes, Problem> {
    let type_check = check_type(request);
    let declared = header(request, CONTENT_LENGTH).and_then(|text| text.parse::<u64>().ok());
    if type_check.is_ok() && declared.is_none_or(|length| length <= limit as u64) {
        match tokio::time::timeout(ARRIVAL, collect(payload, limit)).await {
            Ok(Ok(Some(body))) => return Ok(body),
            Ok(Ok(None)) => {}
            Ok(Err(problem)) => return Err(problem),
            Err(_) => {
                let detail = format!("The body did not arrive within {} s of its headers.", ARRIVAL.as_secs());
                return Err(Problem::new(Code::RequestTimeout, detail));
            }
        }
    }
    let _ = tokio::time::timeout(DISCARDING, discard(&mut *payload)).await;
    type_check?;
    Err(Problem::new(Code::BodyTooLarge, format!("The body may have {limit} bytes at most.")))
}

/// Reads and throws away the body of a request that is refused before it is looked at.
pub async fn let_it_pass(payload: actix_web::dev::Payload) {
    let _ = tokio::time::timeout(DISCARDING, discard(payload)).await;
}

/// The whole body, or `None` when it is longer than the limit.
async fn collect(payload: &mut Payload, limit: usize) -> Result<Option<Bytes>, Problem> {
    let mut body = BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk =
            chunk.map_err(|error| Problem::new(Code::BadRequest, format!("The body cannot be read: {error}.")))?;
        if body.len() + chunk.len() > limit {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body.freeze()))
}

async fn discard(payload: impl Stream<Item = Result<Bytes, PayloadError>>) {
    let mut payload = pin!(payload);
    let mut left = DISCARDED;
    while let Some(Ok(chunk)) = payload.next().await {
        match left.checked_sub(chunk.len()) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

fn check_type(request: &HttpRequest) -> Result<(), Problem> {
    let essence = header(request, CONTENT_TYPE).unwrap_or_default().split(';').next().unwrap_or_default();
    let essence = essence.trim().to_ascii_lowercase();
    if essence != "application/json" && !(essence.starts_with("application/") && essence.ends_with("+json")) {
        return Err(Problem::new(Code::UnsupportedMediaType, "Send the body with Content-Type: application/json."));
    }
    match header(request, CONTENT_ENCODING) {
        None => Ok(()),
        Some(encoding) if encoding.trim().is_empty() || encoding.trim().eq_ignore_ascii_case("identity") => Ok(()),
        Some(_) => Err(Problem::new(Code::UnsupportedMediaType, "Compressed bodies are not accepted: send it plain.")
            .with_header(ACCEPT_ENCODING, HeaderValue::from_static("identity"))),
    }
}

fn header(request: &HttpRequest, name: HeaderName) -> Option<&str> {
    // A value that is no text is a value all the same: an unreadable Content-Encoding must not count as none.
    request.headers().get(name).map(|value| value.to_str().unwrap_or("?"))
}

#[cfg(test)]
mod tests {
    use actix_web::{FromRequest, test::TestRequest};

    use super::*;

    async fn read(request: TestRequest, limit: usize) -> Result<Bytes, Code> {
        let (request, mut payload) = request.to_http_parts();
        let mut payload = Payload::from_request(&request, &mut payload).await.unwrap();
        read_json(&request, &mut payload, limit).await.map_err(|problem| problem.code())
    }

    #[actix_web::test]
    async fn only_plain_json_within_the_limit() {
        let json = || TestRequest::post().insert_header(("content-type", "application/json; charset=utf-8"));
        assert_eq!(read(json().set_payload("12345"), 5).await, Ok(Bytes::from_static(b"12345")));
        assert_eq!(read(json().set_payload("123456"), 5).await, Err(Code::BodyTooLarge));
        let lying = json().set_payload("123456").insert_header(("content-length", "3"));
        assert_eq!(read(lying, 5).await, Err(Code::BodyTooLarge));
        let declared = json().set_payload("1").insert_header(("content-length", "99999999999"));
        assert_eq!(read(declared, 5).await, Err(Code::BodyTooLarge));
        let zipped = json().insert_header(("content-encoding", "gzip")).set_payload("12345");
        assert_eq!(read(zipped, 5).await, Err(Code::UnsupportedMediaType));
        for other in ["text/plain", "application/x-www-form-urlencoded", "json", ""] {
            let request = TestRequest::post().insert_header(("content-type", other)).set_payload("{}");
            assert_eq!(read(request, 5).await, Err(Code::UnsupportedMediaType), "{other}");
        }
        let own = TestRequest::post().insert_header(("content-type", "application/vnd.x+json")).set_payload("{}");
        assert_eq!(read(own, 5).await, Ok(Bytes::from_static(b"{}")));
    }
}
