//! Bad input: whatever comes, the answer is a problem+json with the right status, and the process goes on.

use serde_json::{Value, json};

use crate::harness::{Answer, Deployment, raw_request};

/// Checks the shape of RFC 9457 as this project fills it.
#[track_caller]
fn assert_problem(answer: &Answer, status: u16, code: &str, what: &str) -> Value {
    assert_eq!(answer.status, status, "{what}: {answer}");
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{what}");
    let problem = answer.json();
    for key in ["type", "title", "detail", "instance", "request_id"] {
        assert!(problem[key].as_str().is_some_and(|text| !text.is_empty()), "{what} lacks {key}: {problem}");
    }
    assert_eq!((&problem["status"], &problem["code"]), (&json!(status), &json!(code)), "{what}: {problem}");
    problem
}

fn nested(depth: usize) -> String {
    format!(r#"{{"vector_data":[1],"metadata":{{"a":{}1{}}}}}"#, "[".repeat(depth), "]".repeat(depth))
}

#[test]
fn bodies() {
    let deployment = Deployment::new();
    let mut serve = deployment.serve();
    let client = serve.client();
    let deep = nested(70);
    let very_deep = "[".repeat(500_000);
    let cases: Vec<(&[u8], u16, &str)> = vec![
        (b"", 400, "malformed_json"),
        (b"{", 400, "malformed_json"),
        (b"{\"vector_data\":[1,2,}", 400, "malformed_json"),
        (b"{\"vector_data\":[1]} trailing", 400, "malformed_json"),
        (b"not json", 400, "malformed_json"),
        (b"{\"vector_data\":[NaN]}", 400, "malformed_json"),
        (b"{\"vector_data\":[Infinity]}", 400, "malformed_json"),
        (b"{\"vector_data\":[-Infinity]}", 400, "malformed_json"),
        (b"{\"vector_data\":[01]}", 400, "malformed_json"),
        (b"\xFF\xFE{}", 400, "malformed_json"),
        (b"{\"vector_data\":[1],\"metadata\":{\"a\":\"\x00\"}}", 400, "malformed_json"),
        (b"[]", 422, "invalid_input"),
        (b"1", 422, "invalid_input"),
        (b"null", 422, "invalid_input"),
        (b"\"text\"", 422, "invalid_input"),
        (b"{}", 422, "invalid_input"),
        (br#"{"task_type":"no_such_type"}"#, 422, "unknown_task_type"),
        (br#"{"task_type":7,"vector_data":[1]}"#, 422, "invalid_input"),
        (br#"{"task_type":"web_scrape"}"#, 422, "invalid_input"),
        (br#"{"task_type":"web_scrape","url":""}"#, 422, "invalid_input"),
        (br#"{"task_type":"web_scrape","url":"ftp://x"}"#, 422, "invalid_input"),
        (br#"{"task_type":"web_scrape","url":"file:///etc/passwd"}"#, 422, "invalid_input"),
        (br#"{"task_type":"web_scrape","url":"http://a:b@example.com/"}"#, 422, "invalid_input"),
        (br#"{"task_type":"web_scrape","url":7}"#, 422, "invalid_input"),
        (br#"{"task_type":"web_scrape","url":"http://example.com/","extra":1}"#, 422, "invalid_input"),
        (br#"{"vector_data":[]}"#, 422, "invalid_input"),
        (br#"{"vector_data":[[]]}"#, 422, "invalid_input"),
        (br#"{"vector_data":[[1,2],[3]]}"#, 422, "invalid_input"),
        (br#"{"vector_data":[1,[2]]}"#, 422, "invalid_input"),
        (br#"{"vector_data":["1"]}"#, 422, "invalid_input"),
        (br#"{"vector_data":[null]}"#, 422, "invalid_input"),
        (br#"{"vector_data":[1],"duration":-1}"#, 422, "invalid_input"),
        (br#"{"vector_data":[1],"duration":86401}"#, 422, "invalid_input"),
        (br#"{"vector_data":[1],"duration":"5"}"#, 422, "invalid_input"),
        (br#"{"vector_data":[1],"duratoin":5}"#, 422, "invalid_input"),
        (br#"{"vector_data":[1e400]}"#, 422, "invalid_json"),
        (br#"{"vector_data":[-1e400]}"#, 422, "invalid_json"),
        (br#"{"vector_data":[1],"metadata":{"n":18446744073709551616}}"#, 422, "invalid_json"),
        (br#"{"vector_data":[1],"metadata":{"a":1,"a":2}}"#, 422, "invalid_json"),
        (br#"{"vector_data":[1],"vector_data":[2]}"#, 422, "invalid_json"),
        (br#"{"vector_data":[1],"metadata":{"a":1,"\u0061":2}}"#, 422, "invalid_json"),
        (br#"{"vector_data":[1],"metadata":{"a":"\u0000"}}"#, 422, "invalid_json"),
        (br#"{"vector_data":[1],"metadata":{"\u0000":1}}"#, 422, "invalid_json"),
        (br#"{"vector_data":[1],"metadata":{"a":"\ud800"}}"#, 422, "invalid_json"),
        (br#"{"vector_data":[1],"metadata":{"a":"\udc00\ud800"}}"#, 422, "invalid_json"),
        (deep.as_bytes(), 422, "invalid_json"),
        (very_deep.as_bytes(), 400, "malformed_json"),
        (br#"{"vector_data":[1],"metadata":[]}"#, 422, "invalid_input"),
        (br#"{"vector_data":[1],"metadata":null}"#, 422, "invalid_input"),
        (br#"{"vector_data":[1],"options":{"queue":"A B"}}"#, 422, "invalid_input"),
        (br#"{"vector_data":[1],"options":{"queue":"x}:high"}}"#, 422, "invalid_input"),
        (br#"{"vector_data":[1],"options":{"delay":"-5s"}}"#, 422, "invalid_input"),
        (br#"{"vector_data":[1],"options":{"max_attempts":0}}"#, 422, "invalid_input"),
        (br#"{"vector_data":[1],"options":{"nonsense":1}}"#, 422, "invalid_input"),
        (br#"{"vector_data":[1],"status":"SUCCESS"}"#, 422, "invalid_input"),
        (br#"{"vector_data":[1],"worker_id":"x","owner":"y","attempt":9}"#, 422, "invalid_input"),
    ];
    for (body, status, code) in &cases {
        let what = String::from_utf8_lossy(&body[..body.len().min(80)]).into_owned();
        assert_problem(&client.post("/tasks", *body, &[]), *status, code, &what);
    }
    let problem = client.post("/tasks", r#"{"task_type":"web_scrape","url":7,"extra":1}"#, &[]).json();
    let pointers: Vec<_> =
        problem["errors"].as_array().unwrap().iter().map(|e| e["pointer"].as_str().unwrap()).collect();
    assert!(pointers.contains(&"/url"), "{problem}");
    assert!(client.list("").is_empty(), "nothing of this was accepted");
    client.fetch("/livez").expect(200);
}

#[test]
fn sizes_types_and_encodings() {
    let deployment = Deployment::new();
    let mut serve = deployment.serve();
    let client = serve.client();
    let large = format!(r#"{{"vector_data":[1],"metadata":{{"a":"{}"}}}}"#, "x".repeat(10 * 1024 * 1024));
    assert_problem(&client.post("/tasks", large, &[]), 413, "body_too_large", "10 MB");
    let body = r#"{"vector_data":[1],"duration":0}"#;
    for (what, content_type) in [("text", "text/plain"), ("form", "application/x-www-form-urlencoded"), ("none", "")] {
        let answer = client.send(
            ureq::http::Request::post(format!("http://{}/tasks", serve.address()))
                .header("content-type", content_type)
                .body(body.as_bytes().to_vec())
                .unwrap(),
        );
        assert_problem(&answer.unwrap(), 415, "unsupported_media_type", what);
    }
    let zipped = client.post("/tasks", body, &[("content-encoding", "gzip")]);
    assert_problem(&zipped, 415, "unsupported_media_type", "gzip");
    assert!(client.list("").is_empty());
}

#[test]
fn paths_methods_and_parameters() {
    let deployment = Deployment::new();
    let mut serve = deployment.serve();
    let client = serve.client();
    let unknown = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
    let id = client.submit(&json!({"vector_data": [1.0], "options": {"delay": "1h"}}));
    let every = [
        ("POST", "/tasks".to_owned()),
        ("DELETE", format!("/tasks/{id}")),
        ("POST", format!("/tasks/{id}/retry")),
        ("GET", format!("/tasks/{id}/input")),
        ("POST", "/queues/u/pause".to_owned()),
        ("POST", "/queues/u/resume".to_owned()),
        ("GET", "/task-types".to_owned()),
    ];
    for (method, path) in &every {
        let answer = match *path == "/tasks" {
            true => client.post("/tasks?foo=1", "{}", &[]),
            false => client.request(method, &format!("{path}?foo=1"), &[]),
        };
        let problem = assert_problem(&answer, 400, "invalid_parameter", path);
        assert!(problem["detail"].as_str().unwrap().contains("takes no parameters"), "{problem}");
    }
    assert_eq!(client.task(&id)["status"], "PENDING");
    for path in ["", "/logs", "/input", "/stream"] {
        assert_problem(&client.fetch(&format!("/tasks/{unknown}{path}")), 404, "task_not_found", path);
        for garbage in ["garbage", "1", "81ARZ3NDEKTSV4RRFFQ69G5FAV", "%00", "01ARZ3NDEKTSV4RRFFQ69G5FA%F0%9F%98%80"] {
            let answer = client.fetch(&format!("/tasks/{garbage}{path}"));
            assert_problem(&answer, 404, "task_not_found", &format!("{garbage}{path}"));
        }
    }
    assert_problem(&client.fetch("/no/such/path"), 404, "path_not_found", "a path");
    for (method, path) in [("PUT", "/tasks"), ("PATCH", "/tasks"), ("DELETE", "/tasks"), ("POST", "/livez")] {
        let answer = client.request(method, path, &[]);
        assert_problem(&answer, 405, "method_not_allowed", &format!("{method} {path}"));
        assert!(answer.header("allow").is_some(), "{method} {path} says what is allowed");
    }
    for query in
        ["?limit=0", "?limit=x", "?status=NONSENSE", "?cursor=forged", "?skip=-1", "?nonsense=1", "?created_after=x"]
    {
        assert_problem(&client.fetch(&format!("/tasks{query}")), 400, "invalid_parameter", query);
    }
    for query in ["?task_type=%27%3B%20DROP%20TABLE%20tasks%3B--", "?queue=%25", "?metadata.a%27b=%22"] {
        let answer = client.fetch(&format!("/tasks{query}"));
        assert!(matches!(answer.status, 200 | 400), "{query}: {answer}");
    }
    assert_eq!(client.list("").len(), 1, "the one that was to be left alone");
}

#[test]
fn bytes_that_are_not_http() {
    let deployment = Deployment::new();
    let mut serve = deployment.serve();
    let address = serve.address();
    let close = "connection: close\r\n";
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("noise", b"\x00\x01\x02\x03\r\n\r\n".to_vec()),
        ("no version", b"GET /tasks\r\n\r\n".to_vec()),
        ("bad header", format!("GET /tasks HTTP/1.1\r\nhost: x\r\n{close}bad header\r\n\r\n").into_bytes()),
        ("bad length", format!("POST /tasks HTTP/1.1\r\nhost: x\r\n{close}content-length: -1\r\n\r\n").into_bytes()),
        ("two lengths", format!("POST /tasks HTTP/1.1\r\nhost: x\r\n{close}content-length: 1\r\ncontent-length: 2\r\n\r\nab").into_bytes()),
        ("bad chunk", format!("POST /tasks HTTP/1.1\r\nhost: x\r\n{close}content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n").into_bytes()),
        ("long head", format!("GET /tasks HTTP/1.1\r\nhost: x\r\n{close}x: {}\r\n\r\n", "y".repeat(300_000)).into_bytes()),
        ("short body", format!("POST /tasks HTTP/1.1\r\nhost: x\r\n{close}content-type: application/json\r\ncontent-length: 100\r\n\r\n{{").into_bytes()),
    ];
    for (what, bytes) in cases {
        if let Some(answer) = raw_request(address, &bytes) {
            assert!((400..500).contains(&answer.status), "{what}: {answer}");
        }
        serve.client().fetch("/livez").expect(200);
    }
    assert!(!serve.stderr().contains("actix_http"), "a client can fill the log: {}", serve.stderr());
    // A body without a declared length, over the limit, in chunks.
    let mut chunked = format!(
        "POST /tasks HTTP/1.1\r\nhost: x\r\n{close}content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    .into_bytes();
    for _ in 0..40 {
        chunked.extend(format!("{:x}\r\n{}\r\n", 65536, " ".repeat(65536)).into_bytes());
    }
    chunked.extend(b"0\r\n\r\n");
    let answer = raw_request(address, &chunked).expect("an answer");
    assert_eq!(answer.status, 413, "{answer}");
    assert!(serve.client().list("").is_empty());
}
