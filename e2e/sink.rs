//! Sink: where `vector_processing` sends its chunks, and what happens while nobody takes them.

use serde_json::{Value, json};

use crate::harness::{Deployment, HttpServer, LONG, Reply};

/// Three chunks: a chunk has at most 256 vectors.
fn three_chunks() -> Value {
    let vectors: Vec<_> = (0..600).map(|n| json!([n, 1])).collect();
    json!({"vector_data": vectors, "duration": 0})
}

#[test]
fn every_chunk_arrives_with_its_key() {
    // The first try of each chunk fails.
    let sink = HttpServer::start(|_, earlier| Reply::Whole(if earlier == 0 { 503 } else { 200 }, vec![], Vec::new()));
    let deployment = Deployment::new().set("APP_VECTOR_SINK_URL", sink.url("/chunks"));
    let (mut serve, _work) = (deployment.serve(), deployment.work());
    let client = serve.client();
    let id = client.submit(&three_chunks());
    let task = client.wait_final(&id, LONG);
    assert_eq!(task["status"], "SUCCESS", "{task:#}");
    assert_eq!(task["result"]["skipped_chunks"], 0);
    assert_eq!(task["result"]["chunks"], 3);
    let requests = sink.requests();
    assert_eq!(requests.len(), 4, "three chunks and one retry");
    let key = |request: &crate::harness::Request| request.header("idempotency-key").unwrap().to_owned();
    assert_eq!(key(&requests[0]), key(&requests[1]), "a retry has the key of its chunk");
    let mut keys: Vec<_> = requests.iter().map(key).collect();
    keys.dedup();
    assert_eq!(keys.len(), 3);
    assert!(keys.iter().all(|key| key.starts_with(&format!("{id}:"))), "{keys:?}");
    assert!(requests.iter().all(|request| request.method == "POST" && request.header("x-task-delivery") == Some("1")));
    let body: Value = serde_json::from_slice(&requests[0].body).unwrap();
    assert_eq!((&body["task_id"], &body["dimensions"]), (&json!(id), &json!(2)));
    assert_eq!(body["norms"].as_array().unwrap().len(), body["codes"].as_array().unwrap().len());
}

#[test]
fn a_sink_that_is_down_is_left_alone() {
    let sink = HttpServer::start(|_, _| Reply::Whole(500, vec![], Vec::new()));
    let deployment = Deployment::new().set("APP_VECTOR_SINK_URL", sink.url("/chunks"));
    let (mut serve, _work) = (deployment.serve(), deployment.work());
    let client = serve.client();
    let id = client.submit(&three_chunks());
    let task = client.wait_final(&id, LONG);
    assert_eq!(task["status"], "SUCCESS", "a sink does not fail the task: {task:#}");
    assert_eq!(task["result"]["skipped_chunks"], 3);
    assert_eq!(task["result"]["processed_vectors"], 600);
    let warnings = client.logs(&id).iter().filter(|line| line["level"] == "WARNING").count();
    assert_eq!(warnings, 3);
    let asked = sink.requests().len();
    assert_eq!(asked, 5, "the breaker opens after five failures in a row");
    // It is the process's: another task does not ask either.
    let other = client.submit(&three_chunks());
    assert_eq!(client.wait_final(&other, LONG)["result"]["skipped_chunks"], 3);
    assert_eq!(sink.requests().len(), asked);
}
