//! Tests of the metrics: every instrument is named and described as Prometheus asks.

use super::*;

/// Metrics with at least one series of each instrument.
fn filled() -> Metrics {
    let metrics = Metrics::new();
    metrics.http.expect(["web_scrape"].into_iter(), 10);
    metrics.http.answered("BREW", None, 404, std::time::Duration::ZERO);
    metrics.http.answered("GET", Some("/tasks/{id}"), 200, std::time::Duration::from_millis(3));
    metrics.stores.show_pool(Pool::Redis, PoolNumbers { limit: 4, open: 3, idle: 1, waiting: 0 });
    metrics.work.expect();
    let kind = metrics.work.kind("web_scrape");
    kind.ended(AttemptOutcome::Undecodable, std::time::Duration::from_secs(2));
    drop(metrics.work.line("default", 4).started(std::time::Duration::from_secs(7)));
    metrics.queues.show(vec![QueueNumbers { name: "default".to_owned(), ready: 3, ..QueueNumbers::default() }]);
    metrics
}

#[test]
fn series_begin_with_nought_and_count() {
    let text = filled().text();
    for line in [
        "longrun_attempts_total{task_type=\"web_scrape\",outcome=\"success\"} 0",
        "longrun_attempts_total{task_type=\"web_scrape\",outcome=\"undecodable\"} 1",
        "longrun_attempt_run_seconds_bucket{task_type=\"web_scrape\",le=\"1\"} 0",
        "longrun_attempt_wait_seconds_count{queue=\"default\"} 1",
        "longrun_attempts_running{queue=\"default\"} 0",
        "longrun_fenced_writes_total{write=\"finish\"} 0",
        "longrun_recoveries_total{reason=\"redis_emptied\"} 0",
        "longrun_queue_ready{queue=\"default\"} 3",
        "longrun_http_requests_total{method=\"other\",route=\"(none)\",status=\"404\"} 1",
        "longrun_http_requests_total{method=\"GET\",route=\"/tasks/{id}\",status=\"200\"} 1",
        "longrun_pool_connections{pool=\"redis\",state=\"in_use\"} 2",
    ] {
        assert!(text.lines().any(|other| other == line), "{line} is missing in\n{text}");
    }
}

#[test]
fn a_queue_that_is_gone_is_no_longer_shown() {
    let metrics = filled();
    metrics.queues.show(Vec::new());
    assert!(!metrics.text().contains("longrun_queue_"));
}
