//! `app dev`: all roles in one process, and the servers that they need.

use std::{net::SocketAddr, sync::Arc};

use clap::Args;

use super::{
    process::{close, then_stop, unless_told},
    types::{all_types, runnable, tools},
};
use crate::{
    admin::Admin,
    config,
    core::{
        Core, queue,
        store::{self, migrate},
    },
    dev, doctor,
    serve::{Application, Entrance},
    shutdown::Shutdown,
    tasks::{Registry, TaskTypes, context::Tools},
    work::{self, Vitals},
};

#[derive(Args)]
pub(super) struct DevRole {
    #[command(flatten)]
    http: config::Http,
    #[command(flatten)]
    admin: config::Admin,
    #[command(flatten)]
    pub(super) work: config::Work,
    #[command(flatten)]
    tasks: config::Tasks,
    #[command(flatten)]
    outbound: config::Outbound,
    #[command(flatten)]
    servers: config::Dev,
    #[command(flatten)]
    pub(super) telemetry: config::Telemetry,
}

/// What the settings alone make, before there are servers.
struct Prepared {
    /// As `serve` knows the types.
    registry: Registry,
    /// As `work` runs them.
    runnable: Registry,
    tools: Tools,
    entrance: Entrance,
}

impl DevRole {
    pub(super) async fn run(self: Box<Self>, types: impl TaskTypes, stop: Shutdown) -> anyhow::Result<()> {
        self.work.check()?;
        doctor::doubts(&self.work).iter().for_each(|line| tracing::warn!("{line}"));
        let registry = all_types(types, &self.tasks)?;
        let Some(runnable) = runnable(&registry, &self.work, &self.outbound, &stop).await? else { return Ok(()) };
        let tools = tools(&self.work, &self.tasks, &self.outbound)?;
        let Some(entrance) = unless_told(&stop, Entrance::prepare(self.http.clone())).await? else { return Ok(()) };
        let mut servers = dev::Servers::open(&self.servers)?;
        servers.given_postgres().map_or(Ok(()), |postgres| store::check(&postgres))?;
        servers.given_redis().map_or(Ok(()), |redis| queue::check(&redis))?;
        let prepared = Prepared { registry, runnable, tools, entrance };
        let outcome = self.run_on(&mut servers, prepared, &stop).await;
        servers.stop().await;
        outcome
    }

    async fn run_on(&self, servers: &mut dev::Servers, prepared: Prepared, stop: &Shutdown) -> anyhow::Result<()> {
        let Prepared { registry, runnable, tools, entrance } = prepared;
        let connected = unless_told(stop, async {
            let (postgres, redis) = servers.start().await?;
            migrate::connect(&postgres).await?.run().await?;
            Core::connect(&postgres, &redis).await
        });
        let Some(core) = connected.await? else { return Ok(()) };
        let application =
            Application::build(core.clone(), Arc::new(registry), entrance, &self.admin, &self.tasks).await?;
        let vitals = Vitals::default();
        let admin = Admin::open(&self.admin, &core, application.probes().and(vitals.probes()))?;
        print!("{}", first_steps(application.address(), servers));
        let serve = then_stop(application.run_until_stopped(stop.clone()), stop);
        let work = then_stop(work::run(core, runnable, &self.work, tools, vitals, stop.clone()), stop);
        let outcome = tokio::select! {
            (served, worked) = async { tokio::join!(serve, work) } => served.and(worked),
            lost = servers.lost() => Err(lost),
        };
        close(admin).await;
        outcome
    }
}

/// What `dev` prints once it answers. On stdout, so that it can be told from the log.
fn first_steps(address: SocketAddr, servers: &dev::Servers) -> String {
    let private: String = servers.describe().iter().map(|line| format!("  {line}\n")).collect();
    format!(
        "\nlongrun is ready
  API          http://{address}
{private}
Submit a task, then look at it by the task_id of the answer:
  curl -i http://{address}/tasks -H 'content-type: application/json' -d '{{\"vector_data\":[0.1,0.2,0.3],\"duration\":5}}'
  curl http://{address}/tasks

Ctrl-C stops when running tasks have ended; a second Ctrl-C stops at once.\n\n"
    )
}
