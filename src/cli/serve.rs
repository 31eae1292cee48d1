//! `app serve`: the API and the dashboard.

use std::sync::Arc;

use clap::Args;

use super::{
    process::{close, unless_told},
    types::all_types,
};
use crate::{
    admin::Admin,
    config,
    core::Core,
    serve::{Application, Entrance},
    shutdown::Shutdown,
    tasks::TaskTypes,
};

#[derive(Args)]
pub(super) struct ServeRole {
    #[command(flatten)]
    http: config::Http,
    #[command(flatten)]
    admin: config::Admin,
    #[command(flatten)]
    tasks: config::Tasks,
    #[command(flatten)]
    postgres: config::Postgres,
    #[command(flatten)]
    redis: config::Redis,
    #[command(flatten)]
    pub(super) telemetry: config::Telemetry,
}

impl ServeRole {
    pub(super) async fn run(self, types: impl TaskTypes, stop: Shutdown) -> anyhow::Result<()> {
        let registry = all_types(types, &self.tasks)?;
        let Some(entrance) = unless_told(&stop, Entrance::prepare(self.http)).await? else { return Ok(()) };
        let Some(core) = unless_told(&stop, Core::connect(&self.postgres, &self.redis)).await? else { return Ok(()) };
        let application =
            Application::build(core.clone(), Arc::new(registry), entrance, &self.admin, &self.tasks).await?;
        tracing::info!(address = %application.address(), "serving");
        let admin = Admin::open(&self.admin, &core, application.probes())?;
        let outcome = application.run_until_stopped(stop).await;
        close(admin).await;
        outcome
    }
}
