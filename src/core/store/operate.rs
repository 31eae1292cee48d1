//! Operate: what people do to tasks from outside: cancel, and retry. One task or many, by the same statements.

use diesel::sql_types::{Array, Nullable, Text, Uuid as SqlUuid};

use super::{
    Store, StoreError,
    rows::{BellRow, uuids},
    statement::{Statement, sql},
};
use crate::core::{
    model::{Scope, TaskId},
    queue::{Bell, Side},
};

/// Ids per step of a bulk action.
pub const BATCH: i64 = 500;
/// Counting stops here: a count is for people, and beyond this it says "many".
pub const COUNT_LIMIT: i64 = 10_000;

/// Tasks that a statement changed: what to ring, and whom to tell.
#[derive(Debug, Default)]
pub struct Changed {
    /// One per task, wherever it stands now, with the end of the list where it belongs.
    pub bells: Vec<(Bell, Side)>,
    /// The same tasks, with the versions that this gave them.
    pub versions: Vec<(TaskId, i32)>,
}

impl From<Vec<BellRow>> for Changed {
    fn from(rows: Vec<BellRow>) -> Self {
        let versions = rows.iter().map(|row| (row.id.into(), row.version)).collect();
        Changed { bells: rows.into_iter().map(Into::into).collect(), versions }
    }
}

impl Store {
    /// Cancels those of these tasks that are PENDING or RUNNING, in one statement, for good. A row keeps its worker
    /// until the attempt has stopped.
    pub async fn cancel(&self, ids: &[TaskId], scope: &Scope) -> Result<Changed, StoreError> {
        const CANCEL: &str = "
            WITH locked AS MATERIALIZED (
                SELECT t.id FROM tasks t
                WHERE t.id = ANY($1) AND ($2 IS NULL OR t.owner = $2) AND t.status IN ('PENDING', 'RUNNING')
                ORDER BY t.id FOR UPDATE OF t),
            cancelled AS (
                UPDATE tasks t SET status = 'CANCELLED', completed_at = clock_timestamp(), due_at = NULL,
                       error = json_build_object('code', 'cancelled', 'message', 'cancelled on request',
                                                 'retryable', false, 'attempt', t.attempt),
                       last_error = NULL, seq = t.seq + 1, version = t.version + 1
                FROM locked WHERE t.id = locked.id
                RETURNING t.id, t.queue, t.priority, t.seq, t.version, t.delivery, t.attempt, t.worker_id, t.error
            ), history AS (
                INSERT INTO task_events (task_id, seq, delivery, attempt, status, worker_id, error)
                SELECT id, seq, delivery, attempt, 'CANCELLED', worker_id, error FROM cancelled)
            SELECT id, queue, priority, version, delivery > 0 AS once_taken FROM cancelled";
        let statement = sql("cancel", CANCEL)
            .with_defect("cancel-unconditional", "AND t.status IN ('PENDING', 'RUNNING')", "")
            .with_defect("cancel-unconditional", "last_error = NULL", "last_error = NULL, result = NULL");
        self.change(statement, ids, scope).await
    }

    /// Gives those of these tasks that are FAILED or CANCELLED a new run with a new budget. The fence is never lowered,
    /// and the checkpoint stays: the new run goes on from it. A cancelled task whose attempt has not stopped is left
    /// alone.
    pub async fn retry(&self, ids: &[TaskId], scope: &Scope) -> Result<Changed, StoreError> {
        const RETRY: &str = "
            WITH locked AS MATERIALIZED (
                SELECT t.id FROM tasks t
                WHERE t.id = ANY($1) AND ($2 IS NULL OR t.owner = $2)
                  AND (t.status = 'FAILED' OR (t.status = 'CANCELLED' AND t.worker_id IS NULL))
                ORDER BY t.id FOR UPDATE OF t),
            retried AS (
                UPDATE tasks t SET status = 'PENDING', failures = 0, lost = 0, attempt = 1, error = NULL,
                       last_error = NULL, completed_at = NULL, worker_id = NULL, undecodable_since = NULL,
                       ready_at = clock_timestamp(), due_at = NULL, expires_at = NULL,
                       progress_current = NULL, progress_total = NULL, progress_message = NULL, progress_at = NULL,
                       seq = t.seq + 1, version = t.version + 1
                FROM locked WHERE t.id = locked.id
                RETURNING t.id, t.queue, t.priority, t.seq, t.version, t.delivery
            ), history AS (
                INSERT INTO task_events (task_id, seq, delivery, attempt, status, message)
                SELECT id, seq, delivery, 1, 'PENDING', 'retried by an operator' FROM retried)
            SELECT id, queue, priority, version, delivery > 0 AS once_taken FROM retried";
        let statement =
            sql("retry", RETRY).with_defect("delivery-reset", "failures = 0,", "failures = 0, delivery = 0,");
        self.change(statement, ids, scope).await
    }

    async fn change(&self, statement: Statement, ids: &[TaskId], scope: &Scope) -> Result<Changed, StoreError> {
        let statement =
            statement.bind::<Array<SqlUuid>, _>(uuids(ids)).bind::<Nullable<Text>, _>(scope.owner().map(str::to_owned));
        Ok(self.rows::<BellRow>(statement).await?.into())
    }
}
