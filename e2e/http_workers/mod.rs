//! HTTP workers: tasks run by programs that know nothing but the API, with the same fence as everybody else.

mod example;
mod leases;
mod limits;
mod presence;
mod types;

use serde_json::{Value, json};

use crate::harness::{Answer, Client};

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

/// Says something in the name of a delivery.
pub fn tell(client: &Client, task: &Value, verb: &str, more: Value) -> Answer {
    let mut body = json!({"lease_token": task["lease_token"]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let path = format!("/tasks/{}/lease/{verb}", task["task_id"].as_str().unwrap());
    client.post(&path, body.to_string(), &[])
}

fn submit(client: &Client, n: i64) -> String {
    client.submit(&json!({"task_type": "thing", "n": n, "metadata": {"for": "a test"}}))
}
