//! Harness: real PostgreSQL, real Redis and the real `app` binary for the tests, and what stands around them: a web
//! site, a trace collector, a cutting proxy.
//!
//! - One PostgreSQL and one Redis per run of this binary, started when the first test asks; each test has a database
//!   and a Redis database of its own ([`Deployment`]). A test that stops or empties a server has servers of its own
//!   ([`Services::private`]).
//! - Every process is stopped by its id, also when a test panics, and by the [`watchdog`] when this binary itself is
//!   killed; every file lies in one temporary folder, which goes with it.
//! - Nothing waits by sleeping a guessed time: [`until`] looks again and again, up to a deadline. A machine that stands
//!   still for seconds fails no test: [`Stopwatch`] leaves such times out.
//! - A test fails when one of its processes has panicked ([`App`]'s `Drop` reads its log).

mod app;
mod browser;
mod certificates;
mod client;
mod deployment;
mod dns;
mod events;
mod hosts;
mod http_server;
mod nginx;
mod otlp;
mod patience;
mod ports;
mod process;
mod programs;
mod proxy;
mod raw;
mod services;
mod site;
mod sql;
mod terminal;
pub mod watchdog;

pub use app::{App, Finished};
pub use browser::{Browser, run_module_tests};
pub use certificates::Certificates;
pub use client::{Answer, Client};
pub use deployment::Deployment;
pub use dns::Dns;
pub use events::{Event, EventStream};
pub use hosts::{Host, Network};
pub use http_server::{HttpServer, Reply, Request};
pub use nginx::Nginx;
pub use otlp::{OtlpReceiver, Span};
pub use patience::{LONG, Stopwatch, found_within, until};
pub use ports::free_port;
pub use process::{cpu, memory, private_memory};
pub use proxy::{Direction, Flow, Proxy};
pub use raw::{raw_exchange, raw_request, raw_stream};
pub use services::Services;
pub use site::{HOSTILE_TITLE, Site};
pub use sql::Sql;
pub use terminal::Terminal;
pub use watchdog::{folder as run_folder, new_folder};
