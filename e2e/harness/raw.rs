//! Raw requests: bytes that no decent client would send.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    time::Duration,
};

use ureq::http::{HeaderMap, HeaderName, HeaderValue};

use super::Answer;

/// Sends these bytes and reads one answer up to the end of the connection; `None` when none came. The request should
/// ask for `Connection: close`.
pub fn raw_request(address: SocketAddr, bytes: &[u8]) -> Option<Answer> {
    let mut stream = TcpStream::connect(address).expect("the server listens");
    stream.set_read_timeout(Some(Duration::from_secs(90))).unwrap();
    // The server may refuse the head and close while we still send.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    parse(&answer)
}

/// The same for a client that goes on listening as a decent one does: the server is not told that nothing more comes.
pub fn raw_exchange(address: SocketAddr, bytes: &[u8]) -> Option<Answer> {
    let mut stream = TcpStream::connect(address).expect("the server listens");
    stream.set_read_timeout(Some(Duration::from_secs(90))).unwrap();
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    parse(&answer)
}

/// Opens a task's stream and reads its first bytes. What follows is left to whoever holds the connection.
pub fn raw_stream(address: SocketAddr, id: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("the server listens");
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let request = format!("GET /tasks/{id}/stream HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("the server reads");
    let mut first = [0; 512];
    assert!(stream.read(&mut first).expect("the server answers") > 0, "the stream has begun");
    stream
}

fn parse(answer: &[u8]) -> Option<Answer> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let mut lines = head.lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let mut headers = HeaderMap::new();
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        headers.append(HeaderName::try_from(name).ok()?, HeaderValue::from_str(value.trim()).ok()?);
    }
    Some(Answer { status, headers, body: answer[end + 4..].to_vec() })
}
