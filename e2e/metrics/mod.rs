//! Metrics: both roles export what they count, as Prometheus asks, and what is counted is what happened.

mod exposition;
mod expression;

use std::collections::BTreeSet;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::{App, Client, Deployment, LONG, Services, until};
use exposition::Exposition;

const ADMIN: (&str, &str) = ("APP_ADMIN_BIND", "127.0.0.1:0");

/// Waits until a series has this value.
#[track_caller]
fn wait_for(client: &Client, name: &str, labels: &str, value: f64) {
    until(&format!("{name}{{{labels}}} is {value}"), LONG, || {
        (Exposition::of(client).value(name, labels) == Some(value)).then_some(())
    });
}

fn admin(app: &mut App) -> Client {
    Client::new(app.admin_address())
}

#[test]
fn both_roles_count_what_happens() {
    let deployment = Deployment::new();
    let (mut serve, mut work) = (deployment.serve(), deployment.work_with(&[ADMIN]));
    let (client, worker) = (serve.client(), admin(&mut work));
    let done = client.submit(&json!({"vector_data": [1.0], "duration": 0}));
    client.wait_status(&done, "SUCCESS", LONG);
    // Refused for good by the guard.
    let failed = client.submit(&json!({"task_type": "web_scrape", "url": "http://127.0.0.1/"}));
    client.wait_status(&failed, "FAILED", LONG);
    let tried =
        json!({"task_type": "web_scrape", "url": "http://no-such-host.invalid/", "options": {"max_attempts": 5}});
    let tried = client.submit(&tried);
    client.wait(&tried, "a failed attempt", LONG, |task| task["retry_count"] == 1);
    client.post("/tasks", "{", &[]).expect(400);
    client.fetch("/no/such/path").expect(404);

    let attempts = |worker: &Exposition, kind, outcome| {
        worker.value("longrun_attempts_total", &format!("task_type=\"{kind}\",outcome=\"{outcome}\""))
    };
    wait_for(&worker, "longrun_attempts_running", "queue=\"default\"", 0.0);
    let at_work = Exposition::of(&worker);
    assert_eq!(attempts(&at_work, "vector_processing", "success"), Some(1.0));
    assert_eq!(attempts(&at_work, "vector_processing", "failed"), Some(0.0));
    assert_eq!(attempts(&at_work, "web_scrape", "failed"), Some(1.0));
    assert!(attempts(&at_work, "web_scrape", "retried") >= Some(1.0));
    assert!(at_work.value("longrun_attempt_wait_seconds_count", "queue=\"default\"") >= Some(3.0));
    assert_eq!(at_work.value("longrun_attempt_run_seconds_count", "task_type=\"vector_processing\""), Some(1.0));
    assert_eq!(at_work.value("longrun_fenced_writes_total", "write=\"finish\""), Some(0.0));
    assert!(at_work.value("longrun_redis_acknowledgements_total", "") >= Some(1.0));
    // The one worker there is counts the queues.
    wait_for(&worker, "longrun_queue_workers", "queue=\"default\"", 1.0);

    wait_for(&client, "longrun_queue_workers", "queue=\"default\"", 1.0);
    let at_serve = Exposition::of(&client);
    let requests = |route, method, status| {
        let labels = format!("route=\"{route}\",method=\"{method}\",status=\"{status}\"");
        at_serve.value("longrun_http_requests_total", &labels)
    };
    assert_eq!(requests("/tasks", "POST", 202), Some(3.0));
    assert_eq!(requests("/tasks", "POST", 400), Some(1.0));
    assert_eq!(requests("(none)", "GET", 404), Some(1.0));
    assert!(requests("/tasks/{id}", "GET", 200) >= Some(3.0));
    assert_eq!(at_serve.value("longrun_tasks_submitted_total", "task_type=\"web_scrape\""), Some(2.0));
    assert!(at_serve.value("longrun_queue_slots", "queue=\"default\"").is_some());
    assert!(at_serve.value("longrun_redis_rings_total", "") >= Some(3.0));
    assert_eq!(at_serve.value("longrun_redis_up", ""), Some(1.0));
    assert!(at_serve.value("longrun_pool_connections_limit", "pool=\"postgres\"") >= Some(2.0));
    let text = String::from_utf8(client.fetch("/metrics").expect(200).body).unwrap();
    assert!(!text.contains(&done) && !text.contains("/no/such"), "no id and no path of a request is in a label");
}

#[test]
fn waiting_tasks_and_open_streams_are_gauges() {
    let deployment = Deployment::new();
    let mut serve = deployment.serve();
    let client = serve.client();
    let waiting = json!({"vector_data": [1.0], "options": {"queue": "bulk"}});
    let id = client.submit(&waiting);
    client.submit(&waiting);
    client.submit(&json!({"vector_data": [1.0], "options": {"queue": "bulk", "delay": "1h"}}));
    wait_for(&client, "longrun_queue_ready", "queue=\"bulk\"", 2.0);
    wait_for(&client, "longrun_queue_scheduled", "queue=\"bulk\"", 1.0);
    wait_for(&client, "longrun_queue_workers", "queue=\"bulk\"", 0.0);
    let age = || Exposition::of(&client).value("longrun_queue_oldest_age_seconds", "queue=\"bulk\"");
    until("the first in line has waited", LONG, || (age() > Some(0.5)).then_some(()));

    let stream = client.stream(&id, None);
    wait_for(&client, "longrun_streams_open", "", 1.0);
    drop(stream);
    wait_for(&client, "longrun_streams_open", "", 0.0);
    client.request("POST", "/queues/bulk/pause", &[]).expect(200);
    wait_for(&client, "longrun_queue_paused", "queue=\"bulk\"", 1.0);
}

#[test]
fn a_server_with_an_admin_address_has_its_metrics_there_alone() {
    let deployment = Deployment::new();
    let mut serve = deployment.serve_with(&[ADMIN]);
    let (client, admin) = (serve.client(), admin(&mut serve));
    assert_eq!(client.fetch("/metrics").expect(404).json()["code"], "path_not_found");
    assert!(Exposition::of(&admin).value("longrun_streams_limit", "") > Some(0.0));
    admin.fetch("/livez").expect(200);
    admin.fetch("/readyz").expect(200);
    admin.fetch("/tasks").expect(404);
    serve.stop();
}

#[test]
fn a_worker_that_drains_is_not_ready_and_lives() {
    let deployment = Deployment::new();
    let (mut serve, mut work) = (deployment.serve(), deployment.work_with(&[ADMIN]));
    let (client, worker) = (serve.client(), admin(&mut work));
    until("the worker is ready", LONG, || (worker.fetch("/readyz").status == 200).then_some(()));
    worker.fetch("/livez").expect(200);
    let id = client.submit(&json!({"vector_data": [1.0], "duration": 600}));
    client.wait_status(&id, "RUNNING", LONG);
    assert_eq!(Exposition::of(&worker).value("longrun_attempts_running", "queue=\"default\""), Some(1.0));
    work.signal(Signal::SIGTERM);
    until("the worker is no longer ready", LONG, || (worker.fetch("/readyz").status == 503).then_some(()));
    worker.fetch("/livez").expect(200);
    assert_eq!(Exposition::of(&worker).value("longrun_worker_draining", ""), Some(1.0));
    client.cancel(&id).expect(204);
    let status = work.wait_exit(LONG);
    assert_eq!(status.code(), Some(0));
}

#[test]
fn what_a_dead_worker_held_is_counted_as_lost() {
    let deployment = Deployment::new().set("APP_LEASE", "5s");
    let (mut serve, mut first) = (deployment.serve(), deployment.work());
    let client = serve.client();
    let id = client.submit(&json!({"vector_data": [1.0], "duration": 600}));
    client.wait_status(&id, "RUNNING", LONG);
    let mut second = deployment.work_with(&[ADMIN]);
    let survivor = admin(&mut second);
    until("the second worker is there", LONG, || (survivor.fetch("/readyz").status == 200).then_some(()));
    first.kill();
    wait_for(&survivor, "longrun_deliveries_lost_total", "outcome=\"retried\"", 1.0);
    let seen = Exposition::of(&survivor);
    assert_eq!(seen.value("longrun_workers_declared_dead_total", ""), Some(1.0));
    wait_for(&survivor, "longrun_recoveries_total", "reason=\"worker_lost\"", 1.0);
    assert!(seen.value("longrun_sweeps_total", "outcome=\"ok\"") >= Some(1.0));
    client.cancel(&id).expect(204);
}

#[cfg(feature = "faults")]
#[test]
fn handlers_that_ignore_a_stop_are_counted() {
    let deployment = Deployment::new().with_test_types().set("APP_LEASE", "1s").set("APP_STOP_TIMEOUT", "500ms");
    let (mut serve, mut work) = (deployment.serve(), deployment.work_with(&[ADMIN]));
    let (client, worker) = (serve.client(), admin(&mut work));
    // A thread that nothing ends goes on for longer than the request to stop may take.
    let clings = client.submit(&json!({"task_type": "cling", "time": 10_000, "how": "blocks"}));
    client.wait_status(&clings, "RUNNING", LONG);
    client.cancel(&clings).expect(204);
    wait_for(&worker, "longrun_attempts_unstopped", "", 1.0);
    wait_for(&worker, "longrun_attempts_total", "task_type=\"cling\",outcome=\"stopped\"", 1.0);
    wait_for(&worker, "longrun_attempts_unstopped", "", 0.0);
}

#[cfg(feature = "faults")]
#[test]
fn a_result_that_comes_too_late_is_counted_as_fenced() {
    // With this lease nobody looks what the worker should run before its result is there.
    let deployment = Deployment::new().with_test_types().set("APP_LEASE", "50s");
    let (mut serve, mut work) = (deployment.serve(), deployment.work_with(&[ADMIN]));
    let (client, worker) = (serve.client(), admin(&mut work));
    let late = client.submit(&json!({"task_type": "cling", "time": 5_000, "how": "awaits"}));
    client.wait_status(&late, "RUNNING", LONG);
    deployment.sql().change("UPDATE tasks SET delivery = delivery + 1 WHERE ulid(id) = $1", &[&late]);
    wait_for(&worker, "longrun_fenced_writes_total", "write=\"finish\"", 1.0);
}

#[test]
fn a_scrape_waits_for_no_store() {
    let services = Services::private();
    let deployment = Deployment::on(&services);
    let (mut serve, mut work) = (deployment.serve(), deployment.work_with(&[ADMIN]));
    let (client, worker) = (serve.client(), admin(&mut work));
    wait_for(&client, "longrun_queue_workers", "queue=\"default\"", 1.0);
    services.postgres.stop(Signal::SIGQUIT);
    services.redis.stop();
    for looked_at in [&client, &worker] {
        wait_for(looked_at, "longrun_postgres_up", "", 0.0);
        until("the queues are no longer shown", LONG, || {
            Exposition::of(looked_at).value("longrun_queue_workers", "queue=\"default\"").is_none().then_some(())
        });
    }
    wait_for(&worker, "longrun_redis_up", "", 0.0);
    assert!(Exposition::of(&client).value("longrun_postgres_failures_total", "reason=\"unavailable\"") >= Some(1.0));
    services.postgres.start();
    services.redis.start();
    wait_for(&client, "longrun_queue_workers", "queue=\"default\"", 1.0);
    wait_for(&worker, "longrun_redis_up", "", 1.0);
}

/// Everything that the two roles export once they have done something.
fn exported() -> (Exposition, Exposition) {
    let deployment = Deployment::new();
    let (mut serve, mut work) = (deployment.serve(), deployment.work_with(&[ADMIN]));
    let (client, worker) = (serve.client(), admin(&mut work));
    let id = client.submit(&json!({"vector_data": [1.0], "duration": 0}));
    client.wait_status(&id, "SUCCESS", LONG);
    wait_for(&client, "longrun_queue_workers", "queue=\"default\"", 1.0);
    (Exposition::of(&client), Exposition::of(&worker))
}

#[test]
fn alerts_and_dashboard_and_guide_name_what_is_exported() {
    let (serve, work) = exported();
    let mut names = serve.names();
    names.extend(work.names());
    // Prometheus adds it itself.
    names.insert("up".to_owned());
    let known = |expression: &str, place: &str| {
        let used = expression::metrics_in(expression);
        assert!(!used.is_empty(), "{place}: {expression} names no metric");
        let unknown: BTreeSet<_> = used.difference(&names).collect();
        assert!(unknown.is_empty(), "{place}: {unknown:?} in {expression} is not exported");
    };

    let alerts = include_str!("../../deploy/prometheus/alerts.yaml");
    let rules: Vec<&str> = alerts.split("- alert: ").skip(1).collect();
    assert!(rules.len() > 10);
    for rule in rules {
        let name = rule.lines().next().unwrap();
        let field = |key: &str| {
            let line = rule.lines().find_map(|line| line.trim_start().strip_prefix(key));
            line.unwrap_or_else(|| panic!("{name} has no {key}")).trim()
        };
        known(field("expr:"), name);
        assert!(field("labels:").contains("severity: "), "{name}");
        assert!(field("summary:").len() > 20 && field("runbook:").len() > 40, "{name}");
    }

    let dashboard: Value = serde_json::from_str(include_str!("../../deploy/grafana/longrun.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let expressions: Vec<&str> = targets.map(|target| target["expr"].as_str().unwrap()).collect();
    assert!(expressions.len() > 20);
    expressions.iter().for_each(|expression| known(expression, "the dashboard"));

    let guide = include_str!("../../docs/observability.md");
    let mut families = serve.families();
    families.extend(work.families());
    for (family, kind) in &families {
        let labels: BTreeSet<String> = serve.labels(family).union(&work.labels(family)).cloned().collect();
        let labels = labels.into_iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
        let row = format!("| `{family}` | {kind} | {labels} |");
        assert!(guide.contains(&row), "docs/observability.md has no row that begins with\n{row}");
    }
    for row in guide.lines().filter_map(|line| line.strip_prefix("| `longrun_")) {
        let name = format!("longrun_{}", row.split('`').next().unwrap());
        assert!(families.contains_key(&name), "docs/observability.md tells of {name}, which is not exported");
    }
}
