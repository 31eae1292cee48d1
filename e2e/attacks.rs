//! Attacks: requests that nobody with good intentions sends, each with the answers that are allowed.
//!
//! None may be answered with 5xx, none may change anything, and together they must not make the process grow. What the
//! other modules attack is not repeated here: tokens and keys (`access`), URLs (`ssrf`), bodies one by one (`bad_input`).

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::json;

use crate::harness::{Deployment, Stopwatch, raw_exchange};

/// Statuses that are right for an attack: what is refused, with or without saying that it exists.
const REFUSED: &[u16] = &[400, 401, 403, 404, 405, 408, 409, 411, 413, 414, 415, 417, 422, 431];
/// More than this is growth.
const GROWTH_KIB: u64 = 64 * 1024;

/// What an attacker puts wherever a text is read.
const TEXTS: &[&str] = &[
    "'",
    "\"",
    "';--",
    "' OR '1'='1",
    "1; DROP TABLE tasks",
    "') UNION SELECT hash FROM api_keys--",
    "$1",
    "$$",
    "\\",
    "%",
    "_",
    "%25",
    "*",
    "?",
    "..",
    "../../etc/passwd",
    "..%2f..%2fetc%2fpasswd",
    "%2e%2e%2f",
    "%00",
    "a%00b",
    "\u{202e}gnp",
    "%0d%0aSet-Cookie:%20x=1",
    "%0aevent:%20x",
    "<script>alert(1)</script>",
    "{{7*7}}",
    "${jndi:ldap://127.0.0.1/x}",
    "$(id)",
    "`id`",
    "|id",
    "v1:ready:{default}:high",
    "}:high",
    "\u{feff}",
    "%f0%28%8c%28",
    "%c0%af",
    "%ff",
    "NaN",
    "-1",
    "0",
    "1e309",
    "99999999999999999999",
    "0x10",
    "null",
    "true",
    "[]",
    "{}",
    "01ARZ3NDEKTSV4RRFFQ69G5FAV",
];

fn encoded(text: &str) -> String {
    let keep = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~%".contains(&byte);
    text.bytes().map(|byte| if keep(byte) { char::from(byte).to_string() } else { format!("%{byte:02x}") }).collect()
}

struct Attack {
    what: String,
    bytes: Vec<u8>,
    /// Harmless answers besides the refusals: a filter that matches nothing is one.
    may_be: &'static [u16],
}

fn request(method: &str, target: &str, headers: &[(&str, &str)], body: &[u8], key: &str) -> Vec<u8> {
    let mut head = format!("{method} {target} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n");
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("authorization")) {
        head += &format!("authorization: Bearer {key}\r\n");
    }
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    if !body.is_empty() {
        head += &format!("content-length: {}\r\n", body.len());
    }
    [head.as_bytes(), b"\r\n", body].concat()
}

/// Every text at every place that reads one.
fn texts(key: &str) -> Vec<Attack> {
    let mut attacks = Vec::new();
    let places: &[(&str, &str, &'static [u16])] = &[
        ("GET", "/tasks/TEXT", &[]),
        ("DELETE", "/tasks/TEXT", &[]),
        ("GET", "/tasks/TEXT/stream", &[]),
        ("GET", "/tasks?cursor=TEXT", &[]),
        ("GET", "/tasks?status=TEXT", &[]),
        ("GET", "/tasks?created_after=TEXT", &[]),
        ("GET", "/tasks?TEXT=1", &[]),
        ("GET", "/tasks?task_type=TEXT", &[200]),
        ("GET", "/tasks?error=TEXT", &[200]),
        ("GET", "/tasks?metadata.TEXT=TEXT", &[200]),
        ("GET", "/tasks/counts?queue=TEXT", &[200]),
        ("GET", "/TEXT", &[]),
        ("GET", "/docs/TEXT", &[]),
    ];
    for (method, place, may_be) in places {
        for text in TEXTS {
            let target = place.replace("TEXT", &encoded(text));
            // GET / leads to the dashboard, whatever is normalised away.
            let may_be: &'static [u16] = if *place == "/TEXT" { &[303] } else { may_be };
            attacks.push(Attack {
                what: format!("{method} {target}"),
                bytes: request(method, &target, &[], b"", key),
                may_be,
            });
        }
    }
    for (name, place) in [
        ("last-event-id", "/tasks/01ARZ3NDEKTSV4RRFFQ69G5FAV/stream"),
        ("if-none-match", "/tasks/x"),
        ("prefer", "/tasks/x"),
    ] {
        for text in TEXTS.iter().filter(|text| text.is_ascii()) {
            let bytes = request("GET", place, &[(name, text)], b"", key);
            attacks.push(Attack { what: format!("{name}: {text}"), bytes, may_be: &[] });
        }
    }
    attacks
}

/// Bodies for every route that reads one.
fn bodies(key: &str) -> Vec<Attack> {
    let deep = |open: &str, close: &str, depth: usize| format!("{}1{}", open.repeat(depth), close.repeat(depth));
    let mut bodies: Vec<(String, Vec<u8>)> = [
        "",
        " ",
        "\0",
        "{",
        "}",
        "[",
        "]",
        "\"",
        "{}",
        "[]",
        "[[]]",
        "null",
        "true",
        "0",
        "-",
        "1e400",
        "NaN",
        "Infinity",
        "{\"a\"}",
        "{\"a\":}",
        "{a:1}",
        "{'a':1}",
        "{\"a\":1,}",
        "[1,]",
        "{\"a\":1}{\"b\":2}",
        "// {}",
        "\u{feff}{}",
        "{\"vector_data\":[1],\"status\":\"SUCCESS\"}",
        "{\"vector_data\":[1],\"attempt\":9}",
        "{\"vector_data\":[1],\"owner\":\"root\"}",
        "{\"vector_data\":[1],\"worker_id\":\"x\"}",
        "{\"vector_data\":[1],\"delivery\":7}",
        "{\"vector_data\":[1],\"task_id\":\"01ARZ3NDEKTSV4RRFFQ69G5FAV\"}",
        "{\"vector_data\":[1],\"options\":{\"owner\":\"root\"}}",
        "{\"vector_data\":[1],\"options\":{\"queue\":\"../x\"}}",
        "{\"vector_data\":[1],\"options\":{\"queue\":\"v1:ready:{default}\"}}",
        "{\"vector_data\":[1],\"__proto__\":{}}",
        "{\"vector_data\":[1],\"metadata\":{\"a\":\"\\u0000\"}}",
        "{\"vector_data\":[1],\"metadata\":{\"\\u0000\":1}}",
        "{\"vector_data\":[1],\"metadata\":{\"a\":\"\\ud800\"}}",
        "{\"vector_data\":[1],\"metadata\":{\"a\":18446744073709551616}}",
        "{\"vector_data\":[1],\"metadata\":{\"a\":1,\"a\":2}}",
        "{\"vector_data\":[1e400]}",
        "{\"vector_data\":[1],\"vector_data\":[1]}",
        "{\"task_type\":\"'; DROP TABLE tasks--\"}",
        "{\"task_type\":\"\\u0000\"}",
        "{\"ids\":[\"'\"]}",
        "{\"filter\":{\"queue\":\"%\"}}",
        "{\"filter\":{\"status\":[\"SUCCESS'\"]}}",
        "{\"filter\":{\"metadata\":{\"a\":1}}}",
        "{\"filter\":null}",
        "{\"ids\":null}",
    ]
    .iter()
    .map(|body| ((*body).to_owned(), body.as_bytes().to_vec()))
    .collect();
    bodies.push(("deep arrays".to_owned(), deep("[", "]", 100_000).into_bytes()));
    bodies.push(("deep objects".to_owned(), deep("{\"a\":", "}", 100_000).into_bytes()));
    bodies.push(("never closed".to_owned(), "[".repeat(900_000).into_bytes()));
    bodies.push(("bytes that are no text".to_owned(), vec![0xff; 1_000]));
    bodies.push(("a long number".to_owned(), format!("[{}]", "9".repeat(900_000)).into_bytes()));
    bodies.push(("a long key".to_owned(), format!("{{\"{}\":1}}", "k".repeat(900_000)).into_bytes()));
    bodies.push(("many keys".to_owned(), {
        let keys: Vec<String> = (0..80_000).map(|number| format!("\"{number}\":1")).collect();
        format!("{{{}}}", keys.join(",")).into_bytes()
    }));
    bodies.push(("larger than it may be".to_owned(), vec![b' '; 9 * 1024 * 1024]));
    let json = [("content-type", "application/json")];
    let mut attacks = Vec::new();
    for path in ["/tasks", "/tasks/batch", "/tasks/cancel", "/tasks/retry", "/session"] {
        for (what, body) in &bodies {
            let what = format!("POST {path}: {}", what.chars().take(80).collect::<String>());
            attacks.push(Attack { what, bytes: request("POST", path, &json, body, key), may_be: &[] });
        }
    }
    attacks
}

/// Requests that two servers in a row may read differently, and heads that break the rules.
fn heads(key: &str) -> Vec<Attack> {
    let auth = format!("host: 127.0.0.1\r\nconnection: close\r\nauthorization: Bearer {key}\r\n");
    let json = "content-type: application/json\r\n";
    let raw: Vec<(&str, String)> = vec![
        (
            "length and chunks",
            format!(
                "POST /tasks HTTP/1.1\r\n{auth}{json}content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
            ),
        ),
        (
            "two lengths",
            format!("POST /tasks HTTP/1.1\r\n{auth}{json}content-length: 1\r\ncontent-length: 2\r\n\r\n{{}}"),
        ),
        ("a length with a sign", format!("POST /tasks HTTP/1.1\r\n{auth}{json}content-length: +2\r\n\r\n{{}}")),
        ("a length in hex", format!("POST /tasks HTTP/1.1\r\n{auth}{json}content-length: 0x2\r\n\r\n{{}}")),
        ("two lengths in one", format!("POST /tasks HTTP/1.1\r\n{auth}{json}content-length: 2, 2\r\n\r\n{{}}")),
        (
            "a lying length",
            format!("POST /tasks HTTP/1.1\r\n{auth}{json}content-length: 99999999999999999999\r\n\r\n{{}}"),
        ),
        (
            "an unknown coding",
            format!("POST /tasks HTTP/1.1\r\n{auth}{json}transfer-encoding: xchunked\r\n\r\n0\r\n\r\n"),
        ),
        (
            "chunks twice",
            format!(
                "POST /tasks HTTP/1.1\r\n{auth}{json}transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
            ),
        ),
        (
            "a chunk without a size",
            format!("POST /tasks HTTP/1.1\r\n{auth}{json}transfer-encoding: chunked\r\n\r\nxyz\r\n"),
        ),
        (
            "a chunk of 2^64",
            format!("POST /tasks HTTP/1.1\r\n{auth}{json}transfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n"),
        ),
        ("a space before the colon", format!("GET /tasks HTTP/1.1\r\n{auth}x : y\r\n\r\n")),
        ("a folded header", format!("GET /tasks HTTP/1.1\r\n{auth}x: y\r\n z\r\n\r\n")),
        ("a header without a name", format!("GET /tasks HTTP/1.1\r\n{auth}: y\r\n\r\n")),
        ("a bare carriage return", format!("GET /tasks HTTP/1.1\r\n{auth}x: a\rb\r\n\r\n")),
        ("U+0000 in a header", format!("GET /tasks HTTP/1.1\r\n{auth}x: a\0b\r\n\r\n")),
        ("no version", "GET /tasks\r\n\r\n".to_owned()),
        ("a version to come", format!("GET /tasks HTTP/9.9\r\n{auth}\r\n")),
        ("HTTP/2 by prior knowledge", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned()),
        ("a TLS hello", "\u{16}\u{3}\u{1}\u{0}\u{5}hello".to_owned()),
        ("another protocol", "EHLO example\r\n\r\n".to_owned()),
        ("Redis", "*1\r\n$4\r\nPING\r\n\r\n".to_owned()),
        ("a proxy's request", format!("GET http://evil.example/tasks HTTP/1.1\r\n{auth}\r\n")),
        ("CONNECT", format!("CONNECT 127.0.0.1:6379 HTTP/1.1\r\n{auth}\r\n")),
        ("TRACE", format!("TRACE /tasks HTTP/1.1\r\n{auth}\r\n")),
        ("an invented method", format!("DEBUG /tasks HTTP/1.1\r\n{auth}\r\n")),
        ("a long method", format!("{} /tasks HTTP/1.1\r\n{auth}\r\n", "X".repeat(10_000))),
        ("a long path", format!("GET /{} HTTP/1.1\r\n{auth}\r\n", "x".repeat(60_000))),
        ("a very long path", format!("GET /{} HTTP/1.1\r\n{auth}\r\n", "x".repeat(300_000))),
        ("a long header", format!("GET /tasks/x HTTP/1.1\r\n{auth}x: {}\r\n\r\n", "y".repeat(300_000))),
        ("many headers", format!("GET /tasks/x HTTP/1.1\r\n{auth}{}\r\n", "x: y\r\n".repeat(5_000))),
        (
            "another method by a header",
            format!("GET /tasks/x HTTP/1.1\r\n{auth}x-http-method-override: DELETE\r\n\r\n"),
        ),
        ("another path by a header", format!("GET /tasks/x HTTP/1.1\r\n{auth}x-original-url: /queues\r\n\r\n")),
        (
            "a socket upgrade",
            format!("GET /tasks/x/stream HTTP/1.1\r\n{auth}upgrade: websocket\r\nsec-websocket-key: x\r\n\r\n"),
        ),
        (
            "compressed JSON",
            format!("POST /tasks HTTP/1.1\r\n{auth}{json}content-encoding: gzip\r\ncontent-length: 2\r\n\r\n{{}}"),
        ),
        (
            "a form",
            format!(
                "POST /tasks HTTP/1.1\r\n{auth}content-type: application/x-www-form-urlencoded\r\ncontent-length: 3\r\n\r\na=b"
            ),
        ),
        (
            "two types",
            format!("POST /tasks HTTP/1.1\r\n{auth}content-type: text/plain\r\n{json}content-length: 2\r\n\r\n{{}}"),
        ),
        (
            "two idempotency keys",
            format!(
                "POST /tasks HTTP/1.1\r\n{auth}{json}idempotency-key: a\r\nidempotency-key: b\r\ncontent-length: 19\r\n\r\n{{\"vector_data\":[1]}}"
            ),
        ),
        (
            "a long idempotency key",
            format!(
                "POST /tasks HTTP/1.1\r\n{auth}{json}idempotency-key: {}\r\ncontent-length: 19\r\n\r\n{{\"vector_data\":[1]}}",
                "k".repeat(256)
            ),
        ),
    ];
    raw.into_iter()
        .map(|(what, text)| {
            // A server must take it for a request to itself (RFC 9112, 3.2.2).
            let may_be: &'static [u16] = if what == "a proxy's request" { &[200] } else { &[] };
            Attack { what: what.to_owned(), bytes: text.into_bytes(), may_be }
        })
        .collect()
}

#[test]
fn none_is_answered_with_5xx_and_none_changes_anything() {
    let deployment = Deployment::new();
    let key = deployment.key("attacker", "user");
    let mut serve = deployment.serve();
    let address = serve.address();
    let client = serve.client().with_key(&key);
    client.fetch("/tasks").expect(200);
    let attacks: Vec<Attack> = [texts(&key), bodies(&key), heads(&key)].into_iter().flatten().collect();
    // Once over all of them, so that what is made once for all is made.
    let mut wrong = run(address, &attacks);
    let before = resident_kib(serve.pid());
    for _ in 0..2 {
        wrong.extend(run(address, &attacks));
    }
    let grown = resident_kib(serve.pid()).saturating_sub(before);
    println!("{} attacks, three times: {} unexpected answers, {grown} KiB more at the end", attacks.len(), wrong.len());
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(attacks.len() >= 400, "only {} attacks", attacks.len());
    assert!(grown < GROWTH_KIB, "the process grew by {grown} KiB");
    assert!(client.list("").is_empty(), "nothing was accepted");
    assert_eq!(deployment.sql().value::<i64>("SELECT count(*) FROM tasks", &[]), 0);
    for line in serve.stderr().lines() {
        // The HTTP library calls it an error when a request cannot be read; ours are failures.
        assert!(!line.contains("ERROR") || line.contains("actix_http::"), "the server failed: {line}");
        assert!(!line.contains('\u{1b}') || line.contains("\u{1b}["), "a log line is one line of text: {line:?}");
    }
    client.submit(&json!({"vector_data": [1.0]}));
}

fn run(address: SocketAddr, attacks: &[Attack]) -> Vec<String> {
    let mut wrong = Vec::new();
    for attack in attacks {
        let watch = Stopwatch::start();
        let mut answer = raw_exchange(address, &attack.bytes);
        // A server that stood still may have found its database silent for too long.
        while watch.lost() > Duration::ZERO && answer.as_ref().is_some_and(|answer| answer.status == 503) {
            answer = raw_exchange(address, &attack.bytes);
        }
        // No answer at all is an answer too: the connection is closed.
        let Some(answer) = answer else { continue };
        if !REFUSED.contains(&answer.status) && !attack.may_be.contains(&answer.status) {
            wrong.push(format!("{}: {answer}", attack.what));
        }
    }
    wrong
}

/// A stream and a long poll must not be held by somebody who never reads.
#[test]
fn headers_that_never_end_are_given_up() {
    let deployment = Deployment::new();
    let mut serve = deployment.serve();
    let mut slow = TcpStream::connect(serve.address()).unwrap();
    slow.write_all(b"GET /tasks HTTP/1.1\r\nhost: x\r\n").unwrap();
    slow.set_read_timeout(Some(Duration::from_secs(90))).unwrap();
    let mut answer = Vec::new();
    // It ends by the server's doing: with an answer or without.
    slow.read_to_end(&mut answer).expect("the server closes the connection");
    let text = String::from_utf8_lossy(&answer).into_owned();
    assert!(text.is_empty() || text.starts_with("HTTP/1.1 408"), "{text}");
    serve.client().fetch("/livez").expect(200);
}

/// Kilobytes that the process has in memory.
fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
