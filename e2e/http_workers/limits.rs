//! Limits: what a worker may ask for, and what it may leave behind.

use serde_json::{Value, json};

use super::{ask, declare, submit, take, tell};
use crate::harness::{Deployment, LONG, until};

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
