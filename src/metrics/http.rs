//! HTTP: requests by route, streams, and the tasks that they submit.

use std::time::Duration;

use prometheus_client::{metrics::gauge::Gauge, registry::Registry};

use super::{Counted, Counters, Histograms, histograms, made, short};

/// Methods that a series of its own is kept for. A client may send any word as a method.
const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"];
/// All types that were declared over HTTP.
const DECLARED: &str = "(declared)";
/// The route of a request that none of the routes took.
const NO_ROUTE: &str = "(none)";

/// What `serve` counts.
pub struct Http {
    requests: Counters<3>,
    seconds: Histograms<2>,
    in_flight: Gauge,
    streams: Gauge,
    streams_limit: Gauge,
    submitted: Counters<1>,
}

impl Http {
    pub(super) fn register(registry: &mut Registry) -> Self {
        Self {
            requests: made(registry, "http_requests", "Requests answered, by the pattern of their route"),
            seconds: histograms(
                registry,
                "http_request_duration_seconds",
                "Time from the head of a request to the head of its answer; streams and held answers included",
                short,
            ),
            in_flight: made(registry, "http_requests_in_flight", "Requests whose answer has not begun"),
            streams: made(registry, "streams_open", "Event streams that are open"),
            streams_limit: made(registry, "streams_limit", "Event streams that this process may have open"),
            submitted: made(registry, "tasks_submitted", "Tasks accepted and committed, by their type"),
        }
    }

    /// The series that a server will have, so that they begin with 0.
    pub fn expect<'a>(&self, task_types: impl Iterator<Item = &'a str>, streams: usize) {
        for task_type in task_types {
            drop(self.submitted.get_or_create(&[("task_type", task_type.to_owned().into())]));
        }
        self.streams_limit.set(streams as i64);
    }

    /// A request is being answered, for as long as this lives.
    pub fn in_flight(&self) -> Counted {
        Counted::in_gauge(&self.in_flight)
    }

    /// A stream is open, for as long as this lives.
    pub fn stream(&self) -> Counted {
        Counted::in_gauge(&self.streams)
    }

    /// A request was answered. `route` is the pattern, never the path.
    pub fn answered(&self, method: &str, route: Option<&str>, status: u16, took: Duration) {
        let method = METHODS.into_iter().find(|known| *known == method).unwrap_or("other");
        let route = || ("route", route.map_or(NO_ROUTE.into(), |route| route.to_owned().into()));
        self.seconds.get_or_create(&[("method", method.into()), route()]).observe(took.as_secs_f64());
        self.requests.get_or_create(&[("method", method.into()), route(), ("status", status.to_string().into())]).inc();
    }

    /// A task of this type was accepted. Types that were declared over HTTP are counted together: anybody may declare
    /// one, and the number of series must have a bound.
    pub fn submitted(&self, task_type: &str) {
        match self.submitted.get(&[("task_type", task_type.to_owned().into())]) {
            Some(counter) => counter.inc(),
            None => self.submitted.get_or_create(&[("task_type", DECLARED.into())]).inc(),
        };
    }
}
