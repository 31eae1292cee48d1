//! Recover: tasks come back from workers that are dead, that leave, or that lost the reply to a claim.
//!
//! Decided by state and not by the moment of death: every RUNNING row whose worker is not live is taken, whoever
//! declared it dead and whenever. Each statement is complete in itself, so a sweeper that stops half-way leaves
//! nothing half done.

use chrono::{DateTime, Utc};
use diesel::{
    QueryableByName,
    sql_types::{Array, BigInt, Bool, Integer, SmallInt, Text, Timestamptz, Uuid as SqlUuid},
};
use uuid::Uuid;

use super::{
    Store, StoreError,
    rows::{BellRow, priority_of, uuids},
    statement::{Statement, sql},
};
use crate::core::{
    model::{TaskId, WorkerId},
    queue::{Bell, Side},
};

/// Rows per statement: enough to be quick, few enough to hold no lock for long.
const BATCH: i64 = 500;

/// The rows that `locked` names go back to PENDING, uncharged. `$1`: the worker. `$2`: why, for the history. Their worker
/// may have decoded the input and said nothing yet, so the time in which nobody could begins again; a steal likewise.
macro_rules! return_locked {
    () => {
        ", returned AS (
            UPDATE tasks t SET status = 'PENDING', worker_id = NULL, ready_at = clock_timestamp(), due_at = NULL,
                   undecodable_since = NULL, seq = t.seq + 1, version = t.version + 1
            FROM locked WHERE t.id = locked.id
            RETURNING t.id, t.queue, t.priority, t.version, t.seq, t.delivery, t.attempt
        ), history AS (
            INSERT INTO task_events (task_id, seq, delivery, attempt, status, message, worker_id)
            SELECT id, seq, delivery, attempt, 'PENDING', $2, $1 FROM returned)
        SELECT id, queue, priority, version, delivery > 0 AS once_taken FROM returned"
    };
}

/// What a sweep of the dead did.
#[derive(Debug, Default)]
pub struct Stolen {
    /// Back to PENDING: these doorbells are to be rung.
    pub bells: Vec<Bell>,
    /// Lost once too often: FAILED `worker_lost`.
    pub failed: usize,
    /// Every row that changed, with its version.
    pub changed: Vec<(TaskId, i32)>,
    /// There may be more.
    pub more: bool,
}

/// What there is to recover.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToRecover {
    /// When this was seen, by the database's clock.
    pub at: DateTime<Utc>,
    /// Leases are over.
    pub expired: bool,
    /// Workers that are not live have tasks RUNNING.
    pub orphans: bool,
    /// Workers that are not live have cancelled tasks whose stop is not confirmed.
    pub unconfirmed: bool,
}

#[derive(QueryableByName)]
struct ToRecoverRow {
    #[diesel(sql_type = Timestamptz)]
    at: DateTime<Utc>,
    #[diesel(sql_type = Bool)]
    expired: bool,
    #[diesel(sql_type = Bool)]
    orphans: bool,
    #[diesel(sql_type = Bool)]
    unconfirmed: bool,
}

/// A RUNNING row that nobody runs any more. Rows of HTTP workers go by their own lease.
macro_rules! orphaned {
    () => {
        "t.status = 'RUNNING' AND CASE WHEN t.lease_until IS NULL \
             THEN NOT EXISTS (SELECT FROM workers w WHERE w.id = t.worker_id AND w.state <> 'dead') \
             ELSE t.lease_until < clock_timestamp() \
                  AND pg_postmaster_start_time() \
                      < clock_timestamp() - coalesce(t.lease_ms, 30000) * interval '1 ms' END"
    };
}

/// A cancelled row whose worker has gone without a word. An HTTP worker hears of a cancel by its heartbeat, which renews
/// nothing then.
macro_rules! unconfirmed {
    () => {
        "t.status = 'CANCELLED' AND t.worker_id IS NOT NULL AND CASE WHEN t.lease_until IS NULL \
             THEN NOT EXISTS (SELECT FROM workers w WHERE w.id = t.worker_id AND w.state <> 'dead') \
             ELSE t.lease_until < clock_timestamp() END"
    };
}

#[derive(QueryableByName)]
struct StolenRow {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Text)]
    queue: String,
    #[diesel(sql_type = SmallInt)]
    priority: i16,
    #[diesel(sql_type = Integer)]
    version: i32,
    #[diesel(sql_type = Text)]
    status: String,
}

impl From<BellRow> for Bell {
    fn from(row: BellRow) -> Self {
        Bell { id: row.id.into(), queue: row.queue, priority: priority_of(row.priority) }
    }
}

impl From<BellRow> for (Bell, Side) {
    fn from(row: BellRow) -> Self {
        let side = Side::of(row.once_taken);
        (row.into(), side)
    }
}

impl Store {
    /// Whether there is anything to recover: all that a sweep asks as long as nobody has died.
    pub async fn to_recover(&self) -> Result<ToRecover, StoreError> {
        const LOOK: &str = concat!(
            "SELECT clock_timestamp() AS at,
                EXISTS (SELECT FROM workers w WHERE w.state <> 'dead' AND w.lease_until < (SELECT clock_timestamp()))
                    AS expired,
                EXISTS (SELECT FROM tasks t WHERE ",
            orphaned!(),
            ") AS orphans, EXISTS (SELECT FROM tasks t WHERE ",
            unconfirmed!(),
            ") AS unconfirmed"
        );
        let rows: Vec<ToRecoverRow> = self.rows(sql("to_recover", LOOK)).await?;
        let row = rows.into_iter().next().ok_or_else(|| StoreError::Refused("no answer".to_owned()))?;
        let ToRecoverRow { at, expired, orphans, unconfirmed } = row;
        Ok(ToRecover { at, expired, orphans, unconfirmed })
    }

    /// Takes RUNNING rows from workers that are not live: back to PENDING, or to FAILED when this loss is one more
    /// than `max_lost`. Rows of HTTP workers go by their own lease.
    pub async fn steal(&self) -> Result<Stolen, StoreError> {
        const STEAL: &str = concat!(
            "WITH orphans AS MATERIALIZED (SELECT t.id, t.worker_id FROM tasks t WHERE ",
            orphaned!(),
            " ORDER BY t.id LIMIT $1 FOR UPDATE OF t SKIP LOCKED),
            stolen AS (
                UPDATE tasks t SET
                    status = CASE WHEN t.lost < t.max_lost THEN 'PENDING' ELSE 'FAILED' END,
                    lost = t.lost + 1,
                    error = CASE WHEN t.lost >= t.max_lost THEN json_build_object('code', 'worker_lost', 'message',
                        'its worker died ' || CASE t.lost WHEN 0 THEN 'once' ELSE (t.lost + 1) || ' times' END
                            || ' without a new checkpoint in between',
                        'retryable', true, 'attempt', t.attempt) END,
                    last_error = CASE WHEN t.lost < t.max_lost THEN t.last_error END,
                    completed_at = CASE WHEN t.lost >= t.max_lost THEN clock_timestamp() END,
                    worker_id = NULL, lease_until = NULL, lease_token = NULL, ready_at = clock_timestamp(),
                    due_at = NULL, undecodable_since = NULL, seq = t.seq + 1, version = t.version + 1
                FROM orphans o WHERE t.id = o.id
                RETURNING t.id, t.queue, t.priority, t.version, t.seq, t.delivery, t.attempt, t.status, t.error,
                          o.worker_id AS lost_worker
            ), history AS (
                INSERT INTO task_events (task_id, seq, delivery, attempt, status, message, worker_id, error)
                SELECT id, seq, delivery, attempt, status, 'worker lost', lost_worker, error FROM stolen)
            SELECT id, queue, priority, version, status FROM stolen"
        );
        let rows: Vec<StolenRow> = self.rows(sql("steal", STEAL).bind::<BigInt, _>(BATCH)).await?;
        let mut stolen = Stolen { more: rows.len() as i64 == BATCH, ..Stolen::default() };
        for row in rows {
            let id = row.id.into();
            stolen.changed.push((id, row.version));
            if row.status == "PENDING" {
                stolen.bells.push(Bell { id, queue: row.queue, priority: priority_of(row.priority) });
            } else {
                stolen.failed += 1;
            }
        }
        Ok(stolen)
    }

    /// Gives back deliveries of a live worker at once, uncharged.
    pub async fn hand_back(
        &self,
        worker: WorkerId,
        deliveries: &[(TaskId, i32)],
        reason: &'static str,
    ) -> Result<(Vec<Bell>, Vec<(TaskId, i32)>), StoreError> {
        const HAND_BACK: &str = concat!(
            "WITH locked AS MATERIALIZED (
                SELECT t.id FROM unnest($3, $4) AS h(id, delivery) JOIN tasks t ON t.id = h.id AND t.delivery = h.delivery
                WHERE t.status = 'RUNNING' AND t.worker_id = $1 ORDER BY t.id FOR UPDATE OF t)",
            return_locked!()
        );
        let (ids, numbers): (Vec<TaskId>, Vec<i32>) = deliveries.iter().copied().unzip();
        let statement = sql("hand_back", HAND_BACK)
            .bind::<SqlUuid, _>(Uuid::from(worker))
            .bind::<Text, _>(reason)
            .bind::<Array<SqlUuid>, _>(uuids(&ids))
            .bind::<Array<Integer>, _>(numbers);
        self.returned(statement).await
    }

    /// Gives back everything that is RUNNING in the name of a live worker, uncharged: what it holds, and claims whose
    /// reply it never got. For a worker that leaves: what it left RUNNING would be charged as lost.
    pub async fn hand_back_all(
        &self,
        worker: WorkerId,
        reason: &'static str,
    ) -> Result<(Vec<Bell>, Vec<(TaskId, i32)>), StoreError> {
        const HAND_BACK_ALL: &str = concat!(
            "WITH locked AS MATERIALIZED (
                SELECT t.id FROM tasks t WHERE t.status = 'RUNNING' AND t.worker_id = $1
                ORDER BY t.id FOR UPDATE OF t)",
            return_locked!()
        );
        let statement =
            sql("hand_back_all", HAND_BACK_ALL).bind::<SqlUuid, _>(Uuid::from(worker)).bind::<Text, _>(reason);
        self.returned(statement).await
    }

    async fn returned(&self, statement: Statement) -> Result<(Vec<Bell>, Vec<(TaskId, i32)>), StoreError> {
        let rows: Vec<BellRow> = self.rows(statement).await?;
        let changed = rows.iter().map(|row| (row.id.into(), row.version)).collect();
        Ok((rows.into_iter().map(Bell::from).collect(), changed))
    }

    /// Confirms, for workers that are not live, that their cancelled attempts have stopped.
    pub async fn confirm_stopped_of_the_dead(&self) -> Result<usize, StoreError> {
        const CONFIRM: &str = concat!(
            "WITH locked AS MATERIALIZED (SELECT t.id FROM tasks t WHERE ",
            unconfirmed!(),
            " ORDER BY t.id LIMIT $1 FOR UPDATE OF t SKIP LOCKED)
            UPDATE tasks t SET worker_id = NULL FROM locked WHERE t.id = locked.id"
        );
        self.run(sql("confirm_stopped_of_the_dead", CONFIRM).bind::<BigInt, _>(BATCH)).await
    }
}
