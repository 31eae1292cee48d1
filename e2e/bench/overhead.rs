//! Overhead: what being seen costs: submits and drains with every request and attempt traced, and with both roles scraped,
//! as a ratio to the same without either.
//!
//! Counting cannot be switched off, so what is compared for metrics is whether they are read: each second, far more often
//! than any scraper does by default. The collector takes the spans and forgets them; its decoding is not in the figures'
//! favour, since it computes on the same machine.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use super::{
    CONNECTIONS, Size, drained, light_task,
    load::{load, post},
    median,
};
use crate::harness::{Deployment, HttpServer, LONG, Reply, Services, Sql};

/// Between two scrapes of one process.
const SCRAPE: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Nothing,
    Traces,
    Metrics,
}

#[test]
fn what_being_seen_costs() {
    const WAYS: [Seen; 3] = [Seen::Nothing, Seen::Traces, Seen::Metrics];
    let size = Size::of_this_run();
    let services = Services::private();
    let collector = HttpServer::start(|_, _| Reply::Whole(200, vec![], Vec::new()));
    let mut submits = WAYS.map(|_| Vec::new());
    let mut drains = WAYS.map(|_| Vec::new());
    for round in 0..size.rounds() {
        // Nobody is always the first after a pause, or the last.
        for place in 0..WAYS.len() {
            let way = (round + place) % WAYS.len();
            let (submit, drain) = measured(&services, &collector, WAYS[way], size);
            submits[way].push(submit);
            drains[way].push(drain);
        }
    }
    assert!(collector.asked() > 0, "nothing was traced");
    for (what, rates) in [("submit", &mut submits), ("drain", &mut drains)] {
        let [nothing, traced, scraped] = rates;
        let plain = median(nothing);
        for (name, rates) in [("traced at full sampling", traced), ("scraped each second", scraped)] {
            let ratio = median(rates) / plain;
            size.figure(&format!("{what}, {name}: {ratio:.2} of the rate without"), "a second", rates);
        }
        size.figure(&format!("{what}, neither"), "a second", nothing);
    }
}

/// Submits a second, and ends a second.
fn measured(services: &Services, collector: &HttpServer, seen: Seen, size: Size) -> (f64, f64) {
    let mut deployment = Deployment::on(services)
        .set("RUST_LOG", "info,longrun=info")
        .set("APP_CONCURRENCY", 512)
        .set("APP_MAX_QUEUE_DEPTH", 100_000_000);
    if seen == Seen::Traces {
        // Large enough for what a full load makes: a span that is dropped costs nothing.
        deployment = deployment
            .set("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url(""))
            .set("OTEL_TRACES_SAMPLER", "always_on")
            .set("OTEL_BSP_MAX_QUEUE_SIZE", 262_144);
    }
    let sql: Sql = deployment.sql();
    let mut serve = deployment.serve();
    let address = serve.address();
    serve.client().wait_ready(LONG);
    let mut scrapers = Vec::new();
    if seen == Seen::Metrics {
        scrapers.push(Scraper::start(address));
    }
    let body = light_task().to_string();
    let submit = load(address, CONNECTIONS, size.load(), 202, |_| post("/tasks", &body)).rate;
    let waiting = sql.value::<i64>("SELECT count(*) FROM tasks", &[]);
    let mut work = deployment.work_with(&[("APP_ADMIN_BIND", "127.0.0.1:0")]);
    if seen == Seen::Metrics {
        scrapers.push(Scraper::start(work.admin_address()));
    }
    let drain = drained(&sql, waiting);
    drop(scrapers);
    work.stop();
    serve.stop();
    (submit, drain)
}

/// Reads a process's metrics until it is dropped.
struct Scraper {
    over: Arc<AtomicBool>,
}

impl Scraper {
    fn start(address: SocketAddr) -> Self {
        // Once here, so that a run without metrics fails.
        assert!(scrape(address).expect("metrics are there").contains("longrun_"));
        let over = Arc::new(AtomicBool::new(false));
        let ends = over.clone();
        thread::spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                thread::sleep(SCRAPE);
                let _ = scrape(address);
            }
        });
        Self { over }
    }
}

impl Drop for Scraper {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

fn scrape(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}
