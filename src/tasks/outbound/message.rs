//! Message: a request to be made, its answer, and why there is none.

use std::time::{Duration, SystemTime};

use ureq::http::{HeaderMap, Method};

use super::{MAX_REDIRECTS, abort::Abort, guard::Refusal, retry};
use crate::core::model::TaskId;

/// How much time and memory a request may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// From the first lookup to the last byte, redirects included.
    pub total: Duration,
    /// For one name to be resolved.
    pub resolve: Duration,
    /// For one connection, TLS included.
    pub connect: Duration,
    /// For each answer to begin, and between two pieces of a body.
    pub silence: Duration,
    /// Decoded bytes of the body.
    pub max_bytes: usize,
}

impl Default for Limits {
    /// 30 s in all, 5 s to resolve, 5 s to connect, 15 s of silence, 5 MiB.
    fn default() -> Self {
        Self {
            total: Duration::from_secs(30),
            resolve: Duration::from_secs(5),
            connect: Duration::from_secs(5),
            silence: Duration::from_secs(15),
            max_bytes: 5 * 1024 * 1024,
        }
    }
}

/// A request to be made.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    pub(super) method: Method,
    pub(super) url: &'a str,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Option<Vec<u8>>,
    pub(super) limits: Limits,
    pub(super) abort: Abort,
}

impl<'a> Request<'a> {
    /// A GET. Its redirects are followed.
    pub fn get(url: &'a str) -> Self {
        Self::new(Method::GET, url, None)
    }

    /// A POST of JSON. Its redirects are not followed: the body was meant for this address.
    pub fn post_json(url: &'a str, body: Vec<u8>) -> Self {
        Self::new(Method::POST, url, Some(body)).header("content-type", "application/json")
    }

    fn new(method: Method, url: &'a str, body: Option<Vec<u8>>) -> Self {
        Self { method, url, headers: Vec::new(), body, limits: Limits::default(), abort: Abort::default() }
    }

    /// Sends a header.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Lets the receiver see repetitions: `Idempotency-Key` is the same over all deliveries of the task's step,
    /// `X-Task-Delivery` rises with each, so a receiver can refuse an older one.
    #[must_use]
    pub fn step_of(self, task: TaskId, step: &str, delivery: i32) -> Self {
        self.header("idempotency-key", format!("{task}:{step}")).header("x-task-delivery", delivery.to_string())
    }

    /// Other limits than the usual ones.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Cut off when this is asked for.
    #[must_use]
    pub fn abort_with(mut self, abort: &Abort) -> Self {
        self.abort = abort.clone();
        self
    }
}

/// An answer.
#[derive(Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// The URL that answered, after redirects.
    pub final_url: String,
    /// The decoded body; empty unless the status is 2xx, since nothing else is wanted of the others.
    pub body: Vec<u8>,
}

impl Response {
    /// A header, when it is there and is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// How long the server asks to wait, at most an hour.
    pub fn retry_after(&self) -> Option<Duration> {
        retry::parse_retry_after(self.header("retry-after")?, SystemTime::now())
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum OutboundError {
    /// The guard refuses it. Permanent.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// More redirects than 5. Permanent.
    #[error("more than {MAX_REDIRECTS} redirects")]
    TooManyRedirects,
    /// The body is larger than the limit, or expands like a bomb. Permanent.
    #[error("the answer is larger than {max_bytes} bytes, or expands more than two-hundredfold")]
    TooLarge {
        /// The limit.
        max_bytes: usize,
    },
    /// The body is packed in a way that was not asked for. Permanent.
    #[error("the answer is compressed in another way than gzip, which is all that was asked for")]
    UnknownEncoding,
    /// It took too long. Worth another attempt.
    #[error("the server took too long ({0})")]
    Timeout(String),
    /// Resolving, connecting, TLS or the protocol failed. Worth another attempt.
    #[error("the request failed: {0}")]
    Network(String),
    /// It was cut off by [`Abort`].
    #[error("the request was cut off")]
    Aborted,
}

impl OutboundError {
    /// Stable, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            OutboundError::Refused(refusal) => refusal.code(),
            OutboundError::TooManyRedirects => "too_many_redirects",
            OutboundError::TooLarge { .. } => "response_too_large",
            OutboundError::UnknownEncoding => "content_encoding",
            OutboundError::Timeout(_) => "network_timeout",
            OutboundError::Network(_) => "network",
            OutboundError::Aborted => "aborted",
        }
    }

    /// Whether another attempt could end otherwise.
    pub fn is_permanent(&self) -> bool {
        !matches!(self, OutboundError::Timeout(_) | OutboundError::Network(_) | OutboundError::Aborted)
    }
}

impl From<ureq::Error> for OutboundError {
    fn from(error: ureq::Error) -> Self {
        match error {
            ureq::Error::Timeout(which) => OutboundError::Timeout(which.to_string()),
            ureq::Error::HostNotFound => OutboundError::Network("the name of the host cannot be resolved".to_owned()),
            ureq::Error::Other(inner) => match inner.downcast::<Refusal>() {
                Ok(refusal) => OutboundError::Refused(*refusal),
                Err(inner) => OutboundError::Network(inner.to_string()),
            },
            other => OutboundError::Network(other.to_string()),
        }
    }
}
