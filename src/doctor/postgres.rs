//! PostgreSQL: version, schema, connections, clock, durability.

use super::{Finding, Findings, Patient};
use crate::{
    config::SettingError,
    core::store::{
        CONNECTIONS_BESIDE_THE_POOL,
        inspect::{self, Facts},
        migrate,
    },
};

/// The statements need it (`AS MATERIALIZED`).
const OLDEST: i32 = 12;
/// Its makers mend no older one.
const OLDEST_MAINTAINED: i32 = 14;
/// A clock that is further off confuses people, and the times at which tasks are to run.
const LARGEST_OFFSET_MS: i64 = 500;

pub(super) async fn examine(patient: &Patient<'_>) -> Vec<Finding> {
    let mut findings = Findings::about("PostgreSQL");
    match inspect::inspect(patient.postgres).await {
        Ok(facts) => {
            version(&mut findings, &facts);
            schema(&mut findings, patient).await;
            connections(&mut findings, patient, &facts);
            clock(&mut findings, &facts);
            durability(&mut findings, &facts);
        }
        Err(error) if error.is::<SettingError>() => findings.wrong_setting(&error),
        Err(error) => findings.fail(
            format!("does not answer: {error:#}"),
            "start it, or set DATABASE_URL to where it is: postgresql://user:password@host:port/database",
        ),
    }
    findings.all
}

fn version(findings: &mut Findings, facts: &Facts) {
    match facts.version_number / 10_000 {
        old if old < OLDEST => findings.fail(&facts.version, format!("PostgreSQL {OLDEST_MAINTAINED} or newer")),
        old if old < OLDEST_MAINTAINED => findings.warn(
            format!("{} is no longer maintained by its makers", facts.version),
            format!("PostgreSQL {OLDEST_MAINTAINED} or newer"),
        ),
        _ => findings.ok(&facts.version),
    }
}

fn clock(findings: &mut Findings, facts: &Facts) {
    let offset = facts.clock_offset.num_milliseconds();
    // Half of the round trip is what cannot be known.
    let sure = offset.abs() - facts.round_trip.num_milliseconds() / 2;
    if sure > LARGEST_OFFSET_MS {
        let away = offset.abs() as f64 / 1000.0;
        let direction = if offset > 0 { "behind" } else { "ahead of" };
        findings.warn(
            format!("has another clock: this machine is {away:.1} s {direction} it"),
            "run a time service (chrony, systemd-timesyncd) on both machines",
        );
    } else {
        findings.ok(format!("clock offset {} ms", offset.abs()));
    }
}

fn durability(findings: &mut Findings, facts: &Facts) {
    if facts.fsync == "off" {
        findings.fail(
            "has fsync off: a crash of its machine loses accepted tasks, and perhaps the whole database",
            "ALTER SYSTEM SET fsync = on; SELECT pg_reload_conf()",
        );
    } else if facts.synchronous_commit == "off" {
        findings.fail(
            "has synchronous_commit off: its crash loses tasks that were accepted a moment before",
            "ALTER SYSTEM SET synchronous_commit = on; SELECT pg_reload_conf()",
        );
    } else {
        findings.ok("commits are durable");
    }
}

fn connections(findings: &mut Findings, patient: &Patient<'_>, facts: &Facts) {
    let each = i64::from(patient.postgres.postgres_pool) + CONNECTIONS_BESIDE_THE_POOL;
    let processes = patient.processes.map_or(facts.live_workers + 1, i64::from);
    let (want, have) = (each * processes, facts.connections);
    let told = format!("{processes} processes want {want} of {have} connections");
    let fix = format!(
        "raise max_connections above {} (it needs a restart), lower APP_POSTGRES_POOL, or put PgBouncer in between in \
         session mode",
        want + want / 4
    );
    if want > have {
        findings.fail(told, fix);
    } else if want > have * 8 / 10 {
        findings.warn(format!("{told}: little is left for others"), fix);
    } else {
        findings.ok(format!("pools want {want} of {have} connections"));
    }
}

async fn schema(findings: &mut Findings, patient: &Patient<'_>) {
    match migrate::check(patient.postgres).await {
        Ok(pending) if pending.is_empty() => findings.ok("migrations current"),
        Ok(pending) => {
            findings.fail(format!("lacks migrations: the schema is behind by {}", pending.join(", ")), "app migrate");
        }
        Err(error) => findings.fail(
            format!("does not tell its migrations: {error:#}"),
            "grant this user the rights of the owner of the tables",
        ),
    }
}
