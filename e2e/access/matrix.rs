//! The matrix: every route with every kind of caller. It is held against the table in docs/security.md.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::harness::{Answer, Client, Deployment, LONG, until};

/// The callers, in the order of the columns.
const CALLERS: [&str; 8] =
    ["own task", "another's task", "no key", "revoked key", "admin", "monitor", "worker", "forged key"];

#[test]
fn is_the_table_of_the_docs() {
    let deployment = Deployment::new();
    let (mut serve, user) = (deployment.serve(), deployment.key("user", "user"));
    let client = serve.client();
    let others = [
        deployment.key("another", "user"),
        String::new(),
        deployment.key("gone", "user"),
        deployment.key("root", "admin"),
        deployment.key("prometheus", "monitor"),
        deployment.key("runner", "worker"),
        format!("lrk_{}_{}", "0".repeat(16), "0".repeat(64)),
    ];
    assert_eq!(deployment.run(&["keys", "revoke", "gone"]).code, Some(0));
    let keys: Vec<&String> = [&user].into_iter().chain(&others).collect();
    let callers: Vec<Client> =
        keys.iter().map(|key| if key.is_empty() { client.clone() } else { client.with_key(key) }).collect();
    until("the revoked key is refused", LONG, || (callers[3].status("GET", "/session", None) == 401).then_some(()));

    let document = client.fetch("/openapi.json").expect(200).json();
    let mut table = format!("| route | {} |\n|---|{}\n", CALLERS.join(" | "), "---|".repeat(CALLERS.len()));
    for (path, operations) in document["paths"].as_object().unwrap() {
        for method in ["get", "post", "delete", "put", "patch"].iter().filter(|method| !operations[**method].is_null())
        {
            let method = method.to_ascii_uppercase();
            write!(table, "| `{method} {path}` |").unwrap();
            for (caller, key) in callers.iter().zip(&keys) {
                // Each gets a task of its own making: the one before may have cancelled it.
                let id = callers[0].submit(&json!({"vector_data": [1.0], "options": {"delay": "1h"}}));
                let status = caller.status(&method, &filled(path, &id), body_of(&method, path, key).as_ref());
                assert!(status < 500, "{method} {path}: {status}");
                write!(table, " {status} |").unwrap();
            }
            table.push('\n');
        }
    }
    println!("{table}");
    let page = include_str!("../../docs/security.md");
    assert!(page.contains(&table), "docs/security.md must have this table:\n{table}");
}

#[test]
fn a_task_of_somebody_else_is_answered_like_none() {
    let deployment = Deployment::new();
    let mut serve = deployment.serve();
    let (owner, other) = (deployment.key("owner", "user"), deployment.key("other", "user"));
    let (owner, other) = (serve.client().with_key(&owner), serve.client().with_key(&other));
    let id = owner.submit(&json!({"vector_data": [1.0], "options": {"delay": "1h"}}));
    let unknown = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
    let document = owner.fetch("/openapi.json").expect(200).json();
    let mut seen = 0;
    for (path, operations) in document["paths"].as_object().unwrap().iter().filter(|(path, _)| path.contains("{id}")) {
        for method in ["get", "delete", "post"].iter().filter(|method| !operations[**method].is_null()) {
            let ask = |id: &str| {
                let same = [("x-request-id", "same"), ("content-type", "application/json")];
                other.request(&method.to_ascii_uppercase(), &filled(path, id), &same)
            };
            let (theirs, nobodys) = (ask(&id), ask(unknown));
            let text = |body: &[u8]| String::from_utf8_lossy(body).replace(&id, "ID").replace(unknown, "ID");
            assert_eq!(theirs.status, nobodys.status, "{method} {path}");
            assert_eq!(text(&theirs.body), text(&nobodys.body), "{method} {path}");
            let names = |answer: &Answer| {
                let names = answer.headers.keys().map(|name| name.as_str().to_owned());
                names.collect::<std::collections::BTreeSet<_>>()
            };
            assert_eq!(names(&theirs), names(&nobodys), "{method} {path}");
            assert!(matches!(theirs.status, 403 | 404), "{method} {path}: {theirs}");
            seen += 1;
        }
    }
    assert!(seen >= 7, "only {seen} operations have an id");
    assert_eq!(owner.task(&id)["status"], "PENDING", "nothing of this has touched it");
}

fn filled(path: &str, id: &str) -> String {
    let mut path = path.replace("{id}", id).replace("{name}", "default").replace("{queue}", "default");
    while let Some((from, to)) = path.find('{').zip(path.find('}')) {
        path.replace_range(from..=to, "docs.js");
    }
    path
}

fn body_of(method: &str, path: &str, key: &str) -> Option<Value> {
    let task = json!({"vector_data": [1.0], "options": {"delay": "1h"}});
    match (method, path) {
        ("POST", "/tasks") => Some(task),
        ("POST", "/tasks/batch") => Some(json!([task])),
        ("POST", "/tasks/cancel" | "/tasks/retry") => Some(json!({"filter": {}, "dry_run": true})),
        ("POST", "/session") => Some(json!({"key": key})),
        ("POST", _) => Some(json!({})),
        _ => None,
    }
}
