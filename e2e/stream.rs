//! Stream: a task's life as server-sent events.

use serde_json::{Value, json};

use crate::harness::{Deployment, Event, LONG, Stopwatch};

/// Every frame that has an id, as (id, what it tells).
fn numbered(events: &[Event]) -> Vec<(i64, Value)> {
    events.iter().filter_map(|event| Some((event.id?, event.data.clone()))).collect()
}

fn ids(events: &[Event]) -> Vec<i64> {
    events.iter().filter_map(|event| event.id).collect()
}

#[test]
fn a_stream_tells_everything_and_ends_with_the_result() {
    let deployment = Deployment::new();
    let (mut serve, _work) = (deployment.serve(), deployment.work());
    let client = serve.client();
    let id = client.submit(&json!({"vector_data": [1.0, 2.0], "duration": 4}));
    let stream = client.stream(&id, None);
    assert_eq!(stream.status, 200);
    let header = |name: &str| stream.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    assert_eq!(header("content-type").as_deref(), Some("text/event-stream"));
    assert!(header("cache-control").unwrap().contains("no-store"));
    assert_eq!(header("content-encoding"), None);
    let events = stream.rest();

    assert!(events[0].status().is_some() && events[0].id.is_some(), "first the state now: {events:#?}");
    let last = events.last().unwrap();
    assert_eq!(last.status(), Some("SUCCESS"));
    assert_eq!(last.data["task_id"], id);
    assert_eq!(last.data["result"], client.task(&id)["result"]);
    assert_eq!(last.data["error"], Value::Null);
    let finals = events.iter().filter(|event| event.status() == Some("SUCCESS")).count();
    assert_eq!(finals, 1, "one final frame");
    let moves =
        |event: &Event| event.status() == Some("RUNNING") && event.data["progress"]["current"].as_i64() >= Some(1);
    assert!(events.iter().any(moves), "{events:#?}");
    assert!(ids(&events).windows(2).all(|pair| pair[0] < pair[1]), "ids rise: {:?}", ids(&events));
    for log in events.iter().filter(|event| event.name.is_some()) {
        assert_eq!(log.name.as_deref(), Some("log"));
        for key in ["timestamp", "level", "message", "attempt", "delivery", "seq"] {
            assert!(!log.data[key].is_null(), "{key} of {log:?}");
        }
        assert_eq!(log.data["seq"], json!(log.id), "a log line's seq is its id");
    }
}

#[test]
fn a_replay_has_every_event_once_and_agrees_with_the_log() {
    let deployment = Deployment::new();
    let (mut serve, _work) = (deployment.serve(), deployment.work());
    let client = serve.client();
    let id = client.submit(&json!({"vector_data": [1.0], "duration": 1}));
    client.wait_status(&id, "SUCCESS", LONG);

    let all = client.stream(&id, Some("0")).rest();
    let count = all.len() as i64;
    assert_eq!(ids(&all), (1..=count).collect::<Vec<_>>(), "without gap or repeat, and nothing else");
    let statuses: Vec<_> = all.iter().filter_map(Event::status).collect();
    // Events tell of changes: the submit is none, the task begins as PENDING.
    assert_eq!(statuses, ["RUNNING", "SUCCESS"]);
    let lines: Vec<_> = all.iter().filter(|event| event.name.is_some()).map(|event| event.data.clone()).collect();
    assert_eq!(lines, client.logs(&id));

    // From every point of it the rest follows, and only the rest.
    for after in 1..count {
        let rest = client.stream(&id, Some(&after.to_string())).rest();
        assert_eq!(numbered(&rest), numbered(&all[after as usize..]), "after {after}");
    }
    let nothing = client.stream(&id, Some(&count.to_string()));
    assert_eq!(nothing.status, 204, "the client has it all: a browser stops reconnecting");
    for garbage in ["99999", "-1", "x", ""] {
        let events = client.stream(&id, Some(garbage)).rest();
        assert_eq!(events.len(), 1, "an id of something else counts as none: {garbage:?}");
        assert_eq!(events[0].status(), Some("SUCCESS"));
    }
}

#[test]
fn a_cut_stream_goes_on_at_another_server_without_gap_or_repeat() {
    let deployment = Deployment::new();
    let (mut first, mut second, _work) = (deployment.serve(), deployment.serve(), deployment.work());
    let id = first.client().submit(&json!({"vector_data": [1.0], "duration": 3}));
    let mut stream = first.client().stream(&id, Some("0"));
    let mut seen = Vec::new();
    seen.push(stream.find_event("the first", |_| true));
    let running = |event: &Event| event.status() == Some("RUNNING");
    while !running(seen.last().unwrap()) {
        seen.push(stream.find_event("RUNNING", |_| true));
    }
    first.kill();
    seen.extend(stream);
    let last = seen.iter().rev().find_map(|event| event.id).unwrap();
    seen.extend(second.client().stream(&id, Some(&last.to_string())).rest());
    let all = ids(&seen);
    assert_eq!(all, (1..=all.len() as i64).collect::<Vec<_>>());
    assert_eq!(seen.last().unwrap().status(), Some("SUCCESS"));
}

#[test]
fn a_server_that_leaves_ends_its_streams_at_once() {
    let deployment = Deployment::new();
    let mut serve = deployment.serve();
    let client = serve.client();
    let id = client.submit(&json!({"vector_data": [1.0], "duration": 600}));
    let mut stream = client.stream(&id, None);
    assert_eq!(stream.find_event("the state now", |_| true).status(), Some("PENDING"));
    let began = Stopwatch::start();
    serve.stop();
    assert_eq!(stream.next(), None);
    assert!(began.elapsed().as_secs() < 10, "it took {:?}", began.elapsed());
}

#[test]
fn a_stream_of_no_task_is_a_404() {
    let deployment = Deployment::new();
    let mut serve = deployment.serve();
    let stream = serve.client().stream("01ARZ3NDEKTSV4RRFFQ69G5FAV", None);
    assert_eq!(stream.status, 404);
}

#[test]
fn a_cancel_reaches_the_stream() {
    let deployment = Deployment::new();
    let (mut serve, _work) = (deployment.serve(), deployment.work());
    let client = serve.client();
    let id = client.submit(&json!({"vector_data": [1.0], "duration": 600}));
    let mut stream = client.stream(&id, None);
    stream.find_event("RUNNING", |event| event.status() == Some("RUNNING"));
    client.cancel(&id).expect(204);
    let last = stream.rest().pop().expect("a last frame");
    assert_eq!(last.status(), Some("CANCELLED"));
    assert_eq!(last.data["error"]["code"], "cancelled");
}
