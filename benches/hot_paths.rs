//! Hot paths: what a server computes for a request, without its connections and without PostgreSQL.
//!
//! `cargo bench --bench hot_paths`, as `make bench` does at its end; with a name, only what is called so.

use actix_web::{http::header::IF_NONE_MATCH, test::TestRequest};
use chrono::DateTime;
use divan::{Bencher, black_box, counter::BytesCount};
use longrun::{
    core::model::{Level, Priority, Progress, Status, Task, TaskEvent, TaskId, What},
    serve::{
        caller::{Caller, Ends},
        idempotency, json,
        read::Known,
        sse::{Page, event_frames, state_frame},
        submit::new_task,
        task_view::TaskView,
    },
    tasks::{Registry, vector::VectorProcessing},
};
use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;

#[global_allocator]
static ALLOCATOR: longrun::Allocator = longrun::Allocator;

/// Bytes of a body: that of the load tests, and what people send.
const SIZES: [usize; 3] = [65, 16 << 10, 256 << 10];

fn main() {
    divan::main();
}

/// A body of about this size: the more bytes, the more numbers.
fn body(size: usize) -> String {
    let frame = r#"{"vector_data":[],"metadata":{"k":"v"},"duration":0}"#.len();
    let numbers: Vec<String> = (0..(size.saturating_sub(frame) / 8).max(1))
        .map(|number| format!("0.{:05}", number * 7_919 % 100_000))
        .collect();
    format!(r#"{{"vector_data":[{}],"metadata":{{"k":"v"}},"duration":0}}"#, numbers.join(","))
}

#[divan::bench(args = SIZES)]
fn check_a_body(bencher: Bencher<'_, '_>, size: usize) {
    let body = body(size);
    bencher.counter(BytesCount::of_str(&body)).bench(|| json::check(black_box(body.as_bytes())).is_ok());
}

#[divan::bench(args = SIZES)]
fn make_a_task(bencher: Bencher<'_, '_>, size: usize) {
    let (body, caller) = (body(size), Caller::anonymous(Ends::with(CancellationToken::new())));
    let registry = Registry::new().with(VectorProcessing);
    bencher.counter(BytesCount::of_str(&body)).bench(|| {
        let body = json::check(black_box(body.as_bytes())).expect("a right body");
        new_task(&registry, &caller, body).expect("a task")
    });
}

#[divan::bench(args = SIZES)]
fn fingerprint_a_body(bencher: Bencher<'_, '_>, size: usize) {
    let body = body(size);
    bencher.counter(BytesCount::of_str(&body)).bench(|| idempotency::fingerprint(black_box(&body)));
}

#[divan::bench]
fn encode_a_view(bencher: Bencher<'_, '_>) {
    let task = task();
    bencher.bench(|| serde_json::to_string(&TaskView::from(black_box(&task))));
}

#[divan::bench]
fn compare_a_version(bencher: Bencher<'_, '_>) {
    let request = TestRequest::get().insert_header((IF_NONE_MATCH, "W/\"7\"")).to_http_request();
    bencher.bench_local(|| Known::of(black_box(&request)).has(7));
}

#[divan::bench]
fn spell_an_id(bencher: Bencher<'_, '_>) {
    let id = TaskId::new();
    bencher.bench(|| black_box(id).to_string());
}

#[divan::bench]
fn read_an_id(bencher: Bencher<'_, '_>) {
    let text = TaskId::new().to_string();
    bencher.bench(|| black_box(&text).parse::<TaskId>());
}

#[divan::bench]
fn frame_a_state(bencher: Bencher<'_, '_>) {
    let task = task();
    bencher.bench(|| state_frame(black_box(&task), Some(5)));
}

#[divan::bench]
fn frame_a_log_line(bencher: Bencher<'_, '_>) {
    let task = task();
    let line = TaskEvent {
        seq: 5,
        at: task.created_at,
        delivery: 1,
        attempt: 1,
        what: What::Log { level: Level::Info, message: "step 3 of 10: 1,024 vectors indexed".to_owned() },
    };
    let events = [line];
    bencher.bench(|| event_frames(black_box(&task), black_box(&events), Page::MoreFollow));
}

fn task() -> Task {
    let at = |seconds: i64| DateTime::from_timestamp(1_767_225_600 + seconds, 0).expect("a time");
    let raw = |text: &str| RawValue::from_string(text.to_owned()).expect("JSON");
    Task {
        id: TaskId::new(),
        task_type: "vector_processing".to_owned(),
        status: Status::Running,
        queue: "default".to_owned(),
        priority: Priority::Normal,
        owner: None,
        metadata: raw(r#"{"k":"v"}"#),
        progress: Some(Progress { current: 3, total: Some(10), message: None, updated_at: at(2) }),
        attempt: 1,
        max_attempts: 4,
        failures: 0,
        delivery: 1,
        timeout: None,
        pending_reason: None,
        ready_at: at(0),
        scheduled_at: None,
        last_error: None,
        result: None,
        result_omitted: false,
        error: None,
        created_at: at(0),
        started_at: Some(at(1)),
        completed_at: None,
        trace_context: None,
        seq: 5,
        version: 7,
    }
}
