//! HTTP workers: tasks run by programs that know nothing but the API, with the same fence as everybody else.

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    clients::PYTHON,
    harness::{Answer, Client, Deployment, LONG, Stopwatch, until},
};

/// A declared type with a required key.
fn declare(client: &Client, name: &str, more: Value) -> Answer {
    let mut body = json!({
        "description": "Does something", "queue": "elsewhere",
        "input_schema": {
            "type": "object", "required": ["n"], "additionalProperties": false,
            "properties": {"n": {"type": "integer"}},
        },
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    client.put(&format!("/task-types/{name}"), body.to_string())
}

fn ask(client: &Client, more: Value) -> Answer {
    let mut body = json!({"worker": "test", "task_types": ["thing"]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    client.post("/queues/elsewhere/lease", body.to_string(), &[])
}

/// Leases one task.
fn take(client: &Client, more: Value) -> Value {
    let tasks = ask(client, more).expect(200).json();
    assert_eq!(tasks.as_array().unwrap().len(), 1, "{tasks:#}");
    tasks[0].clone()
}

fn tell(client: &Client, task: &Value, verb: &str, more: Value) -> Answer {
    let mut body = json!({"lease_token": task["lease_token"]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let path = format!("/tasks/{}/lease/{verb}", task["task_id"].as_str().unwrap());
    client.post(&path, body.to_string(), &[])
}

fn submit(client: &Client, n: i64) -> String {
    client.submit(&json!({"task_type": "thing", "n": n, "metadata": {"for": "a test"}}))
}

#[test]
fn a_task_is_leased_reported_and_completed() {
    let deployment = Deployment::new();
    let mut serve = deployment.serve();
    let client = serve.client();
    declare(&client, "thing", json!({"max_attempts": 2})).expect(200);
    let id = submit(&client, 1);
    let task = take(&client, json!({"lease": "30s"}));
    assert_eq!((&task["task_id"], &task["input"]), (&json!(id), &json!({"n": 1})));
    assert_eq!((&task["delivery"], &task["max_attempts"]), (&json!(1), &json!(2)));
    assert_eq!(deployment.redis::<i64>(&["LLEN", "v1:ready:{elsewhere}:normal"]), 0, "its doorbell is gone");
    assert_eq!(client.task(&id)["status"], "RUNNING");
    let running = client.fetch(&format!("/tasks/{id}/timeline")).expect(200).json();
    assert_eq!(running["current"]["worker_name"], "test", "{running:#}");
    tell(&client, &task, "heartbeat", json!({})).expect(200);
    tell(&client, &task, "progress", json!({"current": 1, "total": 2, "message": "half"})).expect(204);
    tell(&client, &task, "log", json!({"lines": [{"message": "one"}, {"level": "ERROR", "message": "two"}]}))
        .expect(204);
    tell(&client, &task, "checkpoint", json!({"checkpoint": {"at": 1}})).expect(204);
    assert_eq!(client.task(&id)["progress"]["percent"], 50.0);
    let logs = client.logs(&id);
    assert_eq!((&logs[0]["message"], &logs[1]["level"]), (&json!("one"), &json!("ERROR")));
    for _repeated in 0..2 {
        let ended = tell(&client, &task, "complete", json!({"result": {"n": 2}})).expect(200);
        assert_eq!(ended.json()["status"], "SUCCESS");
    }
    assert_eq!(client.task(&id)["result"], json!({"n": 2}));
    let late = tell(&client, &task, "fail", json!({"message": "no"})).expect(409);
    assert_eq!(late.json()["code"], "lease_lost");
    let timeline = client.fetch(&format!("/tasks/{id}/timeline")).expect(200).json();
    assert_eq!(timeline["entries"][1]["reason"], "leased by test", "{timeline:#}");
    let names: Vec<&Value> =
        timeline["entries"].as_array().unwrap().iter().map(|entry| &entry["worker"]["name"]).collect();
    assert_eq!(names, [&Value::Null, &json!("test"), &json!("test")], "{timeline:#}");
}

#[test]
fn a_declared_type_is_known_to_every_replica_and_checked() {
    let deployment = Deployment::new();
    let (mut serve, mut other, mut third) = (deployment.serve(), deployment.serve(), deployment.serve());
    let (client, other, third) = (serve.client(), other.client(), third.client());
    declare(&client, "thing", json!({})).expect(200);
    assert_eq!(
        client.post("/tasks", r#"{"task_type":"thing","n":"x"}"#, &[]).expect(422).json()["code"],
        "invalid_input"
    );
    let began = Stopwatch::start();
    until("a replica knows it that nobody has asked for it", LONG, || {
        let types = third.fetch("/task-types").expect(200).json();
        types.as_array().unwrap().iter().any(|kind| kind["task_type"] == "thing").then_some(())
    });
    assert!(began.elapsed() < Duration::from_secs(5), "it took {:?}", began.elapsed());
    other.post("/tasks", r#"{"task_type":"thing","n":1}"#, &[]).expect(202);
    let document = other.fetch("/openapi.json").expect(200).json();
    assert_eq!(document["components"]["schemas"]["Submit.thing"]["properties"]["n"]["type"], "integer");

    // Declared anew, it changes.
    let schema = json!({"input_schema": {"type": "object", "required": ["m"]}, "timeout": "90s"});
    let changed = declare(&client, "thing", schema).expect(200).json();
    assert_eq!(changed["defaults"]["timeout"], "1m 30s");
    client.post("/tasks", r#"{"task_type":"thing","n":1}"#, &[]).expect(422);
    for (name, more, status, code) in [
        ("web_scrape", json!({}), 409, "built_in_task_type"),
        ("Thing", json!({}), 400, "invalid_parameter"),
        ("x", json!({"input_schema": {"type": "object", "required": 1}}), 422, "invalid_input"),
        ("x", json!({"input_schema": {"$ref": "http://127.0.0.1:9/"}}), 422, "invalid_input"),
        ("x", json!({"queue": "No!"}), 422, "invalid_input"),
        ("x", json!({"colour": "red"}), 422, "invalid_input"),
        ("x", json!({"timeout": "soon"}), 422, "invalid_input"),
    ] {
        assert_eq!(declare(&client, name, more).expect(status).json()["code"], code, "{name}");
    }
}

#[test]
fn a_type_is_submitted_to_any_replica_as_soon_as_it_is_declared() {
    let deployment = Deployment::new();
    let (mut serve, mut other) = (deployment.serve(), deployment.serve());
    let (client, other) = (serve.client(), other.client());
    // More often than a replica reads them by itself.
    for number in 0..10 {
        let name = format!("thing_{number}");
        declare(&client, &name, json!({})).expect(200);
        let body = json!({"task_type": name, "n": number});
        match number % 2 {
            0 => other.post("/tasks", body.to_string(), &[]).expect(202),
            _ => other.post("/tasks/batch", json!([body, body]).to_string(), &[]).expect(202),
        };
    }
    // Who names what does not exist waits for a look that is shared, and is refused.
    let began = Stopwatch::start();
    std::thread::scope(|scope| {
        for number in 0..20 {
            let other = &other;
            scope.spawn(move || {
                let body = json!({"task_type": format!("nothing_{number}")}).to_string();
                assert_eq!(other.post("/tasks", body, &[]).expect(422).json()["code"], "unknown_task_type");
            });
        }
    });
    assert!(began.elapsed() < Duration::from_secs(3), "not one look after the other: {:?}", began.elapsed());
}

#[test]
fn the_policy_of_a_type_counts_on_a_replica_that_has_just_begun() {
    let deployment = Deployment::new();
    let (mut serve, mut other) = (deployment.serve(), deployment.serve());
    let (client, other) = (serve.client(), other.client());
    other.wait_ready(LONG);
    declare(&client, "thing", json!({"backoff": "1h", "longest_backoff": "1h"})).expect(200);
    let id = submit(&client, 1);
    let task = take(&client, json!({}));
    tell(&other, &task, "fail", json!({"code": "busy", "message": "later"})).expect(200);
    let waits: f64 = deployment.sql().value(
        "SELECT extract(epoch FROM ready_at - clock_timestamp())::float8 FROM tasks WHERE id = from_ulid($1)",
        &[&id],
    );
    assert!(waits > 600.0, "the declared backoff, and not that of types that say nothing: {waits} s");
}

#[test]
fn a_queue_that_is_served_over_http_says_so() {
    let deployment = Deployment::new();
    let mut serve = deployment.serve();
    let client = serve.client();
    declare(&client, "thing", json!({})).expect(200);
    let waits = |id: &str| client.task(id)["pending_reason"].clone();
    let served = || {
        let queues = client.fetch("/queues").expect(200).json();
        queues.as_array().unwrap().iter().find(|queue| queue["queue"] == "elsewhere").cloned()
    };
    let (first, second) = (submit(&client, 1), submit(&client, 2));
    until("nobody is there", LONG, || (waits(&second) == "no_worker").then_some(()));
    until("the queue says so", LONG, || (served()?["http_asked"] == false).then_some(()));
    // Two types: what a heartbeat says of one is not what this has just said of both.
    let task = take(&client, json!({"worker": "host-1/7", "task_types": ["other", "thing"], "lease": "5m"}));
    assert_eq!(task["task_id"], json!(first));
    until("it is known who serves the queue", LONG, || {
        let queue = served()?;
        (queue["http_asked"] == true && queue["http_workers"] == json!([{"worker": "host-1/7", "running": 1}]))
            .then_some(())
    });
    until("the other one stands in line", LONG, || (waits(&second) == "ready").then_some(()));

    // Who works for longer than asking counts is known by its heartbeats.
    deployment.sql().change("UPDATE http_workers SET asked_at = asked_at - interval '10 min'", &[]);
    until("nobody has asked for long", LONG, || (waits(&second) == "no_worker").then_some(()));
    tell(&client, &task, "heartbeat", json!({})).expect(200);
    until("the heartbeat counts", LONG, || (waits(&second) == "ready").then_some(()));
}

#[test]
fn names_of_queues_that_a_caller_makes_up_are_bounded_and_hide_nobody_else() {
    let deployment = Deployment::new();
    let keys = ["many", "honest"].map(|name| deployment.key(name, "worker"));
    let mut serve = deployment.serve();
    let client = serve.client();
    let [many, honest] = keys.map(|key| client.with_key(&key));
    let body = json!({"worker": "test", "task_types": ["thing"]}).to_string();
    std::thread::scope(|scope| {
        for part in 0..10 {
            let (many, body) = (&many, &body);
            scope.spawn(move || {
                for number in 0..110 {
                    many.post(&format!("/queues/made-up-{part}-{number}/lease"), body.clone(), &[]).expect(204);
                }
            });
        }
    });
    ask(&honest, json!({})).expect(204);
    let sql = deployment.sql();
    let known = |like: &str| sql.value::<i64>("SELECT count(*) FROM http_workers WHERE queue LIKE $1", &[&like]);
    until("the other worker is known", LONG, || (known("elsewhere") == 1).then_some(()));
    let made_up = known("made-up-%");
    assert!(made_up <= 1_000, "{made_up} queues that nobody has");
}

#[test]
fn a_held_lease_gets_what_is_submitted_meanwhile_and_holds_no_connection() {
    let deployment = Deployment::new().set("APP_POSTGRES_POOL", 2);
    let mut serve = deployment.serve();
    let client = serve.client();
    declare(&client, "thing", json!({})).expect(200);
    let began = Stopwatch::start();
    ask(&client, json!({"wait": 1})).expect(204);
    assert!(began.on_the_wall() >= Duration::from_secs(1), "it was not held");
    // Many more than there are connections.
    std::thread::scope(|scope| {
        let polls: Vec<_> = (0..30).map(|_| scope.spawn(|| ask(&client, json!({"wait": 50})))).collect();
        let sql = deployment.sql();
        until("somebody asks for the type", LONG, || {
            (sql.value::<i64>("SELECT count(*) FROM http_workers WHERE task_type = 'thing'", &[]) == 1).then_some(())
        });
        let ids: Vec<String> = (0..30).map(|n| submit(&client, n)).collect();
        let mut leased: Vec<String> = polls
            .into_iter()
            .map(|poll| poll.join().unwrap().expect(200).json()[0]["task_id"].as_str().unwrap().to_owned())
            .collect();
        leased.sort();
        assert_eq!(leased, ids, "each task once");
    });
    assert_eq!(client.list("?status=RUNNING").len(), 30);
}

#[test]
fn a_lease_that_runs_out_is_taken_and_its_token_is_worth_nothing() {
    let deployment = Deployment::new().set("APP_LEASE", "2s");
    // The shared server has been up for longer than the lease that is judged here.
    let (mut serve, _work) = (deployment.serve(), deployment.work());
    let client = serve.client();
    declare(&client, "thing", json!({})).expect(200);
    let id = submit(&client, 1);
    let first = take(&client, json!({"lease": "5s"}));
    tell(&client, &first, "checkpoint", json!({"checkpoint": 7})).expect(204);
    let second = until("the task is given away", LONG, || {
        let answer = ask(&client, json!({"wait": 2, "lease": "60s"}));
        (answer.status == 200).then(|| answer.json()[0].clone())
    });
    assert_eq!((&second["task_id"], &second["delivery"], &second["checkpoint"]), (&json!(id), &json!(2), &json!(7)));
    assert_eq!(second["attempt"], 1, "a lost lease is not charged as a failure");
    // A forged token: the old secret under the new delivery.
    let mut forged = first.clone();
    forged["lease_token"] = json!(first["lease_token"].as_str().unwrap().replacen("1.", "2.", 1));
    for stale in [&first, &forged] {
        for (verb, body) in [
            ("heartbeat", json!({})),
            ("progress", json!({"current": 9})),
            ("log", json!({"lines": [{"message": "stale"}]})),
            ("checkpoint", json!({"checkpoint": 9})),
            ("complete", json!({"result": 9})),
            ("fail", json!({"message": "stale", "retryable": false})),
        ] {
            assert_eq!(tell(&client, stale, verb, body).expect(409).json()["code"], "lease_lost", "{verb}");
        }
    }
    tell(&client, &second, "complete", json!({"result": 1})).expect(200);
    assert_eq!(client.task(&id)["result"], 1);
    assert!(client.logs(&id).is_empty());
}

#[test]
fn a_failure_is_retried_within_the_budget() {
    let deployment = Deployment::new();
    let (mut serve, _work) = (deployment.serve(), deployment.work());
    let client = serve.client();
    declare(&client, "thing", json!({"max_attempts": 2})).expect(200);
    let id = submit(&client, 1);
    let first = take(&client, json!({}));
    for _repeated in 0..2 {
        let failed = tell(&client, &first, "fail", json!({"code": "busy", "message": "later", "retry_after": "100ms"}));
        assert_eq!(failed.expect(200).json()["status"], "PENDING");
    }
    let second = take(&client, json!({"wait": 50}));
    assert_eq!((&second["task_id"], &second["attempt"]), (&json!(id), &json!(2)));
    let failed = tell(&client, &second, "fail", json!({"code": "busy", "message": "again"})).expect(200);
    assert_eq!(failed.json()["status"], "FAILED");
    let task = client.task(&id);
    assert_eq!((&task["error"]["code"], &task["retry_count"]), (&json!("busy"), &json!(2)), "{task:#}");
}

#[test]
fn a_cancel_is_told_at_the_next_call_and_a_retry_waits_for_it() {
    let deployment = Deployment::new();
    let mut serve = deployment.serve();
    let client = serve.client();
    declare(&client, "thing", json!({})).expect(200);
    let id = submit(&client, 1);
    let task = take(&client, json!({}));
    client.cancel(&id).expect(204);
    let retry = || client.post(&format!("/tasks/{id}/retry"), "", &[]);
    assert_eq!(retry().expect(409).json()["code"], "still_stopping");
    let told = tell(&client, &task, "heartbeat", json!({})).expect(409).json();
    assert!(told["detail"].as_str().unwrap().contains("cancelled"), "{told}");
    retry().expect(202);
    tell(&client, &task, "complete", json!({"result": 1})).expect(409);
    assert_eq!(take(&client, json!({}))["delivery"], 2);
}

#[test]
fn an_attempt_that_passes_its_limit_is_ended_at_the_heartbeat() {
    let deployment = Deployment::new();
    let mut serve = deployment.serve();
    let client = serve.client();
    declare(&client, "thing", json!({"max_attempts": 1, "timeout": "1s"})).expect(200);
    let id = submit(&client, 1);
    let task = take(&client, json!({}));
    until("the limit has passed", LONG, || (tell(&client, &task, "heartbeat", json!({})).status == 409).then_some(()));
    assert_eq!(client.task(&id)["error"]["code"], "timeout");
}

#[test]
fn the_servers_own_workers_leave_declared_types_alone() {
    let deployment = Deployment::new();
    let (mut serve, _work) = (deployment.serve(), deployment.work());
    let client = serve.client();
    declare(&client, "thing", json!({"queue": "default"})).expect(200);
    let id = submit(&client, 1);
    until("a worker has looked at it", LONG, || {
        (deployment.redis::<i64>(&["LLEN", "v1:ready:{default}:normal"]) == 0).then_some(())
    });
    let waiting = client.task(&id);
    assert_eq!((&waiting["status"], &waiting["pending_reason"]), (&json!("PENDING"), &json!("no_worker")));
    let body = json!({"worker": "test", "task_types": ["thing"], "wait": 50}).to_string();
    let leased = client.post("/queues/default/lease", body, &[]).expect(200).json();
    assert_eq!((&leased[0]["task_id"], &leased[0]["delivery"]), (&json!(id), &json!(1)));
    // From here on it is known that somebody does this.
    let next = submit(&client, 2);
    client.wait(&next, "ready", LONG, |task| task["pending_reason"] == "ready");
}

#[test]
fn what_cannot_be_is_refused() {
    let deployment = Deployment::new();
    let mut serve = deployment.serve();
    let client = serve.client();
    for bad in [
        json!({"task_types": []}),
        json!({"task_types": ["A"]}),
        json!({"max_tasks": 0}),
        json!({"max_tasks": 1_000}),
        json!({"lease": "0s"}),
        json!({"lease": "2h"}),
        json!({"wait": -1}),
        json!({"worker": " "}),
        json!({"speed": 1}),
    ] {
        assert_eq!(ask(&client, bad.clone()).expect(422).json()["code"], "invalid_input", "{bad}");
    }
    let id = client.submit(&json!({"vector_data": [1.0], "duration": 0}));
    let nobody = json!({"task_id": id, "lease_token": format!("1.{}", "0".repeat(64))});
    assert_eq!(tell(&client, &nobody, "heartbeat", json!({})).expect(409).json()["code"], "lease_lost");
    let garbage = json!({"task_id": id, "lease_token": "1.x"});
    tell(&client, &garbage, "heartbeat", json!({})).expect(422);
}

/// What `context::log` and the like allow to the attempts of a worker.
#[test]
fn what_a_worker_may_leave_behind_has_the_limits_of_every_other() {
    let deployment = Deployment::new().set("APP_MAX_RESULT", 1_000);
    let mut serve = deployment.serve();
    let client = serve.client();
    declare(&client, "thing", json!({"max_attempts": 3})).expect(200);

    let id = submit(&client, 1);
    let task = take(&client, json!({}));
    for _repeated in 0..2 {
        let ended = tell(&client, &task, "complete", json!({"result": "x".repeat(999)})).expect(200);
        assert_eq!(ended.json()["status"], "FAILED", "two quotes too many");
    }
    let failed = client.task(&id);
    assert_eq!((&failed["result"], &failed["attempt"]), (&Value::Null, &json!(1)));
    assert_eq!((&failed["error"]["code"], &failed["error"]["retryable"]), (&json!("result_too_large"), &json!(false)));

    let id = submit(&client, 2);
    let task = take(&client, json!({}));
    tell(&client, &task, "checkpoint", json!({"checkpoint": "x".repeat(1024 * 1024 - 2)})).expect(204);
    let refused = tell(&client, &task, "checkpoint", json!({"checkpoint": "x".repeat(1024 * 1024 - 1)})).expect(409);
    assert_eq!(refused.json()["code"], "lease_lost", "{refused}");
    assert_eq!(client.task(&id)["error"]["code"], "checkpoint_too_large");
    tell(&client, &task, "complete", json!({"result": 1})).expect(409);

    let id = submit(&client, 3);
    let task = take(&client, json!({}));
    tell(&client, &task, "complete", json!({"result": "x".repeat(998)})).expect(200);
    assert_eq!(client.task(&id)["status"], "SUCCESS", "as much as there may be");
}

#[test]
fn the_log_of_a_worker_ends_with_one_line_that_says_so() {
    let deployment = Deployment::new();
    let mut serve = deployment.serve();
    let client = serve.client();
    declare(&client, "thing", json!({})).expect(200);
    let sql = deployment.sql();
    let lines = |id: &str| {
        let rows = sql.rows(
            "SELECT level, message, octet_length(message) FROM task_events
             WHERE task_id = from_ulid($1) AND status IS NULL ORDER BY seq",
            &[&id],
        );
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect::<Vec<(String, String, i32)>>()
    };
    let ends_well = |lines: &[(String, String, i32)]| {
        let (level, text, _) = lines.last().unwrap();
        let marks = lines.iter().filter(|(_, text, _)| text.contains("further lines are dropped")).count();
        assert_eq!((level.as_str(), marks), ("WARNING", 1), "{text}");
    };
    let many = json!({"lines": vec![json!({"message": "one"}); 1_000]});
    let heavy = json!({"lines": vec![json!({"message": "x".repeat(8_000)}); 120]});
    let light = json!({"lines": [{"message": "and one more"}]});
    for (n, (call, times)) in (0..).zip([(&many, 12), (&heavy, 6)]) {
        let id = submit(&client, n);
        let task = take(&client, json!({}));
        // All at once: none of them may find room that another one takes.
        std::thread::scope(|scope| {
            for _ in 0..times {
                // A call whose turn does not come in time is told to come again.
                scope.spawn(|| {
                    until("the lines are taken", LONG, || {
                        (tell(&client, &task, "log", call.clone()).status == 204).then_some(())
                    });
                });
            }
        });
        tell(&client, &task, "log", light.clone()).expect(204);
        let written = lines(&id);
        let bytes: i32 = written.iter().map(|(.., bytes)| bytes).sum();
        assert!(written.len() <= 10_000 && bytes <= 4 * 1024 * 1024 + 200, "{} lines, {bytes} bytes", written.len());
        ends_well(&written);
    }
}

/// The worker of the documentation, killed when the test ends.
struct ExampleWorker(Child);

impl ExampleWorker {
    fn start(server: &str) -> Self {
        let mut command = Command::new(&*PYTHON);
        command.args(["docs/clients/worker.py", server]).stdin(Stdio::null());
        Self(command.spawn().expect("the example starts"))
    }
}

impl Drop for ExampleWorker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_example_worker_counts_and_what_it_leaves_is_gone_on_with() {
    let deployment = Deployment::new().set("APP_LEASE", "2s");
    let (mut serve, _work) = (deployment.serve(), deployment.work());
    let client = serve.client();
    let server = format!("http://{}", serve.address());
    let first = ExampleWorker::start(&server);
    until("the type is declared", LONG, || {
        let types = client.fetch("/task-types").expect(200).json();
        types.as_array().unwrap().iter().any(|kind| kind["task_type"] == "count_words").then_some(())
    });
    let short = client.submit(&json!({"task_type": "count_words", "text": "one two three"}));
    let task = client.wait_final(&short, LONG);
    assert_eq!((&task["status"], &task["result"]), (&json!("SUCCESS"), &json!({"words": 3})), "{task:#}");

    let long = client.submit(&json!({"task_type": "count_words", "text": "a b c d e f g h i j", "pause": 0.5}));
    client.wait(&long, "two words", LONG, |task| task["progress"]["current"].as_i64() >= Some(2));
    drop(first);
    let _second = ExampleWorker::start(&server);
    let task = client.wait_final(&long, LONG);
    assert_eq!((&task["result"], &task["delivery"]), (&json!({"words": 10}), &json!(2)), "{task:#}");

    let cancelled = client.submit(&json!({"task_type": "count_words", "text": "a b c d e f", "pause": 0.5}));
    client.wait_status(&cancelled, "RUNNING", LONG);
    client.cancel(&cancelled).expect(204);
    let next = client.submit(&json!({"task_type": "count_words", "text": "free again"}));
    assert_eq!(client.wait_final(&next, LONG)["result"], json!({"words": 2}));
}
