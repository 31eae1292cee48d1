//! Read: single tasks and their histories, as somebody may see them.

use diesel::{
    QueryableByName,
    sql_types::{Array, BigInt, Bool, Integer, Nullable, Text, Uuid as SqlUuid},
};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{
    End, EventFilter, Lookup, Store, StoreError,
    rows::{self, EventRow, TaskRow, VersionRow, task_columns, uuids},
    statement::{Statement, sql},
};
use crate::core::model::{Level, Scope, Task, TaskEvent, TaskId};

#[derive(QueryableByName)]
pub(super) struct TextRow {
    #[diesel(sql_type = Text)]
    pub(super) text: String,
}

#[derive(QueryableByName)]
pub(super) struct YesRow {
    #[diesel(sql_type = Bool)]
    pub(super) yes: bool,
}

/// A task, and which of the questions it answers.
#[derive(QueryableByName)]
struct AnswerRow {
    #[diesel(sql_type = BigInt)]
    question: i64,
    #[diesel(embed)]
    task: TaskRow,
}

/// A page of a task's events in this order.
macro_rules! events {
    ($order:literal) => {
        concat!(
            "SELECT * FROM (SELECT found.*, sum(length) OVER (ORDER BY ",
            $order,
            " ROWS UNBOUNDED PRECEDING) - length AS bytes_before FROM ( \
             SELECT seq, at, delivery, attempt, status, level, message, worker_id, error::text AS error, \
                    coalesce(octet_length(message), 0) AS length \
             FROM task_events \
             WHERE task_id = $1 AND seq > $2 AND ($4 IS NULL OR delivery = $4) \
               AND ($3 IS NULL OR level = ANY($3) \
                    OR CASE error ->> 'code' WHEN 'cancelled' THEN 'INFO' WHEN 'expired' THEN 'ERROR' \
                                             WHEN 'worker_lost' THEN 'ERROR' END = ANY($3)) \
             ORDER BY ",
            $order,
            " LIMIT $5) AS found) AS page WHERE $6 IS NULL OR bytes_before < $6 ORDER BY ",
            $order
        )
    };
}

impl Store {
    /// The tasks that these ids name, in their order, as somebody may see them. For `None`, [`missing`](Self::missing)
    /// tells why.
    pub(in crate::core) async fn looks(
        &self,
        asked: &[(TaskId, &Scope)],
    ) -> Result<Vec<Option<Result<Task, StoreError>>>, StoreError> {
        // The owner is the one whose tasks may be seen; NULL sees all.
        const LOOKS: &str = concat!(
            "SELECT asked.question, ",
            task_columns!(whole),
            " FROM unnest($1, $2) WITH ORDINALITY AS asked(id, owner, question)
              JOIN tasks t ON t.id = asked.id AND (asked.owner IS NULL OR t.owner = asked.owner)"
        );
        let ids: Vec<Uuid> = asked.iter().map(|(id, _)| Uuid::from(*id)).collect();
        let owners: Vec<Option<String>> = asked.iter().map(|(_, scope)| scope.owner().map(str::to_owned)).collect();
        let statement =
            sql("task", LOOKS).with_kept_plan().bind::<Array<SqlUuid>, _>(ids).bind::<Array<Nullable<Text>>, _>(owners);
        let rows: Vec<AnswerRow> = self.rows(statement).await?;
        let mut answers: Vec<Option<Result<Task, StoreError>>> = asked.iter().map(|_| None).collect();
        for row in rows {
            if let Some(answer) = usize::try_from(row.question - 1).ok().and_then(|at| answers.get_mut(at)) {
                *answer = Some(row.task.try_into());
            }
        }
        Ok(answers)
    }

    /// These tasks, in this order; those that are gone are left out.
    pub async fn tasks(&self, ids: &[TaskId]) -> Result<Vec<Task>, StoreError> {
        const MANY: &str = concat!("SELECT ", task_columns!(whole), " FROM tasks t WHERE t.id = ANY($1)");
        let rows: Vec<TaskRow> = self.rows(sql("tasks", MANY).bind::<Array<SqlUuid>, _>(uuids(ids))).await?;
        let mut tasks: Vec<Task> = rows.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?;
        tasks.sort_by_key(|task| ids.iter().position(|id| *id == task.id));
        Ok(tasks)
    }

    /// The input of one task, as it came.
    pub async fn input(&self, id: TaskId, scope: &Scope) -> Result<Lookup<Box<RawValue>>, StoreError> {
        const INPUT: &str = "SELECT input::text AS text FROM tasks WHERE id = $1 AND ($2 IS NULL OR owner = $2)";
        let rows: Vec<TextRow> = self.rows(by_id("input", INPUT, id, scope)).await?;
        match rows.into_iter().next() {
            Some(row) => Ok(Lookup::Found(rows::json(row.text)?)),
            None => self.missing(id, scope).await,
        }
    }

    /// What to say of an id that no row answers to.
    pub(in crate::core) async fn missing<T>(&self, id: TaskId, scope: &Scope) -> Result<Lookup<T>, StoreError> {
        const PURGED: &str = "SELECT true AS yes FROM tombstones WHERE task_id = $1 AND ($2 IS NULL OR owner = $2)";
        let rows: Vec<YesRow> = self.rows(by_id("missing", PURGED, id, scope)).await?;
        Ok(if rows.iter().any(|row| row.yes) { Lookup::Gone } else { Lookup::Missing })
    }

    /// The versions of these tasks; ids without a row are left out.
    pub async fn versions(&self, ids: &[TaskId]) -> Result<Vec<(TaskId, i32)>, StoreError> {
        const VERSIONS: &str = "SELECT id, version FROM tasks WHERE id = ANY($1)";
        let rows: Vec<VersionRow> =
            self.rows(sql("versions", VERSIONS).with_kept_plan().bind::<Array<SqlUuid>, _>(uuids(ids))).await?;
        Ok(rows.into_iter().map(|row| (row.id.into(), row.version)).collect())
    }

    /// Events of a task, oldest first.
    pub async fn events(&self, id: TaskId, filter: &EventFilter) -> Result<Vec<TaskEvent>, StoreError> {
        const EVENTS: &str = events!("seq");
        const NEWEST: &str = events!("seq DESC");
        let levels: Option<Vec<&'static str>> = match (filter.level, filter.logs_only) {
            (Some(least), _) => Some(Level::ALL.into_iter().filter(|l| *l >= least).map(Level::as_str).collect()),
            (None, true) => Some(Level::ALL.map(Level::as_str).to_vec()),
            (None, false) => None,
        };
        let (name, text) = match filter.end {
            End::Oldest => ("events", EVENTS),
            End::Newest => ("newest_events", NEWEST),
        };
        let statement = sql(name, text)
            .with_kept_plan()
            .bind::<SqlUuid, _>(Uuid::from(id))
            .bind::<Integer, _>(filter.after)
            .bind::<Nullable<Array<Text>>, _>(levels)
            .bind::<Nullable<Integer>, _>(filter.delivery)
            .bind::<BigInt, _>(filter.limit)
            .bind::<Nullable<BigInt>, _>(filter.bytes);
        let mut rows: Vec<EventRow> = self.rows(statement).await?;
        if filter.end == End::Newest {
            rows.reverse();
        }
        rows.into_iter().map(TryInto::try_into).collect()
    }
}

fn by_id(name: &'static str, text: &'static str, id: TaskId, scope: &Scope) -> Statement {
    sql(name, text).bind::<SqlUuid, _>(Uuid::from(id)).bind::<Nullable<Text>, _>(scope.owner().map(str::to_owned))
}
