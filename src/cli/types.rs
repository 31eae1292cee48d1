//! The task types of a role, and the tools that they run with.

use std::sync::Arc;

use anyhow::Context as _;
use tokio::sync::Semaphore;

use crate::{
    config::{self, SettingError},
    shutdown::Shutdown,
    tasks::{
        Registry, TaskTypes, command,
        context::Tools,
        outbound::Outbound,
        process::isolated::{Household, check_runnable, isolated},
    },
    telemetry,
};

/// The types of the program, and those of `APP_TASKS`.
pub(super) fn all_types(types: impl TaskTypes, tasks: &config::Tasks) -> anyhow::Result<Registry> {
    let mut registry = types.make().map_err(|why| anyhow::anyhow!("the task types cannot be made: {why}"))?;
    if let Some(file) = &tasks.tasks {
        for command in command::read(file).map_err(|why| SettingError::new(why.to_string()))? {
            let wrong = |why| SettingError::new(format!("APP_TASKS: {}: {why}", file.display()));
            registry.add(Arc::new(command)).map_err(wrong)?;
        }
    }
    Ok(registry)
}

/// The same types as a worker runs them: commands whose programs are there, and others in processes of their own where
/// they ask for it. `None` when a signal came before it was clear that they can.
pub(super) async fn runnable(
    registry: &Registry,
    work: &config::Work,
    outbound: &config::Outbound,
    stop: &Shutdown,
) -> anyhow::Result<Option<Registry>> {
    let household =
        Household { outbound: outbound.into(), cpu_threads: cpu_threads(work), pass: work.child_env.clone() };
    let missing = household.missing();
    if !missing.is_empty() {
        tracing::warn!("APP_CHILD_ENV names variables that are not set here: {}", missing.join(", "));
    }
    let registry = isolated(registry, &household);
    let (types, told) = (registry.clone(), stop.drain.clone());
    let checks = tokio::task::spawn_blocking(move || check_runnable(&types, &household, told));
    // Not left alone when a signal comes: it ends by itself then, and has killed what it started.
    let runnable = checks.await.context("the task types cannot be checked")?;
    if stop.drain.is_cancelled() {
        return Ok(None);
    }
    runnable.map_err(anyhow::Error::msg)?;
    Ok(Some(registry))
}

/// What attempts work with.
pub(super) fn tools(work: &config::Work, tasks: &config::Tasks, outbound: &config::Outbound) -> anyhow::Result<Tools> {
    // `tasks` knows nothing of telemetry; this is where the trace gets into outbound calls.
    let http = Outbound::new(outbound)
        .map_err(|why| SettingError::new(why.to_string()))?
        .with_trace_headers(telemetry::trace_headers);
    Ok(Tools { cpu: Arc::new(Semaphore::new(cpu_threads(work))), http, max_result: tasks.max_result })
}

fn cpu_threads(work: &config::Work) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    work.cpu_threads.map_or(cores, |number| number as usize)
}
