//! Submit: many new tasks in one statement, so that many requests share one commit.
//!
//! Idempotency keys live in a table of their own and are settled in the same transaction. One statement cannot do it:
//! DO UPDATE fails a whole batch on a double key, DO NOTHING cannot see a concurrent winner, and keys that are inserted
//! in any order deadlock. So: equal keys are merged before they come here, the rest is inserted sorted, the losers are
//! read by a second statement, and only winners become tasks.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use diesel::{
    QueryableByName,
    sql_types::{Array, BigInt, Bytea, Integer, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncConnection, AsyncPgConnection};
use uuid::Uuid;

use super::{
    Store, StoreError,
    metadata::members_of,
    read::YesRow,
    rows::{self, uuids},
    statement::sql,
};
use crate::core::model::{IdempotencyKey, NewTask, Start, Submission, TaskId};

/// What the database added to a new task.
#[derive(Debug, Clone, Copy)]
pub struct Accepted {
    /// The task.
    pub id: TaskId,
    /// When it was accepted.
    pub created_at: DateTime<Utc>,
    /// The earliest start.
    pub ready_at: DateTime<Utc>,
    /// The start that the submitter asked for.
    pub scheduled_at: Option<DateTime<Utc>>,
    /// Its doorbell is to be rung now; otherwise the due loop rings when it is time.
    pub ring_now: bool,
}

/// How a submission was settled.
#[derive(Debug, Clone)]
pub enum Settled {
    /// Its tasks are inserted, now or by an earlier call with the same ids.
    Accepted(Vec<Accepted>),
    /// An earlier submission with its key and its body made these.
    Replayed(Vec<TaskId>),
    /// Its key was used for another body.
    KeyReused,
}

#[derive(QueryableByName)]
struct KeyRow {
    #[diesel(sql_type = Text)]
    scope: String,
    #[diesel(sql_type = Text)]
    key: String,
    #[diesel(sql_type = Bytea)]
    fingerprint: Vec<u8>,
    #[diesel(sql_type = Array<SqlUuid>)]
    task_ids: Vec<Uuid>,
}

#[derive(QueryableByName)]
struct AcceptedRow {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Timestamptz)]
    created_at: DateTime<Utc>,
    #[diesel(sql_type = Timestamptz)]
    ready_at: DateTime<Utc>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    scheduled_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    due_at: Option<DateTime<Utc>>,
}

impl From<AcceptedRow> for Accepted {
    fn from(row: AcceptedRow) -> Self {
        Accepted {
            id: row.id.into(),
            created_at: row.created_at,
            ready_at: row.ready_at,
            scheduled_at: row.scheduled_at,
            ring_now: row.due_at.is_none(),
        }
    }
}

/// `$1` to `$14`: the tasks; `$15` to `$17`: the members of their metadata, by which lists find them. `$may_be_there`:
/// what becomes of rows that an earlier call has inserted.
///
/// No event is written: the row itself says when the task was accepted, and its history begins with the first claim.
macro_rules! insert {
    ($may_be_there:literal) => {
        concat!(
            "WITH members AS (
                INSERT INTO task_metadata (pair, task_id)
                SELECT DISTINCT metadata_pair(m.key, m.value), m.id FROM unnest($15, $16, $17) AS m(id, key, value)",
            $may_be_there,
            ")
            INSERT INTO tasks (id, task_type, queue, priority, owner, input, metadata, trace_context, max_attempts,
                               max_lost, timeout_ms, created_at, scheduled_at, ready_at, due_at, expires_at)
            SELECT n.id, n.task_type, n.queue, n.priority, n.owner, n.input::json, n.metadata::json, n.trace_context,
                   n.max_attempts, n.max_lost, n.timeout_ms, clock.now, start.at, greatest(start.at, clock.now),
                   CASE WHEN start.at > clock.now THEN start.at END, clock.now + n.expires_ms * interval '1 ms'
            FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
                   AS n(id, task_type, queue, priority, owner, input, metadata, trace_context, max_attempts, max_lost,
                        timeout_ms, delay_ms, run_at, expires_ms),
                 (SELECT clock_timestamp() AS now) AS clock,
                 LATERAL (SELECT coalesce(clock.now + n.delay_ms * interval '1 ms', n.run_at) AS at) AS start",
            $may_be_there,
            " RETURNING id, created_at, ready_at, scheduled_at, due_at"
        )
    };
}

const INSERT: &str = insert!("");
const INSERT_AGAIN: &str = insert!(" ON CONFLICT DO NOTHING");

impl Store {
    /// Whether a submit with this key has come before, whatever its body was.
    pub async fn knows_key(&self, key: &IdempotencyKey) -> Result<bool, StoreError> {
        const KNOWS: &str = "SELECT true AS yes FROM idempotency_keys WHERE scope = $1 AND key = $2";
        let statement = sql("knows_key", KNOWS)
            .with_kept_plan()
            .bind::<Text, _>(key.scope.clone())
            .bind::<Text, _>(key.key.clone());
        Ok(!self.rows::<YesRow>(statement).await?.is_empty())
    }
}

/// Whether these submissions were sent before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Try {
    /// Nothing of them can be there yet.
    First,
    /// The answer to a try with the same ids may have been lost, and perhaps it was committed. Should it still be on its
    /// way, the one that comes second waits for the other: both write their rows in the same order.
    Again,
}

/// Settles submissions, all in one commit. No two of them may have the same key.
pub(super) async fn settle(
    conn: &mut AsyncPgConnection,
    submissions: &[Submission],
    this: Try,
) -> Result<Vec<Settled>, StoreError> {
    if submissions.iter().all(|submission| submission.key.is_none()) {
        return settle_with(conn, submissions, &HashMap::new(), this).await;
    }
    conn.transaction(async |conn| {
        let losers = claim_keys(conn, submissions).await?;
        settle_with(conn, submissions, &losers, this).await
    })
    .await
}

type Losers = HashMap<(String, String), (Vec<u8>, Vec<TaskId>)>;

async fn settle_with(
    conn: &mut AsyncPgConnection,
    submissions: &[Submission],
    losers: &Losers,
    this: Try,
) -> Result<Vec<Settled>, StoreError> {
    let lost = |submission: &Submission| {
        let key = submission.key.as_ref()?;
        let (fingerprint, ids) = losers.get(&(key.scope.clone(), key.key.clone()))?;
        Some(if *fingerprint == key.fingerprint { Settled::Replayed(ids.clone()) } else { Settled::KeyReused })
    };
    let decided: Vec<Option<Settled>> = submissions.iter().map(lost).collect();
    let winners = submissions.iter().zip(&decided).filter(|(_, decided)| decided.is_none());
    let new: Vec<&NewTask> = winners.flat_map(|(submission, _)| &submission.tasks).collect();
    let accepted = if new.is_empty() { Vec::new() } else { insert(conn, &new, this).await? };
    let mut by_id: HashMap<TaskId, Accepted> = accepted.into_iter().map(|accepted| (accepted.id, accepted)).collect();
    let mut settled = Vec::with_capacity(submissions.len());
    for (submission, decided) in submissions.iter().zip(decided) {
        settled.push(match decided {
            Some(decided) => decided,
            None => Settled::Accepted(submission.tasks.iter().filter_map(|task| by_id.remove(&task.id)).collect()),
        });
    }
    Ok(settled)
}

/// Inserts the keys and returns those that somebody else had first. A loser whose stored ids are its own is a winner:
/// an earlier try of the same batch committed and its answer was lost.
async fn claim_keys(conn: &mut AsyncPgConnection, submissions: &[Submission]) -> Result<Losers, StoreError> {
    const CLAIM: &str = "
        INSERT INTO idempotency_keys (scope, key, fingerprint, task_ids)
        SELECT k.scope, k.key, k.fingerprint, string_to_array(k.ids, ',')::uuid[]
        FROM unnest($1, $2, $3, $4) AS k(scope, key, fingerprint, ids)
        ORDER BY k.scope COLLATE \"C\", k.key COLLATE \"C\" ON CONFLICT DO NOTHING";
    const READ: &str = "
        SELECT k.scope, k.key, k.fingerprint, k.task_ids FROM idempotency_keys k
        JOIN unnest($1, $2) AS asked(scope, key) ON asked.scope = k.scope AND asked.key = k.key";
    let keyed: Vec<(&IdempotencyKey, Vec<TaskId>)> = submissions
        .iter()
        .filter_map(|submission| Some((submission.key.as_ref()?, submission.tasks.iter().map(|t| t.id).collect())))
        .collect();
    let scopes: Vec<String> = keyed.iter().map(|(key, _)| key.scope.clone()).collect();
    let keys: Vec<String> = keyed.iter().map(|(key, _)| key.key.clone()).collect();
    let joined = |ids: &[TaskId]| uuids(ids).iter().map(Uuid::to_string).collect::<Vec<_>>().join(",");
    let won = sql("claim_keys", CLAIM)
        .with_kept_plan()
        .bind::<Array<Text>, _>(scopes.clone())
        .bind::<Array<Text>, _>(keys.clone())
        .bind::<Array<Bytea>, _>(keyed.iter().map(|(key, _)| key.fingerprint.clone()).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(keyed.iter().map(|(_, ids)| joined(ids)).collect::<Vec<_>>())
        .run(conn)
        .await?;
    if won == keyed.len() {
        return Ok(Losers::new());
    }
    let own: HashMap<(&str, &str), &[TaskId]> =
        keyed.iter().map(|(key, ids)| ((key.scope.as_str(), key.key.as_str()), ids.as_slice())).collect();
    let rows: Vec<KeyRow> = sql("read_keys", READ)
        .with_kept_plan()
        .bind::<Array<Text>, _>(scopes.clone())
        .bind::<Array<Text>, _>(keys.clone())
        .rows(conn)
        .await?;
    let stored = rows.into_iter().map(|row| {
        let ids: Vec<TaskId> = row.task_ids.into_iter().map(TaskId::from).collect();
        ((row.scope, row.key), (row.fingerprint, ids))
    });
    Ok(stored.filter(|((scope, key), (_, ids))| own.get(&(scope, key)) != Some(&ids.as_slice())).collect())
}

async fn insert(conn: &mut AsyncPgConnection, new: &[&NewTask], this: Try) -> Result<Vec<Accepted>, StoreError> {
    fn column<T>(new: &[&NewTask], value: impl Fn(&NewTask) -> T) -> Vec<T> {
        new.iter().map(|task| value(task)).collect()
    }
    let ids = column(new, |task| Uuid::from(task.id));
    let ms = |time: std::time::Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    let delay = |task: &NewTask| match task.start {
        Start::After(time) => Some(ms(time)),
        Start::Now | Start::At(_) => None,
    };
    let run_at = |task: &NewTask| match task.start {
        Start::At(time) => Some(time),
        Start::Now | Start::After(_) => None,
    };
    // Looking for a conflict takes a tenth of the time, and the first time there can be none.
    let text = match this {
        Try::First => INSERT,
        Try::Again => INSERT_AGAIN,
    };
    let members = Members::of(new)?;
    let mut accepted: Vec<AcceptedRow> = sql("insert", text)
        .with_kept_plan()
        .bind::<Array<SqlUuid>, _>(ids.clone())
        .bind::<Array<Text>, _>(column(new, |task| task.task_type.clone()))
        .bind::<Array<Text>, _>(column(new, |task| task.queue.clone()))
        .bind::<Array<SmallInt>, _>(column(new, |task| rows::priority_number(task.priority)))
        .bind::<Array<Nullable<Text>>, _>(column(new, |task| task.owner.clone()))
        .bind::<Array<Text>, _>(column(new, |task| task.input.get().to_owned()))
        .bind::<Array<Text>, _>(column(new, |task| task.metadata.get().to_owned()))
        .bind::<Array<Nullable<Text>>, _>(column(new, |task| task.trace_context.clone()))
        .bind::<Array<Integer>, _>(column(new, |task| task.max_attempts))
        .bind::<Array<Integer>, _>(column(new, |task| task.max_lost))
        .bind::<Array<Nullable<BigInt>>, _>(column(new, |task| task.timeout.map(ms)))
        .bind::<Array<Nullable<BigInt>>, _>(column(new, delay))
        .bind::<Array<Nullable<Timestamptz>>, _>(column(new, run_at))
        .bind::<Array<Nullable<BigInt>>, _>(column(new, |task| task.expires_in.map(ms)))
        .bind::<Array<SqlUuid>, _>(members.ids)
        .bind::<Array<Text>, _>(members.keys)
        .bind::<Array<Text>, _>(members.values)
        .rows(conn)
        .await?;
    if accepted.len() < new.len() {
        // An earlier call with these ids had committed and its answer was lost.
        const READ: &str = "SELECT id, created_at, ready_at, scheduled_at, due_at FROM tasks WHERE id = ANY($1)";
        accepted = sql("read_accepted", READ).bind::<Array<SqlUuid>, _>(ids).rows(conn).await?;
    }
    Ok(accepted.into_iter().map(Accepted::from).collect())
}

/// The members of all their metadata, as columns.
#[derive(Default)]
struct Members {
    ids: Vec<Uuid>,
    keys: Vec<String>,
    values: Vec<String>,
}

impl Members {
    fn of(new: &[&NewTask]) -> Result<Self, StoreError> {
        let mut members = Self::default();
        for task in new {
            for (key, value) in members_of(&task.metadata)? {
                members.ids.push(Uuid::from(task.id));
                members.keys.push(key);
                members.values.push(value);
            }
        }
        Ok(members)
    }
}
