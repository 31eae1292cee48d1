//! Retention: what is old enough is deleted, a little at a time, and leaves a tombstone.

use std::time::Duration;

use diesel::sql_types::{BigInt, Uuid as SqlUuid};
use uuid::Uuid;

use super::{Store, StoreError, statement::sql};
use crate::core::model::TaskId;

/// Tasks per statement: a few milliseconds of locks on rows that nobody else writes.
const BATCH: i64 = 500;
/// How long a deleted task answers 410.
const TOMBSTONES_KEPT: &str = "30 days";

impl Store {
    /// Deletes up to five hundred final tasks that ended before `retention` ago, with their history. Returns how many.
    ///
    /// Candidates are found by id, which sorts by creation: no index on the time of the end is needed for it.
    pub async fn purge_tasks(&self, retention: Duration, now_ms: u64) -> Result<usize, StoreError> {
        const PURGE: &str = "
            WITH old AS MATERIALIZED (
                SELECT id, owner FROM tasks
                WHERE id < $1 AND status IN ('SUCCESS', 'FAILED', 'CANCELLED')
                  AND completed_at < clock_timestamp() - $2 * interval '1 ms'
                  AND NOT (status = 'CANCELLED' AND worker_id IS NOT NULL)
                ORDER BY id LIMIT $3 FOR UPDATE SKIP LOCKED),
            events AS (DELETE FROM task_events e USING old WHERE e.task_id = old.id),
            stones AS (INSERT INTO tombstones (task_id, owner) SELECT id, owner FROM old ON CONFLICT DO NOTHING)
            DELETE FROM tasks t USING old WHERE t.id = old.id";
        let ms = retention.as_millis() as u64;
        let statement = sql("purge_tasks", PURGE)
            .bind::<SqlUuid, _>(Uuid::from(TaskId::first_at(now_ms.saturating_sub(ms))))
            .bind::<BigInt, _>(ms as i64)
            .bind::<BigInt, _>(BATCH);
        self.run(statement).await
    }

    /// Deletes what else grows old, up to five hundred of each: tombstones, idempotency keys whose tasks are gone, workers
    /// that died long ago. Returns how many.
    pub async fn purge_leftovers(&self, retention: Duration) -> Result<usize, StoreError> {
        const TOMBSTONES: &str = "
            DELETE FROM tombstones WHERE task_id IN (
                SELECT task_id FROM tombstones WHERE purged_at < clock_timestamp() - $1::text::interval LIMIT $2)";
        // Kept for a day, and as long as one of its tasks is there. Younger than the retention they need no look.
        const KEYS: &str = "
            DELETE FROM idempotency_keys k WHERE (k.scope, k.key) IN (
                SELECT scope, key FROM idempotency_keys o
                WHERE o.created_at < clock_timestamp() - greatest(interval '24 hours', $2 * interval '1 ms')
                AND NOT EXISTS (SELECT FROM tasks t WHERE t.id = ANY(o.task_ids)) LIMIT $1)";
        const WORKERS: &str = "
            DELETE FROM workers WHERE id IN (
                SELECT w.id FROM workers w
                WHERE w.state = 'dead' AND w.ended_at < clock_timestamp() - interval '1 day'
                AND NOT EXISTS (SELECT FROM tasks t WHERE t.worker_id = w.id AND t.status = 'RUNNING') LIMIT $1)";
        const ASKED: &str = "DELETE FROM http_workers WHERE asked_at < clock_timestamp() - interval '1 day'";
        let stones = self
            .run(
                sql("purge_tombstones", TOMBSTONES)
                    .bind::<diesel::sql_types::Text, _>(TOMBSTONES_KEPT)
                    .bind::<BigInt, _>(BATCH),
            )
            .await?;
        let keys = self
            .run(sql("purge_keys", KEYS).bind::<BigInt, _>(BATCH).bind::<BigInt, _>(retention.as_millis() as i64))
            .await?;
        let asked = self.run(sql("purge_http_workers", ASKED)).await?;
        let workers = self.run(sql("purge_workers", WORKERS).bind::<BigInt, _>(BATCH)).await?;
        Ok(stones + keys + asked + workers)
    }
}
