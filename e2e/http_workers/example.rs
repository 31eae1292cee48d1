//! Example: the worker of the documentation does its work.

use std::process::{Child, Command, Stdio};

use serde_json::json;

use crate::{
    clients::PYTHON,
    harness::{Deployment, LONG, until},
};

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
