//! Trace: one trace from the client's request through the row to the attempt and its outbound call.

use serde_json::json;

use crate::harness::{Deployment, LONG, OtlpReceiver, Site, Span};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

/// Whether `span` lies below the span with this id.
fn is_below(span: &Span, ancestor: &str, all: &[Span]) -> bool {
    let mut parent = span.parent_id.as_str();
    for _ in 0..all.len() {
        if parent == ancestor {
            return true;
        }
        match all.iter().find(|other| other.span_id == parent) {
            Some(other) => parent = &other.parent_id,
            None => return false,
        }
    }
    false
}

#[test]
fn one_trace_goes_from_the_client_to_the_scraped_site() {
    let (collector, site) = (OtlpReceiver::start(), Site::start());
    let deployment = Deployment::new()
        .set("APP_OUTBOUND_ALLOW", "127.0.0.0/8")
        .set("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint())
        .set("OTEL_BSP_SCHEDULE_DELAY", 100);
    let (mut serve, mut work) = (deployment.serve(), deployment.work());
    let client = serve.client();
    let body = json!({"task_type": "web_scrape", "url": site.url("/utf8")}).to_string();
    let traceparent = format!("00-{TRACE}-{CALLER}-01");
    let task = client.post("/tasks", body, &[("traceparent", &traceparent)]).expect(202).json();
    assert_eq!(task["trace_id"], TRACE);
    let id = task["task_id"].as_str().unwrap();
    client.wait_status(id, "SUCCESS", LONG);
    // Leaving sends what still waits.
    serve.stop();
    work.stop();

    let all: Vec<Span> = collector.spans();
    let ours: Vec<Span> = all.iter().filter(|span| span.trace_id == TRACE).cloned().collect();
    let find = |service: &str, name: &str| {
        let found: Vec<_> = ours.iter().filter(|span| span.service == service && span.name == name).collect();
        assert_eq!(found.len(), 1, "one {name:?} of {service}: {all:#?}");
        found[0]
    };
    let request = find("longrun-serve", "POST /tasks");
    assert_eq!(request.parent_id, CALLER);
    let attempt = find("longrun-work", "process web_scrape");
    assert!(is_below(attempt, &request.span_id, &ours), "{ours:#?}");
    assert_eq!(attempt.attribute("task.id"), Some(id));

    let sent = site.requests("/utf8")[0].header("traceparent").expect("the site gets a traceparent").to_owned();
    let parts: Vec<_> = sent.split('-').collect();
    assert_eq!(parts[1], TRACE);
    let outbound = ours.iter().find(|span| span.span_id == parts[2]);
    let outbound = outbound.unwrap_or_else(|| panic!("{sent} names no span that was exported: {ours:#?}"));
    assert!(outbound.span_id == attempt.span_id || is_below(outbound, &attempt.span_id, &ours), "{ours:#?}");
}

#[test]
fn without_a_collector_the_callers_trace_is_passed_on() {
    let site = Site::start();
    let deployment = Deployment::new().set("APP_OUTBOUND_ALLOW", "127.0.0.0/8");
    let (mut serve, _work) = (deployment.serve(), deployment.work());
    let client = serve.client();
    let body = json!({"task_type": "web_scrape", "url": site.url("/utf8")}).to_string();
    let task = client.post("/tasks", body, &[("traceparent", &format!("00-{TRACE}-{CALLER}-01"))]).expect(202).json();
    client.wait_status(task["task_id"].as_str().unwrap(), "SUCCESS", LONG);
    let sent = site.requests("/utf8")[0].header("traceparent").expect("the site gets a traceparent").to_owned();
    assert!(sent.starts_with(&format!("00-{TRACE}-")), "{sent}");
}

#[test]
fn a_collector_that_is_away_disturbs_nothing() {
    let deployment = Deployment::new().set("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1");
    let (mut serve, mut work) = (deployment.serve(), deployment.work());
    let client = serve.client();
    let id = client.submit(&json!({"vector_data": [1.0], "duration": 0}));
    client.wait_status(&id, "SUCCESS", LONG);
    serve.stop();
    work.stop();
}
