//! Trace: one trace from the client's request through the row to the attempt and its outbound call.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use serde_json::json;

use crate::harness::{Client, Deployment, HttpServer, LONG, OtlpReceiver, Reply, Site, Span, free_port, until};

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

/// Waits until spans of these names have come: on a machine that stands still, the bounded time in which a process that
/// leaves sends its last ones may be over before any of it was of use.
#[track_caller]
fn all_are_sent(collector: &OtlpReceiver, names: &[&str]) {
    until(&format!("spans of these names have come: {names:?}"), LONG, || {
        let spans = collector.spans();
        names.iter().all(|name| spans.iter().any(|span| span.name == *name)).then_some(())
    });
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
    all_are_sent(&collector, &["POST /tasks", "submit default", "push", "process web_scrape", "finish", "GET"]);
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
    assert_eq!(request.kind, "server");
    for (name, value) in [
        ("http.request.method", "POST"),
        ("http.route", "/tasks"),
        ("url.path", "/tasks"),
        ("http.response.status_code", "202"),
    ] {
        assert_eq!(request.attribute(name), Some(value), "{request:#?}");
    }
    let submit = find("longrun-serve", "submit default");
    assert_eq!((submit.kind, submit.parent_id.as_str()), ("producer", request.span_id.as_str()));
    let attempt = find("longrun-work", "process web_scrape");
    assert_eq!((attempt.kind, attempt.parent_id.as_str()), ("consumer", submit.span_id.as_str()));
    assert!(attempt.links.iter().eq([&submit.span_id]), "{attempt:#?}");
    assert_eq!(attempt.attribute("task.id"), Some(id));
    for span in [submit, attempt] {
        assert_eq!(span.attribute("messaging.system"), Some("longrun"));
        assert_eq!(span.attribute("messaging.destination.name"), Some("default"));
        assert_eq!(span.attribute("messaging.message.id"), Some(id));
    }
    // What was asked of the two stores on its behalf.
    for (service, name, system, under) in [
        ("longrun-serve", "submit", "postgresql", submit),
        ("longrun-serve", "push", "redis", submit),
        ("longrun-work", "claim", "postgresql", submit),
        ("longrun-work", "finish", "postgresql", attempt),
    ] {
        let call = find(service, name);
        assert_eq!((call.kind, call.parent_id.as_str()), ("client", under.span_id.as_str()), "{call:#?}");
        assert_eq!(call.attribute("db.system.name"), Some(system));
        assert_eq!(call.attribute("server.address"), Some("127.0.0.1"));
        assert!(call.attribute("db.query.text").is_none());
    }

    let sent = site.requests("/utf8")[0].header("traceparent").expect("the site gets a traceparent").to_owned();
    let parts: Vec<_> = sent.split('-').collect();
    assert_eq!(parts[1], TRACE);
    let outbound = ours.iter().find(|span| span.span_id == parts[2]);
    let outbound = outbound.unwrap_or_else(|| panic!("{sent} names no span that was exported: {ours:#?}"));
    assert!(is_below(outbound, &attempt.span_id, &ours), "{ours:#?}");
    assert_eq!((outbound.kind, outbound.name.as_str()), ("client", "GET"));
    assert_eq!(outbound.attribute("url.full"), Some(&*site.url("/utf8")));
    assert_eq!(outbound.attribute("http.response.status_code"), Some("200"));
    // The same id is in the log lines of both roles.
    for log in [serve.stderr(), work.stderr()] {
        assert!(log.lines().any(|line| line.contains(TRACE)), "{log}");
    }
}

#[test]
fn every_retry_is_linked_to_the_submit_and_failures_are_marked() {
    let (collector, site) = (OtlpReceiver::start(), Site::start());
    let deployment = Deployment::new()
        .set("APP_OUTBOUND_ALLOW", "127.0.0.0/8")
        .set("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint())
        .set("OTEL_BSP_SCHEDULE_DELAY", 100);
    let (mut serve, mut work) = (deployment.serve(), deployment.work());
    let client = serve.client();
    let id = client.submit(&json!({"task_type": "web_scrape", "url": site.url("/500-twice")}));
    let task = client.wait_status(&id, "SUCCESS", LONG);
    until("all attempts are in the trace", LONG, || {
        (collector.spans().iter().filter(|span| span.name == "process web_scrape").count() == 3).then_some(())
    });
    all_are_sent(&collector, &["submit default"]);
    serve.stop();
    work.stop();
    let all = collector.spans();
    let named = |name: &str| all.iter().filter(|span| span.name == name).cloned().collect::<Vec<Span>>();
    let submit = &named("submit default")[0];
    assert_eq!(task["trace_id"], submit.trace_id.as_str());
    let attempts = named("process web_scrape");
    assert_eq!(attempts.len(), 3, "{attempts:#?}");
    assert!(attempts.iter().all(|span| span.links.iter().eq([&submit.span_id]) && span.trace_id == submit.trace_id));
    let failed: Vec<&Span> = attempts.iter().filter(|span| span.failed).collect();
    assert_eq!(failed.len(), 2);
    assert!(failed.iter().all(|span| span.attribute("error.type").is_some()), "{failed:#?}");
    let calls: Vec<Span> = all.iter().filter(|span| span.name == "GET" && span.failed).cloned().collect();
    assert_eq!(calls.len(), 2);
    assert!(calls.iter().all(|call| call.attribute("error.type") == Some("500")));
}

#[test]
fn a_long_attempt_is_in_its_trace_before_it_ends() {
    let collector = OtlpReceiver::start();
    let deployment =
        Deployment::new().set("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint()).set("OTEL_BSP_SCHEDULE_DELAY", 100);
    let (mut serve, _work) = (deployment.serve(), deployment.work());
    let client = serve.client();
    let id = client.submit(&json!({"vector_data": [1.0], "duration": 600}));
    let started = until("the attempt shows that it runs", LONG, || {
        collector.spans().into_iter().find(|span| span.name == "started vector_processing")
    });
    let task = client.task(&id);
    assert_eq!((&task["status"], &task["trace_id"]), (&"RUNNING".into(), &started.trace_id.as_str().into()));
    client.cancel(&id).expect(204);
    let attempt = until("the attempt ends", LONG, || {
        collector.spans().into_iter().find(|span| span.name == "process vector_processing")
    });
    assert_eq!(started.parent_id, attempt.span_id);
}

#[test]
fn the_sampler_decides_and_the_callers_decision_is_kept() {
    let collector = OtlpReceiver::start();
    let deployment = Deployment::new()
        .set("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint())
        .set("OTEL_BSP_SCHEDULE_DELAY", 100)
        .set("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
        .set("OTEL_TRACES_SAMPLER_ARG", "0");
    let (mut serve, mut work) = (deployment.serve(), deployment.work());
    let client = serve.client();
    let body = || json!({"vector_data": [1.0], "duration": 0}).to_string();
    let submit = |headers: &[(&str, &str)]| {
        let task = client.post("/tasks", body(), headers).expect(202).json();
        client.wait_status(task["task_id"].as_str().unwrap(), "SUCCESS", LONG)
    };
    let unsampled = submit(&[]);
    assert_eq!(unsampled["trace_id"].as_str().unwrap().len(), 32, "it has a trace that nobody records");
    submit(&[("traceparent", &format!("00-{TRACE}-{CALLER}-01"))]);
    all_are_sent(&collector, &["process vector_processing"]);
    serve.stop();
    work.stop();
    let spans = collector.spans();
    assert!(spans.iter().any(|span| span.name == "process vector_processing"), "{spans:#?}");
    assert!(spans.iter().all(|span| span.trace_id == TRACE), "{spans:#?}");
}

#[test]
fn an_error_answer_names_its_trace() {
    let deployment = Deployment::new();
    let mut serve = deployment.serve();
    let client = serve.client();
    let problem = client.request("GET", "/tasks/x", &[("traceparent", &format!("00-{TRACE}-{CALLER}-01"))]);
    assert_eq!(problem.expect(404).json()["trace_id"], TRACE);
    assert_eq!(client.fetch("/tasks/x").expect(404).json().get("trace_id"), None);
}

#[test]
fn a_collector_that_hangs_disturbs_nothing_and_nothing_piles_up() {
    let collector = HttpServer::start(|_, _| Reply::Silence);
    let deployment = Deployment::new()
        .set("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url(""))
        .set("OTEL_BSP_SCHEDULE_DELAY", 50)
        .set("OTEL_BSP_MAX_QUEUE_SIZE", 64)
        .set("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 32)
        .set("OTEL_EXPORTER_OTLP_TIMEOUT", 600_000);
    let (mut serve, mut work) = (deployment.serve(), deployment.work());
    let client = serve.client();
    until("the collector has a batch that it does not answer", LONG, || {
        client.fetch("/task-types").expect(200);
        (!collector.requests().is_empty()).then_some(())
    });
    // Many times what the queue holds.
    let task = json!({"vector_data": [1.0], "duration": 0});
    let answer = client.post("/tasks/batch", json!(vec![task; 1_000]).to_string(), &[]).expect(202).json();
    for task in answer.as_array().unwrap() {
        client.wait_status(task["task_id"].as_str().unwrap(), "SUCCESS", LONG);
    }
    // Leaving waits a bounded time for the last spans.
    serve.stop();
    work.stop();
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

/// Where nobody sees a span, the context that comes in is passed on and named all the same.
#[test]
fn a_log_of_warnings_alone_changes_no_answer() {
    let (site, traceparent) = (Site::start(), format!("00-{TRACE}-{CALLER}-01"));
    let deployment = Deployment::new().set("APP_OUTBOUND_ALLOW", "127.0.0.0/8").set("RUST_LOG", "warn");
    // Its log does not tell where it listens.
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port(Ipv4Addr::LOCALHOST)));
    let _serve = deployment.serve_with(&[("APP_BIND", &address.to_string())]);
    let _work = deployment.work();
    until("it serves", LONG, || TcpStream::connect(address).ok());
    let client = Client::new(address);
    let headers = [("traceparent", traceparent.as_str()), ("x-request-id", "mine")];
    let problem = client.request("GET", "/tasks/x", &headers).expect(404).json();
    assert_eq!((&problem["trace_id"], &problem["request_id"]), (&json!(TRACE), &json!("mine")));
    assert_eq!(client.fetch("/tasks/x").expect(404).json().get("trace_id"), None);
    let body = json!({"task_type": "web_scrape", "url": site.url("/utf8")}).to_string();
    let task = client.post("/tasks", body, &headers).expect(202).json();
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

#[test]
fn the_endpoint_for_traces_alone_is_enough() {
    let collector = OtlpReceiver::start();
    let url = format!("{}/v1/traces", collector.endpoint());
    let deployment =
        Deployment::new().set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", url).set("OTEL_BSP_SCHEDULE_DELAY", 100);
    let mut serve = deployment.serve();
    serve.client().fetch("/task-types").expect(200);
    all_are_sent(&collector, &["GET /task-types"]);
    serve.stop();
}

#[test]
fn what_the_standard_variables_ask_for_in_vain_is_told() {
    let collector = OtlpReceiver::start();
    let deployment = Deployment::new().set("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint());
    let mut sampled =
        deployment.start_with(&["serve"], &[("OTEL_TRACES_SAMPLER", "sometimes"), ("APP_BIND", "127.0.0.1:0")]);
    sampled.wait_for_line("OTEL_TRACES_SAMPLER is \"sometimes\", which is ignored");
    let off =
        deployment.start_with(&["migrate"], &[("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_SAMPLER", "sometimes")]);
    let off = off.finish();
    assert!(off.code == Some(0) && !off.stderr.contains("OTEL_"), "{}", off.output());
}
