//! `app work`: the tasks.

use clap::Args;

use super::{
    process::{close, unless_told},
    types::{all_types, runnable, tools},
};
use crate::{
    admin::Admin,
    config,
    core::Core,
    doctor,
    shutdown::Shutdown,
    tasks::TaskTypes,
    work::{self, Vitals},
};

#[derive(Args)]
pub(super) struct WorkRole {
    #[command(flatten)]
    pub(super) work: config::Work,
    #[command(flatten)]
    admin: config::Admin,
    #[command(flatten)]
    tasks: config::Tasks,
    #[command(flatten)]
    outbound: config::Outbound,
    #[command(flatten)]
    postgres: config::Postgres,
    #[command(flatten)]
    redis: config::Redis,
    #[command(flatten)]
    pub(super) telemetry: config::Telemetry,
}

impl WorkRole {
    pub(super) async fn run(self: Box<Self>, types: impl TaskTypes, stop: Shutdown) -> anyhow::Result<()> {
        self.work.check()?;
        doctor::doubts(&self.work).iter().for_each(|line| tracing::warn!("{line}"));
        let registry = all_types(types, &self.tasks)?;
        let Some(registry) = runnable(&registry, &self.work, &self.outbound, &stop).await? else { return Ok(()) };
        let tools = tools(&self.work, &self.tasks, &self.outbound)?;
        let Some(core) = unless_told(&stop, Core::connect(&self.postgres, &self.redis)).await? else { return Ok(()) };
        let vitals = Vitals::default();
        let admin = Admin::open(&self.admin, &core, vitals.probes())?;
        let outcome = work::run(core, registry, &self.work, tools, vitals, stop).await;
        close(admin).await;
        outcome
    }
}
