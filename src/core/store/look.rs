//! Look: workers, and the history of one task told with who did what.

use chrono::{DateTime, Utc};
use diesel::{
    QueryableByName,
    sql_types::{Array, BigInt, Double, Integer, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use uuid::Uuid;

use super::{
    Lookup, Store, StoreError,
    http_lease::leased_by,
    rows::{self, error_of},
    statement::sql,
};
use crate::core::model::{Progress, Scope, Status, TaskError, TaskId, WorkerId};

/// Changes of status that one reading tells.
const MOST_CHANGES: i64 = 1_000;
/// Ids of running tasks that are told of one worker.
const MOST_RUNNING: i64 = 100;

/// A worker incarnation as PostgreSQL knows it.
#[derive(Debug, Clone)]
pub struct WorkerState {
    /// This incarnation.
    pub id: WorkerId,
    /// Where it runs.
    pub host: String,
    /// Its process there.
    pub pid: i32,
    /// Its program.
    pub version: String,
    /// `alive`, `draining`, `left` in good order, or `dead`: its lease ran out.
    pub state: String,
    /// Slots by queue: a JSON object.
    pub queues: serde_json::Value,
    /// What it can run.
    pub task_types: Vec<String>,
    /// When it renewed its lease last.
    pub renewed_at: DateTime<Utc>,
    /// Seconds since then, by the database's clock.
    pub lease_age_seconds: f64,
    /// When the lease ends.
    pub lease_until: DateTime<Utc>,
    /// When it came.
    pub started_at: DateTime<Utc>,
    /// When it left or was declared dead.
    pub ended_at: Option<DateTime<Utc>>,
    /// Attempts that ignore a request to stop.
    pub unstopped: i32,
    /// Tasks that it runs.
    pub running: i64,
    /// The first hundred of them that the caller may see.
    pub running_tasks: Vec<TaskId>,
}

#[derive(QueryableByName)]
struct WorkerStateRow {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Text)]
    host: String,
    #[diesel(sql_type = Integer)]
    pid: i32,
    #[diesel(sql_type = Text)]
    version: String,
    #[diesel(sql_type = Text)]
    state: String,
    #[diesel(sql_type = Jsonb)]
    queues: serde_json::Value,
    #[diesel(sql_type = Array<Text>)]
    task_types: Vec<String>,
    #[diesel(sql_type = Timestamptz)]
    renewed_at: DateTime<Utc>,
    #[diesel(sql_type = Double)]
    lease_age_seconds: f64,
    #[diesel(sql_type = Timestamptz)]
    lease_until: DateTime<Utc>,
    #[diesel(sql_type = Timestamptz)]
    started_at: DateTime<Utc>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    ended_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Integer)]
    unstopped: i32,
    #[diesel(sql_type = BigInt)]
    running: i64,
    #[diesel(sql_type = Array<SqlUuid>)]
    running_tasks: Vec<Uuid>,
}

impl From<WorkerStateRow> for WorkerState {
    fn from(row: WorkerStateRow) -> Self {
        Self {
            id: row.id.into(),
            host: row.host,
            pid: row.pid,
            version: row.version,
            state: row.state,
            queues: row.queues,
            task_types: row.task_types,
            renewed_at: row.renewed_at,
            lease_age_seconds: row.lease_age_seconds,
            lease_until: row.lease_until,
            started_at: row.started_at,
            ended_at: row.ended_at,
            unstopped: row.unstopped,
            running: row.running,
            running_tasks: row.running_tasks.into_iter().map(TaskId::from).collect(),
        }
    }
}

/// A change of status, with who caused it.
#[derive(Debug, Clone)]
pub struct StatusChange {
    /// Its number in the task's history; 0 for the submit.
    pub seq: i32,
    /// When.
    pub at: DateTime<Utc>,
    /// The status from here on.
    pub status: Status,
    /// Why, in words.
    pub reason: Option<String>,
    /// The delivery that it belongs to; 0 before the first.
    pub delivery: i32,
    /// The attempt that it belongs to.
    pub attempt: i32,
    /// Who ran it.
    pub worker: Option<Runner>,
    /// The error that caused it.
    pub error: Option<TaskError>,
}

/// Who ran a delivery.
#[derive(Debug, Clone)]
pub struct Runner {
    /// A worker's incarnation, or the lease of an HTTP worker.
    pub id: WorkerId,
    /// Where, while the worker's row is still there.
    pub host: Option<String>,
    /// What it was of, while its row is still there.
    pub version: Option<String>,
    /// An HTTP worker's name for itself.
    pub name: Option<String>,
}

/// What is known of the delivery that runs, and of what it saved.
#[derive(Debug, Clone)]
pub struct Present {
    /// The status now. The history that is told may end before it.
    pub status: Status,
    /// Who has it.
    pub worker: Option<WorkerId>,
    /// When that worker renewed its lease last; an HTTP worker, that of this task.
    pub lease_renewed_at: Option<DateTime<Utc>>,
    /// When a checkpoint was saved last.
    pub checkpoint_at: Option<DateTime<Utc>>,
    /// How far it was at its last report.
    pub progress: Option<Progress>,
}

#[derive(QueryableByName)]
struct ChangeRow {
    #[diesel(sql_type = Integer)]
    seq: i32,
    #[diesel(sql_type = Timestamptz)]
    at: DateTime<Utc>,
    #[diesel(sql_type = Text)]
    status: String,
    #[diesel(sql_type = Nullable<Text>)]
    reason: Option<String>,
    #[diesel(sql_type = Integer)]
    delivery: i32,
    #[diesel(sql_type = Integer)]
    attempt: i32,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    worker_id: Option<Uuid>,
    #[diesel(sql_type = Nullable<Text>)]
    host: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    version: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    name: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    error: Option<String>,
}

impl TryFrom<ChangeRow> for StatusChange {
    type Error = StoreError;

    fn try_from(row: ChangeRow) -> Result<Self, StoreError> {
        Ok(Self {
            seq: row.seq,
            at: row.at,
            status: row.status.parse().map_err(|error| rows::unreadable("status", error))?,
            reason: row.reason,
            delivery: row.delivery,
            attempt: row.attempt,
            worker: row.worker_id.map(|id| Runner {
                id: id.into(),
                host: row.host,
                version: row.version,
                name: row.name,
            }),
            error: error_of(row.error)?,
        })
    }
}

#[derive(QueryableByName)]
struct PresentRow {
    #[diesel(sql_type = Text)]
    status: String,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    worker_id: Option<Uuid>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    renewed_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    checkpoint_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<BigInt>)]
    progress_current: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    progress_total: Option<i64>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    progress_at: Option<DateTime<Utc>>,
}

impl Store {
    /// Workers that are alive or draining, and those that ended within the last hour; newest first.
    pub async fn workers(&self, scope: &Scope) -> Result<Vec<WorkerState>, StoreError> {
        // Only a lease that is over makes a worker dead: whoever ended before has signed off.
        const WORKERS: &str = "
            SELECT w.id, w.host, w.pid, w.version, w.queues, w.task_types, w.renewed_at,
                   CASE WHEN w.state = 'dead' AND w.ended_at <= w.lease_until THEN 'left' ELSE w.state END AS state,
                   extract(epoch FROM clock_timestamp() - w.renewed_at)::float8 AS lease_age_seconds, w.lease_until,
                   w.started_at, w.ended_at, w.unstopped,
                   (SELECT count(*) FROM tasks t WHERE t.worker_id = w.id AND t.status = 'RUNNING') AS running,
                   ARRAY(SELECT t.id FROM tasks t WHERE t.worker_id = w.id AND t.status = 'RUNNING'
                         AND ($1 IS NULL OR t.owner = $1) ORDER BY t.id LIMIT $2) AS running_tasks
            FROM workers w WHERE w.state <> 'dead' OR w.ended_at > clock_timestamp() - interval '1 hour'
            ORDER BY w.state = 'dead', w.id DESC LIMIT 1000";
        let statement = sql("workers", WORKERS)
            .bind::<Nullable<Text>, _>(scope.owner().map(str::to_owned))
            .bind::<BigInt, _>(MOST_RUNNING);
        let rows: Vec<WorkerStateRow> = self.rows(statement).await?;
        Ok(rows.into_iter().map(WorkerState::from).collect())
    }

    /// A task's changes of status, oldest first and the submit in front, and what is known of its delivery now.
    pub async fn timeline(
        &self,
        id: TaskId,
        scope: &Scope,
    ) -> Result<Lookup<(Vec<StatusChange>, Present)>, StoreError> {
        const PRESENT: &str = "
            SELECT t.status, t.worker_id,
                   coalesce(w.renewed_at, t.lease_until - t.lease_ms * interval '1 ms') AS renewed_at,
                   t.checkpoint_at, t.progress_current, t.progress_total, t.progress_at
            FROM tasks t LEFT JOIN workers w ON w.id = t.worker_id
            WHERE t.id = $1 AND ($2 IS NULL OR t.owner = $2)";
        // An HTTP worker has no row of its own: the start of its delivery has its name, as `lease` wrote it.
        const CHANGES: &str = concat!(
            "SELECT e.seq, e.at, e.status, e.message AS reason, e.delivery, e.attempt, e.worker_id, w.host, w.version,
                   max(substring(e.message FROM '^",
            leased_by!(),
            "(.*)$')) FILTER (WHERE e.status = 'RUNNING')
                       OVER (PARTITION BY e.delivery) AS name,
                   e.error::text AS error
            FROM (SELECT 0 AS seq, created_at AS at, 'PENDING' AS status, 'submitted' AS message, 0 AS delivery,
                         1 AS attempt, NULL::uuid AS worker_id, NULL::json AS error FROM tasks WHERE id = $1
                  UNION ALL
                  SELECT seq, at, status, message, delivery, attempt, worker_id, error FROM task_events
                  WHERE task_id = $1 AND status IS NOT NULL) AS e
            LEFT JOIN workers w ON w.id = e.worker_id ORDER BY e.seq LIMIT $2"
        );
        let present = sql("present", PRESENT)
            .bind::<SqlUuid, _>(Uuid::from(id))
            .bind::<Nullable<Text>, _>(scope.owner().map(str::to_owned));
        let Some(row) = self.rows::<PresentRow>(present).await?.into_iter().next() else {
            return self.missing(id, scope).await;
        };
        let changes = sql("timeline", CHANGES).bind::<SqlUuid, _>(Uuid::from(id)).bind::<BigInt, _>(MOST_CHANGES);
        let changes: Vec<ChangeRow> = self.rows(changes).await?;
        let changes = changes.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?;
        let progress = row.progress_current.zip(row.progress_at).map(|(current, updated_at)| Progress {
            current,
            total: row.progress_total,
            message: None,
            updated_at,
        });
        let present = Present {
            status: row.status.parse().map_err(|error| rows::unreadable("status", error))?,
            worker: row.worker_id.map(WorkerId::from),
            lease_renewed_at: row.renewed_at,
            checkpoint_at: row.checkpoint_at,
            progress,
        };
        Ok(Lookup::Found((changes, present)))
    }
}
