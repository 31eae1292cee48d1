//! Neighbours: what callers feel of one who opens hundreds of connections that say nothing and thousands of streams.
//!
//! The small size is about what holds on every machine: others are served, and the one is kept to its share. The full size
//! compares the others' 99th percentile in the same run, in turns, since how fast a machine is at the time is part of both.

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
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Size;
use crate::harness::{Client, Deployment, LONG, until};

const SLOW: usize = 500;
const STREAMS: usize = 2_000;
/// What the others may feel of it.
const MOST: f64 = 2.0;

#[test]
fn slow_connections_and_many_streams_of_one_caller_are_not_felt_by_others() {
    let size = Size::of_this_run();
    let polls = size.choose(100, 2_000);
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    let deployment = Deployment::new().set("APP_MAX_STREAMS_PER_CALLER", STREAMS);
    let (greedy, other) = (deployment.key("greedy", "user"), deployment.key("other", "user"));
    let watcher = deployment.key("watcher", "monitor");
    let mut serve = deployment.serve_with(&[("RUST_LOG", "info")]);
    let address = serve.address();
    let greedy_client = serve.client().with_key(&greedy);
    let client = serve.client().with_key(&other);
    let waiting = json!({"vector_data": [1.0], "options": {"delay": "1h"}});
    let (theirs, own) = (greedy_client.submit(&waiting), client.submit(&waiting));
    let path = format!("/tasks/{own}");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let [mut alone, mut beside, mut ratios] = [(); 3].map(|()| Vec::new());
    for _ in 0..size.rounds() {
        let before = p99(&client, &path, polls);
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
        let during = p99(&client, &path, polls);
        let mut further = client.stream(&own, None);
        assert!(further.next().is_some(), "others stream as before");
        assert_eq!(greedy_client.status("GET", &format!("/tasks/{theirs}/stream"), None), 503, "it has its share");
        stop.store(true, Ordering::Relaxed);
        assert_eq!(slow.join().unwrap(), 0, "nobody who sends half a request is answered with a task");
        assert_eq!(open.len(), STREAMS);
        alone.push(before);
        beside.push(during);
        ratios.push(during / before);
        drop((open, further));
        let watcher = serve.client().with_key(&watcher);
        until("the streams have ended", LONG, || {
            let metrics = watcher.fetch("/metrics").expect(200);
            String::from_utf8_lossy(&metrics.body).contains("longrun_streams_open 0").then_some(())
        });
    }
    size.figure("poll alone, 99th percentile", "ms", &mut alone);
    let what = format!("poll beside {SLOW} slow connections and {STREAMS} streams of another, 99th percentile");
    size.figure(&what, "ms", &mut beside);
    size.figure("the same, of what it is alone", "times", &mut ratios);
    if size == Size::Full {
        assert!(ratios[ratios.len() / 2] <= MOST, "others feel it: {ratios:?}");
    }
}

/// Milliseconds that all but a hundredth of so many polls took at most, each on a connection of its own.
fn p99(client: &Client, path: &str, polls: usize) -> f64 {
    let poll = |_| {
        let began = Instant::now();
        assert_eq!(client.status("GET", path, None), 200);
        began.elapsed().as_secs_f64() * 1_000.0
    };
    let mut times: Vec<f64> = (0..polls).map(poll).collect();
    times.sort_by(f64::total_cmp);
    times[(polls - 1) * 99 / 100]
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
