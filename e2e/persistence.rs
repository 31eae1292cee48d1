//! Persistence: what was answered once is there again after every process has ended.

use serde_json::json;

use crate::harness::{Deployment, LONG};

#[test]
fn results_logs_and_cancels_survive_every_process() {
    let deployment = Deployment::new();
    let (mut serve, mut work) = (deployment.serve(), deployment.work());
    let client = serve.client();

    let vectors = json!([[3.0, 4.0], [0.0, 0.0]]);
    let done = client.submit(&json!({"vector_data": vectors, "metadata": {"source": "e2e", "n": 1.50}, "duration": 0}));
    let stopped = client.submit(&json!({"vector_data": [1.0], "duration": 600}));
    let task = client.wait_status(&done, "SUCCESS", LONG);
    assert_eq!(task["result"]["processed_vectors"], 2);
    assert_eq!(task["result"]["dimensions"], 2);
    assert_eq!([&task["result"]["norm_min"], &task["result"]["norm_max"]], [0.0, 5.0]);
    assert_eq!(task["result"]["skipped_chunks"], 0);
    assert_eq!(task["result"]["status"], "indexed");
    assert_eq!(task["result"]["metadata"], json!({"source": "e2e", "n": 1.5}));
    assert_eq!((&task["error"], &task["attempt"], &task["delivery"]), (&json!(null), &json!(1), &json!(1)));
    assert!(task["started_at"].is_string() && task["completed_at"].is_string());
    let logs = client.logs(&done);
    assert!(!logs.is_empty());
    client.wait_status(&stopped, "RUNNING", LONG);
    client.cancel(&stopped).expect(204);
    let list = client.list("");

    serve.kill();
    work.kill();
    let mut serve = deployment.serve();
    let _work = deployment.work();
    let client = serve.client();
    assert_eq!(client.task(&done), task);
    assert_eq!(client.logs(&done), logs);
    assert_eq!(client.task(&stopped)["status"], "CANCELLED");
    let ids = |list: &[serde_json::Value]| list.iter().map(|task| task["task_id"].clone()).collect::<Vec<_>>();
    assert_eq!(ids(&client.list("")), ids(&list));
    assert_eq!(ids(&list), [json!(stopped), json!(done)], "newest first");
}

#[test]
fn what_was_accepted_without_a_worker_runs_when_one_comes() {
    let deployment = Deployment::new();
    let mut serve = deployment.serve();
    let client = serve.client();
    let ids: Vec<_> = (0..5).map(|n| client.submit(&json!({"vector_data": [n as f64], "duration": 0}))).collect();
    assert!(ids.iter().all(|id| client.task(id)["status"] == "PENDING"));
    let _work = deployment.work();
    for id in &ids {
        assert_eq!(client.wait_final(id, LONG)["status"], "SUCCESS");
    }
}

#[test]
fn what_came_is_given_back_as_it_came() {
    let deployment = Deployment::new();
    let mut serve = deployment.serve();
    let client = serve.client();
    let body = r#"{"vector_data": [0.10, 2E1,1.00000000000000000001], "duration": 0.0, "metadata": {"é": "\u00e9\ud83d\ude00"}}"#;
    let answer = client.post("/tasks", body, &[]).expect(202);
    let id = answer.json()["task_id"].as_str().unwrap().to_owned();
    assert_eq!(answer.header("location"), Some(format!("/tasks/{id}").as_str()));
    assert!(answer.header("retry-after").unwrap().parse::<u32>().unwrap() >= 1);
    assert_eq!(answer.json()["metadata"], json!({"é": "é😀"}));
    let input = client.fetch(&format!("/tasks/{id}/input")).expect(200);
    let text = String::from_utf8(input.body).unwrap();
    assert!(text.contains("[0.10, 2E1,1.00000000000000000001]"), "the digits stay as they came: {text}");
}

#[test]
fn a_task_of_some_seconds_moves() {
    let deployment = Deployment::new();
    let (mut serve, _work) = (deployment.serve(), deployment.work());
    let client = serve.client();
    let id = client.submit(&json!({"vector_data": [1.0, 2.0], "duration": 3}));
    let moving = client.wait(&id, "progress in mid-task", LONG, |task| {
        task["status"] == "RUNNING" && task["progress"]["current"].as_i64().is_some_and(|step| step >= 1)
    });
    assert_eq!(moving["progress"]["total"], 3);
    let task = client.wait_final(&id, LONG);
    assert_eq!(task["status"], "SUCCESS");
    assert_eq!(task["progress"]["percent"], 100.0);
}

#[test]
fn a_worker_for_once_leaves_when_the_queue_is_drained() {
    let deployment = Deployment::new();
    let mut serve = deployment.serve();
    let client = serve.client();
    let ids: Vec<_> = (0..5).map(|n| client.submit(&json!({"vector_data": [1.0], "duration": n % 2}))).collect();
    let later = client.submit(&json!({"vector_data": [1.0], "options": {"delay": "1h"}}));
    let worked = deployment.run(&["work", "--once"]);
    assert_eq!(worked.code, Some(0), "{}", worked.output());
    assert!(ids.iter().all(|id| client.task(id)["status"] == "SUCCESS"));
    assert_eq!(client.task(&later)["status"], "PENDING");
}
