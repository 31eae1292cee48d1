//! Metrics: what a process counts of itself, for Prometheus to read.
//!
//! Every instrument is made here, once, with its name and its help, and with all of its labels where those are known:
//! a series begins with 0, so that the first failure is a rise and not a beginning. Counting is an atomic addition, an
//! observation in a histogram a lock of its own held for a few nanoseconds; nothing on the way of a task looks anything
//! up by name. Labels are bounded: task types come from the registry, routes from the table of routes, queues of a
//! worker from its settings, and queues that only clients have named are shown up to a number (see [`Queues`]).

mod http;
mod process;
mod queues;
mod stores;
mod work;

use std::{borrow::Cow, sync::Arc};

use prometheus_client::{
    encoding::prometheus_text,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::Registry,
};

pub use http::Http;
pub use prometheus_text::CONTENT_TYPE;
pub use queues::{QueueNumbers, Queues};
pub use stores::{Pool, PoolNumbers, Stores};
pub use work::{AttemptOutcome, Kind, Line, Outcome, Recovery, Work, Write};

/// Every name of this program begins so.
const PREFIX: &str = "longrun";

/// Names and values of the labels of one series.
type Labels<const N: usize> = [(&'static str, Cow<'static, str>); N];
type Counters<const N: usize> = Family<Labels<N>, Counter>;
type Gauges<const N: usize> = Family<Labels<N>, Gauge>;
type Histograms<const N: usize> = Family<Labels<N>, Histogram, fn() -> Histogram>;

/// The instruments of a process. Cheap to clone.
#[derive(Clone)]
pub struct Metrics(Arc<Instruments>);

/// By concern.
pub struct Instruments {
    registry: Registry,
    /// Requests, streams and submits.
    pub http: Http,
    /// The ways to PostgreSQL and Redis.
    pub stores: Stores,
    /// Attempts, and the loops of a worker.
    pub work: Work,
    /// What waits and runs, as PostgreSQL has it.
    pub queues: Queues,
}

impl Metrics {
    /// All instruments, at nought.
    pub fn new() -> Self {
        let mut all = Registry::default();
        all.register_collector(Box::new(process::Process::begin()));
        let own = all.sub_registry_with_prefix(PREFIX);
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        own.register("build", "The version of this program; the value is always 1", build);
        let http = Http::register(own);
        let stores = Stores::register(own);
        let work = Work::register(own);
        let queues = Queues::register(own);
        Self(Arc::new(Instruments { registry: all, http, stores, work, queues }))
    }

    /// All of them as Prometheus reads them: text format 0.0.4, see [`CONTENT_TYPE`].
    pub fn text(&self) -> String {
        let mut text = String::with_capacity(16 * 1024);
        // Writing into a String does not fail.
        let _ = prometheus_text::encode(&mut text, &self.0.registry);
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl std::ops::Deref for Metrics {
    type Target = Instruments;

    fn deref(&self) -> &Instruments {
        &self.0
    }
}

/// One more in a gauge, for as long as this lives.
pub struct Counted(Gauge);

impl Counted {
    fn in_gauge(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Upper bounds in seconds, for what takes milliseconds as a rule.
const SHORT: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
/// Upper bounds in seconds, for what takes anything from a moment to a day.
const LONG: [f64; 14] =
    [0.01, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 1_800.0, 3_600.0, 10_800.0, 43_200.0, 86_400.0];

fn short() -> Histogram {
    Histogram::new(SHORT)
}

fn long() -> Histogram {
    Histogram::new(LONG)
}

/// Registers what is made by `make`.
fn histograms<const N: usize>(
    registry: &mut Registry,
    name: &str,
    help: &str,
    make: fn() -> Histogram,
) -> Histograms<N> {
    let family = Histograms::new_with_constructor(make);
    registry.register(name, help, family.clone());
    family
}

/// Registers an instrument of its type's default.
fn made<M: prometheus_client::registry::Metric + Clone + Default>(
    registry: &mut Registry,
    name: &str,
    help: &str,
) -> M {
    let instrument = M::default();
    registry.register(name, help, instrument.clone());
    instrument
}

#[cfg(test)]
mod tests;
