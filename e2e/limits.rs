//! Limits: one caller, or one task, cannot take what belongs to all.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::{Client, Deployment, LONG, until};

#[test]
fn a_result_that_is_too_large_fails_its_task_for_good() {
    let deployment = Deployment::new().set("APP_MAX_RESULT", 50);
    let (mut serve, _work) = (deployment.serve(), deployment.work());
    let client = serve.client();
    let id = client.submit(&json!({"vector_data": [1.0], "duration": 0}));
    let task = client.wait_final(&id, LONG);
    assert_eq!((&task["status"], &task["result"], &task["attempt"]), (&json!("FAILED"), &Value::Null, &json!(1)));
    let error = &task["error"];
    assert_eq!((&error["code"], &error["retryable"]), (&json!("result_too_large"), &json!(false)), "{task}");
}

#[test]
fn a_process_asks_for_all_the_files_it_may_have() {
    let deployment = Deployment::new();
    let mut serve = deployment.serve();
    serve.address();
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", serve.pid())).unwrap();
    let files: Vec<&str> =
        limits.lines().find(|line| line.starts_with("Max open files")).unwrap().split_whitespace().collect();
    assert_eq!(files[3], files[4], "{limits}");
}

#[test]
fn a_caller_has_its_share_of_the_streams() {
    let deployment = Deployment::new().set("APP_MAX_STREAMS_PER_CALLER", 3).set("APP_MAX_STREAMS", 5);
    let (one, two) = (deployment.key("one", "user"), deployment.key("two", "admin"));
    let mut serve = deployment.serve();
    let [one, two] = [one, two].map(|key| serve.client().with_key(&key));
    let id = one.submit(&json!({"vector_data": [1.0], "options": {"delay": "1h"}}));
    let open = |client: &Client| {
        let mut stream = client.stream(&id, None);
        (stream.status, stream.next().is_some(), stream)
    };
    let held: Vec<_> = (0..3).map(|_| open(&one)).collect();
    assert!(held.iter().all(|(status, has_state, _)| *status == 200 && *has_state));
    // Told to come back: a browser would give up for ever on any other status.
    let fourth = open(&one);
    assert_eq!((fourth.0, fourth.1), (200, false), "its share is used up");
    assert_eq!(one.status("GET", &format!("/tasks/{id}/stream"), None), 503, "who does not stream is told plainly");
    let others: Vec<_> = (0..2).map(|_| open(&two)).collect();
    assert!(others.iter().all(|(_, has_state, _)| *has_state), "others have theirs");
    assert!(!open(&two).1, "now all are used up");
    drop(held);
    until("its places are free again", LONG, || open(&one).1.then_some(()));
}

/// Whoever connects and says nothing, or reads nothing, must not be felt by others. The figures are printed, and how
/// fast a machine answers is not asserted.
#[test]
fn slow_connections_and_many_streams_of_one_caller_are_not_felt_by_others() {
    const SLOW: usize = 500;
    const STREAMS: usize = 2_000;
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    let deployment = Deployment::new().set("RUST_LOG", "warn");
    let (greedy, other) = (deployment.key("greedy", "user"), deployment.key("other", "user"));
    let mut serve = deployment.serve_with(&[("RUST_LOG", "info")]);
    let address = serve.address();
    let greedy_client = serve.client().with_key(&greedy);
    let client = serve.client().with_key(&other);
    let waiting = json!({"vector_data": [1.0], "options": {"delay": "1h"}});
    let (theirs, own) = (greedy_client.submit(&waiting), client.submit(&waiting));
    let path = format!("/tasks/{own}");
    let before = [times(&client, &path), times(&client, &path)];

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let open = runtime.block_on(async {
        let mut open = Vec::new();
        for _ in 0..STREAMS {
            open.push(stream(address, &theirs, &greedy).await);
        }
        open
    });
    let stop = Arc::new(AtomicBool::new(false));
    let ends = stop.clone();
    let slow = std::thread::spawn(move || dawdle(address, SLOW, &ends));
    let during = [times(&client, &path), times(&client, &path)];
    stop.store(true, Ordering::Relaxed);
    let answered = slow.join().unwrap();
    let p99 = |times: &[Vec<Duration>; 2]| times.iter().map(|times| times[times.len() * 99 / 100]).min().unwrap();
    println!(
        "p99 of a poll: {:?} alone, {:?} beside {SLOW} slow connections and {} streams of another caller",
        p99(&before),
        p99(&during),
        open.len()
    );
    assert_eq!(answered, 0, "nobody who sends half a request is answered with a task");
    serve.client().fetch("/livez").expect(200);
}

/// Sorted times of polls, each on a connection of its own.
fn times(client: &Client, path: &str) -> Vec<Duration> {
    let mut times: Vec<Duration> = (0..500)
        .map(|_| {
            let began = Instant::now();
            assert_eq!(client.status("GET", path, None), 200);
            began.elapsed()
        })
        .collect();
    times.sort();
    times
}

/// An open stream, whose first event has come.
async fn stream(address: SocketAddr, id: &str, key: &str) -> tokio::net::TcpStream {
    let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!(
        "GET /tasks/{id}/stream HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\nauthorization: Bearer {key}\r\n\r\n"
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    let (mut seen, mut piece) = (Vec::new(), [0; 4096]);
    while !String::from_utf8_lossy(&seen).contains("data:") {
        let length = socket.read(&mut piece).await.unwrap();
        assert!(length > 0, "the stream ended: {}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&piece[..length]);
    }
    socket
}

/// Keeps so many connections that send a header byte by byte, until it is stopped. Returns how many were answered with 200.
fn dawdle(address: SocketAddr, count: usize, stop: &AtomicBool) -> usize {
    let connect = || {
        let mut socket = TcpStream::connect(address).unwrap();
        let _ = socket.write_all(b"GET /tasks HTTP/1.1\r\nhost: x\r\nx: ");
        socket.set_nonblocking(true).unwrap();
        socket
    };
    let mut sockets: Vec<TcpStream> = (0..count).map(|_| connect()).collect();
    let mut answered = 0;
    while !stop.load(Ordering::Relaxed) {
        for socket in &mut sockets {
            let mut answer = [0; 64];
            let ended = match socket.read(&mut answer) {
                Ok(length) => {
                    answered += usize::from(answer[..length].starts_with(b"HTTP/1.1 200"));
                    true
                }
                Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
            };
            if ended || socket.write(b"y").is_err() {
                // Given up by the server: the attacker comes again.
                *socket = connect();
            }
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    answered
}
