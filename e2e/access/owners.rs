//! Owners: lists, counts, bulk actions, replayed keys and the workers' tasks show and change one's own tasks alone.

use serde_json::{Value, json};

use crate::harness::{Client, Deployment, LONG};

/// Two users and an administrator of one server.
fn three(deployment: &Deployment, client: &Client) -> [Client; 3] {
    [("one", "user"), ("two", "user"), ("root", "admin")]
        .map(|(name, role)| client.with_key(&deployment.key(name, role)))
}

fn waiting() -> Value {
    json!({"vector_data": [1.0], "options": {"delay": "1h"}})
}

#[test]
fn lists_counts_and_bulk_actions_are_ones_own() {
    let deployment = Deployment::new();
    let mut serve = deployment.serve();
    let [one, two, root] = three(&deployment, &serve.client());
    let first = one.submit(&waiting());
    two.submit(&waiting());
    two.submit(&waiting());
    let pending = |client: &Client| client.fetch("/tasks/counts").expect(200).json()["counts"]["PENDING"].clone();
    assert_eq!((one.list("").len(), two.list("").len(), root.list("").len()), (1, 2, 3));
    assert_eq!((pending(&one), pending(&two), pending(&root)), (json!(1), json!(2), json!(3)));

    let by_id = json!({"ids": [first]}).to_string();
    assert_eq!(two.post("/tasks/cancel", by_id, &[]).expect(200).json()["count"], 0);
    let all = json!({"filter": {}}).to_string();
    assert_eq!(two.post("/tasks/cancel", all.clone(), &[]).expect(200).json()["count"], 2);
    assert_eq!(one.task(&first)["status"], "PENDING");
    one.post("/tasks/retry", all.clone(), &[]).expect(403);
    assert_eq!(root.post("/tasks/retry", all, &[]).expect(200).json()["count"], 2);
    assert_eq!(root.cancel(&first).status, 204);
    assert_eq!(one.task(&first)["status"], "CANCELLED");
    let owners: Vec<String> =
        deployment.sql().rows("SELECT owner FROM tasks ORDER BY id", &[]).iter().map(|row| row.get(0)).collect();
    assert_eq!(owners, ["one", "two", "two"]);
}

#[test]
fn the_same_idempotency_key_of_two_callers_is_two_tasks() {
    let deployment = Deployment::new();
    let mut serve = deployment.serve();
    let [one, two, _] = three(&deployment, &serve.client());
    let submit = |client: &Client, body: &Value| client.post("/tasks", body.to_string(), &[("idempotency-key", "k")]);
    let first = submit(&one, &waiting()).expect(202);
    let other = submit(&two, &waiting()).expect(202);
    assert_ne!(first.json()["task_id"], other.json()["task_id"]);
    assert_eq!(other.header("idempotency-replayed"), None);
    assert_eq!(submit(&one, &waiting()).expect(202).json()["task_id"], first.json()["task_id"]);
    // Another body is a conflict with one's own task only.
    submit(&two, &json!({"vector_data": [2.0]})).expect(422);
}

#[test]
fn a_worker_shows_how_much_it_runs_and_not_what_of_others() {
    let deployment = Deployment::new();
    let (mut serve, _work) = (deployment.serve(), deployment.work());
    let [one, two, root] = three(&deployment, &serve.client());
    let monitor = serve.client().with_key(&deployment.key("prometheus", "monitor"));
    let id = one.submit(&json!({"vector_data": [1.0], "duration": 600}));
    one.wait_status(&id, "RUNNING", LONG);
    for (client, expected) in [(&one, json!([id])), (&two, json!([])), (&root, json!([id])), (&monitor, json!([]))] {
        let workers = client.fetch("/workers").expect(200).json();
        assert_eq!((&workers[0]["running"], &workers[0]["running_tasks"]), (&json!(1), &expected));
    }
}

#[test]
fn a_task_that_retention_deleted_is_gone_for_its_owner_and_unknown_to_others() {
    let deployment = Deployment::new();
    let mut serve = deployment.serve();
    let [one, two, root] = three(&deployment, &serve.client());
    let id = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
    deployment.sql().change("INSERT INTO tombstones (task_id, owner) VALUES (from_ulid($1), 'one')", &[&id]);
    let path = format!("/tasks/{id}");
    assert_eq!([&one, &two, &root].map(|client| client.status("GET", &path, None)), [410, 404, 410]);
}
