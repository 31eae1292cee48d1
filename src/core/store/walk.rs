//! Walk: the table looked through window by window, newest first, for what no index serves.
//!
//! Windows begin small, since a row may have a megabyte to look at, and grow while they are quick. One that PostgreSQL
//! cuts off is tried again with fewer rows. Every window is a statement of its own on the connections for readers, so
//! however long a walk is, it holds up nobody but readers, and those for a second at most.

use std::time::{Duration, Instant};

use diesel::{
    QueryableByName,
    sql_types::{BigInt, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, methods::LoadQuery};
use uuid::Uuid;

use super::{
    Store, StoreError,
    statement::{Statement, sql},
};
use crate::core::model::TaskId;

/// Rows of the first window, and of the largest.
const FIRST: i64 = 100;
const LARGEST: i64 = 20_000;
/// After a window that took less the next one is larger.
const QUICK: Duration = Duration::from_millis(50);
/// How much larger, or smaller after one that took too long.
const FACTOR: i64 = 4;

/// How far a walk has come.
pub(super) struct Walk {
    /// Everything from here on was looked through; `None` at the beginning.
    pub(super) before: Option<TaskId>,
    size: i64,
}

/// What one window came to.
pub(super) enum Window<R> {
    /// What is in it. The walk has moved on.
    Found(Vec<R>),
    /// There is none: the walk has come to its end.
    End,
    /// PostgreSQL cut it off, or no reader was free. The walk has not moved.
    Slow,
}

#[derive(QueryableByName)]
pub(super) struct IdRow {
    #[diesel(sql_type = SqlUuid)]
    pub(super) id: Uuid,
}

impl Walk {
    /// Begins below this task, or with the newest.
    pub(super) fn below(before: Option<TaskId>) -> Self {
        Self { before, size: FIRST }
    }

    /// Looks through the next window with a statement that is given its two ends: below the first, at or above the
    /// second.
    pub(super) async fn step<R>(
        &mut self,
        store: &Store,
        until: Instant,
        statement: impl FnOnce(TaskId, Uuid) -> Statement,
    ) -> Result<Window<R>, StoreError>
    where
        R: Send,
        Statement: for<'q> LoadQuery<'q, AsyncPgConnection, R>,
    {
        const BOUND: &str = "
            SELECT id FROM (SELECT id FROM tasks WHERE id < $1 ORDER BY id DESC LIMIT $2) AS passed ORDER BY id LIMIT 1";
        let began = Instant::now();
        let before = self.before.unwrap_or(TaskId::from(Uuid::max()));
        let bound = sql("window_bound", BOUND).bind::<SqlUuid, _>(Uuid::from(before)).bind::<BigInt, _>(self.size);
        let Some(bound) = store.read_until::<IdRow>(until, bound).await? else { return Ok(self.slow()) };
        let Some(bound) = bound.into_iter().next() else { return Ok(Window::End) };
        let Some(found) = store.read_until(until, statement(before, bound.id)).await? else { return Ok(self.slow()) };
        self.before = Some(bound.id.into());
        if began.elapsed() < QUICK {
            self.size = (self.size * FACTOR).min(LARGEST);
        }
        Ok(Window::Found(found))
    }

    fn slow<R>(&mut self) -> Window<R> {
        self.size = (self.size / FACTOR).max(1);
        Window::Slow
    }
}
