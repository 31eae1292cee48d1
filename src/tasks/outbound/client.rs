//! Client: one request, its redirects, its bounds.
//!
//! Each request has an agent of its own, so that it can be cut off alone ([`Abort`](super::Abort)) and no connection outlives the
//! judgement that opened it. Names are resolved once per hop, by a resolver of our own; what it returns is what is
//! connected to, so a second DNS answer changes nothing.

use std::{
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use tracing::field::Empty;
use ureq::{
    Agent,
    config::Config,
    http::{self, Method, Uri},
    unversioned::{
        resolver::{ResolvedSocketAddrs, Resolver},
        transport::{DefaultConnector, NextTimeout},
    },
};

use super::{
    MAX_REDIRECTS,
    body::{self, Encoding},
    guard::{self, Policy},
    message::{Limits, OutboundError, Request, Response},
};

/// ureq keeps no more addresses of a name.
const MAX_ADDRESSES: usize = 16;

/// Headers that carry the trace context of the current span; called for every request, inside its span.
pub type TraceHeaders = fn() -> Vec<(&'static str, String)>;

type Lookup = Arc<dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync>;

/// Makes requests under one policy. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    policy: Arc<Policy>,
    lookup: Lookup,
    trace_headers: TraceHeaders,
}

impl Client {
    /// A client under this policy.
    pub fn new(policy: Policy) -> Self {
        let lookup: Lookup = Arc::new(|host, port| (host, port).to_socket_addrs().map(Iterator::collect));
        Self { policy: Arc::new(policy), lookup, trace_headers: Vec::new }
    }

    /// The same client, which sends these headers with every request.
    #[must_use]
    pub fn with_trace_headers(mut self, trace_headers: TraceHeaders) -> Self {
        self.trace_headers = trace_headers;
        self
    }

    /// The same client, which resolves names here.
    #[cfg(test)]
    pub(super) fn with_lookup(
        mut self,
        lookup: impl Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
    ) -> Self {
        self.lookup = Arc::new(lookup);
        self
    }

    /// Makes a request and follows its redirects. Any status is an answer; read it.
    pub fn send(&self, request: &Request<'_>) -> Result<Response, OutboundError> {
        let resolver = GuardedResolver { policy: self.policy.clone(), lookup: self.lookup.clone() };
        let agent = Agent::with_parts(configuration(), DefaultConnector::default(), resolver);
        request.abort.watch(&agent)?;
        let outcome = self.follow(request, &agent);
        if outcome.is_err() && request.abort.is_aborted() { Err(OutboundError::Aborted) } else { outcome }
    }

    fn follow(&self, request: &Request<'_>, agent: &Agent) -> Result<Response, OutboundError> {
        let ends = Instant::now() + request.limits.total;
        let mut url = guard::parse_url(request.url)?;
        for _ in 0..=MAX_REDIRECTS {
            self.policy.admit_url(&url)?;
            match self.one_hop(request, agent, &url, ends)? {
                Hop::Answer(response) => return Ok(response),
                Hop::Redirect(target) => url = target,
            }
        }
        Err(OutboundError::TooManyRedirects)
    }

    fn one_hop(&self, request: &Request<'_>, agent: &Agent, url: &Uri, ends: Instant) -> Result<Hop, OutboundError> {
        let span = tracing::info_span!(
            "http.client",
            otel.kind = "client",
            otel.name = %request.method,
            http.request.method = %request.method,
            url.scheme = url.scheme_str(),
            server.address = guard::host_of(url),
            server.port = guard::port_of(url),
            // Without its query, which may hold what is nobody's business.
            url.full = format!("{}://{}{}", url.scheme_str().unwrap_or("http"), url.authority().map_or("", |authority| authority.as_str()), url.path()),
            http.response.status_code = Empty,
            otel.status_code = Empty,
            error.type = Empty,
        );
        let _entered = span.enter();
        let outcome = self.exchange(request, agent, url, ends);
        match &outcome {
            Ok((status, _)) => {
                span.record("http.response.status_code", status);
                if *status >= 400 {
                    span.record("otel.status_code", "ERROR").record("error.type", status.to_string());
                }
            }
            Err(error) => {
                span.record("otel.status_code", "ERROR").record("error.type", error.code());
            }
        }
        outcome.map(|(_, hop)| hop)
    }

    fn exchange(
        &self,
        request: &Request<'_>,
        agent: &Agent,
        url: &Uri,
        ends: Instant,
    ) -> Result<(u16, Hop), OutboundError> {
        let limits = request.limits;
        let mut builder = http::Request::builder().method(&request.method).uri(url).header("accept-encoding", "gzip");
        for (name, value) in &request.headers {
            builder = builder.header(*name, value);
        }
        for (name, value) in (self.trace_headers)() {
            builder = builder.header(name, value);
        }
        let broken = |error: http::Error| OutboundError::Network(error.to_string());
        // A zero timeout means something else to ureq than "now": what is over is told here.
        let left = ends.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(OutboundError::Timeout("in all".to_owned()));
        }
        let response = match &request.body {
            None => agent.run(timed(agent, builder.body(()).map_err(broken)?, limits, left)),
            Some(body) => agent.run(timed(agent, builder.body(body.as_slice()).map_err(broken)?, limits, left)),
        }?;
        let (parts, body) = response.into_parts();
        let status = parts.status.as_u16();
        let location = parts.headers.get("location").filter(|_| request.method == Method::GET);
        if let (301 | 302 | 303 | 307 | 308, Some(location)) = (status, location) {
            return Ok((status, Hop::Redirect(guard::redirect_target(url, location.as_bytes())?)));
        }
        let text = |name| parts.headers.get(name).and_then(|value| value.to_str().ok());
        let body = if parts.status.is_success() {
            let encoding = Encoding::of(text("content-encoding"))?;
            if body.content_length().is_some_and(|length| length > limits.max_bytes as u64) {
                return Err(OutboundError::TooLarge { max_bytes: limits.max_bytes });
            }
            body::read(body.into_reader(), encoding, limits.max_bytes)?
        } else {
            Vec::new()
        };
        let response = Response { status, headers: parts.headers, final_url: url.to_string(), body };
        Ok((status, Hop::Answer(response)))
    }
}

enum Hop {
    Answer(Response),
    Redirect(Uri),
}

fn configuration() -> Config {
    Agent::config_builder()
        .proxy(None)
        .max_redirects(0)
        .http_status_as_error(false)
        .max_idle_connections(0)
        .max_response_header_size(64 * 1024)
        .build()
}

fn timed<B: ureq::AsSendBody>(
    agent: &Agent,
    request: http::Request<B>,
    limits: Limits,
    left: Duration,
) -> http::Request<B> {
    agent
        .configure_request(request)
        .timeout_global(Some(left))
        .timeout_resolve(Some(limits.resolve))
        .timeout_connect(Some(limits.connect))
        .timeout_recv_response(Some(limits.silence))
        .timeout_per_read(Some(limits.silence))
        .timeout_per_write(Some(limits.silence))
        .build()
}

/// Resolves a name once and lets through what the policy admits.
struct GuardedResolver {
    policy: Arc<Policy>,
    lookup: Lookup,
}

impl std::fmt::Debug for GuardedResolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GuardedResolver").field("policy", &self.policy).finish_non_exhaustive()
    }
}

impl Resolver for GuardedResolver {
    fn resolve(&self, uri: &Uri, _: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let (host, port) = (guard::host_of(uri).to_owned(), guard::port_of(uri));
        let resolved = match host.parse::<IpAddr>() {
            Ok(address) => vec![SocketAddr::new(address, port)],
            Err(_) => self.look_up(host, port, timeout)?,
        };
        if resolved.is_empty() {
            return Err(ureq::Error::HostNotFound);
        }
        let admitted =
            self.policy.admit_addresses(uri, resolved).map_err(|refusal| ureq::Error::Other(Box::new(refusal)))?;
        let mut addresses = self.empty();
        for address in admitted.into_iter().take(MAX_ADDRESSES) {
            addresses.push(address);
        }
        Ok(addresses)
    }
}

impl GuardedResolver {
    /// The system's resolver knows no timeout, so it gets a thread that may outlive our patience.
    fn look_up(&self, host: String, port: u16, timeout: NextTimeout) -> Result<Vec<SocketAddr>, ureq::Error> {
        let (answer, answered) = mpsc::sync_channel(1);
        let lookup = self.lookup.clone();
        std::thread::Builder::new()
            .name("resolve".to_owned())
            .spawn(move || drop(answer.send(lookup(&host, port))))
            .map_err(ureq::Error::Io)?;
        match answered.recv_timeout(*timeout.after) {
            Ok(Ok(addresses)) => Ok(addresses),
            Ok(Err(_)) | Err(mpsc::RecvTimeoutError::Disconnected) => Err(ureq::Error::HostNotFound),
            Err(mpsc::RecvTimeoutError::Timeout) => Err(ureq::Error::Timeout(timeout.reason)),
        }
    }
}
