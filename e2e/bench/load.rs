//! Load: connections that send one request after the other, and what came of it.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

/// What a load of some seconds came to.
pub struct Outcome {
    /// Answers a second.
    pub rate: f64,
    /// Milliseconds that all but a hundredth of the answers took at most.
    pub p99: f64,
}

/// Sends requests over `connections` at once for this long. `request` makes the one of a given number. Fails when an
/// answer has another status.
pub fn load(
    address: SocketAddr,
    connections: usize,
    time: Duration,
    status: u16,
    request: impl Fn(usize) -> String + Sync,
) -> Outcome {
    let until = Instant::now() + time;
    let request = &request;
    let mut times: Vec<f64> = thread::scope(|scope| {
        let threads: Vec<_> = (0..connections)
            .map(|connection| {
                scope.spawn(move || {
                    let mut line = Line::open(address);
                    let mut times = Vec::new();
                    for number in (connection..).step_by(connections) {
                        let began = Instant::now();
                        if began >= until {
                            break;
                        }
                        assert_eq!(line.ask(&request(number)), status);
                        times.push(began.elapsed().as_secs_f64() * 1_000.0);
                    }
                    times
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("every answer is as expected")).collect()
    });
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    Outcome { rate: times.len() as f64 / time.as_secs_f64(), p99: at(0.99) }
}

/// A POST of a JSON text, as it goes over the wire.
pub fn post(path: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A GET.
pub fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: bench\r\n\r\n")
}

/// One connection that is kept.
struct Line(BufReader<TcpStream>);

impl Line {
    fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the server listens");
        stream.set_nodelay(true).unwrap();
        Self(BufReader::new(stream))
    }

    /// Sends a request and reads the answer to its end. Returns the status.
    fn ask(&mut self, request: &str) -> u16 {
        self.0.get_mut().write_all(request.as_bytes()).expect("the server reads");
        let (mut status, mut length, mut line) = (0, 0, String::new());
        loop {
            line.clear();
            self.0.read_line(&mut line).expect("the server answers");
            let text = line.trim_end().to_ascii_lowercase();
            if let Some(value) = text.strip_prefix("content-length:") {
                length = value.trim().parse().expect("a length");
            } else if text.starts_with("http/") {
                status = text.split(' ').nth(1).and_then(|number| number.parse().ok()).expect("a status");
            } else if text.is_empty() {
                break;
            }
        }
        std::io::copy(&mut self.0.by_ref().take(length), &mut std::io::sink()).expect("a whole answer");
        status
    }
}
