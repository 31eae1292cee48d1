//! Submitting: values by their types, options, and one task however often the request is sent.

use serde_json::json;

use super::{House, ending, run_at};
use crate::harness::{HttpServer, LONG, Reply};

#[test]
fn a_pipe_gets_the_id_and_a_terminal_the_address_too() {
    let house = House::open();
    let done = house.run(&["submit", "vector_processing", "vector_data=[3, 4]", "duration=0"]);
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""), "{}", done.output());
    let id = done.stdout.trim_end();
    assert_eq!((id.len(), done.stdout.lines().count()), (26, 1));
    assert_eq!(house.api.wait_final(id, LONG)["result"]["norm_max"], 5.0);

    let (code, screen) = house.on_terminal(&["submit", "vector_processing", "vector_data=[1]", "duration=0"]).finish();
    assert_eq!(code, Some(0));
    let id = screen.split_whitespace().next().unwrap();
    assert!(
        screen.contains("vector_processing") && screen.contains(&format!("{}/ui/tasks/{id}", house.url)),
        "{screen}"
    );
    let page = house.api.fetch(&format!("/ui/tasks/{id}")).expect(200);
    assert!(page.header("content-type").unwrap().starts_with("text/html"), "the address leads to the task's page");
}

#[test]
fn values_are_typed_and_options_arrive() {
    let house = House::open();
    let folder = crate::harness::new_folder("input");
    let file = folder.join("input.json");
    std::fs::write(&file, r#"{"vector_data": [0.10, 2e1], "duration": 9}"#).unwrap();
    let id = house.submit(&[
        "vector_processing",
        "--input",
        file.to_str().unwrap(),
        "duration=1.50",
        "--meta",
        "tenant=5",
        "--meta",
        "tags:=[1]",
        "--queue",
        "bulk",
        "--priority",
        "high",
        "--delay",
        "1h",
        "--task-timeout",
        "2m",
    ]);
    let input = house.api.fetch(&format!("/tasks/{id}/input")).expect(200);
    let text = String::from_utf8(input.body).unwrap();
    assert!(text.contains("[0.10, 2e1]") && text.contains("1.50"), "digits as they were written: {text}");
    let task = house.api.task(&id);
    assert_eq!(task["metadata"], json!({"tenant": "5", "tags": [1]}));
    assert_eq!(
        (&task["queue"], &task["priority"], &task["pending_reason"]),
        (&json!("bulk"), &json!("high"), &json!("scheduled"))
    );
}

#[test]
fn the_same_key_is_sent_with_every_try() {
    let server = HttpServer::start(|request, earlier| match (request.method.as_str(), earlier) {
        ("GET", _) => Reply::Whole(200, vec![], b"[]".to_vec()),
        (_, 0) => Reply::Whole(503, vec![], b"{}".to_vec()),
        _ => {
            let task = r#"{"task_id":"01M855Z9FNVC7F7BJMWV67JG2H","task_type":"t","status":"PENDING","queue":"q",
                "priority":"normal","attempt":1,"max_attempts":1,"metadata":{},"created_at":"2026-01-01T00:00:00Z"}"#;
            Reply::Whole(202, vec![], task.into())
        }
    });
    let url = server.url("");
    let done = crate::harness::App::run(&["submit", "t"], &[("APP_URL".to_owned(), url.clone())]);
    assert_eq!(done.code, Some(0), "{}", done.output());
    let submits: Vec<_> = server.requests().into_iter().filter(|request| request.method == "POST").collect();
    let keys: Vec<_> = submits.iter().map(|request| request.header("idempotency-key").unwrap()).collect();
    assert!(keys.len() == 2 && keys[0] == keys[1] && keys[0].len() >= 32, "{keys:?}");

    let house = House::open();
    let words = ["vector_processing", "vector_data=[1]", "duration=0", "--key", "order-1"];
    assert_eq!(house.submit(&words), house.submit(&words));
}

#[test]
fn a_token_is_sent_and_never_shown() {
    let server =
        HttpServer::start(|_, _| Reply::Whole(401, vec![], br#"{"code":"unauthorized","title":"No"}"#.to_vec()));
    let done = run_at(&server.url(""), &["list", "--token", "s3cret-token", "-v"]);
    assert_eq!(done.code, Some(7));
    assert_eq!(server.requests()[0].header("authorization"), Some("Bearer s3cret-token"));
    assert!(!done.output().contains("s3cret"), "{}", done.output());
    assert!(done.stderr.contains("APP_TOKEN"), "{}", done.stderr);
    let help = crate::harness::App::run(&["list", "--help"], &[("APP_TOKEN".to_owned(), "s3cret-token".to_owned())]);
    assert!(!help.output().contains("s3cret"));
}

#[test]
fn waiting_is_silent_and_prints_the_result() {
    let house = House::open();
    let done = house.run(&["submit", "vector_processing", "vector_data=[3,4]", "duration=0", "--wait"]);
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""));
    let result: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(result["norm_max"], 5.0);
    let id = house.submit(&["test_sleep", "ms=300", "steps=1"]);
    let done = house.run(&["get", ending(&id), "--wait=1m", "--json"]);
    let task: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!((&task["task_id"], &task["status"]), (&json!(id), &json!("SUCCESS")));
}
