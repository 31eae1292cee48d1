//! Tests of vector processing: the plan, the pace, the checkpoint, the sink.

use std::{
    io::Write,
    sync::atomic::{AtomicUsize, Ordering},
};

use serde_json::{Value, json};

use super::*;
use crate::{
    core::model::Level,
    tasks::{
        StopReason,
        test_site::{Site, answer},
        testing::{self, TestRun},
    },
};

fn vectors(count: usize, dimensions: usize) -> Value {
    let component = |index: usize| json!((index * 7 % 100) as f64 / 10.0 - 3.0);
    (0..count).map(|vector| (0..dimensions).map(|i| component(vector * dimensions + i)).collect::<Value>()).collect()
}

fn places(run: &TestRun) -> Vec<&str> {
    run.findings().iter().map(|finding| finding.pointer.as_str()).collect()
}

#[tokio::test]
async fn a_flat_array_is_one_vector() {
    let run = testing::task(VectorProcessing, json!({"vector_data": [3, 4.0], "duration": 0}))
        .metadata(json!({"source": "test"}))
        .run()
        .await;
    assert_eq!(
        run.result(),
        &json!({
            "processed_vectors": 1, "dimensions": 2, "chunks": 1, "skipped_chunks": 0,
            "norm_min": 5.0, "norm_mean": 5.0, "norm_max": 5.0, "status": "indexed", "metadata": {"source": "test"},
        })
    );
    assert_eq!(run.last_progress(), Some((1, Some(1))));
    assert_eq!(run.texts(), ["indexed 1 vector of 2 dimensions in 1 chunk, 0 skipped"]);
    assert_eq!(run.checkpoint, None, "with the last step comes the result");
}

#[tokio::test]
async fn several_vectors_become_chunks() {
    let run = testing::run(VectorProcessing, json!({"vector_data": vectors(600, 40), "duration": 0})).await;
    let result = run.result();
    assert_eq!((&result["processed_vectors"], &result["dimensions"]), (&json!(600), &json!(40)));
    assert_eq!(result["chunks"], 3);
    assert_eq!(run.last_progress(), Some((3, Some(3))));
}

#[tokio::test]
async fn wrong_inputs_are_found_where_they_are_wrong() {
    for (input, expected) in [
        (json!({}), vec!["/vector_data"]),
        (json!({"vector_data": []}), vec!["/vector_data"]),
        (json!({"vector_data": "abc"}), vec!["/vector_data"]),
        (json!({"vector_data": [[]]}), vec!["/vector_data/0"]),
        (json!({"vector_data": [1, "a", 2]}), vec!["/vector_data/1"]),
        (json!({"vector_data": [[1, 2], [3, null]]}), vec!["/vector_data/1/1"]),
        (json!({"vector_data": [1, [2]]}), vec!["/vector_data/1"]),
        (json!({"vector_data": [[1, 2], [3], [4, 5], [6, 7, 8]]}), vec!["/vector_data/1", "/vector_data/3"]),
        (json!({"vector_data": [1, 1e301]}), vec!["/vector_data/1"]),
        (json!({"vector_data": [[1], [-1.7e308]]}), vec!["/vector_data/1/0"]),
        (json!({"vector_data": [1], "duration": -1}), vec!["/duration"]),
        (json!({"vector_data": [1], "duration": 86401}), vec!["/duration"]),
        (json!({"vector_data": [1], "duration": "5"}), vec!["/duration"]),
        (json!({"vector_data": [1], "durration": 5}), vec!["/durration"]),
    ] {
        let run = testing::run(VectorProcessing, input.clone()).await;
        assert_eq!(places(&run), expected, "{input}");
    }
    let ragged = testing::run(VectorProcessing, json!({"vector_data": [[1, 2], [3]]})).await;
    assert_eq!(ragged.findings()[0].detail, "has 1 number where the first vector has 2: all must be equally long");
}

#[tokio::test(start_paused = true)]
async fn one_vector_over_a_minute_moves_sixty_times() {
    let began = Instant::now();
    let run = testing::run(VectorProcessing, json!({"vector_data": [1, 2], "duration": 60})).await;
    assert_eq!(run.result()["chunks"], 1);
    let steps: Vec<_> = run.progress.iter().map(|progress| progress.current).collect();
    assert_eq!(steps, (0..=60).collect::<Vec<_>>());
    // The timer of a paused clock rounds each wait up to its millisecond.
    let took = began.elapsed();
    assert!((60_000..60_100).contains(&took.as_millis()), "{took:?}");
    assert_eq!(run.checkpoint.as_ref().unwrap()["done"], 59);
}

#[tokio::test(start_paused = true)]
async fn the_default_is_ten_seconds() {
    let began = Instant::now();
    testing::run(VectorProcessing, json!({"vector_data": [1]})).await.result();
    assert_eq!(began.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn waiting_wakes_at_once_when_asked_to_stop() {
    // The wait is a second long. This clock moves only when there is nothing else to do.
    let task = testing::task(VectorProcessing, json!({"vector_data": [1], "duration": 86400}));
    let stop = task.stop();
    let running = tokio::spawn(task.run());
    tokio::task::yield_now().await;
    let asked = Instant::now();
    stop.ask(StopReason::Cancelled);
    let run = running.await.unwrap();
    assert!(matches!(run.failure(), Failure::Stopped));
    assert!(asked.elapsed() < Duration::from_millis(900), "{:?}", asked.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_interrupted_task_goes_on_with_its_next_step() {
    let input = json!({"vector_data": vectors(1000, 3), "duration": 20});
    let whole = testing::run(VectorProcessing, input.clone()).await;
    for stop_after in [1, 7, 19] {
        let first = testing::task(VectorProcessing, input.clone()).stop_at(stop_after, StopReason::Drain).run().await;
        assert!(matches!(first.failure(), Failure::Stopped));
        let checkpoint = first.checkpoint.unwrap();
        assert!(checkpoint.to_string().len() < 200, "{checkpoint}");
        let began = Instant::now();
        let second = testing::task(VectorProcessing, input.clone()).resume(checkpoint).run().await;
        assert_eq!(second.result(), whole.result());
        assert_eq!(second.progress[0].current, stop_after as i64);
        assert_eq!(began.elapsed().as_secs(), 20 - stop_after);
    }
    // A checkpoint of another plan: from the start.
    let strange = json!({"steps": 3, "done": 2, "skipped_chunks": 0, "norms": null});
    let again = testing::task(VectorProcessing, input).resume(strange).run().await;
    assert_eq!(again.result(), whole.result());
    assert_eq!(again.progress[0].current, 0);
}

#[test]
fn every_chunk_has_one_step() {
    for (count, dimensions, seconds) in
        [(1, 1, 0.0), (1, 1, 0.3), (1, 3, 60.0), (257, 3, 0.0), (5000, 10, 7.5), (5000, 10, 19.0), (5000, 10, 300.0)]
    {
        let plan = Plan::new(&Vectors::new(dimensions, vec![1.0; count * dimensions]), seconds);
        let chunks: Vec<_> = (0..plan.steps).filter_map(|step| plan.chunk_of(step)).collect();
        assert_eq!(chunks, (0..plan.chunks).collect::<Vec<_>>(), "{plan:?}");
        assert_eq!(plan.chunk_of(0), Some(0), "the first step has work to show");
        assert_eq!(plan.range(plan.chunks - 1).1, count);
        assert!(plan.step <= Duration::from_secs(1), "{plan:?}");
    }
}

#[tokio::test]
async fn chunks_are_sent_to_the_sink() {
    let sink = Site::always(answer(200, &[], "ok"));
    let task = testing::task(VectorProcessing, json!({"vector_data": vectors(300, 2), "duration": 0}))
        .vector_sink(sink.url("/chunks"));
    let run = task.run().await;
    assert_eq!((&run.result()["chunks"], &run.result()["skipped_chunks"]), (&json!(2), &json!(0)));
    let requests = sink.requests();
    assert_eq!(requests.len(), 2);
    let body: Value = serde_json::from_slice(&requests[1].body).unwrap();
    assert_eq!((&body["chunk"], &body["dimensions"]), (&json!(1), &json!(2)));
    assert_eq!(body["norms"].as_array().unwrap().len(), 44);
    assert_eq!(body["codes"].as_array().unwrap().len(), 44);
    let key = format!("{}:chunk-1", body["task_id"].as_str().unwrap());
    assert_eq!(requests[1].header("idempotency-key"), Some(key.as_str()));
    assert_eq!(requests[1].header("x-task-delivery"), Some("1"));
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_stumbles_is_tried_again() {
    let calls = AtomicUsize::new(0);
    let sink = Site::start(move |_, stream| {
        let status = if calls.fetch_add(1, Ordering::SeqCst) < 2 { 503 } else { 200 };
        stream.write_all(&answer(status, &[], "")).unwrap();
    });
    let run = testing::task(VectorProcessing, json!({"vector_data": [1], "duration": 0}))
        .vector_sink(sink.url("/"))
        .run()
        .await;
    assert_eq!(run.result()["skipped_chunks"], 0);
    assert_eq!(sink.connections(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_is_down_opens_the_breaker_and_is_skipped() {
    let sink = Site::always(answer(500, &[], ""));
    let run = testing::task(VectorProcessing, json!({"vector_data": vectors(600, 2), "duration": 0}))
        .vector_sink(sink.url("/"))
        .run()
        .await;
    assert_eq!((&run.result()["chunks"], &run.result()["skipped_chunks"]), (&json!(3), &json!(3)));
    assert_eq!(sink.connections(), 5, "the first chunk opens the breaker, the others are not even tried");
    let warnings: Vec<_> = run.lines.iter().filter(|line| line.level == Level::Warning).collect();
    assert_eq!(warnings.len(), 3);
    assert!(warnings[0].message.starts_with("chunk 1 is skipped: "), "{warnings:?}");
}

#[tokio::test]
async fn a_sink_that_refuses_a_chunk_is_not_asked_again() {
    let sink = Site::always(answer(422, &[], ""));
    let run = testing::task(VectorProcessing, json!({"vector_data": [1], "duration": 0}))
        .vector_sink(sink.url("/"))
        .run()
        .await;
    assert_eq!(run.result()["skipped_chunks"], 1);
    assert_eq!(run.texts()[0], "chunk 1 is skipped: the sink answered 422");
    assert_eq!(sink.connections(), 1);
}
