//! `app doctor`: a look at the servers and settings around the program.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;

use super::{
    process::report,
    types::{all_types, tools},
};
use crate::{config, doctor, serve::Entrance, tasks::TaskTypes, telemetry};

#[derive(Args)]
pub(super) struct DoctorRole {
    /// Print the findings as JSON
    #[arg(long)]
    json: bool,
    /// Processes that share PostgreSQL's connections. The default is the live workers and one server
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    processes: Option<u32>,
    #[command(flatten)]
    http: config::Http,
    #[command(flatten)]
    work: config::Work,
    #[command(flatten)]
    tasks: config::Tasks,
    #[command(flatten)]
    outbound: config::Outbound,
    #[command(flatten)]
    postgres: config::Postgres,
    #[command(flatten)]
    redis: config::Redis,
    #[command(flatten)]
    telemetry: config::Telemetry,
}

impl DoctorRole {
    /// Prints what it finds. It logs nothing, and needs no signals: it is over in a moment.
    pub(super) fn run(&self, types: impl TaskTypes) -> ExitCode {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return report(Err(error).context("cannot start the runtime"), config::LogFormat::Text),
        };
        let wrong = runtime.block_on(self.wrong_settings(types));
        let patient = doctor::Patient {
            postgres: &self.postgres,
            redis: &self.redis,
            work: &self.work,
            processes: self.processes,
            wrong: &wrong,
        };
        let examined = runtime.block_on(doctor::examine(&patient));
        match self.json {
            false => print!("{examined}"),
            true => match examined.json() {
                Ok(json) => println!("{json}"),
                Err(error) => return report(Err(error.into()), config::LogFormat::Text),
            },
        }
        match examined.worst() {
            doctor::Level::Fail => ExitCode::FAILURE,
            doctor::Level::Ok | doctor::Level::Warn => ExitCode::SUCCESS,
        }
    }

    /// What of its settings `serve` or `work` would refuse. The keys of APP_JWT_JWKS are asked for, as at a start.
    async fn wrong_settings(&self, types: impl TaskTypes) -> Vec<String> {
        let checks = [
            telemetry::check(&self.telemetry).map_err(Into::into),
            self.work.check().map_err(Into::into),
            all_types(types, &self.tasks).map(drop),
            tools(&self.work, &self.tasks, &self.outbound).map(drop),
            Entrance::prepare(self.http.clone()).await.map(drop),
        ];
        checks.into_iter().filter_map(Result::err).map(|error: anyhow::Error| format!("{error:#}")).collect()
    }
}
