//! Api: requests to a server over its public HTTP API, repeated where that is safe.

use std::{
    io::Read,
    sync::Arc,
    time::{Duration, Instant},
};

use serde::de::IgnoredAny;
use ureq::{
    BodyReader,
    http::{self, HeaderMap, Method},
    unversioned::{
        resolver::DefaultResolver,
        transport::{Connector, DefaultConnector},
    },
};
use url::{Host, Url};

use super::{
    exit::Exit,
    failure::Failure,
    screen::{Screen, Talk},
    silence::{NoLongSilence, SILENCE},
    time::Clock,
    wire,
};
use crate::config::Secret;

/// What a stream is (WHATWG HTML, 9.2).
const STREAM: &str = "text/event-stream";
/// For a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// For an answer that is not held.
const ANSWER: Duration = Duration::from_secs(30);
/// The longest that the API holds an answer.
pub const LONGEST_HOLD: Duration = Duration::from_secs(50);
/// Between the first two tries; doubled from try to try.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A server.
pub struct Api {
    base: Url,
    token: Option<Secret>,
    agent: ureq::Agent,
    streams: ureq::Agent,
    patience: Duration,
    screen: Screen,
    /// The server's.
    pub clock: Clock,
}

/// What to ask.
pub struct Request<'a> {
    method: Method,
    /// With its query.
    path: &'a str,
    headers: Vec<(&'static str, String)>,
    body: Option<String>,
    repeat: Repeat,
    hold: Duration,
    /// For the answer, beside the time that it is held.
    limit: Duration,
}

/// When a request may be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Repeat {
    /// Also when the server may have done it: it is the same, done once or twice.
    Always,
    /// Only when the server has surely not done it.
    Refused,
}

/// An answer that is no error.
pub struct Answer {
    pub headers: HeaderMap,
    pub body: String,
}

impl Answer {
    /// The path of the next page (RFC 8288).
    pub fn next(&self) -> Option<&str> {
        let link = self.headers.get("link")?.to_str().ok()?;
        let (target, parameters) = link.strip_prefix('<')?.split_once('>')?;
        parameters.contains("rel=\"next\"").then_some(target)
    }
}

/// How a try went wrong.
enum Mishap {
    /// The server did not get the request.
    Unreached(String),
    /// Whether it did is not known.
    NoAnswer(String),
    /// It says that it cannot just now, and when it can.
    Busy(Failure, Option<Duration>),
    /// Nothing that another try would change.
    Final(Failure),
}

impl<'a> Request<'a> {
    /// GET.
    pub fn get(path: &'a str) -> Self {
        Self {
            method: Method::GET,
            path,
            headers: Vec::new(),
            body: None,
            repeat: Repeat::Always,
            hold: Duration::ZERO,
            limit: ANSWER,
        }
    }

    /// DELETE.
    pub fn delete(path: &'a str) -> Self {
        Self { method: Method::DELETE, ..Self::get(path) }
    }

    /// POST of something that must not happen twice.
    pub fn post(path: &'a str, body: String) -> Self {
        Self { method: Method::POST, body: Some(body), repeat: Repeat::Refused, ..Self::get(path) }
    }

    /// With the key that makes a repeated POST the same one.
    pub fn with_key(mut self, key: &str) -> Self {
        self.headers.push(("idempotency-key", key.to_owned()));
        Self { repeat: Repeat::Always, ..self }
    }

    /// Of an answer that is not waited for any longer than this.
    pub fn within(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    /// Of an answer that the server holds for so long.
    pub fn held(self, hold: Duration) -> Self {
        Self { hold, ..self }
    }
}

impl Api {
    /// A server at this address.
    pub fn new(base: Url, token: Option<Secret>, patience: Duration, screen: Screen) -> Self {
        let loopback = match base.host() {
            Some(Host::Ipv4(ip)) => ip.is_loopback(),
            Some(Host::Ipv6(ip)) => ip.is_loopback(),
            Some(Host::Domain(name)) => name == "localhost",
            None => false,
        };
        let configuration = || {
            let mut builder = ureq::Agent::config_builder()
                .http_status_as_error(false)
                // The token is for this address and no other.
                .max_redirects(0)
                .user_agent(concat!("longrun-app/", env!("CARGO_PKG_VERSION")))
                .timeout_connect(Some(CONNECT));
            if loopback {
                builder = builder.proxy(None);
            }
            builder
        };
        let streams = configuration().timeout_recv_response(Some(SILENCE)).max_idle_connections(0).build();
        Self {
            base,
            token: token.filter(|token| !token.is_empty()),
            agent: configuration().build().new_agent(),
            streams: ureq::Agent::with_parts(
                streams,
                DefaultConnector::default().chain(NoLongSilence),
                DefaultResolver::default(),
            ),
            patience,
            screen,
            clock: Clock::default(),
        }
    }

    /// The address of a path, for people.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base.as_str().trim_end_matches('/'))
    }

    /// GET.
    pub fn get(&self, path: &str) -> Result<Answer, Failure> {
        self.send(&Request::get(path))
    }

    /// A request, again and again while that can help and the patience lasts.
    pub fn send(&self, request: &Request<'_>) -> Result<Answer, Failure> {
        let began = Instant::now();
        let mut pause = FIRST_PAUSE;
        let mut told = false;
        loop {
            let (failure, wait) = match self.once(request) {
                Ok(answer) => return Ok(answer),
                Err(Mishap::Final(failure)) => return Err(failure),
                Err(Mishap::NoAnswer(text)) if request.repeat == Repeat::Refused => {
                    let text = format!("no answer from {}: {text}. Whether it was done is not known: look", self.base);
                    return Err(Failure::new(Exit::Away, text));
                }
                Err(Mishap::NoAnswer(text) | Mishap::Unreached(text)) => {
                    let hint = "is it running, and is --url (APP_URL) right?";
                    (Failure::new(Exit::Away, format!("no connection to {}: {text}; {hint}", self.base)), None)
                }
                Err(Mishap::Busy(failure, wait)) => (failure, wait),
            };
            let wait = wait.unwrap_or_else(|| jittered(pause));
            if began.elapsed() + wait > self.patience {
                return Err(failure);
            }
            if !told {
                let reason = self.screen.err.safe(failure.message.lines().next().unwrap_or_default());
                self.screen.hint(&format!("{reason}; trying again for {}", humantime::format_duration(self.patience)));
                told = true;
            }
            std::thread::sleep(wait);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// A request that is worth one try and no word: for what is good to know and not needed.
    pub fn try_once(&self, request: &Request<'_>) -> Option<Answer> {
        self.once(request).ok()
    }

    fn once(&self, request: &Request<'_>) -> Result<Answer, Mishap> {
        let began = Instant::now();
        let broken = |error: http::Error| Mishap::Final(Failure::usage(error.to_string()));
        let mut builder = self.builder(&request.method, request.path);
        for (name, value) in &request.headers {
            builder = builder.header(*name, value);
        }
        let limit = request.limit + request.hold;
        let answered = match &request.body {
            None => self.agent.run(
                self.agent.configure_request(builder.body(()).map_err(broken)?).timeout_global(Some(limit)).build(),
            ),
            Some(body) => {
                let builder = builder.header("content-type", "application/json");
                let request = builder.body(body.as_str()).map_err(broken)?;
                self.agent.run(self.agent.configure_request(request).timeout_global(Some(limit)).build())
            }
        };
        let (parts, mut body) = answered.map_err(mishap)?.into_parts();
        let mut bytes = Vec::new();
        body.as_reader().read_to_end(&mut bytes).map_err(|error| Mishap::NoAnswer(error.to_string()))?;
        let body = String::from_utf8_lossy(&bytes).into_owned();
        self.note(request, parts.status.as_u16(), &parts.headers, began.elapsed());
        if parts.status.is_success() || parts.status == 304 {
            if !body.is_empty() {
                // Whatever becomes of it: another program answers with something else.
                wire::read::<IgnoredAny>(&body).map_err(Mishap::Final)?;
            }
            return Ok(Answer { headers: parts.headers, body });
        }
        Err(refusal(parts.status.as_u16(), &parts.headers, &body))
    }

    /// Opens the stream of a task, from after the event with this number.
    pub fn stream(&self, id: &str, after: i64) -> Result<Opened, Failure> {
        let began = Instant::now();
        let path = format!("/tasks/{id}/stream");
        let request = self
            .builder(&Method::GET, &path)
            .header("accept", STREAM)
            .header("last-event-id", after.to_string())
            .body(())
            .map_err(|error| Failure::usage(error.to_string()))?;
        let answer = self.streams.run(request).map_err(|error| Failure::new(Exit::Away, words_of(&error)))?;
        let (parts, mut body) = answer.into_parts();
        self.note(&Request::get(&path), parts.status.as_u16(), &parts.headers, began.elapsed());
        match parts.status.as_u16() {
            200 => match parts.headers.get("content-type").map(|value| value.to_str().unwrap_or_default()) {
                Some(other) if !other.starts_with(STREAM) => Err(Failure::unexpected(format!(
                    "the answer is no stream of events but {other:?}: is it a longrun server?"
                ))),
                _ => Ok(Opened::Stream(body.into_reader())),
            },
            204 => Ok(Opened::Over),
            status => {
                let mut text = String::new();
                let _ = body.as_reader().take(64 * 1024).read_to_string(&mut text);
                Err(Failure::of_answer(status, &text))
            }
        }
    }

    fn builder(&self, method: &Method, path: &str) -> http::request::Builder {
        let builder = http::Request::builder().method(method).uri(self.url(path));
        match &self.token {
            Some(token) => builder.header("authorization", format!("Bearer {}", token.expose())),
            None => builder,
        }
    }

    /// What `--verbose` shows, and what the answer tells of the server's clock.
    fn note(&self, request: &Request<'_>, status: u16, headers: &HeaderMap, took: Duration) {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        if let Some(date) = text("date") {
            self.clock.learn(date);
        }
        if self.screen.talk == Talk::Verbose {
            let id = text("x-request-id").unwrap_or("-");
            let line = format!("{} {} {status} {} ms, request {id}", request.method, request.path, took.as_millis());
            self.screen.say(&self.screen.err.safe(&line));
        }
    }
}

/// A stream that was asked for.
pub enum Opened {
    /// Its events.
    Stream(BodyReader<'static>),
    /// The task is over, and its last event was seen.
    Over,
}

/// Between half and all of a pause: clients that failed together do not come back together.
pub fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::random_range(0.5..1.0))
}

fn mishap(error: ureq::Error) -> Mishap {
    let text = words_of(&error);
    match error {
        ureq::Error::ConnectionFailed | ureq::Error::HostNotFound | ureq::Error::Timeout(ureq::Timeout::Connect) => {
            Mishap::Unreached(text)
        }
        ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => Mishap::Unreached(text),
        ureq::Error::Io(_) | ureq::Error::Timeout(_) | ureq::Error::Protocol(_) => Mishap::NoAnswer(text),
        _ => Mishap::Final(Failure::new(Exit::Away, text)),
    }
}

fn words_of(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Io(error) => error.to_string(),
        error => error.to_string(),
    }
}

fn refusal(status: u16, headers: &HeaderMap, body: &str) -> Mishap {
    let failure = Failure::of_answer(status, body);
    if (300..400).contains(&status) {
        let target = headers.get("location").and_then(|value| value.to_str().ok()).unwrap_or("somewhere else");
        return Mishap::Final(Failure::unexpected(format!(
            "the server sends us to {target}: if that is right, use it as --url"
        )));
    }
    if failure.exit != Exit::Away {
        return Mishap::Final(failure);
    }
    let seconds = headers.get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
    Mishap::Busy(failure, seconds.map(Duration::from_secs))
}

/// Reads `--url`: where the server is, without anything secret in it.
pub fn base_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("{error}: write http://127.0.0.1:8001"))?;
    if !["http", "https"].contains(&url.scheme()) || !url.has_host() {
        return Err("must begin with http:// or https://".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not hold a user or a password: use --token (APP_TOKEN)".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("must end with its path".to_owned());
    }
    Ok(url)
}

/// A part of a query, escaped.
pub fn query(pairs: &[(String, String)]) -> String {
    if pairs.is_empty() {
        return String::new();
    }
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(pairs);
    format!("?{}", query.finish())
}

/// Cheap to hand to the threads of a command.
pub type SharedApi = Arc<Api>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_holds_no_secret() {
        for good in ["http://127.0.0.1:8001", "https://tasks.example.com/longrun/"] {
            assert!(base_url(good).is_ok(), "{good}");
        }
        for bad in ["127.0.0.1:8001", "ftp://x", "http://user:pw@x", "http://x/?a=b", "http://x/#a", "", "http://"] {
            assert!(base_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_next_page_is_read_from_its_link() {
        let answer = |link: &str| {
            let headers = HeaderMap::from_iter([(http::header::LINK, link.parse().unwrap())]);
            Answer { headers, body: String::new() }.next().map(str::to_owned)
        };
        assert_eq!(answer("</tasks?limit=2&cursor=x>; rel=\"next\"").as_deref(), Some("/tasks?limit=2&cursor=x"));
        assert_eq!(answer("</tasks>; rel=\"prev\""), None);
    }
}
