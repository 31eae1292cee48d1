//! HTTP leases: workers that speak HTTP hold each task by a lease of its own, in the task's row.
//!
//! A lease is renewed by a heartbeat that shows its token, and by nothing else. The token's digest stands in the row
//! from the claim on and belongs to its delivery for ever, so whoever has shown it once may write as that delivery:
//! through the same fenced statements as every other attempt.

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::{
    QueryableByName,
    sql_types::{Array, BigInt, Bool, Bytea, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use uuid::Uuid;

use super::{
    Store, StoreError,
    claim::{claim_locked, in_order, waiting},
    rows::{self, ClaimedRow},
    statement::sql,
};
use crate::core::model::{
    Claimed, LeaseToken, Status, TaskId, WorkerId,
    allowance::{self, Logged},
};

/// What an HTTP worker asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// Its name for itself, for the history.
    pub worker: String,
    /// The queue.
    pub queue: String,
    /// The types that it can do.
    pub task_types: Vec<String>,
    /// How many it can take now.
    pub most: usize,
    /// How long it holds a task without a heartbeat.
    pub lease: Duration,
}

/// A delivery that an HTTP worker has.
#[derive(Debug)]
pub struct Leased {
    /// What it needs to run it.
    pub task: Claimed,
    /// What it shows with every call.
    pub token: LeaseToken,
    /// When it is taken from it, unless a heartbeat comes before.
    pub until: DateTime<Utc>,
}

/// A worker over HTTP that serves a queue, as far as it is known: there is no row of its own, only what it asks and holds.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct HttpWorker {
    /// The queue.
    #[diesel(sql_type = Text)]
    pub queue: String,
    /// Its name for itself; `None` stands for all who ask for work and hold nothing, whose names are not kept.
    #[diesel(sql_type = Nullable<Text>)]
    pub worker: Option<String>,
    /// Tasks that it runs.
    #[diesel(sql_type = BigInt)]
    pub running: i64,
}

/// How the delivery of a token stands.
#[derive(Debug, Clone)]
pub struct LeaseStanding {
    /// The status of the task now. The token's delivery is the row's present or last one.
    pub status: Status,
    /// Still unended and this token's to write.
    pub running: bool,
    /// The id under which the lease runs.
    pub worker: Option<WorkerId>,
    /// The attempt, from 1.
    pub attempt: i32,
    /// Attempts already used up.
    pub failures: i32,
    /// Attempts in all.
    pub max_attempts: i32,
    /// Which kind of work.
    pub task_type: String,
    /// The queue it came from.
    pub queue: String,
    /// The time limit of the attempt, once it has passed.
    pub overdue: Option<Duration>,
}

#[derive(QueryableByName)]
struct LeasedRow {
    #[diesel(embed)]
    claimed: ClaimedRow,
    #[diesel(sql_type = Bytea)]
    lease_token: Vec<u8>,
    #[diesel(sql_type = Timestamptz)]
    lease_until: DateTime<Utc>,
}

#[derive(QueryableByName)]
struct StandingRow {
    #[diesel(sql_type = Text)]
    status: String,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    worker_id: Option<Uuid>,
    #[diesel(sql_type = Integer)]
    attempt: i32,
    #[diesel(sql_type = Integer)]
    failures: i32,
    #[diesel(sql_type = Integer)]
    max_attempts: i32,
    #[diesel(sql_type = Text)]
    task_type: String,
    #[diesel(sql_type = Text)]
    queue: String,
    #[diesel(sql_type = Nullable<BigInt>)]
    overdue_ms: Option<i64>,
}

#[derive(QueryableByName)]
struct LoggedRow {
    #[diesel(sql_type = BigInt)]
    lines: i64,
    #[diesel(sql_type = BigInt)]
    bytes: i64,
    #[diesel(sql_type = Bool)]
    is_full: bool,
}

#[derive(QueryableByName)]
struct CountRow {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

#[derive(QueryableByName)]
struct UntilRow {
    #[diesel(sql_type = Timestamptz)]
    lease_until: DateTime<Utc>,
}

/// How the history begins to tell of the start of an HTTP worker's delivery; the worker's name for itself follows. It is
/// kept nowhere else, so it is read back from there. The dashboard reads it too.
macro_rules! leased_by {
    () => {
        "leased by "
    };
}
pub(super) use leased_by;

const LEASE: &str = concat!(
    "WITH ready AS MATERIALIZED (SELECT t.id FROM tasks t WHERE t.queue = $1 AND t.due_at IS NULL AND ",
    waiting!(),
    in_order!(),
    ", locked AS (
        SELECT r.id, k.token FROM (SELECT id, row_number() OVER () AS place FROM ready) AS r
        JOIN unnest($5) WITH ORDINALITY AS k(token, place) ON k.place = r.place)",
    claim_locked!(
        "lease_until = clock_timestamp() + $6 * interval '1 ms', lease_ms = $6, lease_token = locked.token",
        "$7",
        ", lease_token, lease_until"
    )
);

impl Store {
    /// Claims up to `ask.most` tasks straight from the table, by the predicate of all claims less the worker's
    /// liveness: each row is held by a lease of its own, in the name of `worker`, an id that no other call has.
    pub async fn lease(&self, worker: WorkerId, ask: &Ask) -> Result<Vec<Leased>, StoreError> {
        // The delivery is known when the row is.
        let tokens: Vec<LeaseToken> = (0..ask.most).map(|_| LeaseToken::new(0)).collect();
        let statement = sql("lease", LEASE)
            .bind::<Text, _>(ask.queue.clone())
            .bind::<SqlUuid, _>(Uuid::from(worker))
            .bind::<Array<Text>, _>(ask.task_types.clone())
            .bind::<BigInt, _>(ask.most as i64)
            .bind::<Array<Bytea>, _>(tokens.iter().map(LeaseToken::digest).collect::<Vec<_>>())
            .bind::<BigInt, _>(ask.lease.as_millis() as i64)
            .bind::<Text, _>(format!(concat!(leased_by!(), "{}"), ask.worker));
        let rows: Vec<LeasedRow> = self.rows(statement).await?;
        let leased = |row: LeasedRow| {
            let token = tokens.iter().find(|token| token.digest() == row.lease_token);
            let token = token.ok_or_else(|| rows::unreadable("lease token", "it is not one of this call"))?;
            let task = Claimed::try_from(row.claimed)?;
            Ok(Leased { token: token.clone().of(task.delivery), task, until: row.lease_until })
        };
        rows.into_iter().map(leased).collect()
    }

    /// How many tasks an HTTP worker could lease now, counted up to `most`.
    pub async fn leasable(&self, queue: &str, task_types: &[String], most: usize) -> Result<usize, StoreError> {
        const COUNT: &str = concat!(
            "SELECT count(*) AS count FROM (
                SELECT FROM tasks t, (SELECT $2) AS unused WHERE t.queue = $1 AND t.due_at IS NULL AND ",
            waiting!(),
            " LIMIT $4) AS found"
        );
        let statement = sql("leasable", COUNT)
            .bind::<Text, _>(queue.to_owned())
            .bind::<Nullable<SqlUuid>, _>(None::<Uuid>)
            .bind::<Array<Text>, _>(task_types.to_vec())
            .bind::<BigInt, _>(most as i64);
        let rows: Vec<CountRow> = self.rows(statement).await?;
        Ok(rows.first().map_or(0, |row| row.count as usize))
    }

    /// The workers over HTTP by queue: those that hold tasks, as far as the thousand tasks tell that were taken last, and
    /// queues where somebody has asked for work lately.
    pub async fn http_workers(&self) -> Result<Vec<HttpWorker>, StoreError> {
        // Claimed by anybody else, a row has no lease of its own. Sorted by what no index has, or the planner could go
        // through all tasks in the order of an index until it has a thousand that run. A history is read from its end:
        // behind the start of the present delivery are its own lines only, before it those of all others.
        const WORKERS: &str = concat!(
            "(SELECT held.queue, nullif(substr(claimed.message, length('",
            leased_by!(),
            "') + 1), '') AS worker, count(*) AS running
             FROM (SELECT t.id, t.queue, t.delivery FROM tasks t
                   WHERE t.status = 'RUNNING' AND t.lease_until > clock_timestamp()
                   ORDER BY t.started_at DESC LIMIT 1000) AS held,
                  LATERAL (SELECT e.message FROM task_events e
                           WHERE e.task_id = held.id AND e.delivery = held.delivery AND e.status = 'RUNNING'
                           ORDER BY e.seq DESC LIMIT 1) AS claimed
             GROUP BY 1, 2 ORDER BY 1, 2)
            UNION ALL
            SELECT DISTINCT h.queue, NULL, 0 FROM http_workers h
            WHERE h.asked_at > clock_timestamp() - interval '90 s'"
        );
        self.rows(sql("http_workers", WORKERS)).await
    }

    /// Notes that somebody asks for tasks of these types from this queue.
    pub async fn note_asked(&self, queue: &str, task_types: &[String]) -> Result<(), StoreError> {
        const NOTE: &str = "
            INSERT INTO http_workers (queue, task_type)
            SELECT DISTINCT $1, n.name FROM unnest($2) AS n(name) ORDER BY n.name
            ON CONFLICT (queue, task_type) DO UPDATE SET asked_at = clock_timestamp()";
        let statement =
            sql("note_asked", NOTE).bind::<Text, _>(queue.to_owned()).bind::<Array<Text>, _>(task_types.to_vec());
        self.run(statement).await.map(drop)
    }

    /// How the delivery of this token stands; `None` when the token is not that of the task's present or last delivery.
    pub async fn lease_standing(&self, id: TaskId, token: &LeaseToken) -> Result<Option<LeaseStanding>, StoreError> {
        const STANDING: &str = "
            SELECT t.status, t.worker_id, t.attempt, t.failures, t.max_attempts, t.task_type, t.queue,
                   CASE WHEN t.started_at + t.timeout_ms * interval '1 ms' < clock_timestamp() THEN t.timeout_ms END
                       AS overdue_ms
            FROM tasks t WHERE t.id = $1 AND t.delivery = $2 AND t.lease_token = $3";
        let statement = sql("lease_standing", STANDING)
            .bind::<SqlUuid, _>(Uuid::from(id))
            .bind::<Integer, _>(token.delivery)
            .bind::<Bytea, _>(token.digest());
        let Some(row) = self.rows::<StandingRow>(statement).await?.into_iter().next() else { return Ok(None) };
        let status: Status = row.status.parse().map_err(|error| rows::unreadable("status", error))?;
        Ok(Some(LeaseStanding {
            status,
            running: status == Status::Running,
            worker: row.worker_id.map(WorkerId::from),
            attempt: row.attempt,
            failures: row.failures,
            max_attempts: row.max_attempts,
            task_type: row.task_type,
            queue: row.queue,
            overdue: row.overdue_ms.map(|ms| Duration::from_millis(ms.max(0) as u64)),
        }))
    }

    /// How much a delivery has logged.
    pub(crate) async fn logged(&self, id: TaskId, delivery: i32) -> Result<Logged, StoreError> {
        const LOGGED: &str = "
            SELECT count(*) AS lines, coalesce(sum(octet_length(message)), 0)::bigint AS bytes,
                   coalesce(bool_or(message = $3), false) AS is_full
            FROM task_events WHERE task_id = $1 AND delivery = $2 AND status IS NULL";
        let statement = sql("logged", LOGGED)
            .bind::<SqlUuid, _>(Uuid::from(id))
            .bind::<Integer, _>(delivery)
            .bind::<Text, _>(allowance::last_words());
        let rows: Vec<LoggedRow> = self.rows(statement).await?;
        let number = |number: i64| usize::try_from(number).unwrap_or_default();
        Ok(rows.into_iter().next().map_or_else(Logged::default, |row| Logged {
            lines: number(row.lines),
            bytes: number(row.bytes),
            is_full: row.is_full,
        }))
    }

    /// Renews a lease and says until when it holds; `None` when there is nothing to renew. Like a worker that is
    /// overdue and not yet declared dead, a lease that has run out and was not taken yet can be renewed.
    pub async fn renew_lease(&self, id: TaskId, token: &LeaseToken) -> Result<Option<DateTime<Utc>>, StoreError> {
        const RENEW: &str = "
            UPDATE tasks SET lease_until = clock_timestamp() + lease_ms * interval '1 ms'
            WHERE id = $1 AND delivery = $2 AND lease_token = $3 AND status = 'RUNNING' RETURNING lease_until";
        let statement = sql("renew_lease", RENEW)
            .bind::<SqlUuid, _>(Uuid::from(id))
            .bind::<Integer, _>(token.delivery)
            .bind::<Bytea, _>(token.digest());
        let rows: Vec<UntilRow> = self.rows(statement).await?;
        Ok(rows.into_iter().next().map(|row| row.lease_until))
    }
}
