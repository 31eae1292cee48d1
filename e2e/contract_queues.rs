//! Contract: queues, workers and waiting, as people and autoscalers see them.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Client, Deployment, LONG, Stopwatch, until};

fn vector(duration: u32) -> Value {
    json!({"vector_data": [1.0], "duration": duration})
}

fn queue(client: &Client, name: &str) -> Value {
    let queues = client.fetch("/queues").expect(200).json();
    queues.as_array().unwrap().iter().find(|queue| queue["queue"] == name).cloned().unwrap_or(Value::Null)
}

#[test]
fn waiting_tasks_know_their_place_and_that_nobody_serves_them() {
    let deployment = Deployment::new();
    let mut serve = deployment.serve();
    let client = serve.client();
    let batch = |number: usize| Value::from(vec![vector(0); number]).to_string();
    let first = client.post("/tasks/batch", batch(1_000), &[]).expect(202).json();
    let second = client.post("/tasks/batch", batch(503), &[]).expect(202).json();
    let id = |tasks: &Value, n: usize| tasks[n]["task_id"].as_str().unwrap().to_owned();
    let position = |id: &str, wanted: i64| {
        until(&format!("{id} is told that its place is {wanted}"), LONG, || {
            (client.task(id)["queue_position"] == wanted).then_some(())
        })
    };
    // Batches make their ids within a few milliseconds, in no order of their own.
    let sql = deployment.sql();
    let nth = |n: i64| -> String {
        sql.value("SELECT ulid(id) FROM tasks WHERE queue = 'default' ORDER BY id OFFSET $1 LIMIT 1", &[&n])
    };
    position(&nth(0), 1);
    position(&nth(499), 500);
    position(&nth(998), 999);
    position(&nth(1_502), 1_500);
    let high = client.submit(&json!({"vector_data": [1.0], "options": {"priority": "high"}}));
    position(&high, 1);
    position(&nth(0), if nth(0) == high { 1 } else { 2 });

    let task = client.task(&id(&first, 0));
    assert_eq!(task["pending_reason"], "no_worker");
    assert!(task["notice"].as_str().unwrap().contains("No live worker"), "{task:#}");
    assert_eq!(task["estimated_start_at"], Value::Null);
    let told = client.post("/tasks", json!({"vector_data": [1.0], "options": {"queue": "gpu"}}).to_string(), &[]);
    let told = told.expect(202).json();
    assert_eq!(told["pending_reason"], "no_worker");
    assert!(told["notice"].as_str().unwrap().contains("\"gpu\""), "{told:#}");
    let delayed = client.submit(&json!({"vector_data": [1.0], "options": {"delay": "1h"}}));
    assert_eq!(client.task(&delayed)["pending_reason"], "scheduled");
    assert_eq!(client.task(&delayed)["queue_position"], Value::Null);

    let view = until("the queue is counted", LONG, || {
        let view = queue(&client, "default");
        (view["ready"] == 1_504).then_some(view)
    });
    assert_eq!((&view["scheduled"], &view["running"], &view["workers"]), (&json!(1), &json!(0), &json!(0)));
    assert!(view["oldest_age_seconds"].as_f64().unwrap() >= 0.0);
    let autoscale = client.fetch("/autoscale/default").expect(200).json();
    assert_eq!((&autoscale["queued"], &autoscale["desired_workers"]), (&json!(1_504), &json!(1)));
    client.fetch("/autoscale/A*").expect(400);
    let _ = second;

    let _work = deployment.work();
    client.wait(&id(&first, 0), "a start", LONG, |task| task["status"] != "PENDING");
    let last = client.submit(&json!({"vector_data": [1.0], "duration": 0, "options": {"queue": "default"}}));
    until("the worker is seen", LONG, || (client.task(&last)["notice"] == Value::Null).then_some(()));
}

#[test]
fn a_paused_queue_starts_nothing_until_it_is_resumed() {
    let deployment = Deployment::new();
    let (mut serve, _work) = (deployment.serve(), deployment.work());
    let client = serve.client();
    let before = client.submit(&vector(0));
    client.wait_status(&before, "SUCCESS", LONG);
    let view = client.post("/queues/default/pause", "", &[]).expect(200).json();
    assert_eq!((&view["queue"], &view["paused"]), (&json!("default"), &json!(true)));
    let id = client.submit(&vector(0));
    let task = until("the pause is told", LONG, || {
        let task = client.task(&id);
        (task["pending_reason"] == "paused").then_some(task)
    });
    assert!(task["notice"].as_str().unwrap().contains("paused"));
    // The tag stands for the row, which no pause changes: docs/api.md.
    let same = client.request("GET", &format!("/tasks/{id}"), &[("if-none-match", "W/\"1\"")]);
    assert_eq!((same.status, &task["version"]), (304, &json!(1)));
    assert_eq!(client.fetch("/autoscale/default").expect(200).json()["queued"], 0);
    // Two looks of the worker at the paused queue: long enough for a wrong start to show.
    let wait = client.fetch(&format!("/tasks/{id}?wait=2")).expect(200).json();
    assert_eq!(wait["status"], "PENDING");

    let once = deployment.run(&["work", "--once"]);
    assert_eq!(once.code, Some(0), "{}", once.output());
    assert!(once.stderr.contains("but for what waits in paused ones: default"), "{}", once.output());

    let began = Stopwatch::start();
    client.post("/queues/default/resume", "", &[]).expect(200);
    client.wait_status(&id, "SUCCESS", LONG);
    // A second is the promise, on a machine that is not busy with other tests.
    assert!(began.elapsed() < Duration::from_secs(4), "started {:?} after the resume", began.elapsed());
    client.post("/queues/A*/pause", "", &[]).expect(400);
}

#[test]
fn workers_and_samples_are_shown() {
    let deployment = Deployment::new().set("APP_QUEUES", "default=3,gpu=2");
    let (mut serve, mut work) = (deployment.serve(), deployment.work());
    let client = serve.client();
    let id = client.submit(&vector(600));
    client.wait_status(&id, "RUNNING", LONG);
    let workers = client.fetch("/workers").expect(200).json();
    assert_eq!(workers.as_array().unwrap().len(), 1);
    let worker = &workers[0];
    assert_eq!((&worker["state"], &worker["pid"]), (&json!("alive"), &json!(work.pid())));
    assert_eq!(worker["queues"], json!({"default": 3, "gpu": 2}));
    assert_eq!((&worker["running"], &worker["running_tasks"]), (&json!(1), &json!([id])));
    assert_eq!((&worker["unstopped"], &worker["ended_at"]), (&json!(0), &Value::Null));
    assert!(worker["lease_age_seconds"].as_f64().unwrap() < 30.0);
    let autoscale = client.fetch("/autoscale/default").expect(200).json();
    assert_eq!((&autoscale["slots"], &autoscale["running"]), (&json!(3), &json!(1)));
    assert_eq!(autoscale["desired_workers"], 1);

    let sample = until("the start is in a sample", LONG, || {
        let view = queue(&client, "default");
        view["samples"].as_array()?.iter().find(|sample| sample["started"] == 1).cloned()
    });
    assert_eq!(sample["ended"], 0);
    assert!(queue(&client, "default")["throughput"]["started_per_minute"].as_f64().unwrap() > 0.0);
    until("what runs is in a sample", 2 * LONG, || {
        let view = queue(&client, "default");
        view["samples"].as_array()?.iter().any(|sample| sample["running"] == 1).then_some(())
    });

    client.cancel(&id).expect(204);
    work.stop();
    let worker = client.fetch("/workers").expect(200).json()[0].clone();
    assert_eq!(worker["state"], "left");
    assert!(worker["ended_at"].is_string());
    assert_eq!(client.fetch("/autoscale/default").expect(200).json()["slots"], 0);
}

#[test]
fn a_timeline_tells_waits_deliveries_and_losses() {
    let deployment = Deployment::new().set("APP_LEASE", "10s");
    let (mut serve, mut work) = (deployment.serve(), deployment.work());
    let client = serve.client();
    let id = client.submit(&vector(600));
    client.wait_status(&id, "RUNNING", LONG);
    let timeline = || client.fetch(&format!("/tasks/{id}/timeline")).expect(200).json();
    let told = timeline();
    let statuses = |told: &Value| -> Vec<String> {
        told["entries"].as_array().unwrap().iter().map(|entry| entry["status"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(statuses(&told), ["PENDING", "RUNNING"]);
    assert_eq!(told["entries"][0]["reason"], "submitted");
    assert!(told["entries"][1]["worker"]["host"].is_string(), "{told:#}");
    assert!(told["current"]["lease_renewed_at"].is_string());
    until("a checkpoint is told", LONG, || timeline()["current"]["checkpoint_at"].is_string().then_some(()));

    work.kill();
    let _second = deployment.work();
    client.wait(&id, "the second delivery", 2 * LONG, |task| task["delivery"] == 2);
    client.cancel(&id).expect(204);
    let workers = client.fetch("/workers").expect(200).json();
    let states: Vec<_> = workers.as_array().unwrap().iter().map(|worker| worker["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["alive", "dead"]);
    let told = timeline();
    assert_eq!(statuses(&told), ["PENDING", "RUNNING", "PENDING", "RUNNING", "CANCELLED"]);
    assert_eq!(told["entries"][2]["reason"], "worker lost");
    assert_eq!(told["entries"][2]["worker"], told["entries"][1]["worker"], "the loss names who was lost");
    assert!(told["entries"][1]["worker"]["worker_id"] != told["entries"][3]["worker"]["worker_id"]);
    assert_eq!((&told["current"], &told["entries"][4]["lasted_ms"]), (&Value::Null, &Value::Null));
    assert_eq!(told["entries"][4]["error"]["code"], "cancelled");
    client.fetch("/tasks/01KDVQ9N00ABCDEFGHJKMNPQRS/timeline").expect(404);
    // More changes than are told, and the task still runs: its delivery is told all the same.
    let long = "
        INSERT INTO task_events (task_id, seq, delivery, attempt, status)
        SELECT id, seq + n, 1, 1, CASE WHEN n % 2 = 0 THEN 'RUNNING' ELSE 'PENDING' END
        FROM tasks, generate_series(1, 1200) AS n;
        UPDATE tasks SET seq = seq + 1200, status = 'RUNNING', completed_at = NULL, error = NULL";
    deployment.sql().run(&format!("BEGIN; {long}; COMMIT")).unwrap();
    let told = timeline();
    assert!(told["entries"].as_array().unwrap().len() == 1_000 && told["current"].is_object(), "{}", told["current"]);
}
