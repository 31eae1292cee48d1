//! Due: tasks whose time has come, and those whose time has passed.

use diesel::{
    QueryableByName,
    sql_types::{Array, BigInt, Nullable, Text},
};
use std::time::Duration;

use super::{
    Store, StoreError,
    read::TextRow,
    rows::{BellRow, VersionRow},
    statement::sql,
};
use crate::core::{
    model::TaskId,
    queue::{Bell, Side},
};

/// Rows per statement.
const BATCH: i64 = 1_000;

#[derive(QueryableByName)]
struct NextRow {
    #[diesel(sql_type = Nullable<BigInt>)]
    wait_ms: Option<i64>,
}

impl Store {
    /// Marks up to a thousand due tasks as ready. Their doorbells are to be rung after the commit; a crash in between
    /// is a lost doorbell, and those are found.
    pub async fn take_due(&self) -> Result<(Vec<(Bell, Side)>, Vec<(TaskId, i32)>), StoreError> {
        const TAKE: &str = "
            WITH due AS MATERIALIZED (
                SELECT t.id FROM tasks t WHERE t.status = 'PENDING' AND t.due_at <= (SELECT clock_timestamp())
                ORDER BY t.due_at LIMIT $1 FOR UPDATE OF t SKIP LOCKED)
            UPDATE tasks t SET due_at = NULL, ready_at = clock_timestamp(), version = t.version + 1
            WHERE t.id = ANY(ARRAY(SELECT id FROM due))
            RETURNING t.id, t.queue, t.priority, t.version, t.delivery > 0 AS once_taken";
        let rows: Vec<BellRow> = self.rows(sql("take_due", TAKE).bind::<BigInt, _>(BATCH)).await?;
        let changed = rows.iter().map(|row| (row.id.into(), row.version)).collect();
        Ok((rows.into_iter().map(Into::into).collect(), changed))
    }

    /// How long until the next task is due or expires; zero when one is or has. `None` when none waits for a time.
    pub async fn next_due(&self) -> Result<Option<Duration>, StoreError> {
        const NEXT: &str = "
            SELECT ceil(extract(epoch FROM least(
                (SELECT min(due_at) FROM tasks WHERE status = 'PENDING' AND due_at IS NOT NULL),
                (SELECT min(expires_at) FROM tasks
                 WHERE status = 'PENDING' AND expires_at IS NOT NULL AND delivery = 0))
                - clock_timestamp()) * 1000)::bigint AS wait_ms";
        let rows: Vec<NextRow> = self.rows(sql("next_due", NEXT)).await?;
        Ok(rows.first().and_then(|row| row.wait_ms).map(|ms| Duration::from_millis(ms.max(0) as u64)))
    }

    /// Whether these queues hold nothing for a worker of these types: nothing ready, nothing running anywhere, nothing
    /// due within `soon`. What waits in a paused queue does not count.
    pub async fn is_drained(&self, queues: &[String], types: &[String], soon: Duration) -> Result<bool, StoreError> {
        const LEFT: &str = "
            SELECT FROM tasks t
            WHERE t.queue = ANY($1) AND t.task_type = ANY($2) AND t.status = 'PENDING' AND t.due_at IS NULL
              AND NOT EXISTS (SELECT FROM queues q WHERE q.name = t.queue AND q.paused)
            UNION ALL
            SELECT FROM tasks t
            WHERE t.queue = ANY($1) AND t.task_type = ANY($2) AND t.status = 'PENDING'
              AND t.due_at < clock_timestamp() + $3 * interval '1 ms'
              AND NOT EXISTS (SELECT FROM queues q WHERE q.name = t.queue AND q.paused)
            UNION ALL
            SELECT FROM tasks t WHERE t.queue = ANY($1) AND t.task_type = ANY($2) AND t.status = 'RUNNING'
            LIMIT 1";
        let statement = sql("is_drained", LEFT)
            .bind::<Array<Text>, _>(queues.to_vec())
            .bind::<Array<Text>, _>(types.to_vec())
            .bind::<BigInt, _>(soon.as_millis() as i64);
        Ok(self.run(statement).await? == 0)
    }

    /// Those of these queues that are paused and have tasks that wait.
    pub async fn paused_with_tasks(&self, queues: &[String]) -> Result<Vec<String>, StoreError> {
        const PAUSED: &str = "
            SELECT q.name AS text FROM queues q WHERE q.name = ANY($1) AND q.paused
              AND (EXISTS (SELECT FROM tasks t WHERE t.queue = q.name AND t.status = 'PENDING' AND t.due_at IS NULL)
                   OR EXISTS (SELECT FROM tasks t
                              WHERE t.queue = q.name AND t.status = 'PENDING' AND t.due_at IS NOT NULL))
            ORDER BY q.name";
        let rows: Vec<TextRow> =
            self.rows(sql("paused_with_tasks", PAUSED).bind::<Array<Text>, _>(queues.to_vec())).await?;
        Ok(rows.into_iter().map(|row| row.text).collect())
    }

    /// Ends tasks that nobody started in time. A task once started does not expire.
    ///
    /// Found in the order of time: in that of their ids, where nearly all tasks have such a time, the planner would go
    /// through all of them. Locks that skip what is locked need no common order.
    pub async fn expire(&self) -> Result<Vec<(TaskId, i32)>, StoreError> {
        const EXPIRE: &str = "
            WITH late AS MATERIALIZED (
                SELECT t.id FROM tasks t
                WHERE t.status = 'PENDING' AND t.expires_at <= (SELECT clock_timestamp()) AND t.delivery = 0
                ORDER BY t.expires_at LIMIT $1 FOR UPDATE OF t SKIP LOCKED),
            expired AS (
                UPDATE tasks t SET status = 'FAILED', completed_at = clock_timestamp(), due_at = NULL,
                       error = json_build_object('code', 'expired', 'message', 'nobody started it in time',
                                                 'retryable', true, 'attempt', t.attempt),
                       seq = t.seq + 1, version = t.version + 1
                WHERE t.id = ANY(ARRAY(SELECT id FROM late))
                RETURNING t.id, t.version, t.seq, t.delivery, t.attempt, t.error
            ), history AS (
                INSERT INTO task_events (task_id, seq, delivery, attempt, status, error)
                SELECT id, seq, delivery, attempt, 'FAILED', error FROM expired)
            SELECT id, version FROM expired";
        let rows: Vec<VersionRow> = self.rows(sql("expire", EXPIRE).bind::<BigInt, _>(BATCH)).await?;
        Ok(rows.into_iter().map(|row| (row.id.into(), row.version)).collect())
    }
}
