//! Server-sent events as the API writes them (WHATWG HTML, 9.2), pings and pauses included.

use std::{
    io::{self, BufRead, BufReader, Read},
    time::Duration,
};

/// One thing that a stream says.
#[derive(Debug, PartialEq, Eq)]
pub enum Said {
    /// A whole event.
    Event(Event),
    /// When to come back.
    Retry(Duration),
    /// That it is alive.
    Ping,
}

/// An event.
#[derive(Debug, PartialEq, Eq)]
pub struct Event {
    /// Its own number; progress has none.
    pub seq: Option<i64>,
    /// `log`, or empty.
    pub name: String,
    /// A JSON object.
    pub data: String,
}

/// Reads a stream.
pub struct Events<R> {
    lines: BufReader<R>,
}

impl<R: Read> Events<R> {
    /// From its first byte.
    pub fn new(reader: R) -> Self {
        Self { lines: BufReader::new(reader) }
    }

    /// The next thing; `None` at the end. What is not whole at the end does not count.
    pub fn next(&mut self) -> io::Result<Option<Said>> {
        let mut event = Event { seq: None, name: String::new(), data: String::new() };
        let mut line = Vec::new();
        loop {
            line.clear();
            self.lines.read_until(b'\n', &mut line)?;
            let Some(text) = line.strip_suffix(b"\n") else { return Ok(None) };
            let text = String::from_utf8_lossy(text);
            let text = text.trim_end_matches('\r');
            if text.is_empty() {
                if event.data.is_empty() {
                    // The end of a comment, of a pause, or of nothing.
                    event = Event { seq: None, name: String::new(), data: String::new() };
                    continue;
                }
                return Ok(Some(Said::Event(event)));
            }
            let (field, value) = text.split_once(':').unwrap_or((text, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "" => return Ok(Some(Said::Ping)),
                "id" => event.seq = value.parse().ok(),
                "event" => event.name = value.to_owned(),
                "retry" => {
                    if let Ok(ms) = value.parse() {
                        return Ok(Some(Said::Retry(Duration::from_millis(ms))));
                    }
                }
                "data" => {
                    // Line ends stand between the tokens of JSON only, where a space means the same.
                    if !event.data.is_empty() {
                        event.data.push(' ');
                    }
                    event.data.push_str(value);
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(stream: &str) -> Vec<Said> {
        let mut events = Events::new(stream.as_bytes());
        std::iter::from_fn(|| events.next().unwrap()).collect()
    }

    #[test]
    fn events_pings_and_pauses() {
        let stream =
            "retry: 2000\n\nid: 1\ndata: {\"a\":\ndata: 1}\n\n: ping\n\nevent: log\r\nid: 2\r\ndata: {}\r\n\r\n";
        let event = |seq, name: &str, data: &str| Said::Event(Event { seq, name: name.into(), data: data.into() });
        assert_eq!(
            all(stream),
            [
                Said::Retry(Duration::from_secs(2)),
                event(Some(1), "", "{\"a\": 1}"),
                Said::Ping,
                event(Some(2), "log", "{}"),
            ]
        );
    }

    #[test]
    fn what_was_cut_off_does_not_count() {
        for stream in ["id: 7\ndata: {}", "id: 7\ndata: {}\n", "id: 7\ndat"] {
            assert_eq!(all(stream), [], "{stream:?}");
        }
    }
}
