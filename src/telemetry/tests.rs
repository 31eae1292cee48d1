//! Tests of telemetry: lines that cannot be forged, context that is passed on, spans that reach a collector.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    sync::{Arc, Mutex, mpsc},
    time::{Duration, Instant},
};

use tracing::{Span, info, info_span, subscriber::with_default};

use super::*;
use crate::config::{LogFormat, Telemetry};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn settings(log_format: LogFormat, log: &str, otlp_endpoint: Option<String>) -> Telemetry {
    Telemetry { log_format, log: log.to_owned(), otlp_endpoint: otlp_endpoint.map(Into::into) }
}

/// Runs `body` under a subscriber of these settings and returns what it logged.
fn logged(telemetry: &Telemetry, body: impl FnOnce()) -> String {
    let lines = Lines::default();
    let writer = lines.clone();
    let (subscriber, _guard) = subscriber(telemetry, "test", false, move || writer.clone()).unwrap();
    with_default(subscriber, body);
    lines.text()
}

const HOSTILE: &str = "one\ntwo\r\u{1b}[31mred\u{7f}\u{9b}\u{202e}left\u{2028}end";

fn log_hostile_values() {
    let span = info_span!("attempt", task.title = %HOSTILE);
    span.in_scope(|| info!(plain = HOSTILE, shown = %HOSTILE, "message {HOSTILE}"));
}

#[test]
fn a_text_event_is_one_line_without_control_characters() {
    let text = logged(&settings(LogFormat::Text, "info", None), log_hostile_values);
    let line = text.strip_suffix('\n').unwrap();
    assert!(!line.chars().any(|c| c.is_control() || c == '\u{202e}' || c == '\u{2028}'), "{line:?}");
    assert!(line.contains(r"message one\ntwo\r\u{1b}[31mred"), "{line}");
    assert!(line.contains(r"shown=one\ntwo"), "{line}");
    assert!(line.contains("task.title=one"), "{line}");
}

#[test]
fn a_json_event_is_one_line_that_parses() {
    let text = logged(&settings(LogFormat::Json, "info", None), log_hostile_values);
    let line = text.strip_suffix('\n').unwrap();
    assert!(!line.contains('\n') && !line.contains('\u{1b}'), "{line:?}");
    let event: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!(event["plain"], HOSTILE);
    assert_eq!(event["span"]["task.title"], HOSTILE);
}

#[test]
fn a_filter_that_cannot_be_read_is_named() {
    let refused = subscriber(&settings(LogFormat::Text, "=,=nonsense[", None), "test", false, std::io::sink);
    assert!(refused.err().unwrap().to_string().starts_with("RUST_LOG is not a filter"));
}

#[test]
fn without_an_exporter_a_context_is_passed_on_and_none_is_made() {
    // The log's filter hides the spans; the context on them is passed on all the same.
    logged(&settings(LogFormat::Text, "error", None), || {
        let request = info_span!("request");
        assert_eq!(request.in_scope(current_traceparent), None);
        set_parent_from_header(&request, PARENT);
        request.in_scope(|| {
            let inner = info_span!("inner");
            assert_eq!(inner.in_scope(current_traceparent).as_deref(), Some(PARENT));
            assert_eq!(inner.in_scope(trace_headers), [("traceparent", PARENT.to_owned())]);
            assert_eq!(current_trace_id().as_deref(), Some("4bf92f3577b34da6a3ce929d0e0e4736"));
        });
        assert_eq!(current_traceparent(), None);
    });
}

#[test]
fn a_header_that_is_not_a_traceparent_is_ignored() {
    logged(&settings(LogFormat::Text, "info", None), || {
        for bad in [
            "",
            "garbage",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
        ] {
            let span = info_span!("request");
            set_parent_from_header(&span, bad);
            assert_eq!(span.in_scope(current_traceparent), None, "{bad}");
        }
    });
}

/// A collector for one request: its head and its body.
fn collector() -> (String, mpsc::Receiver<(String, Vec<u8>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let (sender, received) = mpsc::channel();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(reader.read_line(&mut head).unwrap(), 0);
        }
        let length =
            head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        let mut body = vec![0; length.unwrap()];
        reader.read_exact(&mut body).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
        sender.send((head, body)).unwrap();
    });
    (endpoint, received)
}

#[test]
fn spans_reach_the_collector_when_the_guard_goes() {
    let (endpoint, received) = collector();
    let mut seen = None;
    logged(&settings(LogFormat::Text, "error", Some(endpoint)), || {
        let span = info_span!("attempt-of-a-test", task.id = "01TEST");
        set_parent_from_header(&span, PARENT);
        seen = span.in_scope(current_traceparent);
        assert_ne!(info_span!("root").in_scope(current_traceparent), None, "with tracing on, a context is made");
    });
    let seen = seen.unwrap();
    assert!(seen.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-") && seen != PARENT, "{seen}");

    let (head, body) = received.recv_timeout(Duration::from_secs(60)).unwrap();
    assert!(head.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{head}");
    let holds = |part: &[u8]| body.windows(part.len()).any(|window| window == part);
    assert!(holds(b"attempt-of-a-test") && holds(b"longrun-test") && holds(b"01TEST"));
    assert!(holds(&u128::to_be_bytes(0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736)), "the trace of the parent");
}

#[test]
fn a_collector_that_never_answers_holds_nobody_up() {
    // It accepts connections in its backlog and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let started = Instant::now();
    let mut spent = Duration::ZERO;
    logged(&settings(LogFormat::Text, "error", Some(endpoint)), || {
        for _ in 0..20_000 {
            info_span!("work").in_scope(Span::current);
        }
        spent = started.elapsed();
    });
    assert!(spent < Duration::from_secs(30), "20,000 spans took {spent:?}");
    assert!(started.elapsed() < spent + export::FLUSH_TIMEOUT + Duration::from_secs(20), "leaving was not bounded");
}
