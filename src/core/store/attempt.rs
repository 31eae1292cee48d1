//! Attempt: what a delivery writes while it runs and when it ends.
//!
//! Every statement carries `id AND delivery AND status = 'RUNNING'`. A row that it does not change is no longer this
//! delivery's: cancelled, stolen, or finished by an earlier try of the same write. The sequence numbers of events come
//! from the task's row in the same statement, so the order of commits is the order of numbers.

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::{
    QueryableByName,
    sql_types::{Array, BigInt, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{
    Store, StoreError, error_of,
    rows::{unreadable, uuids},
    statement::{Statement, sql},
};
use crate::core::model::{LogLine, Progress, Status, TaskError, TaskId, WorkerId};

/// What a running delivery has to say.
#[derive(Debug)]
pub struct Report {
    /// The task.
    pub id: TaskId,
    /// The fence.
    pub delivery: i32,
    /// The latest progress, where there is news.
    pub progress: Option<Progress>,
    /// The latest checkpoint, where there is news.
    pub checkpoint: Option<Box<RawValue>>,
    /// Log lines, oldest first.
    pub lines: Vec<LogLine>,
}

/// A row that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// The task.
    pub id: TaskId,
    /// The number of its last event now.
    pub seq: i32,
    /// Its version now.
    pub version: i32,
}

/// How a delivery stands in its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// The task.
    pub id: TaskId,
    /// Its status; `None` when it is with another delivery by now. What is RUNNING is this delivery's to write.
    pub status: Option<Status>,
    /// The number of its last event.
    pub seq: i32,
    /// Its version.
    pub version: i32,
}

#[derive(QueryableByName)]
struct WrittenRow {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Integer)]
    seq: i32,
    #[diesel(sql_type = Integer)]
    version: i32,
}

#[derive(QueryableByName)]
struct StandingRow {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Nullable<Text>)]
    status: Option<String>,
    #[diesel(sql_type = Integer)]
    seq: i32,
    #[diesel(sql_type = Integer)]
    version: i32,
}

/// The last thing a delivery says.
#[derive(Debug)]
pub struct Finish {
    /// What it had to say besides.
    pub report: Report,
    /// How it ended.
    pub ending: Ending,
    /// W3C `traceparent` of the attempt, where it is traced.
    pub trace_context: Option<String>,
}

/// How a delivery ends.
#[derive(Debug)]
pub enum Ending {
    /// SUCCESS.
    Success(Box<RawValue>),
    /// FAILED.
    Failed(TaskError),
    /// PENDING again after this many milliseconds; the attempt is charged.
    RetryAfter(TaskError, i64),
    /// PENDING again at once; nothing is charged. The text says why.
    HandBack(&'static str),
    /// PENDING again after this many milliseconds; nothing is charged.
    Snooze(i64),
    /// PENDING again a little later, because this worker could not decode the input; nothing is charged.
    Undecodable(String),
}

impl Ending {
    /// Of an attempt that failed and may be worth another one: again after `wait`, or for good when it was the last that
    /// the budget has. `failures` are those before it.
    pub fn after_failure(error: TaskError, failures: i32, max_attempts: i32, wait: Duration) -> Self {
        match failures + 1 < max_attempts {
            true => Ending::RetryAfter(error, i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)),
            false => Ending::Failed(error),
        }
    }

    fn status(&self) -> &'static str {
        match self {
            Ending::Success(_) => "SUCCESS",
            Ending::Failed(_) => "FAILED",
            Ending::RetryAfter(..) | Ending::HandBack(_) | Ending::Snooze(_) | Ending::Undecodable(_) => "PENDING",
        }
    }

    fn reason(&self) -> Option<String> {
        match self {
            Ending::Success(_) | Ending::Failed(_) => None,
            Ending::RetryAfter(_, ms) => Some(format!("retry in {:.1} s", *ms as f64 / 1000.0)),
            Ending::HandBack(why) => Some((*why).to_owned()),
            Ending::Snooze(ms) => Some(format!("given back for {:.1} s", *ms as f64 / 1000.0)),
            Ending::Undecodable(why) => Some(format!("this worker cannot decode the input: {why}")),
        }
    }

    fn error(&self) -> Option<String> {
        match self {
            Ending::Failed(error) | Ending::RetryAfter(error, _) => Some(error_text(error)),
            Ending::Success(_) | Ending::HandBack(_) | Ending::Snooze(_) | Ending::Undecodable(_) => None,
        }
    }

    fn wait_ms(&self) -> Option<i64> {
        match self {
            // A month is as good as never, and far from what an interval can hold.
            Ending::RetryAfter(_, ms) | Ending::Snooze(ms) => Some((*ms).clamp(0, 30 * 24 * 3_600_000)),
            Ending::Undecodable(_) => Some(rand::random_range(4_000..6_000)),
            Ending::Success(_) | Ending::Failed(_) | Ending::HandBack(_) => None,
        }
    }
}

pub(super) fn error_text(error: &TaskError) -> String {
    serde_json::to_string(error)
        .unwrap_or_else(|_| r#"{"code":"error","message":"","retryable":false,"attempt":1}"#.into())
}

/// `$1` ids, `$2` deliveries, `$3` to `$6` progress, `$7` checkpoints, `$8` number of lines.
///
/// `status = 'RUNNING'` is written so that the planner cannot see it is what the index tasks_running is about: that index
/// is tiny when a plan is made, and a plan that is kept would read all that runs anywhere for each batch, instead of the
/// rows that the batch names.
macro_rules! locked_reports {
    ($more:literal, $also:literal) => {
        concat!(
            "WITH locked AS MATERIALIZED (
                SELECT r.* FROM unnest($1, $2, $3, $4, $5, $6, $7, $8",
            $more,
            " JOIN tasks t ON t.id = r.id AND t.delivery = r.delivery AND (CASE t.status WHEN 'RUNNING' THEN true END)",
            $also,
            " ORDER BY t.id FOR UPDATE OF t)"
        )
    };
}

/// `$9` to `$13`: the lines, each with its task and its place among that task's lines, from 1.
macro_rules! insert_lines {
    ($last_before:literal) => {
        concat!(
            ", lines AS (
                INSERT INTO task_events (task_id, seq, at, delivery, attempt, level, message)
                SELECT w.id, ",
            $last_before,
            " + l.place, l.at, w.delivery, w.attempt, l.level, l.message
                FROM written w JOIN unnest($9, $10, $11, $12, $13) AS l(id, place, at, level, message) ON l.id = w.id)
            SELECT id, seq, version FROM written"
        )
    };
}

/// What both statements do with a report's progress and checkpoint. A new checkpoint is proof of progress: the count
/// of lost deliveries starts again.
macro_rules! set_report {
    () => {
        "progress_current = coalesce(l.current, t.progress_current),
         progress_total = CASE WHEN l.current IS NULL THEN t.progress_total ELSE l.total END,
         progress_message = CASE WHEN l.current IS NULL THEN t.progress_message ELSE l.message END,
         progress_at = CASE WHEN l.current IS NULL THEN t.progress_at ELSE l.at END,
         checkpoint = coalesce(l.checkpoint::json, t.checkpoint),
         checkpoint_at = CASE WHEN l.checkpoint IS NULL THEN t.checkpoint_at ELSE clock_timestamp() END,
         lost = CASE WHEN l.checkpoint IS NULL THEN t.lost ELSE 0 END,
         version = t.version + 1"
    };
}

// A running row changes its version by this statement alone, so one that was long on its way, given up and sent again
// finds another version and changes nothing. An ending needs no such fence: a second one finds the row no longer RUNNING.
const RECORD: &str = concat!(
    locked_reports!(
        ", $14) AS r(id, delivery, current, total, message, at, checkpoint, lines, version)",
        " AND (r.version IS NULL OR t.version = r.version)"
    ),
    // Whoever reports has decoded the input.
    ", written AS (UPDATE tasks t SET seq = t.seq + l.lines, undecodable_since = NULL, ",
    set_report!(),
    " FROM locked l WHERE t.id = l.id RETURNING t.id, t.delivery, t.attempt, t.seq, t.version, l.lines)",
    insert_lines!("w.seq - w.lines")
);

const FINISH: &str = concat!(
    locked_reports!(
        ", $14, $15, $16, $17, $18, $19)
         AS r(id, delivery, current, total, message, at, checkpoint, lines, status, result, error, wait_ms, reason, how)",
        ""
    ),
    ", written AS (
        UPDATE tasks t SET seq = t.seq + l.lines + 1, ",
    set_report!(),
    ", status = l.status, result = l.result::json,
       error = CASE WHEN l.status = 'FAILED' THEN l.error::json END,
       last_error = CASE WHEN l.status = 'PENDING' THEN coalesce(l.error::json, t.last_error) END,
       failures = t.failures + CASE WHEN l.error IS NULL THEN 0 ELSE 1 END,
       completed_at = CASE WHEN l.status <> 'PENDING' THEN clock_timestamp() END,
       ready_at = CASE WHEN l.status = 'PENDING' THEN clock_timestamp() + coalesce(l.wait_ms, 0) * interval '1 ms'
                       ELSE t.ready_at END,
       due_at = clock_timestamp() + l.wait_ms * interval '1 ms',
       undecodable_since = CASE WHEN l.how = 'undecodable' THEN coalesce(t.undecodable_since, clock_timestamp()) END,
       worker_id = CASE WHEN l.status <> 'PENDING' THEN t.worker_id END
       FROM locked l WHERE t.id = l.id
       RETURNING t.id, t.delivery, t.attempt, t.seq, t.version, l.lines, l.status, l.reason, l.error, $20 AS worker_id
    ), history AS (
        INSERT INTO task_events (task_id, seq, delivery, attempt, status, message, worker_id, error)
        SELECT id, seq, delivery, attempt, status, reason, worker_id, error::json FROM written)",
    insert_lines!("w.seq - 1 - w.lines")
);

fn bind_reports(statement: Statement, reports: &[&Report]) -> Statement {
    fn column<T>(reports: &[&Report], value: impl Fn(&Report) -> T) -> Vec<T> {
        reports.iter().map(|report| value(report)).collect()
    }
    fn progress<T>(reports: &[&Report], value: impl Fn(&Progress) -> T) -> Vec<Option<T>> {
        column(reports, |report| report.progress.as_ref().map(&value))
    }
    let lines =
        || reports.iter().flat_map(|report| (1..).zip(&report.lines).map(|(place, line)| (report.id, place, line)));
    statement
        .bind::<Array<SqlUuid>, _>(column(reports, |report| Uuid::from(report.id)))
        .bind::<Array<Integer>, _>(column(reports, |report| report.delivery))
        .bind::<Array<Nullable<BigInt>>, _>(progress(reports, |p| p.current))
        .bind::<Array<Nullable<BigInt>>, _>(column(reports, |r| r.progress.as_ref().and_then(|p| p.total)))
        .bind::<Array<Nullable<Text>>, _>(column(reports, |r| r.progress.as_ref().and_then(|p| p.message.clone())))
        .bind::<Array<Nullable<Timestamptz>>, _>(progress(reports, |p| p.updated_at))
        .bind::<Array<Nullable<Text>>, _>(column(reports, |r| r.checkpoint.as_ref().map(|c| c.get().to_owned())))
        .bind::<Array<Integer>, _>(column(reports, |report| report.lines.len() as i32))
        .bind::<Array<SqlUuid>, _>(lines().map(|(id, ..)| Uuid::from(id)).collect::<Vec<_>>())
        .bind::<Array<Integer>, _>(lines().map(|(_, place, _)| place).collect::<Vec<i32>>())
        .bind::<Array<Timestamptz>, _>(lines().map(|(.., line)| line.at).collect::<Vec<DateTime<Utc>>>())
        .bind::<Array<Text>, _>(lines().map(|(.., line)| line.level.as_str()).collect::<Vec<&'static str>>())
        .bind::<Array<Text>, _>(lines().map(|(.., line)| line.message.clone()).collect::<Vec<_>>())
}

impl Store {
    /// Writes what running deliveries have to say, each with the version of its row as the delivery last saw it, where
    /// it is to be written once however often it is sent. Returns what was written. The others are no longer their
    /// delivery's, or an earlier call has written them and its answer was lost: [`standings`](Self::standings) tells.
    pub async fn record(&self, reports: &[(&Report, Option<i32>)]) -> Result<Vec<Written>, StoreError> {
        let (reports, versions): (Vec<&Report>, Vec<Option<i32>>) = reports.iter().copied().unzip();
        let statement = bind_reports(sql("record", RECORD).with_kept_plan(), &reports)
            .bind::<Array<Nullable<Integer>>, _>(versions);
        self.written(statement).await
    }

    /// Ends deliveries. Returns those that were ended by this call. The others were no longer theirs, or an earlier
    /// call ended them and its answer was lost: nobody needs to know which.
    pub async fn finish(&self, worker: WorkerId, finishes: &[&Finish]) -> Result<Vec<Written>, StoreError> {
        fn column<T>(finishes: &[&Finish], value: impl Fn(&Ending) -> T) -> Vec<T> {
            finishes.iter().map(|finish| value(&finish.ending)).collect()
        }
        let reports: Vec<&Report> = finishes.iter().map(|finish| &finish.report).collect();
        let result = |ending: &Ending| match ending {
            Ending::Success(result) => Some(result.get().to_owned()),
            _ => None,
        };
        let how = |ending: &Ending| matches!(ending, Ending::Undecodable(_)).then_some("undecodable");
        let statement = sql("finish", FINISH)
            .with_kept_plan()
            .with_defect("finish-without-delivery", "AND t.delivery = r.delivery", "")
            .with_defect(
                "finish-by-id",
                "AND t.delivery = r.delivery AND (CASE t.status WHEN 'RUNNING' THEN true END)",
                "",
            );
        let statement = bind_reports(statement, &reports)
            .bind::<Array<Text>, _>(column(finishes, Ending::status))
            .bind::<Array<Nullable<Text>>, _>(column(finishes, result))
            .bind::<Array<Nullable<Text>>, _>(column(finishes, Ending::error))
            .bind::<Array<Nullable<BigInt>>, _>(column(finishes, Ending::wait_ms))
            .bind::<Array<Nullable<Text>>, _>(column(finishes, Ending::reason))
            .bind::<Array<Nullable<Text>>, _>(column(finishes, how))
            .bind::<SqlUuid, _>(Uuid::from(worker));
        let call = self.server.call(statement.name());
        let written = self.written(statement).await;
        if let Some(call) = call {
            let traces = finishes.iter().filter_map(|finish| finish.trace_context.as_deref());
            call.ended_for(traces, error_of(&written));
        }
        written
    }

    async fn written(&self, statement: Statement) -> Result<Vec<Written>, StoreError> {
        let rows: Vec<WrittenRow> = self.rows(statement).await?;
        Ok(rows.into_iter().map(|row| Written { id: row.id.into(), seq: row.seq, version: row.version }).collect())
    }

    /// How these deliveries stand: what to read before a write is repeated whose answer was lost, and before an
    /// attempt is stopped on hearsay. Rows that are gone are left out.
    pub async fn standings(&self, deliveries: &[(TaskId, i32)]) -> Result<Vec<Standing>, StoreError> {
        const STANDINGS: &str = "
            SELECT t.id, t.seq, t.version, CASE WHEN t.delivery = d.delivery THEN t.status END AS status
            FROM unnest($1, $2) AS d(id, delivery) JOIN tasks t ON t.id = d.id";
        let (ids, numbers): (Vec<TaskId>, Vec<i32>) = deliveries.iter().copied().unzip();
        let statement =
            sql("standings", STANDINGS).bind::<Array<SqlUuid>, _>(uuids(&ids)).bind::<Array<Integer>, _>(numbers);
        let rows: Vec<StandingRow> = self.rows(statement).await?;
        let standing = |row: StandingRow| {
            let StandingRow { id, status, seq, version } = row;
            let status =
                status.map(|status| status.parse()).transpose().map_err(|error| unreadable("status", error))?;
            Ok(Standing { id: id.into(), status, seq, version })
        };
        rows.into_iter().map(standing).collect()
    }

    /// Confirms that a cancelled delivery has stopped: the one write a delivery makes after its end, and nothing else
    /// of the row is touched. Until then an operator's retry has to wait.
    pub async fn confirm_stopped(&self, worker: WorkerId, stopped: &[(TaskId, i32)]) -> Result<usize, StoreError> {
        const CONFIRM: &str = "
            WITH locked AS MATERIALIZED (
                SELECT t.id FROM unnest($1, $2) AS s(id, delivery) JOIN tasks t ON t.id = s.id AND t.delivery = s.delivery
                WHERE t.status = 'CANCELLED' AND t.worker_id = $3 ORDER BY t.id FOR UPDATE OF t)
            UPDATE tasks t SET worker_id = NULL FROM locked WHERE t.id = locked.id";
        let (ids, deliveries): (Vec<Uuid>, Vec<i32>) = stopped.iter().map(|(id, n)| (Uuid::from(*id), *n)).unzip();
        let statement = sql("confirm_stopped", CONFIRM)
            .bind::<Array<SqlUuid>, _>(ids)
            .bind::<Array<Integer>, _>(deliveries)
            .bind::<SqlUuid, _>(Uuid::from(worker));
        self.run(statement).await
    }
}
