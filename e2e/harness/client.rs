//! Client: the API as a program on the other side of the network uses it, one verb per endpoint.

use std::{io::Read, net::SocketAddr, time::Duration};

use serde_json::Value;
use ureq::http;

use super::{EventStream, LONG, found_within, until};

/// Of a list that does not say how many.
const DEFAULT_LIMIT: usize = 50;
/// No answer takes longer, held answers included.
const PATIENCE: Duration = Duration::from_secs(120);

/// A client of one server.
#[derive(Clone)]
pub struct Client {
    base: String,
    agent: ureq::Agent,
    /// Sent with every request of its own making.
    key: Option<String>,
}

/// An answer, read whole.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: http::HeaderMap,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// A header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The next page of a list: the path in `Link`.
    pub fn next_page(&self) -> Option<String> {
        let link = self.header("link")?;
        Some(link.strip_prefix('<')?.split_once('>')?.0.to_owned())
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self}"))
    }

    /// Fails unless the status is this one.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self}");
        self
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.status, String::from_utf8_lossy(&self.body))
    }
}

impl Client {
    /// A client of the server at this address. It keeps no connections: servers come and go in these tests.
    pub fn new(address: SocketAddr) -> Self {
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(PATIENCE))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_idle_connections(0)
            .proxy(None)
            .build()
            .new_agent();
        Self { base: format!("http://{address}"), agent, key: None }
    }

    /// The same client with a key.
    pub fn with_key(&self, key: &str) -> Self {
        Self { key: Some(key.to_owned()), ..self.clone() }
    }

    /// The status of an answer whose body may never end.
    #[track_caller]
    pub fn status(&self, method: &str, path: &str, body: Option<&Value>) -> u16 {
        let mut request = self.builder(method, path);
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        match self.agent.run(request.body(body.map(|body| body.to_string().into_bytes()).unwrap_or_default()).unwrap())
        {
            Ok(answer) => answer.status().as_u16(),
            Err(error) => panic!("{method} {path}: {error}"),
        }
    }

    fn builder(&self, method: &str, path: &str) -> http::request::Builder {
        let request = http::Request::builder().method(method).uri(self.url(path));
        match &self.key {
            None => request,
            Some(key) => request.header("authorization", format!("Bearer {key}")),
        }
    }

    /// The address of a path, for a request of one's own.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// Any request.
    pub fn send(&self, request: http::Request<Vec<u8>>) -> Result<Answer, ureq::Error> {
        let answer = self.agent.run(request)?;
        let (parts, mut body) = answer.into_parts();
        let mut bytes = Vec::new();
        body.as_reader().read_to_end(&mut bytes)?;
        Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body: bytes })
    }

    /// A request without a body.
    #[track_caller]
    pub fn request(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.answered(method, path, headers, Vec::new())
    }

    /// GET.
    #[track_caller]
    pub fn fetch(&self, path: &str) -> Answer {
        self.request("GET", path, &[])
    }

    /// POST of a JSON text.
    #[track_caller]
    pub fn post(&self, path: &str, body: impl Into<Vec<u8>>, headers: &[(&str, &str)]) -> Answer {
        let mut all = vec![("content-type", "application/json")];
        all.extend(headers);
        self.answered("POST", path, &all, body.into())
    }

    /// PUT of a JSON text.
    #[track_caller]
    pub fn put(&self, path: &str, body: impl Into<Vec<u8>>) -> Answer {
        self.answered("PUT", path, &[("content-type", "application/json")], body.into())
    }

    #[track_caller]
    fn answered(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
        let mut request = self.builder(method, path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        match self.send(request.body(body).unwrap()) {
            Ok(answer) => answer,
            Err(error) => panic!("{method} {path}: {error}"),
        }
    }

    /// Submits a task and returns its id; fails unless it is accepted.
    #[track_caller]
    pub fn submit(&self, body: &Value) -> String {
        let answer = self.post("/tasks", body.to_string(), &[]).expect(202);
        answer.json()["task_id"].as_str().expect("a task_id").to_owned()
    }

    /// One task.
    #[track_caller]
    pub fn task(&self, id: &str) -> Value {
        self.fetch(&format!("/tasks/{id}")).expect(200).json()
    }

    /// The tasks of a list, `query` being `?status=FAILED` or nothing. A page that was cut short, because reading it took
    /// too long on a busy machine, is asked for again: such a page has fewer tasks than it may have, and a next one.
    #[track_caller]
    pub fn list(&self, query: &str) -> Vec<Value> {
        let limit = query.split(['?', '&']).find_map(|part| part.strip_prefix("limit=")?.parse().ok());
        until(&format!("a whole page of /tasks{query}"), LONG, || {
            let answer = self.fetch(&format!("/tasks{query}")).expect(200);
            let tasks: Vec<Value> = serde_json::from_value(answer.json()).expect("an array");
            let is_cut_short = answer.header("link").is_some() && tasks.len() < limit.unwrap_or(DEFAULT_LIMIT);
            (!is_cut_short).then_some(tasks)
        })
    }

    /// The log of a task.
    #[track_caller]
    pub fn logs(&self, id: &str) -> Vec<Value> {
        serde_json::from_value(self.fetch(&format!("/tasks/{id}/logs")).expect(200).json()).expect("an array")
    }

    /// DELETE of a task.
    #[track_caller]
    pub fn cancel(&self, id: &str) -> Answer {
        self.request("DELETE", &format!("/tasks/{id}"), &[])
    }

    /// The server-sent events of a task, from after the event with this id where one is given.
    #[track_caller]
    pub fn stream(&self, id: &str, last_event_id: Option<&str>) -> EventStream {
        let mut request = self.builder("GET", &format!("/tasks/{id}/stream")).header("accept", "text/event-stream");
        if let Some(last) = last_event_id {
            request = request.header("last-event-id", last);
        }
        match self.agent.run(request.body(()).unwrap()) {
            Ok(answer) => EventStream::new(answer),
            Err(error) => panic!("the stream of {id}: {error}"),
        }
    }

    /// Any other stream of events.
    #[track_caller]
    pub fn follow(&self, path: &str) -> EventStream {
        let request = self.builder("GET", path).header("accept", "text/event-stream");
        match self.agent.run(request.body(()).unwrap()) {
            Ok(answer) => EventStream::new(answer),
            Err(error) => panic!("{path}: {error}"),
        }
    }

    /// Asks until the task satisfies `wanted`.
    #[track_caller]
    pub fn wait(&self, id: &str, what: &str, within: Duration, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let found = found_within(within, || {
            // A server may be down for a moment: that is what some tests are about.
            let request = self.builder("GET", &format!("/tasks/{id}")).body(Vec::new()).unwrap();
            if let Ok(answer) = self.send(request)
                && answer.status == 200
            {
                last = answer.json();
            }
            wanted(&last).then(|| last.clone())
        });
        found.unwrap_or_else(|| panic!("waited {within:?} for {what} in vain; the task is {last:#}"))
    }

    /// The task when it has ended.
    #[track_caller]
    pub fn wait_final(&self, id: &str, within: Duration) -> Value {
        self.wait(id, "a final status", within, |task| {
            matches!(task["status"].as_str(), Some("SUCCESS" | "FAILED" | "CANCELLED"))
        })
    }

    /// The task when it has this status.
    #[track_caller]
    pub fn wait_status(&self, id: &str, status: &str, within: Duration) -> Value {
        self.wait(id, status, within, |task| task["status"] == status)
    }

    /// Waits until the server answers at all.
    #[track_caller]
    pub fn wait_ready(&self, within: Duration) {
        until("the server is ready", within, || {
            let request = http::Request::get(format!("{}/readyz", self.base)).body(Vec::new()).unwrap();
            self.send(request).ok().filter(|answer| answer.status == 200).map(drop)
        });
    }
}
