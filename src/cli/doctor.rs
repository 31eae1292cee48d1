//! `app doctor`: a look at the servers and settings around the program.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;

use super::process::report;
use crate::{config, doctor};

#[derive(Args)]
pub(super) struct DoctorRole {
    /// Print the findings as JSON
    #[arg(long)]
    json: bool,
    /// Processes that share PostgreSQL's connections. The default is the live workers and one server
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    processes: Option<u32>,
    #[command(flatten)]
    work: config::Work,
    #[command(flatten)]
    postgres: config::Postgres,
    #[command(flatten)]
    redis: config::Redis,
}

impl DoctorRole {
    /// Prints what it finds. It logs nothing, and needs no signals: it is over in a moment.
    pub(super) fn run(&self) -> ExitCode {
        let patient = doctor::Patient {
            postgres: &self.postgres,
            redis: &self.redis,
            work: &self.work,
            processes: self.processes,
        };
        let examined = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let examined = examined.map(|runtime| runtime.block_on(doctor::examine(&patient)));
        let printed = examined.context("cannot start the runtime").and_then(|report| {
            match self.json {
                true => println!("{}", report.json()?),
                false => print!("{report}"),
            }
            Ok(report.worst())
        });
        match printed {
            Ok(doctor::Level::Fail) => ExitCode::FAILURE,
            Ok(doctor::Level::Ok | doctor::Level::Warn) => ExitCode::SUCCESS,
            Err(error) => report(Err(error), config::LogFormat::Text),
        }
    }
}
