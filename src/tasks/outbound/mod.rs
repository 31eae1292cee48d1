//! Outbound: the guarded HTTP client, through which every request of a task leaves the process.
//!
//! Whoever submits a task chooses what is requested, from inside our network. So nothing private is reached: [`guard`]
//! decides over URLs and addresses, a [`Client`] resolves a name once per hop and connects to the very addresses that
//! were judged, follows redirects itself, and reads no more than it was told to. No proxy is taken from the
//! environment: it would resolve names behind the guard's back.
//!
//! Everything here blocks. Call it inside [`Context::blocking`](super::Context::blocking), with an [`Abort`] that cuts
//! the connection when the attempt is asked to stop.

mod abort;
mod body;
pub mod breaker;
mod client;
pub mod guard;
mod message;
pub mod retry;

use std::sync::Arc;

pub use abort::{Abort, AbortOnDrop};
use breaker::Breaker;
pub use client::{Client, TraceHeaders};
use guard::{Policy, Refusal};
pub use message::{Limits, OutboundError, Request, Response};

use crate::config;

/// More redirects than this are a loop.
const MAX_REDIRECTS: usize = 5;

/// The client of a process. Cheap to clone.
#[derive(Clone)]
pub struct Outbound {
    public: Client,
    vector_sink: Option<Arc<Endpoint>>,
}

/// An address that the operator has set, with a client that reaches it and nothing else, and the breaker that all
/// tasks of the process share.
pub struct Endpoint {
    /// The URL.
    pub url: String,
    /// Reaches the URL's host and port only.
    pub client: Client,
    /// Opens when the service behind the URL fails.
    pub breaker: Breaker,
}

/// A setting names an address that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{setting}: {reason}")]
pub struct InvalidEndpoint {
    setting: &'static str,
    reason: Refusal,
}

impl Outbound {
    /// The client with an operator's settings; fails when `APP_VECTOR_SINK_URL` is not an http or https URL.
    pub fn new(settings: &config::Outbound) -> Result<Self, InvalidEndpoint> {
        let public = Policy::Public { allow: settings.outbound_allow.clone(), ports: settings.outbound_ports.clone() };
        let vector_sink = match &settings.vector_sink_url {
            None => None,
            Some(url) => Some(Arc::new(
                Endpoint::new(url.expose())
                    .map_err(|reason| InvalidEndpoint { setting: "APP_VECTOR_SINK_URL", reason })?,
            )),
        };
        Ok(Self { public: Client::new(public), vector_sink })
    }

    /// The same client, which sends these headers with every request: the W3C trace context of the current span.
    #[must_use]
    pub fn with_trace_headers(mut self, trace_headers: TraceHeaders) -> Self {
        self.public = self.public.with_trace_headers(trace_headers);
        self.vector_sink = self.vector_sink.map(|sink| {
            Arc::new(Endpoint {
                url: sink.url.clone(),
                client: sink.client.clone().with_trace_headers(trace_headers),
                breaker: Breaker::default(),
            })
        });
        self
    }

    /// Makes a request that a task's input asks for, under the strict policy.
    pub fn send(&self, request: &Request<'_>) -> Result<Response, OutboundError> {
        self.public.send(request)
    }

    /// Where `vector_processing` sends its chunks, if the operator has set that.
    pub fn vector_sink(&self) -> Option<&Arc<Endpoint>> {
        self.vector_sink.as_ref()
    }
}

impl Endpoint {
    /// Fails when it is not an http or https URL.
    pub fn new(url: &str) -> Result<Self, Refusal> {
        let policy = Policy::exactly(&guard::parse_url(url)?);
        Ok(Self { url: url.to_owned(), client: Client::new(policy), breaker: Breaker::default() })
    }
}

#[cfg(test)]
mod tests;
