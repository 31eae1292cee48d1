//! `app migrate`: the tables.

use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;

use super::process::unless_told;
use crate::{config, core::store::migrate, shutdown::Shutdown};

/// Between two looks of `migrate --check --wait`.
const BETWEEN_CHECKS: Duration = Duration::from_secs(1);

/// Whoever waits for the migration (a Job, compose) takes an exit with 0 for its end.
const TOLD_TO_STOP: &str = "told to stop before PostgreSQL could be asked";

#[derive(Args)]
pub(super) struct MigrateRole {
    /// Change nothing; exit with 1 when the database is behind this binary
    #[arg(long)]
    check: bool,
    /// With --check: look again and again for this long, until the database is up to date
    #[arg(long, requires = "check", value_parser = config::duration, value_name = "TIME")]
    wait: Option<Duration>,
    #[command(flatten)]
    postgres: config::Postgres,
    #[command(flatten)]
    pub(super) telemetry: config::Telemetry,
}

impl MigrateRole {
    pub(super) async fn run(self, stop: Shutdown) -> anyhow::Result<()> {
        if self.check {
            let pending = unless_told(&stop, self.pending()).await?.context(TOLD_TO_STOP)?;
            anyhow::ensure!(pending.is_empty(), "the database is behind by {}: run app migrate", pending.join(", "));
            println!("the database is up to date");
            return Ok(());
        }
        // Not interrupted by a signal: a migration that has begun is ended by PostgreSQL or by its lock_timeout.
        let migrator = unless_told(&stop, migrate::connect(&self.postgres)).await?.context(TOLD_TO_STOP)?;
        let done = migrator.run().await?;
        match done.as_slice() {
            [] => println!("nothing to do: the database is up to date"),
            names => println!("migrated: {}", names.join(", ")),
        }
        Ok(())
    }

    /// The migrations that the database lacks: now, or when the wait for them to be made is over.
    async fn pending(&self) -> anyhow::Result<Vec<String>> {
        let began = Instant::now();
        loop {
            let pending = migrate::check(&self.postgres).await?;
            if pending.is_empty() || self.wait.is_none_or(|wait| began.elapsed() >= wait) {
                return Ok(pending);
            }
            tokio::time::sleep(BETWEEN_CHECKS).await;
        }
    }
}
