//! Contract: one task again, many tasks at once, and the same request more than once.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use ureq::http;

use crate::harness::{Client, Deployment, LONG, until};

fn vector(duration: u32) -> Value {
    json!({"vector_data": [1.0], "duration": duration})
}

/// Ends FAILED at once: the guard refuses the address.
fn refused() -> Value {
    json!({"task_type": "web_scrape", "url": "http://127.0.0.1:1/"})
}

fn ids(tasks: &Value) -> Vec<String> {
    tasks.as_array().unwrap().iter().map(|task| task["task_id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_failed_task_gets_a_new_run_and_others_do_not() {
    let deployment = Deployment::new();
    let (mut serve, _work) = (deployment.serve(), deployment.work());
    let client = serve.client();
    let failed = client.submit(&refused());
    let first = client.wait_status(&failed, "FAILED", LONG);
    let answer = client.post(&format!("/tasks/{failed}/retry"), "", &[]).expect(202);
    assert_eq!(answer.header("location"), Some(format!("/tasks/{failed}").as_str()));
    assert!(answer.json()["version"].as_i64() > first["version"].as_i64());
    assert!(answer.json()["delivery"].as_i64() >= first["delivery"].as_i64(), "the fence is never lowered");
    let again = client.wait_status(&failed, "FAILED", LONG);
    assert_eq!(again["delivery"], 2);
    assert_eq!(again["retry_count"], 1, "the budget is new");

    let done = client.submit(&vector(0));
    client.wait_status(&done, "SUCCESS", LONG);
    let answer = client.post(&format!("/tasks/{done}/retry"), "", &[]).expect(409).json();
    assert_eq!((&answer["code"], &answer["task"]["status"]), (&json!("not_retryable"), &json!("SUCCESS")));
    let waiting = client.submit(&json!({"vector_data": [1.0], "options": {"delay": "1h"}}));
    client.post(&format!("/tasks/{waiting}/retry"), "", &[]).expect(409);
    client.post("/tasks/01KDVQ9N00ABCDEFGHJKMNPQRS/retry", "", &[]).expect(404);
}

#[test]
fn a_cancelled_task_is_not_retried_before_its_attempt_has_stopped() {
    let deployment = Deployment::new();
    let (mut serve, work) = (deployment.serve(), deployment.work());
    let client = serve.client();
    let id = client.submit(&vector(600));
    client.wait_status(&id, "RUNNING", LONG);
    work.signal(Signal::SIGSTOP);
    client.cancel(&id).expect(204);
    let answer = client.post(&format!("/tasks/{id}/retry"), "", &[]).expect(409);
    assert_eq!(answer.json()["code"], "still_stopping");
    assert_eq!(answer.header("retry-after"), Some("1"));
    work.signal(Signal::SIGCONT);
    until("the attempt has stopped", LONG, || {
        (client.post(&format!("/tasks/{id}/retry"), "", &[]).status == 202).then_some(())
    });
    client.wait_status(&id, "RUNNING", LONG);
    client.cancel(&id).expect(204);
}

#[test]
fn a_batch_is_accepted_in_order_or_not_at_all() {
    let deployment = Deployment::new();
    let mut serve = deployment.serve();
    let client = serve.client();
    let bodies: Vec<Value> =
        (0..1_000).map(|n| json!({"vector_data": [1.0], "duration": 0, "metadata": {"n": n.to_string()}})).collect();
    let body = Value::from(bodies.clone()).to_string();
    let key = [("idempotency-key", "batch-1")];
    let answer = client.post("/tasks/batch", body.clone(), &key).expect(202);
    let tasks = answer.json();
    assert!(answer.header("retry-after").is_some() && answer.header("idempotency-replayed").is_none());
    assert_eq!(tasks.as_array().unwrap().len(), 1_000);
    for (n, task) in tasks.as_array().unwrap().iter().enumerate() {
        assert_eq!(task["metadata"]["n"], n.to_string());
        assert_eq!(task["status"], "PENDING");
    }
    assert_eq!(ids(&tasks).iter().collect::<BTreeSet<_>>().len(), 1_000);

    let replay = client.post("/tasks/batch", body, &key).expect(202);
    assert_eq!(replay.header("idempotency-replayed"), Some("true"));
    assert_eq!(ids(&replay.json()), ids(&tasks));
    let other = client.post("/tasks/batch", Value::from(bodies[1..].to_vec()).to_string(), &key).expect(422);
    assert_eq!(other.json()["code"], "idempotency_key_reused");

    let mut wrong = bodies[..5].to_vec();
    wrong[1] = json!({"task_type": "nobody"});
    wrong[3] = json!({"vector_data": [1.0], "options": {"priority": "urgent"}});
    let answer = client.post("/tasks/batch", Value::from(wrong).to_string(), &[]).expect(422).json();
    let pointers: Vec<_> = answer["errors"].as_array().unwrap().iter().map(|error| error["pointer"].clone()).collect();
    assert_eq!(pointers, ["/1/task_type", "/3/options/priority"]);
    let too_many = format!("[{}]", vec!["{}"; 1_001].join(","));
    for (body, status) in [("[]", 422), ("{}", 422), (too_many.as_str(), 422), ("[1]", 422), ("[", 400)] {
        client.post("/tasks/batch", body, &[]).expect(status);
    }
    let count: i64 = deployment.sql().value("SELECT count(*) FROM tasks", &[]);
    assert_eq!(count, 1_000, "nothing of what was refused is there");

    let _work = deployment.work();
    for id in ids(&tasks).iter().rev().take(3) {
        client.wait_status(id, "SUCCESS", LONG);
    }
}

#[test]
fn many_are_cancelled_and_retried_by_ids_and_by_filter() {
    let deployment = Deployment::new();
    let mut serve = deployment.serve();
    let client = serve.client();
    let body = |colour: &str| json!({"vector_data": [1.0], "duration": 0, "metadata": {"colour": colour}});
    let bodies: Vec<Value> = (0..700).map(|n| body(if n % 7 == 0 { "red" } else { "blue" })).collect();
    let tasks = client.post("/tasks/batch", Value::from(bodies).to_string(), &[]).expect(202).json();
    let all = ids(&tasks);
    let act = |path: &str, body: Value| client.post(path, body.to_string(), &[]).expect(200).json();
    let counted = |count: i64, dry_run: bool| json!({"dry_run": dry_run, "count": count, "more": false});

    let red = json!({"metadata": {"colour": "red"}});
    assert_eq!(act("/tasks/cancel", json!({"filter": red, "dry_run": true})), counted(100, true));
    assert_eq!(client.list("?status=CANCELLED").len(), 0);
    assert_eq!(act("/tasks/cancel", json!({"filter": red})), counted(100, false));
    assert_eq!(act("/tasks/cancel", json!({"filter": red})), counted(0, false));
    let blue: Vec<&String> = all.iter().enumerate().filter(|(n, _)| n % 7 != 0).map(|(_, id)| id).take(3).collect();
    assert_eq!(act("/tasks/cancel", json!({"ids": blue})), counted(3, false));
    assert_eq!(client.task(blue[0])["status"], "CANCELLED");

    assert_eq!(act("/tasks/retry", json!({"filter": {}, "dry_run": true})), counted(103, true));
    assert_eq!(act("/tasks/retry", json!({"filter": {"status": "FAILED"}})), counted(0, false));
    assert_eq!(act("/tasks/retry", json!({"ids": all, "filter": red})), counted(100, false));
    assert_eq!(act("/tasks/cancel", json!({"filter": {}})), counted(697, false), "more than one step");
    for wrong in [json!({}), json!({"filter": {"colour": "red"}}), json!({"ids": ["x"]}), json!([])] {
        client.post("/tasks/cancel", wrong.to_string(), &[]).expect(422);
    }
}

/// A filter that no index serves, on a table where each look at a row takes a while.
#[test]
fn a_bulk_action_that_takes_long_holds_up_no_submit_and_comes_to_its_end() {
    let deployment = Deployment::new().set("APP_POSTGRES_POOL", 2);
    // A window is a range of ids to the planner, as it is in a table of millions. In a small one it may look at all rows.
    let by_id = "
        DO $$ BEGIN
            EXECUTE format('ALTER DATABASE %I SET enable_seqscan = off', current_database());
            EXECUTE format('ALTER DATABASE %I SET enable_bitmapscan = off', current_database());
        END $$;";
    deployment.sql().run(by_id).unwrap();
    let mut serve = deployment.serve();
    let client = serve.client();
    // No index serves a priority, so all tasks are looked through.
    let body = |n: usize| {
        let priority = if n == 100 { "high" } else { "normal" };
        json!({"vector_data": [1.0], "duration": 0, "metadata": {"slow": "yes"}, "options": {"priority": priority}})
    };
    let bodies: Vec<Value> = (0..200).map(body).collect();
    client.post("/tasks/batch", Value::from(bodies).to_string(), &[]).expect(202);
    // Some seconds in one piece.
    let slow = "
        CREATE FUNCTION looked_at(metadata json) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS $$
            BEGIN IF metadata ->> 'slow' = 'yes' THEN PERFORM pg_sleep(0.006); END IF; RETURN true; END $$;
        ALTER TABLE tasks RENAME TO all_tasks;
        CREATE VIEW tasks AS SELECT * FROM all_tasks WHERE looked_at(metadata);";
    deployment.sql().run(slow).unwrap();
    let act = |dry_run: bool| {
        let filter = json!({"filter": {"priority": "high"}, "dry_run": dry_run});
        client.post("/tasks/cancel", filter.to_string(), &[]).expect(200).json()
    };
    std::thread::scope(|scope| {
        let acts: Vec<_> = (0..2).map(|_| scope.spawn(|| act(true)["count"].clone())).collect();
        let mut accepted = 0;
        while !acts.iter().all(|act| act.is_finished()) {
            client.submit(&vector(0));
            accepted += 1;
        }
        assert!(accepted > 0);
        for act in acts {
            assert_eq!(act.join().expect("it came to its end"), 1);
        }
    });
    assert_eq!(act(false)["count"], 1);
}

/// Sends the same body under each key from eight sides at once, while the server is killed in between.
#[test]
fn one_key_is_one_task_whatever_dies() {
    const KEYS: usize = 500;
    const SIDES: usize = 8;
    let deployment = Deployment::new();
    let mut serve = deployment.serve();
    let address = Mutex::new(serve.address());
    let answered = AtomicUsize::new(0);
    let replayed = AtomicUsize::new(0);
    let seen: Mutex<BTreeMap<usize, BTreeSet<String>>> = Mutex::default();
    let body = |key: usize| json!({"vector_data": [key as f64], "duration": 0}).to_string();
    let send = |key: usize, body: String| {
        let address = *address.lock().unwrap();
        let request = http::Request::post(format!("http://{address}/tasks"))
            .header("content-type", "application/json")
            .header("idempotency-key", format!("key-{key}"));
        Client::new(address).send(request.body(body.into_bytes()).unwrap())
    };
    std::thread::scope(|scope| {
        for _ in 0..SIDES {
            scope.spawn(|| {
                for key in 0..KEYS {
                    let answer = until("the submit is answered", LONG, || {
                        // No answer, or 503: nobody knows whether it happened. That is what the key is for.
                        send(key, body(key)).ok().filter(|answer| answer.status == 202)
                    });
                    replayed.fetch_add(usize::from(answer.header("idempotency-replayed").is_some()), Ordering::Relaxed);
                    let id = answer.json()["task_id"].as_str().unwrap().to_owned();
                    seen.lock().unwrap().entry(key).or_default().insert(id);
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for kill_at in [KEYS * SIDES / 5, KEYS * SIDES / 2, KEYS * SIDES * 4 / 5] {
            until("some are answered", 4 * LONG, || (answered.load(Ordering::Relaxed) >= kill_at).then_some(()));
            serve.kill();
            serve = deployment.serve();
            *address.lock().unwrap() = serve.address();
        }
    });
    let seen = seen.into_inner().unwrap();
    assert_eq!(seen.len(), KEYS);
    assert!(seen.values().all(|ids| ids.len() == 1), "a key has two tasks");
    let count: i64 = deployment.sql().value("SELECT count(*) FROM tasks", &[]);
    assert_eq!(count, KEYS as i64);
    assert!(replayed.load(Ordering::Relaxed) >= KEYS * (SIDES - 1));
    let answer = send(7, body(8)).unwrap().expect(422);
    assert_eq!(answer.json()["code"], "idempotency_key_reused");
}
