//! Keys: made and revoked while servers run.

use std::time::Duration;

use serde_json::json;

use crate::harness::{App, Deployment, LONG, Stopwatch, raw_request, until};

/// What is promised for a key that is revoked.
const REVOKED_WITHIN: Duration = Duration::from_secs(5);

#[test]
fn the_first_key_closes_the_server_on_every_replica() {
    let deployment = Deployment::new();
    let (mut one, mut two) = (deployment.serve(), deployment.serve());
    let clients = [one.client(), two.client()];
    for client in &clients {
        assert_eq!(client.fetch("/session").expect(200).json()["anonymous"], true);
    }
    let id = clients[0].submit(&json!({"vector_data": [1.0], "options": {"delay": "1h"}}));
    let stream = clients[1].stream(&id, None);
    let made = deployment.run(&["keys", "create", "first", "--role", "admin", "--expires-in", "1h"]);
    let key = made.stdout.trim().rsplit(' ').next().unwrap().to_owned();
    for client in &clients {
        until("it is closed", LONG, || (client.status("GET", "/tasks", None) == 401).then_some(()));
        let answer = client.fetch("/tasks").expect(401);
        assert_eq!(answer.json()["code"], "unauthorized");
        assert!(answer.header("www-authenticate").unwrap().starts_with("Bearer"));
        assert_eq!(client.with_key(&key).list("").len(), 1);
        for public in ["/livez", "/readyz", "/openapi.json", "/docs", "/task-types"] {
            client.fetch(public).expect(200);
        }
    }
    // What was opened without a key has ended with the opening: this returns.
    assert_eq!(stream.rest().last().and_then(|event| event.status().map(str::to_owned)).as_deref(), Some("PENDING"));
}

#[test]
fn a_new_key_works_at_once_and_a_revoked_one_ends_within_seconds() {
    let deployment = Deployment::new();
    deployment.key("root", "admin");
    let (mut one, mut two) = (deployment.serve(), deployment.serve());
    let clients = [one.client(), two.client()];
    let key = deployment.key("short", "user");
    for client in &clients {
        assert_eq!(client.with_key(&key).status("GET", "/tasks", None), 200, "the first request with it works");
    }
    let id = clients[0].with_key(&key).submit(&json!({"vector_data": [1.0], "options": {"delay": "1h"}}));
    let streams = clients.each_ref().map(|client| client.with_key(&key).stream(&id, None));
    assert_eq!(deployment.run(&["keys", "revoke", "short"]).code, Some(0));
    let revoked = Stopwatch::start();
    for client in &clients {
        until("the key is refused", LONG, || {
            (client.with_key(&key).status("GET", "/tasks", None) == 401).then_some(())
        });
    }
    let took = revoked.elapsed();
    assert!(took <= REVOKED_WITHIN, "refused after {took:?}");
    for stream in streams {
        drop(stream.rest());
    }
    println!("refused everywhere {took:?} after its revocation");
}

#[test]
fn whatever_waits_with_a_revoked_key_ends_within_seconds() {
    let deployment = Deployment::new();
    let root = deployment.key("root", "admin");
    let mut serve = deployment.serve();
    let client = serve.client();
    let [user, worker] = ["user", "worker"].map(|role| client.with_key(&deployment.key("gone", role)));
    let delayed = json!({"vector_data": [1.0], "options": {"delay": "1h"}});
    let id = user.submit(&delayed);
    // Known from here on: a request whose key is still looked up when it is revoked was never let in.
    worker.fetch("/session").expect(200);
    let lease = json!({"worker": "test", "task_types": ["thing"], "wait": 50}).to_string();
    let (stream, dashboard) = (user.stream(&id, None), user.follow("/events"));
    std::thread::scope(|scope| {
        let held = [
            scope.spawn(|| worker.post("/queues/default/lease", lease, &[])),
            scope.spawn(|| user.fetch(&format!("/tasks/{id}?wait=50"))),
            scope.spawn(|| user.post("/tasks", delayed.to_string(), &[("prefer", "wait=50")])),
        ];
        let admin = client.with_key(&root);
        until("all of them wait", LONG, || {
            let metrics = String::from_utf8(admin.fetch("/metrics").expect(200).body).unwrap();
            // With the one that asks.
            metrics.contains("longrun_http_requests_in_flight 4").then_some(())
        });
        assert_eq!(deployment.run(&["keys", "revoke", "gone"]).code, Some(0));
        let revoked = Stopwatch::start();
        for answer in held {
            let answer = answer.join().unwrap().expect(401);
            // Told to one that was let in and may no longer be here, and to nobody else.
            assert_eq!(answer.json()["detail"], "The key was revoked or has expired.");
        }
        for stream in [stream, dashboard] {
            drop(stream.rest());
        }
        let took = revoked.elapsed();
        assert!(took <= REVOKED_WITHIN, "ended after {took:?}");
    });
}

#[test]
fn the_command_line_keeps_no_secret() {
    let deployment = Deployment::new();
    let key = deployment.key("ci", "user");
    let list = deployment.run(&["keys", "list"]);
    let id = key.split('_').nth(1).unwrap();
    assert!(list.stdout.contains(id) && list.stdout.contains("ci"), "{}", list.output());
    assert!(!list.stdout.contains(key.rsplit('_').next().unwrap()));
    let stored: Vec<u8> = deployment.sql().value("SELECT hash FROM api_keys", &[]);
    assert_eq!(stored.len(), 32);
    assert_eq!(deployment.run(&["keys", "revoke", id]).code, Some(0));
    let again = deployment.run(&["keys", "revoke", id]);
    assert_eq!(again.code, Some(1), "{}", again.output());
    assert!(again.stderr.contains("no good key"), "{}", again.output());
    for bad in [["keys", "create", "a b", "--role", "user"], ["keys", "create", "a", "--role", "root"]] {
        assert_eq!(deployment.run(&bad).code, Some(2));
    }
}

#[test]
fn headers_that_are_no_key() {
    let deployment = Deployment::new();
    let (mut serve, key) = (deployment.serve(), deployment.key("user", "user"));
    let client = serve.client();
    until("it is closed", LONG, || (client.status("GET", "/tasks", None) == 401).then_some(()));
    let (id, secret) = key.strip_prefix("lrk_").unwrap().split_once('_').unwrap();
    let long = "x".repeat(9_000);
    for value in [
        "",
        "Bearer",
        "Bearer ",
        "Basic dXNlcjpwYXNz",
        "bearer: x",
        &key,
        &format!("Bearer {}", &key[..key.len() - 1]),
        &format!("Bearer {key}0"),
        &format!("Bearer lrs_{id}_{secret}"),
        &format!("Bearer lrk_{id}_{}", "0".repeat(64)),
        &format!("Bearer lrk_{}_{secret}", "0".repeat(16)),
        &format!("Bearer {}", key.to_uppercase()),
        &format!("Bearer {key} {key}"),
        &format!("Bearer {long}"),
        "Bearer a.b.c",
    ] {
        let answer = client.request("GET", "/tasks", &[("authorization", value)]);
        assert_eq!((answer.status, answer.json()["code"].as_str()), (401, Some("unauthorized")), "{value:?}");
    }
    client.request("GET", "/tasks", &[("authorization", &format!("bearer  {key}"))]).expect(200);
    let twice = format!(
        "GET /tasks HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {key}\r\nauthorization: Bearer {key}\r\n\r\n"
    );
    assert_eq!(raw_request(serve.address(), twice.as_bytes()).unwrap().status, 401);
    let list =
        App::run(&["list"], &[("APP_URL".to_owned(), client.url("")), ("APP_TOKEN".to_owned(), "lrk_no".to_owned())]);
    assert!(list.code == Some(7) && list.stderr.contains("APP_TOKEN"), "{}", list.output());
    // A large body with a bad key is answered, and not cut off.
    let body = format!("{{\"vector_data\":[1],\"metadata\":{{\"a\":\"{}\"}}}}", "x".repeat(900_000));
    client.with_key("nonsense").post("/tasks", body, &[]).expect(401);
}

#[test]
fn others_are_not_let_into_a_server_without_keys() {
    let deployment = Deployment::new().set("APP_BIND", "0.0.0.0:0");
    let refused = deployment.run(&["serve"]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("app keys create"), "{}", refused.output());
    deployment.key("root", "admin");
    let serve = deployment.serve();
    until("it serves", LONG, || serve.stderr().contains("serving").then_some(()));
}
