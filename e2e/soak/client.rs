//! Client: requests that are written down with their times and outcomes, whatever becomes of them.

use std::{io::Read, time::Duration};

use serde_json::Value;
use ureq::http;

use super::{
    clock::now,
    history::{Entry, Followed, Frame, History, Id, Outcome, Request, View, id_of_ulid},
    random::Random,
};
use crate::harness::EventStream;

/// No answer takes longer. A server that is paused or cut off keeps its clients waiting.
const PATIENCE: Duration = Duration::from_secs(20);

/// One client. It asks any of the servers.
pub struct Client<'a> {
    agent: ureq::Agent,
    ports: &'a [u16],
    history: &'a History,
}

impl<'a> Client<'a> {
    /// A client of the servers at these ports.
    pub fn new(ports: &'a [u16], history: &'a History) -> Self {
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(PATIENCE))
            .http_status_as_error(false)
            .max_idle_connections(0)
            .proxy(None)
            .build()
            .new_agent();
        Self { agent, ports, history }
    }

    /// POST /tasks. The task of the answer, where there is one.
    pub fn submit(
        &self,
        random: &mut Random,
        number: usize,
        key: Option<&str>,
        body: &Value,
        is_misuse: IsMisuse,
    ) -> Outcome {
        let mut request = http::Request::post(self.url(random, "/tasks")).header("content-type", "application/json");
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let asked = match is_misuse {
            IsMisuse::No => Request::Submit(number),
            IsMisuse::Yes => Request::Misuse(number),
        };
        self.ask(asked, request.body(body.to_string()).unwrap())
    }

    /// GET /tasks/{id}.
    pub fn poll(&self, random: &mut Random, id: &str) -> Outcome {
        let request = http::Request::get(self.url(random, &format!("/tasks/{id}")));
        self.ask(Request::Poll(id_of_ulid(id)), request.body(String::new()).unwrap())
    }

    /// DELETE /tasks/{id}.
    pub fn cancel(&self, random: &mut Random, id: &str) -> Outcome {
        let request = http::Request::delete(self.url(random, &format!("/tasks/{id}")));
        self.ask(Request::Cancel(id_of_ulid(id)), request.body(String::new()).unwrap())
    }

    /// POST /tasks/{id}/retry.
    pub fn retry(&self, random: &mut Random, id: &str) -> Outcome {
        let request = http::Request::post(self.url(random, &format!("/tasks/{id}/retry")));
        self.ask(Request::Retry(id_of_ulid(id)), request.body(String::new()).unwrap())
    }

    fn url(&self, random: &mut Random, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", random.pick(self.ports))
    }

    fn ask(&self, asked: Request, request: http::Request<String>) -> Outcome {
        let from = now();
        let outcome = match self.send(request) {
            // The server could not say what became of it; it may have been written.
            Ok((status @ 500.., _)) => Outcome::Unknown(format!("status {status}")),
            Ok((status, body)) => {
                let view = body["task_id"].as_str().map(|id| View {
                    id: id_of_ulid(id),
                    status: body["status"].as_str().unwrap_or_default().to_owned(),
                    version: body["version"].as_i64().unwrap_or(0),
                });
                Outcome::Answered { status, view }
            }
            Err(error) => Outcome::Unknown(error.to_string()),
        };
        let entry = Entry { from, to: now(), request: asked, outcome: outcome.clone() };
        self.history.lock().entries.push(entry);
        outcome
    }

    fn send(&self, request: http::Request<String>) -> Result<(u16, Value), ureq::Error> {
        let (parts, mut body) = self.agent.run(request)?.into_parts();
        let mut bytes = Vec::new();
        body.as_reader().read_to_end(&mut bytes)?;
        Ok((parts.status.as_u16(), serde_json::from_slice(&bytes).unwrap_or(Value::Null)))
    }

    /// Follows a task from its beginning to its end, over as many connections as it takes; now and then it hangs up by
    /// itself. Gives up when `given_up` says so.
    pub fn follow(&self, random: &mut Random, id: &str, given_up: impl Fn() -> bool) {
        let mut seen = Followed { id: id_of_ulid(id), ..Followed::default() };
        let mut connections = 0;
        while !seen.complete && !given_up() {
            let last = seen.frames.last().map_or(0, |frame| frame.seq);
            let Some(stream) = self.open(random, id, last) else {
                std::thread::sleep(Duration::from_millis(200));
                continue;
            };
            connections += 1;
            let hang_up_after = if random.percent(50) { 1 + random.below(4) } else { usize::MAX };
            let before = seen.frames.len();
            for event in stream.take(hang_up_after) {
                let Some(seq) = event.id else {
                    let is_final = event.status().is_some_and(is_final);
                    seen.final_without_id += usize::from(is_final);
                    continue;
                };
                let status = event.status().map(str::to_owned);
                seen.complete = status.as_deref().is_some_and(is_final);
                let message = event.data["message"].as_str().map(str::to_owned);
                seen.frames.push(Frame { seq, status, message });
            }
            if connections > 1 && seen.frames.len() > before {
                seen.resumed += 1;
            }
        }
        if seen.complete {
            let last = seen.frames.last().map_or(0, |frame| frame.seq);
            seen.after_the_end =
                self.agent.run(self.stream_request(random, id, last)).ok().map(|answer| answer.status().as_u16());
        }
        self.history.lock().followed.push(seen);
    }

    fn open(&self, random: &mut Random, id: &str, after: i64) -> Option<EventStream> {
        let answer = self.agent.run(self.stream_request(random, id, after)).ok()?;
        (answer.status() == 200).then(|| EventStream::new(answer))
    }

    fn stream_request(&self, random: &mut Random, id: &str, after: i64) -> http::Request<()> {
        let path = format!("/tasks/{id}/stream?after=0");
        let mut request = http::Request::get(self.url(random, &path)).header("accept", "text/event-stream");
        if after > 0 {
            request = request.header("last-event-id", after.to_string());
        }
        request.body(()).unwrap()
    }
}

/// Whether a submit deliberately sends another body with a key that was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IsMisuse {
    /// It does not.
    No,
    /// It does: 422 is the right answer.
    Yes,
}

/// Whether a run ends with this status.
pub fn is_final(status: &str) -> bool {
    matches!(status, "SUCCESS" | "FAILED" | "CANCELLED")
}

/// The ULID of a task, for a path.
pub fn ulid_of(id: Id) -> String {
    const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    (0..26).rev().map(|place| DIGITS[(id >> (5 * place)) as usize & 31] as char).collect()
}
