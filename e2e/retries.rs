//! Retries: what another attempt could change is tried again, with patience; what it could not is final at once.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::harness::{Deployment, LONG, Site};

fn time(value: &Value) -> DateTime<Utc> {
    value.as_str().unwrap().parse().unwrap()
}

#[test]
fn a_page_that_comes_on_the_third_try() {
    let site = Site::start();
    let deployment = Deployment::new().set("APP_OUTBOUND_ALLOW", "127.0.0.0/8");
    let (mut serve, _work) = (deployment.serve(), deployment.work());
    let client = serve.client();
    let id = client.submit(&json!({"task_type": "web_scrape", "url": site.url("/500-twice")}));
    let waiting = client.wait(&id, "the wait for the second attempt", LONG, |task| task["pending_reason"] == "retry");
    // The first wait takes a second or two: a machine that stood still for so long shows the next one.
    assert!(waiting["status"] == "PENDING" && [json!(1), json!(2)].contains(&waiting["retry_count"]), "{waiting:#}");
    assert_eq!(waiting["last_error"]["code"], "http_status");
    assert!(waiting["ready_at"].is_string());
    let task = client.wait_final(&id, LONG);
    assert_eq!(task["status"], "SUCCESS", "{task:#}");
    assert_eq!((&task["attempt"], &task["retry_count"], &task["max_attempts"]), (&json!(3), &json!(2), &json!(4)));
    assert_eq!(task["result"]["title"], "whole again");
    assert_eq!(site.requests("/500-twice").len(), 3);
    // 2 s and 4 s, the upper half of each with jitter.
    let took = (time(&task["completed_at"]) - time(&task["created_at"])).as_seconds_f64();
    assert!(took >= 3.0, "backoff was {took} s in all");
    let logs = client.logs(&id);
    assert!(logs.iter().any(|line| line["message"].as_str().unwrap().contains("500")), "the log says why: {logs:#?}");
}

#[test]
fn a_permanent_error_is_final_at_once() {
    let site = Site::start();
    let deployment = Deployment::new().set("APP_OUTBOUND_ALLOW", "127.0.0.0/8");
    let (mut serve, _work) = (deployment.serve(), deployment.work());
    let client = serve.client();
    let id = client.submit(&json!({"task_type": "web_scrape", "url": site.url("/404")}));
    let task = client.wait_final(&id, LONG);
    assert_eq!((&task["status"], &task["attempt"]), (&json!("FAILED"), &json!(1)));
    assert_eq!((&task["error"]["retryable"], &task["error"]["attempt"]), (&json!(false), &json!(1)));
    assert!(task["error"]["message"].as_str().unwrap().contains("404"));
    assert_eq!(site.requests("/404").len(), 1);
    let logs = client.logs(&id);
    assert!(logs.iter().any(|line| line["message"].as_str().unwrap().contains("404")), "{logs:#?}");
}

#[test]
fn a_budget_is_used_up() {
    let site = Site::start();
    let deployment = Deployment::new().set("APP_OUTBOUND_ALLOW", "127.0.0.0/8");
    let (mut serve, _work) = (deployment.serve(), deployment.work());
    let client = serve.client();
    let body = json!({"task_type": "web_scrape", "url": site.url("/500"), "options": {"max_attempts": 2}});
    let id = client.submit(&body);
    let task = client.wait_final(&id, LONG);
    assert_eq!((&task["status"], &task["retry_count"]), (&json!("FAILED"), &json!(2)), "{task:#}");
    assert_eq!(site.requests("/500").len(), 2);
}

#[test]
fn a_sites_retry_after_is_kept() {
    let site = Site::start();
    let deployment = Deployment::new().set("APP_OUTBOUND_ALLOW", "127.0.0.0/8");
    let (mut serve, _work) = (deployment.serve(), deployment.work());
    let client = serve.client();
    let id = client.submit(&json!({"task_type": "web_scrape", "url": site.url("/429-once")}));
    let task = client.wait_final(&id, LONG);
    assert_eq!((&task["status"], &task["attempt"]), (&json!("SUCCESS"), &json!(2)), "{task:#}");
    let took = (time(&task["completed_at"]) - time(&task["created_at"])).as_seconds_f64();
    assert!(took >= 4.0, "asked to wait for 4 s, it waited for {took} s");
}

#[test]
fn a_delayed_task_starts_when_it_is_due() {
    let deployment = Deployment::new();
    let (mut serve, _work) = (deployment.serve(), deployment.work());
    let client = serve.client();
    let id = client.submit(&json!({"vector_data": [1.0], "duration": 0, "options": {"delay": "5s"}}));
    let waiting = client.task(&id);
    assert_eq!((&waiting["status"], &waiting["pending_reason"]), (&json!("PENDING"), &json!("scheduled")));
    let task = client.wait_final(&id, LONG);
    assert_eq!(task["status"], "SUCCESS");
    assert!(time(&task["started_at"]) >= time(&task["scheduled_at"]), "{task:#}");
}

#[test]
fn a_task_that_nobody_starts_expires() {
    let deployment = Deployment::new().set("APP_QUEUES", "other");
    let (mut serve, _work) = (deployment.serve(), deployment.work());
    let client = serve.client();
    let id = client.submit(&json!({"vector_data": [1.0], "duration": 0, "options": {"expires_in": "1s"}}));
    let task = client.wait_final(&id, LONG);
    assert_eq!((&task["status"], &task["error"]["code"]), (&json!("FAILED"), &json!("expired")), "{task:#}");
    assert_eq!(task["delivery"], 0);
}

#[test]
fn a_task_that_nobody_starts_in_time_expires_and_its_log_says_so() {
    let deployment = Deployment::new();
    let (mut serve, _work) = (deployment.serve(), deployment.work());
    let client = serve.client();
    let id = client.submit(&json!({"vector_data": [1.0], "options": {"queue": "nobody", "expires_in": "1s"}}));
    let task = client.wait_status(&id, "FAILED", LONG);
    assert_eq!(task["error"]["code"], "expired");
    let logs = client.logs(&id);
    assert_eq!(logs.len(), 1, "{logs:#?}");
    assert_eq!((&logs[0]["level"], &logs[0]["message"]), (&json!("ERROR"), &task["error"]["message"]));
    assert_eq!(client.fetch(&format!("/tasks/{id}/logs?level=ERROR")).expect(200).json(), json!(logs));
}
