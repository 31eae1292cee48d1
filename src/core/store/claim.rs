//! Claim: PENDING becomes RUNNING by compare-and-set, for as many ids as there are free slots.

use diesel::{
    QueryableByName,
    sql_types::{Array, BigInt, Bool, Integer, Text, Uuid as SqlUuid},
};
use uuid::Uuid;

use super::{
    Store, StoreError,
    rows::{ClaimedRow, uuids},
    statement::{Statement, sql},
};
use crate::core::model::{Claimed, TaskId, WorkerId};

/// Why an id could not be claimed, and so what its doorbell is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotClaimed {
    /// Not PENDING, not due, expired or not there at all: forget the doorbell. The due loop rings when it is time. Or of
    /// a type that is declared for HTTP workers, who ask PostgreSQL and need no doorbell.
    Settled,
    /// This worker does not know the type, as of this delivery.
    UnknownType {
        /// The delivery that was read: a later one is somebody else's business.
        delivery: i32,
    },
    /// Its queue is paused: the doorbell goes back.
    Paused,
    /// Claimable by its row: it was locked just then, or this worker is no longer live. The doorbell goes back.
    Contended,
}

/// What every claim asks of a row, whoever claims. `$3`: the types that the worker knows.
macro_rules! waiting {
    () => {
        "t.status = 'PENDING' AND t.ready_at <= (SELECT clock_timestamp()) AND t.task_type = ANY($3) \
         AND (t.expires_at IS NULL OR t.delivery > 0 OR t.expires_at > (SELECT clock_timestamp())) \
         AND NOT EXISTS (SELECT FROM queues q WHERE q.name = t.queue AND q.paused)"
    };
}
pub(super) use waiting;

/// The predicate of every claim by a worker, by list and straight from the table. `$2`: the worker.
macro_rules! claimable {
    () => {
        concat!(
            waiting!(),
            " AND EXISTS (SELECT FROM workers w WHERE w.id = $2 AND w.state <> 'dead' \
              AND w.lease_until > clock_timestamp())"
        )
    };
}

/// A task once taken goes before those that never started, as it does in the lists.
macro_rules! in_order {
    () => {
        " ORDER BY t.priority, (t.delivery = 0), t.id LIMIT $4 FOR UPDATE OF t SKIP LOCKED)"
    };
}
pub(super) use in_order;

/// What becomes of the rows that `locked` names. `$2`: the worker. `$lease`: whose lease holds the row, the worker's own
/// or, for an HTTP worker, the row's. `$told`: what the history says.
macro_rules! claim_locked {
    ($lease:literal, $told:literal, $more:literal) => {
        concat!(
            ", claimed AS (
            UPDATE tasks t SET status = 'RUNNING', delivery = t.delivery + 1, attempt = t.failures + 1,
                   worker_id = $2, started_at = clock_timestamp(), due_at = NULL, ",
            $lease,
            ", seq = t.seq + 1, version = t.version + 1
            FROM locked WHERE t.id = locked.id RETURNING t.*
        ), history AS (
            INSERT INTO task_events (task_id, seq, delivery, attempt, status, worker_id, message)
            SELECT id, seq, delivery, attempt, 'RUNNING', $2, ",
            $told,
            " FROM claimed
        )
        SELECT id, delivery, attempt, max_attempts, failures, task_type, queue, priority, input::text AS input,
               metadata::text AS metadata, checkpoint::text AS checkpoint, timeout_ms, trace_context, seq, version,
               greatest(extract(epoch FROM started_at - ready_at), 0)::float8 AS waited_seconds,
               coalesce(undecodable_since < clock_timestamp() - interval '10 minutes', false)
                   AS undecodable_for_too_long",
            $more,
            " FROM claimed"
        )
    };
}
pub(super) use claim_locked;

const CLAIM: &str = concat!(
    "WITH locked AS MATERIALIZED (SELECT t.id FROM tasks t WHERE t.id = ANY($1) AND ",
    claimable!(),
    // Sorted, so that two batches cannot lock each other out; SKIP LOCKED, since a doorbell that goes back rings again.
    " ORDER BY t.id FOR UPDATE OF t SKIP LOCKED)",
    claim_locked!("lease_until = NULL, lease_token = NULL", "NULL", "")
);

const CLAIM_FROM_TABLE: &str = concat!(
    "WITH locked AS MATERIALIZED (SELECT t.id FROM tasks t WHERE t.queue = $1 AND t.due_at IS NULL AND ",
    claimable!(),
    in_order!(),
    claim_locked!("lease_until = NULL, lease_token = NULL", "NULL", "")
);

#[derive(QueryableByName)]
struct TypeRow {
    #[diesel(sql_type = Text)]
    task_type: String,
}

#[derive(QueryableByName)]
struct WhyRow {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Integer)]
    delivery: i32,
    #[diesel(sql_type = Bool)]
    waiting: bool,
    #[diesel(sql_type = Bool)]
    known: bool,
    #[diesel(sql_type = Bool)]
    paused: bool,
    #[diesel(sql_type = Bool)]
    declared: bool,
}

impl Store {
    /// Claims those of the ids that may be claimed now.
    pub async fn claim(&self, worker: WorkerId, ids: &[TaskId], types: &[String]) -> Result<Vec<Claimed>, StoreError> {
        self.claimed(sql("claim", CLAIM).with_kept_plan().bind::<Array<SqlUuid>, _>(uuids(ids)), worker, types, None)
            .await
    }

    /// Claims up to `limit` tasks of a queue without doorbells: what workers do while Redis is away.
    pub async fn claim_from_table(
        &self,
        worker: WorkerId,
        queue: &str,
        limit: usize,
        types: &[String],
    ) -> Result<Vec<Claimed>, StoreError> {
        let statement = sql("claim_from_table", CLAIM_FROM_TABLE).bind::<Text, _>(queue.to_owned());
        self.claimed(statement, worker, types, Some(limit as i64)).await
    }

    async fn claimed(
        &self,
        statement: Statement,
        worker: WorkerId,
        types: &[String],
        limit: Option<i64>,
    ) -> Result<Vec<Claimed>, StoreError> {
        let mut statement = statement.bind::<SqlUuid, _>(Uuid::from(worker)).bind::<Array<Text>, _>(types.to_vec());
        if let Some(limit) = limit {
            statement = statement.bind::<BigInt, _>(limit);
        }
        let call = self.server.call(statement.name());
        let rows: Vec<ClaimedRow> = self.rows(statement).await?;
        let claimed: Vec<Claimed> = rows.into_iter().map(TryInto::try_into).collect::<Result<_, StoreError>>()?;
        // Whose it would be, nobody knew before.
        if let Some(call) = call {
            call.ended_for(claimed.iter().filter_map(|task| task.trace_context.as_deref()), None);
        }
        Ok(claimed)
    }

    /// Says of each id that a claim left out why it did.
    pub async fn why_not_claimed(
        &self,
        ids: &[TaskId],
        types: &[String],
    ) -> Result<Vec<(TaskId, NotClaimed)>, StoreError> {
        const WHY: &str = "
            SELECT t.id, t.delivery, t.task_type = ANY($2) AS known,
                   t.status = 'PENDING' AND t.ready_at <= clock_timestamp()
                       AND (t.expires_at IS NULL OR t.delivery > 0 OR t.expires_at > clock_timestamp()) AS waiting,
                   EXISTS (SELECT FROM queues q WHERE q.name = t.queue AND q.paused) AS paused,
                   EXISTS (SELECT FROM task_types d WHERE d.name = t.task_type) AS declared
            FROM tasks t WHERE t.id = ANY($1)";
        let statement =
            sql("why_not_claimed", WHY).bind::<Array<SqlUuid>, _>(uuids(ids)).bind::<Array<Text>, _>(types.to_vec());
        let rows: Vec<WhyRow> = self.rows(statement).await?;
        let reason = |id: TaskId| match rows.iter().find(|row| TaskId::from(row.id) == id) {
            None => NotClaimed::Settled,
            Some(row) if !row.waiting => NotClaimed::Settled,
            Some(row) if row.declared && !row.known => NotClaimed::Settled,
            Some(row) if row.paused => NotClaimed::Paused,
            Some(row) if !row.known => NotClaimed::UnknownType { delivery: row.delivery },
            Some(_) => NotClaimed::Contended,
        };
        Ok(ids.iter().map(|id| (*id, reason(*id))).collect())
    }

    /// Whether an operator paused this queue.
    pub async fn is_paused(&self, queue: &str) -> Result<bool, StoreError> {
        let statement =
            sql("is_paused", "SELECT FROM queues WHERE name = $1 AND paused").bind::<Text, _>(queue.to_owned());
        Ok(self.run(statement).await? > 0)
    }

    /// Puts tasks whose type this worker does not know about five seconds off, uncharged: in a rollout some other
    /// worker knows them. Guarded by the delivery that was read. Returns the type of each.
    pub async fn put_off_unknown(&self, tasks: &[(TaskId, i32)]) -> Result<Vec<String>, StoreError> {
        const PUT_OFF: &str = "
            WITH unknown AS (SELECT * FROM unnest($1, $2) AS u(id, delivery)),
            locked AS MATERIALIZED (
                SELECT t.id FROM tasks t JOIN unknown u ON u.id = t.id AND u.delivery = t.delivery
                WHERE t.status = 'PENDING' AND t.due_at IS NULL ORDER BY t.id FOR UPDATE OF t SKIP LOCKED)
            UPDATE tasks t SET ready_at = soon.at, due_at = soon.at, version = t.version + 1
            FROM locked, LATERAL (SELECT clock_timestamp() + (4 + 2 * random()) * interval '1 s' AS at) AS soon
            WHERE t.id = locked.id RETURNING t.task_type";
        let (ids, deliveries): (Vec<TaskId>, Vec<i32>) = tasks.iter().copied().unzip();
        let statement = sql("put_off_unknown", PUT_OFF)
            .bind::<Array<SqlUuid>, _>(uuids(&ids))
            .bind::<Array<Integer>, _>(deliveries);
        let rows: Vec<TypeRow> = self.rows(statement).await?;
        Ok(rows.into_iter().map(|row| row.task_type).collect())
    }
}
