//! Contract: limits, lists, and what HTTP itself promises.

use std::io::Read;

use serde_json::{Value, json};

use crate::harness::{Answer, Client, Deployment, LONG, until};

fn body(metadata: Value) -> Value {
    json!({"vector_data": [1.0], "duration": 0, "metadata": metadata})
}

#[test]
fn a_queue_that_is_full_says_so() {
    let deployment = Deployment::new().set("APP_MAX_QUEUE_DEPTH", 10);
    let mut serve = deployment.serve();
    let client = serve.client();
    let mut accepted = 0;
    let answer = until("the queue is full", LONG, || {
        let answer = client.post("/tasks", body(json!({})).to_string(), &[]);
        accepted += i64::from(answer.status == 202);
        (answer.status != 202).then_some(answer)
    });
    let answer = answer.expect(503);
    assert_eq!((answer.json()["code"].clone(), answer.header("retry-after")), (json!("queue_full"), Some("5")));
    assert!(accepted >= 10, "refused after {accepted}");
    let other = json!({"vector_data": [1.0], "options": {"queue": "other"}});
    client.post("/tasks", other.to_string(), &[]).expect(202);
    let batch = Value::from(vec![other; 10]).to_string();
    let answer = until("the batch is refused", LONG, || {
        let answer = client.post("/tasks/batch", batch.clone(), &[]);
        (answer.status != 202).then_some(answer)
    });
    assert_eq!(answer.expect(503).json()["code"], "queue_full");

    let _work = deployment.work();
    until("there is room again", LONG, || {
        (client.post("/tasks", body(json!({})).to_string(), &[]).status == 202).then_some(())
    });
}

#[test]
fn a_rate_is_shared_by_all_replicas() {
    let deployment = Deployment::new().set("APP_RATE_LIMIT", "6/h");
    let (mut one, mut two) = (deployment.serve(), deployment.serve());
    let clients = [one.client(), two.client()];
    let submit = |client: &Client| client.post("/tasks", body(json!({})).to_string(), &[]);
    for n in 0..6 {
        let answer = submit(&clients[n % 2]).expect(202);
        assert_eq!(answer.header("ratelimit-policy"), Some("\"submit\";q=6;w=3600"));
        assert!(answer.header("ratelimit").unwrap().starts_with(&format!("\"submit\";r={};", 5 - n)), "{answer}");
    }
    for client in &clients {
        let answer = submit(client).expect(429);
        assert_eq!(answer.json()["code"], "rate_limited");
        let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=600).contains(&wait), "{wait}");
        assert!(answer.header("ratelimit").unwrap().starts_with("\"submit\";r=0;"));
        client.fetch("/tasks").expect(200);
    }
    let count: i64 = deployment.sql().value("SELECT count(*) FROM tasks", &[]);
    assert_eq!(count, 6);
}

#[test]
fn a_rate_is_open_while_redis_is_away() {
    // Nothing listens on port 1.
    let deployment = Deployment::new().set("APP_RATE_LIMIT", "1/h").set("REDIS_URL", "redis://127.0.0.1:1/0");
    let mut serve = deployment.serve();
    let client = serve.client();
    for _ in 0..3 {
        let answer = client.post("/tasks", body(json!({})).to_string(), &[]).expect(202);
        assert_eq!(answer.header("ratelimit"), None);
    }
}

#[test]
fn a_batch_beyond_the_rate_is_paid_off_afterwards() {
    let deployment = Deployment::new().set("APP_RATE_LIMIT", "5/h");
    let mut serve = deployment.serve();
    let client = serve.client();
    let batch = Value::from(vec![body(json!({})); 20]).to_string();
    client.post("/tasks/batch", batch.clone(), &[]).expect(202);
    let answer = client.post("/tasks/batch", batch, &[]).expect(429);
    assert!(answer.header("retry-after").unwrap().parse::<u64>().unwrap() > 3_600);
}

/// Its sender may have no other way to learn what became of the first, and it makes no task.
#[test]
fn a_repeat_costs_nothing_and_passes_what_is_full() {
    let send =
        |client: &Client, key: &str| client.post("/tasks", body(json!({})).to_string(), &[("idempotency-key", key)]);
    let deployment = Deployment::new().set("APP_RATE_LIMIT", "2/h");
    let mut serve = deployment.serve();
    let client = serve.client();
    let first = send(&client, "first").expect(202).json();
    for _ in 0..3 {
        assert_eq!(send(&client, "first").expect(202).json()["task_id"], first["task_id"]);
    }
    send(&client, "second").expect(202);
    send(&client, "third").expect(429);
    assert_eq!(send(&client, "first").expect(202).header("idempotency-replayed"), Some("true"));

    let deployment = Deployment::new().set("APP_MAX_QUEUE_DEPTH", 1);
    let mut serve = deployment.serve();
    let client = serve.client();
    send(&client, "first").expect(202);
    until("the queue is full", LONG, || {
        (client.post("/tasks", body(json!({})).to_string(), &[]).status == 503).then_some(())
    });
    assert_eq!(send(&client, "first").expect(202).header("idempotency-replayed"), Some("true"));
    send(&client, "second").expect(503);
}

/// Nothing in the table can be looked at, as under a rare filter on a large table: what PostgreSQL cuts off is a short
/// page, and what was to be skipped is still to be skipped.
#[test]
fn a_list_that_takes_too_long_is_a_short_page_and_no_error() {
    let deployment = Deployment::new();
    let mut serve = deployment.serve();
    let client = serve.client();
    client.post("/tasks/batch", Value::from(vec![body(json!({})); 5]).to_string(), &[]).expect(202);
    let sql = deployment.sql();
    sql.run("BEGIN; LOCK TABLE tasks IN ACCESS EXCLUSIVE MODE").unwrap();
    let answer = client.fetch("/tasks?limit=3&skip=2").expect(200);
    assert_eq!(answer.json(), json!([]));
    let next = answer.next_page().expect("there may be more");
    assert!(next.contains("skip=2"), "{next}");
    // More of them than there are connections for readers: whoever finds none free hears the same.
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(client.fetch("/tasks").expect(200).json(), json!([])));
        }
    });
    sql.run("COMMIT").unwrap();
    assert_eq!(client.fetch(&next).expect(200).json().as_array().unwrap().len(), 3);
}

#[test]
fn a_page_of_a_list_or_of_a_log_has_bounded_bytes() {
    let deployment = Deployment::new();
    let mut serve = deployment.serve();
    let client = serve.client();
    let large = body(json!({"large": "x".repeat(1_000_000)}));
    let expected: i64 = 20;
    for _ in 0..expected {
        client.submit(&large);
    }
    let pages = |first: String| {
        let (mut path, mut sizes, mut items) = (Some(first), Vec::new(), Vec::new());
        while let Some(next) = path {
            let answer = client.fetch(&next).expect(200);
            sizes.push(answer.body.len());
            items.extend(answer.json().as_array().unwrap().clone());
            path = answer.next_page();
        }
        (sizes, items)
    };
    let (sizes, tasks) = pages("/tasks?limit=1000".to_owned());
    assert!(sizes.len() >= 2 && sizes.iter().all(|size| *size < 12_000_000), "{sizes:?}");
    let ids: std::collections::BTreeSet<_> = tasks.iter().map(|task| task["task_id"].to_string()).collect();
    assert_eq!((tasks.len() as i64, ids.len() as i64), (expected, expected));

    let id = tasks[0]["task_id"].as_str().unwrap();
    let lines = "INSERT INTO task_events (task_id, seq, delivery, attempt, level, message)
                 SELECT from_ulid($1), n, 1, 1, 'INFO', repeat('y', 8000) FROM generate_series(1, 2000) AS n";
    deployment.sql().change(lines, &[&id]);
    let (sizes, lines) = pages(format!("/tasks/{id}/logs?limit=10000"));
    assert!(sizes.len() >= 2 && sizes.iter().all(|size| *size < 12_000_000), "{sizes:?}");
    let seqs: Vec<i64> = lines.iter().map(|line| line["seq"].as_i64().unwrap()).collect();
    assert_eq!(seqs, (1..=2000).collect::<Vec<_>>());
}

#[test]
fn every_filter_of_the_list_works_and_pages_join() {
    let deployment = Deployment::new();
    let mut serve = deployment.serve();
    let client = serve.client();
    let bodies: Vec<Value> = (0..30)
        .map(|n| {
            json!({"vector_data": [1.0], "duration": 0, "metadata": {"n": (n % 3).to_string(), "a.b": "c d"},
                        "options": {"queue": if n % 2 == 0 { "even" } else { "odd" }}})
        })
        .collect();
    client.post("/tasks/batch", Value::from(bodies).to_string(), &[]).expect(202);
    let count = |query: &str| client.list(query).len();
    assert_eq!(count("?metadata.n=1"), 10);
    assert_eq!(count("?metadata.n=1&queue=even"), 5);
    assert_eq!(count("?metadata.a.b=c%20d&limit=1000"), 30);
    assert_eq!(count("?metadata.n=%25"), 0);
    assert_eq!(count("?status=PENDING&task_type=vector_processing"), 30);
    assert_eq!(count("?status=RUNNING,SUCCESS"), 0);
    assert_eq!(count("?task_type=web_scrape"), 0);
    let middle: String = deployment.sql().value(
        "SELECT to_char(created_at AT TIME ZONE 'UTC' + interval '1 second', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')
         FROM tasks ORDER BY id DESC LIMIT 1",
        &[],
    );
    assert_eq!(count(&format!("?created_before={middle}")), 30);
    assert_eq!(count(&format!("?created_after={middle}")), 0);
    client.fetch("/tasks?colour=red").expect(400);

    let ids = |answer: &Answer| -> Vec<String> {
        let tasks = answer.json();
        tasks.as_array().unwrap().iter().map(|task| task["task_id"].as_str().unwrap().to_owned()).collect()
    };
    let (mut path, mut joined) = ("/tasks?limit=7&queue=even".to_owned(), Vec::new());
    loop {
        let answer = client.fetch(&path).expect(200);
        joined.extend(ids(&answer));
        match answer.next_page() {
            Some(next) => path = next,
            None => break,
        }
    }
    assert_eq!(joined, ids(&client.fetch("/tasks?limit=1000&queue=even").expect(200)));

    let counts = client.fetch("/tasks/counts?queue=even").expect(200).json();
    assert_eq!(counts["counts"], json!({"PENDING": 15, "RUNNING": 0, "SUCCESS": 0, "FAILED": 0, "CANCELLED": 0}));
    assert_eq!((&counts["limit"], &counts["more"]), (&json!(10_000), &json!([])));
    assert_eq!(client.fetch("/tasks/counts?status=FAILED").expect(200).json()["counts"], json!({"FAILED": 0}));

    let cancelled = joined.last().unwrap();
    client.cancel(cancelled).expect(204);
    assert_eq!(count("?error=cancelled"), 1);
    assert_eq!(count("?error=timeout"), 0);
}

/// They are one detail of what people look at when something is wrong.
#[test]
fn queues_are_shown_when_their_workers_over_http_cannot_be() {
    const WORDS: &str = "queues are shown without their workers over HTTP";
    let deployment = Deployment::new();
    let mut serve = deployment.serve();
    let client = serve.client();
    client.submit(&body(json!({})));
    deployment.sql().run("ALTER TABLE task_events RENAME COLUMN message TO told").unwrap();
    // After each of the two the queues are read anew.
    for change in ["pause", "resume"] {
        client.post(&format!("/queues/default/{change}"), "", &[]).expect(200);
        let queues = client.fetch("/queues").expect(200).json();
        assert_eq!((&queues[0]["queue"], &queues[0]["http_workers"]), (&json!("default"), &json!([])), "{queues}");
    }
    serve.wait_for_line(WORDS);
    assert_eq!(serve.stderr().matches(WORDS).count(), 1, "said once: {}", serve.stderr());
}

/// What is looked for window by window is the same as what is found at once.
#[cfg(feature = "faults")]
#[test]
fn a_list_that_takes_too_long_goes_on_by_windows() {
    let deployment = Deployment::new();
    let sql = deployment.sql();
    sql.run(
        "INSERT INTO tasks (id, task_type, status, input, metadata, max_attempts, result, completed_at)
         SELECT (lpad(to_hex(1750000000000 + n), 12, '0') || substr(md5(n::text), 1, 20))::uuid, 'vector_processing',
                'SUCCESS', '{}', json_build_object('rare', CASE WHEN n % 15000 = 0 THEN 'yes' ELSE 'no' END)::jsonb, 1,
                '{}', clock_timestamp()
         FROM generate_series(1, 45000) AS n; ANALYZE tasks;",
    )
    .unwrap();
    sql.run(crate::contract_metadata::FILL).unwrap();
    let mut whole = deployment.serve();
    let deployment = deployment.set("APP_FAULTS", "list:stall=1200ms:3");
    let mut windows = deployment.serve();
    let (whole, windows) = (whole.client(), windows.client());
    for query in ["?metadata.rare=yes", "?metadata.rare=yes&limit=2", "?limit=3&metadata.rare=no&skip=2"] {
        let expected = whole.list(query);
        assert!(expected.len() >= 2);
        assert_eq!(windows.list(query), expected, "{query}");
    }
}

#[test]
fn what_retention_deleted_is_gone_and_not_unknown() {
    let deployment = Deployment::new();
    let (mut serve, mut work) = (deployment.serve(), deployment.work());
    let client = serve.client();
    let id = client.submit(&body(json!({})));
    client.wait_status(&id, "SUCCESS", LONG);
    work.stop();
    // The janitor's lease outlives its worker by a while: end it, so that the next one begins at once.
    deployment.sql().run("UPDATE leases SET lease_until = '-infinity' WHERE name = 'janitor'").unwrap();
    let deployment = deployment.set("APP_RETENTION", "1ms");
    let _work = deployment.work();
    until("the task is deleted", LONG, || (client.fetch(&format!("/tasks/{id}")).status != 200).then_some(()));
    for path in ["", "/input", "/logs", "/stream", "/timeline"] {
        let answer = client.fetch(&format!("/tasks/{id}{path}")).expect(410);
        assert_eq!(answer.json()["code"], "task_gone", "{path}");
    }
    client.cancel(&id).expect(410);
    client.post(&format!("/tasks/{id}/retry"), "", &[]).expect(410);
}

#[test]
fn large_answers_are_compressed_and_nothing_else() {
    let deployment = Deployment::new();
    let mut serve = deployment.serve();
    let client = serve.client();
    let batch = Value::from(vec![body(json!({"text": "x".repeat(100)})); 300]).to_string();
    let tasks = client.post("/tasks/batch", batch, &[]).expect(202).json();
    let list = |accept: &str| client.request("GET", "/tasks?limit=300", &[("accept-encoding", accept)]).expect(200);
    let (plain, zipped) = (list("identity"), list("br, gzip"));
    assert_eq!(plain.header("content-encoding"), None);
    assert_eq!(zipped.header("content-encoding"), Some("gzip"));
    assert!(zipped.header("vary").unwrap().contains("Accept-Encoding"));
    assert!(zipped.body.len() < plain.body.len() / 4);
    let mut text = String::new();
    flate2::read::GzDecoder::new(zipped.body.as_slice()).read_to_string(&mut text).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap().as_array().unwrap().len(), 300);
    assert_eq!(list("gzip;q=0").header("content-encoding"), None);
    assert_eq!(client.fetch("/tasks?limit=300").header("content-encoding"), None);

    let gzip = [("accept-encoding", "gzip")];
    let id = tasks[0]["task_id"].as_str().unwrap();
    assert_eq!(client.request("GET", &format!("/tasks/{id}"), &gzip).header("content-encoding"), None, "small");
    let error = client.request("GET", &format!("/tasks?{}=1", "x".repeat(3_000)), &gzip).expect(400);
    assert_eq!(error.header("content-encoding"), None);
    assert_eq!(error.json()["code"], "invalid_parameter");
    client.cancel(id).expect(204);
    let stream = client.request("GET", &format!("/tasks/{id}/stream?after=0"), &gzip).expect(200);
    assert_eq!(stream.header("content-encoding"), None);
}

#[test]
fn head_and_options_tell_without_a_body() {
    let deployment = Deployment::new();
    let mut serve = deployment.serve();
    let client = serve.client();
    let id = client.submit(&body(json!({})));
    for path in [format!("/tasks/{id}"), "/tasks".into(), "/queues".into(), format!("/tasks/{id}/logs")] {
        let answer = client.request("HEAD", &path, &[]).expect(200);
        assert!(answer.body.is_empty() && answer.header("content-type") == Some("application/json"), "{path}");
    }
    assert!(client.request("HEAD", &format!("/tasks/{id}"), &[]).header("etag").is_some());
    client.request("HEAD", &format!("/tasks/{id}/stream"), &[]).expect(200);
    client.request("HEAD", "/tasks/01KDVQ9N00ABCDEFGHJKMNPQRS", &[]).expect(404);
    for (path, methods) in [
        ("/tasks", "GET, HEAD, POST, OPTIONS"),
        ("/tasks/batch", "POST, OPTIONS"),
        ("/tasks/x", "GET, HEAD, DELETE, OPTIONS"),
        ("/tasks/x/retry", "POST, OPTIONS"),
        ("/queues", "GET, HEAD, OPTIONS"),
    ] {
        assert_eq!(client.request("OPTIONS", path, &[]).expect(204).header("allow"), Some(methods), "{path}");
        let refused = client.request("PATCH", path, &[]).expect(405);
        assert_eq!(
            (refused.header("allow"), refused.json()["code"].clone()),
            (Some(methods), json!("method_not_allowed"))
        );
    }
}

#[test]
fn answers_are_held_as_the_client_prefers() {
    let deployment = Deployment::new();
    let (mut serve, _work) = (deployment.serve(), deployment.work());
    let client = serve.client();
    let text = body(json!({})).to_string();
    let held = client.post("/tasks", text.clone(), &[("prefer", "respond-async, wait=30")]).expect(200);
    assert_eq!((held.json()["status"].clone(), held.header("preference-applied")), (json!("SUCCESS"), Some("wait=30")));
    assert_eq!((held.header("retry-after"), held.header("vary")), (None, Some("Prefer")));
    let long = json!({"vector_data": [1.0], "duration": 600}).to_string();
    let key = [("prefer", "wait=1"), ("idempotency-key", "k")];
    let late = client.post("/tasks", long.clone(), &key).expect(202);
    assert!(late.header("retry-after").is_some() && late.header("preference-applied") == Some("wait=1"));
    let id = late.json()["task_id"].as_str().unwrap().to_owned();

    let poll = client.request("GET", &format!("/tasks/{id}"), &[]).expect(200);
    let etag = poll.header("etag").unwrap().to_owned();
    assert_eq!(etag, format!("W/\"{}\"", poll.json()["version"]));
    assert!(poll.header("retry-after").is_some());
    client.cancel(&id).expect(204);
    let changed = client.request("GET", &format!("/tasks/{id}?wait=30"), &[("if-none-match", &etag)]).expect(200);
    assert_eq!(changed.json()["status"], "CANCELLED");
    assert_eq!(changed.header("retry-after"), None);
    // The attempt confirms its stop without a new version.
    let etag = changed.header("etag").unwrap().to_owned();
    let same = client.request("GET", &format!("/tasks/{id}"), &[("if-none-match", &etag)]).expect(304);
    assert!(same.body.is_empty() && same.header("etag") == Some(etag.as_str()));
    let replayed = client.post("/tasks", long, &key).expect(200);
    assert_eq!(replayed.header("idempotency-replayed"), Some("true"));
    assert_eq!(replayed.json()["status"], "CANCELLED");

    let waiting = client.submit(&json!({"vector_data": [1.0], "options": {"delay": "1h"}}));
    let etag = client.fetch(&format!("/tasks/{waiting}")).header("etag").unwrap().to_owned();
    let same = client.request("GET", &format!("/tasks/{waiting}?wait=1"), &[("if-none-match", &etag)]).expect(304);
    assert_eq!(same.header("retry-after"), Some("60"));
}
