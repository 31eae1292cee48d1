//! Inspect: what a PostgreSQL server says of itself, for `app doctor`.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use diesel::{
    QueryableByName,
    sql_types::{BigInt, Integer, Text, Timestamptz},
};

use super::{connect, read::YesRow, statement::sql};
use crate::config;

/// One try, and no longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// As people write it: `15.6`.
    pub version: String,
    /// As a number: 150006.
    pub version_number: i32,
    /// Connections for everybody who is no superuser.
    pub connections: i64,
    /// Workers whose lease is not over; 0 where the tables are missing.
    pub live_workers: i64,
    /// Its clock less ours.
    pub clock_offset: TimeDelta,
    /// How long the question took.
    pub round_trip: TimeDelta,
    /// `on` or `off`.
    pub fsync: String,
    /// `on`, `off`, `local`, …
    pub synchronous_commit: String,
}

#[derive(QueryableByName)]
struct FactsRow {
    #[diesel(sql_type = Text)]
    version: String,
    #[diesel(sql_type = Integer)]
    version_number: i32,
    #[diesel(sql_type = BigInt)]
    connections: i64,
    #[diesel(sql_type = Text)]
    fsync: String,
    #[diesel(sql_type = Text)]
    synchronous_commit: String,
}

#[derive(QueryableByName)]
struct ClockRow {
    #[diesel(sql_type = Timestamptz)]
    at: DateTime<Utc>,
}

#[derive(QueryableByName)]
struct CountRow {
    #[diesel(sql_type = BigInt)]
    number: i64,
}

/// Asks, once.
pub async fn inspect(postgres: &config::Postgres) -> anyhow::Result<Facts> {
    const FACTS: &str = "
        SELECT split_part(current_setting('server_version'), ' ', 1) AS version,
               current_setting('server_version_num')::integer AS version_number,
               current_setting('max_connections')::bigint - current_setting('superuser_reserved_connections')::bigint
                   AS connections,
               current_setting('fsync') AS fsync, current_setting('synchronous_commit') AS synchronous_commit";
    const CLOCK: &str = "SELECT clock_timestamp() AS at";
    const TABLE: &str = "SELECT to_regclass('workers') IS NOT NULL AS yes";
    const WORKERS: &str = "
        SELECT count(*) AS number FROM workers WHERE state <> 'dead' AND lease_until > clock_timestamp()";
    let asked = async {
        let mut conn = connect::connect(&connect::parse(postgres)?).await?;
        let facts: Vec<FactsRow> = sql("facts", FACTS).rows(&mut conn).await?;
        let facts = facts.into_iter().next().ok_or_else(|| anyhow::anyhow!("no answer"))?;
        let tables: Vec<YesRow> = sql("workers_table", TABLE).rows(&mut conn).await?;
        let live_workers: Vec<CountRow> = match tables.iter().any(|row| row.yes) {
            true => sql("live_workers", WORKERS).rows(&mut conn).await?,
            false => Vec::new(),
        };
        let before = Utc::now();
        let clock: Vec<ClockRow> = sql("clock", CLOCK).rows(&mut conn).await?;
        let round_trip = Utc::now() - before;
        let theirs = clock.first().map_or(before, |row| row.at);
        Ok(Facts {
            version: facts.version,
            version_number: facts.version_number,
            connections: facts.connections,
            live_workers: live_workers.first().map_or(0, |row| row.number),
            clock_offset: theirs - (before + round_trip / 2),
            round_trip,
            fsync: facts.fsync,
            synchronous_commit: facts.synchronous_commit,
        })
    };
    tokio::time::timeout(PATIENCE, asked)
        .await
        .unwrap_or_else(|_| Err(anyhow::anyhow!("no answer within {PATIENCE:?}")))
}
