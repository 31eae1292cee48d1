//! Processes: Rust types that run apart from their worker. What they do to themselves ends one attempt.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Client, Deployment, LONG, Stopwatch, new_folder};

fn run(client: &Client, how: &str) -> Value {
    let id = client.submit(&json!({"task_type": "apart", "how": how, "options": {"max_attempts": 1}}));
    client.wait_final(&id, LONG)
}

#[test]
fn a_crash_ends_one_attempt_and_not_the_worker() {
    let deployment = Deployment::new().with_test_types();
    let (mut serve, mut work) = (deployment.serve(), deployment.work());
    let client = serve.client();
    for (how, code, words) in [
        ("abort", "crashed", "SIGABRT"),
        ("overflow", "crashed", "SIG"),
        ("panic", "panic", "as it was told"),
        ("leak", "memory_limit", "MiB"),
    ] {
        let task = run(&client, how);
        assert_eq!((&task["status"], &task["error"]["code"]), (&json!("FAILED"), &json!(code)), "{how}: {task:#}");
        assert!(task["error"]["message"].as_str().unwrap().contains(words), "{how}: {task:#}");
    }
    let well = run(&client, "well");
    assert_eq!(well["status"], "SUCCESS", "{well:#}");
    assert_ne!(well["result"]["pid"], work.pid(), "it ran elsewhere");
    assert_eq!(well["result"]["secrets"], json!([]));
    assert_eq!(well["progress"]["percent"], 100.0);
    assert_eq!(client.logs(well["task_id"].as_str().unwrap())[0]["message"], "here");
    assert!(!work.has_ended());
}

#[test]
fn a_loop_that_asks_nothing_is_stopped() {
    let deployment = Deployment::new().with_test_types().set("APP_CONCURRENCY", 1);
    let (mut serve, _work) = (deployment.serve(), deployment.work());
    let client = serve.client();
    let id = client.submit(&json!({"task_type": "apart", "how": "loop"}));
    client.wait_status(&id, "RUNNING", LONG);
    let next = client.submit(&json!({"task_type": "count", "steps": 1, "pace": 0}));
    client.cancel(&id).expect(204);
    let cancelled = Stopwatch::start();
    client.wait_final(&next, LONG);
    assert!(cancelled.elapsed() < Duration::from_secs(3), "the slot was free after {:?}", cancelled.elapsed());
}

/// It would go on for longer than this test waits, and nothing that it does counts any more.
#[test]
fn a_program_whose_checkpoint_is_too_large_is_stopped() {
    let folder = new_folder("tasks");
    let script = "printf '{\"checkpoint\":\"%s\"}\\n' \"$(head -c 1100000 /dev/zero | tr '\\0' x)\"\nexec sleep 600\n";
    std::fs::write(folder.join("large.sh"), script).unwrap();
    let tasks = folder.join("tasks.toml");
    let declared = "[tasks.large]\ncommand = [\"sh\", \"large.sh\"]\ninput_schema.type = \"object\"\n";
    std::fs::write(&tasks, declared).unwrap();
    let deployment = Deployment::new().with_test_types().set("APP_TASKS", tasks.display()).set("APP_CONCURRENCY", 1);
    let (mut serve, _work) = (deployment.serve(), deployment.work());
    let client = serve.client();
    let id = client.submit(&json!({"task_type": "large"}));
    let next = client.submit(&json!({"task_type": "count", "steps": 1, "pace": 0}));
    let task = client.wait_final(&id, LONG);
    assert_eq!(
        (&task["status"], &task["error"]["code"]),
        (&json!("FAILED"), &json!("checkpoint_too_large")),
        "{task:#}"
    );
    assert_eq!(client.wait_final(&next, LONG)["status"], "SUCCESS", "its slot is free");
}

#[test]
fn a_snooze_is_not_charged_and_an_alias_is_the_type() {
    let deployment = Deployment::new().with_test_types();
    let (mut serve, _work) = (deployment.serve(), deployment.work());
    let client = serve.client();
    let id = client.submit(&json!({"task_type": "aside", "how": "snooze"}));
    let task = client.wait_final(&id, LONG);
    assert_eq!((&task["status"], &task["delivery"], &task["retry_count"]), (&json!("SUCCESS"), &json!(2), &json!(0)));
    assert_eq!((&task["task_type"], &task["result"]["resumed"]), (&json!("apart"), &json!(7)), "{task:#}");
}

#[test]
fn a_type_that_needs_a_variable_has_it_or_the_worker_says_so_at_its_start() {
    let deployment = Deployment::new().with_test_types();
    let mut serve = deployment.serve();
    let client = serve.client();
    {
        let _work = deployment.work_with(&[("E2E_NEEDS", "OUR_KEY"), ("OUR_KEY", "x")]);
        let well = run(&client, "well");
        assert_eq!(well["status"], "SUCCESS", "a variable of their own is there: {well:#}");
    }
    let missing = deployment.start_with(&["work"], &[("E2E_NEEDS", "OUR_KEY")]).finish();
    assert_eq!(missing.code, Some(1), "{}", missing.output());
    assert!(missing.stderr.contains("the task types cannot be made: OUR_KEY is not set"), "{}", missing.stderr);

    // It has the name of one of the worker's own: the worker has it, and its processes have not.
    let own = [("E2E_NEEDS", "APP_OUR_KEY"), ("APP_OUR_KEY", "x")];
    let refused = deployment.start_with(&["work"], &own).finish();
    assert_eq!(refused.code, Some(1), "{}", refused.output());
    for words in ["\"apart\"", "APP_OUR_KEY is not set", "APP_CHILD_ENV"] {
        assert!(refused.stderr.contains(words), "{words}: {}", refused.stderr);
    }
    assert_eq!(refused.stderr.lines().filter(|line| line.starts_with("error:")).count(), 1);
    let _work = deployment.work_with(&[own[0], own[1], ("APP_CHILD_ENV", "APP_OUR_KEY")]);
    let well = run(&client, "well");
    assert_eq!((&well["status"], &well["result"]["secrets"]), (&json!("SUCCESS"), &json!([])), "{well:#}");
    // Who needs no types is not held up by what they need.
    let migrated = deployment.start_with(&["migrate"], &[("E2E_NEEDS", "OUR_KEY")]).finish();
    assert_eq!(migrated.code, Some(0), "{}", migrated.output());
}
