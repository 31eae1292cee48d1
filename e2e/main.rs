//! End to end: the real `app` binary on real PostgreSQL and Redis, seen from outside.
//!
//! [`harness`] starts and stops everything. Each module below is one promise, told by small tests that share nothing
//! and run side by side.
#![allow(missing_docs, reason = "this is a program of tests, not a library")]

mod harness;
mod harness_itself;

mod access;
mod attacks;
mod bad_input;
mod bench;
mod cancel;
#[cfg(feature = "faults")]
mod cli;
mod clients;
mod commands;
mod contract_http;
mod contract_many;
mod contract_metadata;
mod contract_nginx;
mod contract_queues;
mod contract_streams;
mod crash;
#[cfg(feature = "faults")]
mod crash_points;
mod dashboard;
mod dev;
mod doctor;
mod guide;
mod http_workers;
#[cfg(feature = "faults")]
mod ledger;
mod limits;
mod metrics;
mod migrate;
mod model;
#[cfg(feature = "faults")]
mod multi_host;
mod network;
mod old_clients;
mod persistence;
#[cfg(feature = "faults")]
mod processes;
mod recovery;
mod restart;
mod retries;
#[cfg(feature = "faults")]
mod rolling;
#[cfg(feature = "faults")]
mod rules;
mod scraper;
mod secrets;
mod sink;
mod sizing;
#[cfg(feature = "faults")]
mod soak;
mod ssrf;
mod startup;
mod stream;
mod tls;
mod trace;
