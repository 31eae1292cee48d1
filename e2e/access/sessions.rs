//! Sessions: a browser signs in, and the pages of other sites cannot use that.

use serde_json::json;

use crate::harness::{Answer, Client, Deployment, LONG, raw_request, until};

fn sign_in(client: &Client, key: &str) -> (Answer, String) {
    let answer = client.post("/session", json!({"key": key}).to_string(), &[]).expect(200);
    let cookie = answer.header("set-cookie").expect("a cookie").to_owned();
    let pair = cookie.split(';').next().unwrap().to_owned();
    (answer, pair)
}

#[test]
fn a_browser_signs_in_on_one_replica_and_is_known_to_the_other() {
    let deployment = Deployment::new();
    let (mut one, mut two) = (deployment.serve(), deployment.serve());
    let key = deployment.key("alice", "user");
    let (client, other) = (one.client(), two.client());
    let (answer, cookie) = sign_in(&client, &key);
    let header = answer.header("set-cookie").unwrap();
    for word in ["HttpOnly", "SameSite=Strict", "Path=/"] {
        assert!(header.contains(word), "{header}");
    }
    assert!(!header.contains(key.rsplit('_').next().unwrap()), "the cookie is not the key");
    let session = other.request("GET", "/session", &[("cookie", &cookie)]).expect(200).json();
    assert_eq!(
        (&session["name"], &session["role"], &session["anonymous"]),
        (&json!("alice"), &json!("user"), &json!(false))
    );
    let submit = client.post("/tasks", json!({"vector_data": [1.0]}).to_string(), &[("cookie", &cookie)]).expect(202);
    let id = submit.json()["task_id"].as_str().unwrap().to_owned();
    assert_eq!(client.with_key(&key).task(&id)["task_id"], json!(id), "it is the same caller");

    // Signed out on one, it ends on the other.
    other.request("DELETE", "/session", &[("cookie", &cookie)]).expect(204);
    until("the session has ended", LONG, || {
        (client.request("GET", "/session", &[("cookie", &cookie)]).status == 401).then_some(())
    });
    // And one that is still good ends with its key.
    let (_, cookie) = sign_in(&client, &key);
    assert_eq!(deployment.run(&["keys", "revoke", "alice"]).code, Some(0));
    until("the session has ended with its key", LONG, || {
        (other.request("GET", "/session", &[("cookie", &cookie)]).status == 401).then_some(())
    });
    until("the key signs nobody in", LONG, || {
        (client.status("POST", "/session", Some(&json!({"key": key}))) == 401).then_some(())
    });
}

#[test]
fn another_site_cannot_act_through_a_browser() {
    let deployment = Deployment::new();
    let (mut serve, key) = (deployment.serve(), deployment.key("root", "admin"));
    let client = serve.client();
    let (_, cookie) = sign_in(&client, &key);
    let pause = |more: &[(&str, &str)]| {
        let mut headers = vec![("cookie", cookie.as_str())];
        headers.extend(more);
        client.request("POST", "/queues/default/pause", &headers)
    };
    for foreign in [
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("origin", "https://evil.example"),
        ("origin", "null"),
    ] {
        let answer = pause(&[foreign]);
        assert_eq!((answer.status, answer.json()["code"].as_str()), (403, Some("cross_site")), "{foreign:?}");
    }
    pause(&[("sec-fetch-site", "same-origin")]).expect(200);
    pause(&[("origin", &client.url(""))]).expect(200);
    // Signing somebody in or out is an act too.
    let foreign = [("sec-fetch-site", "cross-site")];
    client.post("/session", json!({"key": key}).to_string(), &foreign).expect(403);
    client.request("DELETE", "/session", &[("cookie", cookie.as_str()), foreign[0]]).expect(403);
    client.request("GET", "/session", &[("cookie", cookie.as_str())]).expect(200);
    // A form's body is refused for its type alone.
    let form = client.request("POST", "/tasks", &[("cookie", &cookie), ("content-type", "text/plain")]);
    assert_eq!(form.status, 415);
    // No answer lets another origin read it.
    let preflight = client.request("OPTIONS", "/tasks", &[("origin", "https://evil.example")]);
    assert!(preflight.headers.keys().all(|name| !name.as_str().starts_with("access-control-")));
}

#[test]
fn an_open_server_is_not_open_to_web_pages() {
    let deployment = Deployment::new();
    let mut serve = deployment.serve();
    let client = serve.client();
    client.request("POST", "/queues/default/pause", &[("origin", "https://evil.example")]).expect(403);
    client.request("POST", "/queues/default/pause", &[("sec-fetch-site", "cross-site")]).expect(403);
    client.request("POST", "/queues/default/pause", &[]).expect(200);
    // A name that somebody has pointed at this machine (DNS rebinding).
    for (host, status) in [("evil.example:8001", 403), ("localhost:8001", 200), ("127.0.0.1", 200), ("[::1]:8001", 200)]
    {
        let request = format!("GET /session HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        assert_eq!(raw_request(serve.address(), request.as_bytes()).unwrap().status, status, "{host}");
    }
}

#[test]
fn what_is_no_session() {
    let deployment = Deployment::new();
    let (mut serve, key) = (deployment.serve(), deployment.key("alice", "user"));
    let client = serve.client();
    let (_, cookie) = sign_in(&client, &key);
    for bad in [
        "longrun_session=",
        "longrun_session=x",
        &format!("longrun_session={key}"),
        &cookie[..cookie.len() - 1],
        &format!("longrun_session=lrs_{}_{}", "0".repeat(16), "0".repeat(64)),
    ] {
        client.request("GET", "/tasks", &[("cookie", bad)]).expect(401);
        client.request("DELETE", "/session", &[("cookie", bad)]).expect(204);
    }
    client.request("GET", "/tasks", &[("cookie", &cookie)]).expect(200);
    for bad in ["{}", "[]", "{\"key\":7}", "{\"key\":\"k\",\"more\":1}", "\"k\"", "{\"key\":\"a\",\"key\":\"b\"}"] {
        let answer = client.post("/session", bad, &[]).expect(422);
        assert!(!answer.to_string().contains(&key));
    }
    client.post("/session", "{\"key\":\"\"}", &[]).expect(401);
    client.post("/session", format!("{{\"key\":\"{}\"}}", "x".repeat(20_000)), &[]).expect(413);
    let stored: i64 = deployment.sql().value("SELECT count(*) FROM sessions", &[]);
    assert_eq!(stored, 1);
}
