//! Events: reading a task's stream as a browser's `EventSource` does (WHATWG HTML, 9.2).

use std::io::{BufRead, BufReader};

use serde_json::Value;
use ureq::{BodyReader, http};

/// One event.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The value of its own `id` line.
    pub id: Option<i64>,
    /// Its name; `None` for an unnamed one.
    pub name: Option<String>,
    /// Its data.
    pub data: Value,
}

impl Event {
    /// The status that it tells, unless it is a log line.
    pub fn status(&self) -> Option<&str> {
        self.name.is_none().then(|| self.data["status"].as_str())?
    }
}

/// An open stream. It ends when the server closes it.
pub struct EventStream {
    /// The status of the answer.
    pub status: u16,
    /// Its headers.
    pub headers: http::HeaderMap,
    lines: std::io::Lines<BufReader<BodyReader<'static>>>,
}

impl EventStream {
    /// A stream whose headers have come.
    pub fn new(answer: http::Response<ureq::Body>) -> Self {
        let (parts, body) = answer.into_parts();
        let lines = BufReader::new(body.into_reader()).lines();
        Self { status: parts.status.as_u16(), headers: parts.headers, lines }
    }

    /// All further events until the server ends the stream.
    pub fn rest(self) -> Vec<Event> {
        self.collect()
    }

    /// The next event that satisfies `wanted`; fails when the stream ends before.
    #[track_caller]
    pub fn find_event(&mut self, what: &str, wanted: impl Fn(&Event) -> bool) -> Event {
        match self.by_ref().find(wanted) {
            Some(event) => event,
            None => panic!("the stream ended before this came: {what}"),
        }
    }
}

impl Iterator for EventStream {
    type Item = Event;

    /// Comments and `retry` lines pass unseen. A broken connection is an end, as it is for a browser.
    fn next(&mut self) -> Option<Event> {
        let (mut id, mut name, mut data) = (None, None, String::new());
        loop {
            let line = self.lines.next()?.ok()?;
            match line.split_once(':').map(|(field, value)| (field, value.strip_prefix(' ').unwrap_or(value))) {
                Some(("id", value)) => id = Some(value.parse().expect("an id is a number")),
                Some(("event", value)) => name = Some(value.to_owned()),
                Some(("data", value)) => {
                    data.push_str(value);
                    data.push('\n');
                }
                None if line.is_empty() && !data.is_empty() => {
                    let data = serde_json::from_str(&data).unwrap_or_else(|error| panic!("{error}: {data}"));
                    return Some(Event { id, name, data });
                }
                _ => {}
            }
        }
    }
}
