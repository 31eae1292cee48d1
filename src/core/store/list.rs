//! List: tasks by filter, newest first, and how many there are.
//!
//! A list is asked by people and dashboards with any filter that they can think of, so its statements run on
//! connections of their own, which PostgreSQL itself cuts off after a second. What no index serves is then looked for
//! window by window, and after another second the page is handed out as it is, with the place to go on from.

use std::time::{Duration, Instant};

use diesel::{
    QueryableByName,
    sql_types::{Array, BigInt, Integer, Uuid as SqlUuid},
};
use uuid::Uuid;

use super::{
    COUNT_LIMIT, LIST_TIMEOUT, Store, StoreError, TaskFilter,
    filter::{Conditions, Selection},
    rows::{TaskRow, task_columns, uuids},
    statement::{Statement, sql},
    walk::{IdRow, Walk, Window},
};
use crate::core::model::{Scope, Status, Task, TaskId};

/// Bytes of metadata on a page, and perhaps one task more: a thousand tasks may have a gigabyte.
const PAGE_BYTES: i64 = 8 * 1024 * 1024;

/// How long something that is no list waits for one statement of a reader, and for a reader to be free.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a count goes on, window by window.
const COUNTING: Duration = Duration::from_secs(20);

/// A page of a list.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Newest first.
    pub tasks: Vec<Task>,
    /// The next page begins below this one; `None` at the end. A page may be short and have a next one all the same.
    pub next: Option<TaskId>,
    /// So many of those that were to be left out are still to come: the next page leaves them out.
    pub still_to_skip: i64,
}

/// How many tasks there are, as far as was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    /// At most [`COUNT_LIMIT`].
    pub count: i64,
    /// Counting stopped there, or took too long: there are more, or may be.
    pub more: bool,
}

/// Ids that match, and where to go on.
#[derive(Debug, Clone)]
pub struct Matching {
    /// Newest first.
    pub ids: Vec<TaskId>,
    /// The next ones are below this one; `None` at the end.
    pub next: Option<TaskId>,
}

#[derive(QueryableByName)]
struct CountRow {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

impl Store {
    /// Tasks, newest first: keyset on the id, so the millionth page costs what the first one does. Takes two seconds at
    /// most, whatever it waits for; then the page is short. Results over 1 KiB are left out.
    pub async fn list(&self, filter: &TaskFilter, scope: &Scope) -> Result<Listed, StoreError> {
        let end = Instant::now() + 2 * LIST_TIMEOUT;
        let statement = list_statement("list", filter, None, scope);
        let Some(rows) = self.read_until::<TaskRow>(Instant::now() + LIST_TIMEOUT, statement).await? else {
            return self.list_by_windows(filter, scope, end).await;
        };
        let tasks = tasks_of(rows)?;
        let is_full = tasks.len() as i64 == filter.limit || are_many_bytes(&tasks);
        let next = tasks.last().map(|task| task.id).filter(|_| is_full);
        Ok(Listed { tasks, next, still_to_skip: 0 })
    }

    async fn list_by_windows(&self, filter: &TaskFilter, scope: &Scope, end: Instant) -> Result<Listed, StoreError> {
        let (wanted, skip) = ((filter.limit + filter.skip) as usize, filter.skip as usize);
        let mut walk = Walk::below(filter.before);
        let mut tasks: Vec<Task> = Vec::new();
        let next = loop {
            let window = TaskFilter { skip: 0, limit: (wanted - tasks.len()) as i64, ..filter.clone() };
            let statement = |before, bound| {
                let window = TaskFilter { before: Some(before), ..window };
                list_statement("list_window", &window, Some(bound), scope)
            };
            match walk.step(self, end, statement).await {
                Ok(Window::Found(rows)) => tasks.extend(tasks_of(rows)?),
                Ok(Window::End) => break None,
                Ok(Window::Slow) => {}
                // No answer in the little time that was left: to the first statement there was one.
                Err(StoreError::Unavailable(_)) if Instant::now() >= end => {}
                Err(error) => return Err(error),
            }
            if tasks.len() == wanted || are_many_bytes(&tasks) {
                break tasks.last().map(|task| task.id);
            }
            if Instant::now() >= end {
                // Where nothing was looked through: the same place again, which is the newest at the beginning.
                break Some(walk.before.unwrap_or(TaskId::from(Uuid::max())));
            }
        };
        let left_out = skip.min(tasks.len());
        let still_to_skip = if next.is_some() { (skip - left_out) as i64 } else { 0 };
        Ok(Listed { tasks: tasks.split_off(left_out), next, still_to_skip })
    }

    /// How many tasks match, by state: of those that the filter names, or of all. [`COUNT_LIMIT`] + 1 means more than
    /// that, and `None` that counting took too long.
    pub async fn counts(&self, filter: &TaskFilter, scope: &Scope) -> Result<Vec<(Status, Option<i64>)>, StoreError> {
        let asked = if filter.statuses.is_empty() { Status::ALL.to_vec() } else { filter.statuses.clone() };
        let mut counts = Vec::with_capacity(asked.len());
        for status in Status::ALL.into_iter().filter(|status| asked.contains(status)) {
            let filter = TaskFilter { statuses: vec![status], ..filter.clone() };
            let statement = count_statement("counts", &filter, None, COUNT_LIMIT, scope);
            let rows = self.read_until::<CountRow>(Instant::now() + 3 * LIST_TIMEOUT, statement).await?;
            counts.push((status, rows.map(|rows| count_of(&rows))));
        }
        Ok(counts)
    }

    /// Of these tasks, each with a version that somebody has seen: those with another version, and those that wait,
    /// since what a waiting task is told changes without its row. Results over 1 KiB are left out.
    pub async fn moved_on(&self, seen: &[(TaskId, i32)]) -> Result<Vec<Task>, StoreError> {
        const MOVED_ON: &str = concat!(
            "SELECT ",
            task_columns!(small),
            " FROM unnest($1, $2) AS seen(id, version) JOIN tasks t ON t.id = seen.id \
              WHERE t.version <> seen.version OR t.status = 'PENDING'"
        );
        let (ids, versions): (Vec<TaskId>, Vec<i32>) = seen.iter().copied().unzip();
        let statement =
            sql("moved_on", MOVED_ON).bind::<Array<SqlUuid>, _>(uuids(&ids)).bind::<Array<Integer>, _>(versions);
        tasks_of(self.read_rows(statement).await?)
    }

    /// How many tasks match, counted up to this many.
    pub async fn count_up_to(&self, most: i64, filter: &TaskFilter, scope: &Scope) -> Result<i64, StoreError> {
        let rows: Vec<CountRow> = self.read_rows(count_statement("count_up_to", filter, None, most - 1, scope)).await?;
        Ok(count_of(&rows))
    }

    /// How many tasks match, window by window where no index serves.
    pub async fn count(&self, filter: &TaskFilter, scope: &Scope) -> Result<Counted, StoreError> {
        let counted = |count: i64| Counted { count: count.min(COUNT_LIMIT), more: count > COUNT_LIMIT };
        let whole = count_statement("count", filter, None, COUNT_LIMIT, scope);
        if let Some(rows) = self.read_until::<CountRow>(Instant::now() + PATIENCE, whole).await? {
            return Ok(counted(count_of(&rows)));
        }
        let end = Instant::now() + COUNTING;
        let mut walk = Walk::below(filter.before);
        let mut count = 0;
        loop {
            let left = COUNT_LIMIT - count;
            let statement = |before, bound| {
                let window = TaskFilter { before: Some(before), ..filter.clone() };
                count_statement("count_window", &window, Some(bound), left, scope)
            };
            let window: Window<CountRow> = walk.step(self, Instant::now() + PATIENCE, statement).await?;
            match window {
                Window::Found(rows) => count += count_of(&rows),
                Window::End => return Ok(counted(count)),
                Window::Slow => {}
            }
            if count > COUNT_LIMIT || Instant::now() >= end {
                return Ok(Counted { count: count.min(COUNT_LIMIT), more: true });
            }
        }
    }

    /// The newest ids that match, `filter.limit` at most: one step of something that is done to all of them. It takes a
    /// few seconds at most and may then be short, or empty, with the place to go on from; so whoever goes on comes to an
    /// end, whatever its own changes make of the filter.
    pub async fn matching(&self, filter: &TaskFilter, scope: &Scope) -> Result<Matching, StoreError> {
        let ids = |rows: Vec<IdRow>| rows.into_iter().map(|row| TaskId::from(row.id));
        let statement = matching_statement("matching", filter, None, scope);
        if let Some(rows) = self.read_until(Instant::now() + PATIENCE, statement).await? {
            let found: Vec<TaskId> = ids(rows).collect();
            let next = found.last().copied().filter(|_| found.len() as i64 == filter.limit);
            return Ok(Matching { ids: found, next });
        }
        let end = Instant::now() + LIST_TIMEOUT;
        let mut walk = Walk::below(filter.before);
        let mut found: Vec<TaskId> = Vec::new();
        loop {
            let left = filter.limit - found.len() as i64;
            let statement = |before, bound| {
                let window = TaskFilter { before: Some(before), limit: left, ..filter.clone() };
                matching_statement("matching_window", &window, Some(bound), scope)
            };
            match walk.step(self, Instant::now() + PATIENCE, statement).await? {
                Window::Found(rows) => found.extend(ids(rows)),
                Window::End => return Ok(Matching { ids: found, next: None }),
                Window::Slow => {}
            }
            if found.len() as i64 == filter.limit {
                return Ok(Matching { next: found.last().copied(), ids: found });
            }
            // Not before the walk has moved: the next step would begin where this one did.
            if Instant::now() >= end && walk.before != filter.before {
                return Ok(Matching { ids: found, next: walk.before });
            }
        }
    }
}

fn tasks_of(rows: Vec<TaskRow>) -> Result<Vec<Task>, StoreError> {
    rows.into_iter().map(TryInto::try_into).collect()
}

/// Whether there may be more that the page has no room for.
fn are_many_bytes(tasks: &[Task]) -> bool {
    tasks.iter().map(|task| task.metadata.get().len() as i64).sum::<i64>() >= PAGE_BYTES
}

/// One page, or the part of it that lies at or above `bound`. It ends early with the task that fills [`PAGE_BYTES`].
fn list_statement(name: &'static str, filter: &TaskFilter, bound: Option<Uuid>, scope: &Scope) -> Statement {
    let Selection { from, conditions, order, mut binds } = Conditions::of(filter, bound, scope).newest_first();
    let (limit, skip) = (binds.add::<BigInt, _>(filter.limit), binds.add::<BigInt, _>(filter.skip));
    let columns = task_columns!(small);
    // What comes before a task on the page, not the task itself: one of any size has room on an empty page.
    let text = format!(
        "SELECT * FROM (
             SELECT {columns}, sum(octet_length(t.metadata::text)) OVER (ORDER BY t.id DESC ROWS UNBOUNDED PRECEDING)
                               - octet_length(t.metadata::text) AS bytes_before
             FROM (SELECT t.* FROM {from} WHERE {conditions} ORDER BY {order} LIMIT {limit} OFFSET {skip}) AS t
         ) AS page WHERE bytes_before < {PAGE_BYTES} ORDER BY id DESC"
    );
    binds.onto(name, text)
}

fn matching_statement(name: &'static str, filter: &TaskFilter, bound: Option<Uuid>, scope: &Scope) -> Statement {
    let Selection { from, conditions, order, mut binds } = Conditions::of(filter, bound, scope).newest_first();
    let limit = binds.add::<BigInt, _>(filter.limit);
    binds.onto(name, format!("SELECT t.id FROM {from} WHERE {conditions} ORDER BY {order} LIMIT {limit}"))
}

fn count_of(rows: &[CountRow]) -> i64 {
    rows.first().map_or(0, |row| row.count)
}

/// One more than `limit` stands for all that are more.
fn count_statement(
    name: &'static str,
    filter: &TaskFilter,
    bound: Option<Uuid>,
    limit: i64,
    scope: &Scope,
) -> Statement {
    let Selection { from, conditions, mut binds, .. } = Conditions::of(filter, bound, scope).in_any_order();
    let limit = binds.add::<BigInt, _>(limit + 1);
    binds.onto(
        name,
        format!("SELECT count(*) AS count FROM (SELECT FROM {from} WHERE {conditions} LIMIT {limit}) AS found"),
    )
}
