//! Contract: everything works behind nginx as it comes: HTTP/1.0 towards the server, and buffering on.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{Client, Deployment, LONG, Nginx};

#[test]
fn submit_long_poll_and_stream_work_behind_nginx() {
    let deployment = Deployment::new();
    let (mut serve, _work) = (deployment.serve(), deployment.work());
    let nginx = Nginx::before(serve.address());
    let client = Client::new(nginx.address());

    let text = json!({"vector_data": [1.0], "duration": 0}).to_string();
    let answer = client.post("/tasks", text.clone(), &[("prefer", "wait=30"), ("idempotency-key", "n")]).expect(200);
    assert_eq!(answer.json()["status"], "SUCCESS");
    assert!(answer.header("location").unwrap().starts_with("/tasks/"));
    let replay = client.post("/tasks", text, &[("idempotency-key", "n")]).expect(202);
    assert_eq!(replay.header("idempotency-replayed"), Some("true"));

    let began = Instant::now();
    let id = client.submit(&json!({"vector_data": [1.0], "duration": 6}));
    let mut stream = client.stream(&id, Some("0"));
    assert_eq!(stream.status, 200);
    let frame = stream.find_event("progress", |event| event.data["progress"]["current"].as_i64() >= Some(1));
    assert_eq!(frame.status(), Some("RUNNING"));
    assert!(client.task(&id)["status"] == "RUNNING", "the frame came while the task ran, and not with its end");
    let poll = client.fetch(&format!("/tasks/{id}?wait=40")).expect(200);
    assert_eq!(poll.json()["status"], "SUCCESS");
    assert!(began.elapsed() > Duration::from_secs(5), "the answer was held");
    let rest = stream.rest();
    assert_eq!(rest.iter().filter(|event| event.status() == Some("SUCCESS")).count(), 1);
    let last = rest.last().unwrap();
    assert_eq!(client.stream(&id, Some(&last.id.unwrap().to_string())).status, 204);

    let cancelled = client.submit(&json!({"vector_data": [1.0], "duration": 600}));
    client.wait_status(&cancelled, "RUNNING", LONG);
    client.cancel(&cancelled).expect(204);
    let refused = client.request("GET", "/nothing", &[]).expect(404);
    assert_eq!(refused.header("content-type"), Some("application/problem+json"));
}
