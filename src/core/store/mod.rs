//! Store: PostgreSQL. Every SQL statement of the project is a verb in here.
//!
//! Each verb is one statement with its own commit, so a caller that is dropped in the middle leaves no transaction
//! open; the one transaction of several statements, a submit with keys, runs on a task that nobody drops. Statements
//! over several rows lock them first, in the order of their ids unless they skip what is locked. The clock is
//! PostgreSQL's.

mod attempt;
mod claim;
mod connect;
mod credentials;
mod doorbells;
mod due;
mod filter;
mod http_lease;
pub mod inspect;
mod lease;
mod list;
mod look;
mod metadata;
pub mod migrate;
mod operate;
mod queues;
mod read;
mod recover;
mod retention;
mod rows;
mod secure;
mod statement;
mod submit;
mod task_types;
mod walk;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use diesel_async::{AsyncPgConnection, methods::LoadQuery, pooled_connection::deadpool::Pool};
use tokio::sync::OnceCell;

use super::{
    faults,
    model::{Level, Priority, Status, Submission, TaskId},
};
use crate::{
    config,
    metrics::{Metrics, Pool as PoolName, PoolNumbers},
    telemetry::calls::{Call, Server},
};
use statement::{Statement, sql};

pub use connect::check;

pub use attempt::{Ending, Finish, Report, Standing, Written};
pub use claim::NotClaimed;
pub use credentials::{Grant, KeyState, NewKey, NewSession};
pub use doorbells::{DoorbellState, ReadyPage, Waiting};
pub use http_lease::{Ask, HttpWorker, LeaseStanding, Leased};
pub use lease::{InItsName, Introduction, LeaseKeeper, Renewal};
pub use list::{Counted, Listed, Matching};
pub use look::{Present, Runner, StatusChange, WorkerState};
pub use operate::{BATCH, COUNT_LIMIT, Changed};
pub use queues::{Place, QueueSample, QueueState};
pub use recover::{Stolen, ToRecover};
pub use submit::{Accepted, Settled, Try};
pub use task_types::DeclarationsStamp;

/// A statement that takes longer is given up, and its connection with it. Around single statements only.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);
/// Somebody waits for a submit, and can repeat it.
const SUBMIT_TIMEOUT: Duration = Duration::from_secs(5);
/// One statement of a list takes no longer: then its caller gives it up.
const LIST_TIMEOUT: Duration = Duration::from_secs(1);
/// A little before, PostgreSQL itself cuts it off.
const CUT_OFF: Duration = Duration::from_millis(750);
/// Lists that are read at a time, so that dashboards leave connections to everybody else.
const READERS: usize = 3;
/// What dashboards watch is read on this many connections, and a statement of theirs takes no longer than this.
const WATCHERS: (usize, Duration) = (2, Duration::from_secs(2));
/// The keys of callers are read on a connection of their own: what others do must not keep a revoked one in use.
const KEYS: (usize, Duration) = (1, Duration::from_secs(3));
/// What a process opens besides its pool at most: the connections for lists, for dashboards and for keys. `work` has no
/// dashboards and asks for no keys, but has a connection for its heartbeat.
pub const CONNECTIONS_BESIDE_THE_POOL: i64 = (READERS + WATCHERS.0 + KEYS.0) as i64;

/// The handle on PostgreSQL. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    pool: Pool<AsyncPgConnection>,
    /// For lists: PostgreSQL itself cuts their statements off after [`CUT_OFF`].
    readers: Pool<AsyncPgConnection>,
    target: connect::Target,
    metrics: Metrics,
    /// For traces.
    server: Server,
    /// Who the database is: it does not change.
    identity: Arc<OnceCell<String>>,
}

impl Store {
    /// Connects, waiting a bounded time for a server that is still starting.
    pub async fn connect(postgres: &config::Postgres, metrics: &Metrics) -> anyhow::Result<Self> {
        drop(connect::patiently(postgres).await?);
        let target = connect::parse(postgres)?;
        let readers = connect::pool(&connect::limited(&target, CUT_OFF), READERS)?;
        // The server ends by itself what this side has given up a little before, so that such a statement does not go
        // on waiting for a lock and holding a backend.
        let limited = connect::limited(&target, STATEMENT_TIMEOUT + LIST_TIMEOUT);
        let pool = connect::pool(&connect::by_index(&limited), usize::from(postgres.postgres_pool))?;
        Ok(Self {
            pool,
            readers,
            server: connect::server(&target),
            target,
            metrics: metrics.clone(),
            identity: Arc::default(),
        })
    }

    /// How the pools stand.
    pub fn pools(&self) -> [(PoolName, PoolNumbers); 2] {
        let numbers = |pool: &Pool<AsyncPgConnection>| {
            let status = pool.status();
            let (limit, open, idle) = (status.max_size, status.size, status.available);
            PoolNumbers { limit, open, idle, waiting: status.waiting }
        };
        [(PoolName::Postgres, numbers(&self.pool)), (PoolName::PostgresLists, numbers(&self.readers))]
    }

    /// The same verbs on two connections of their own, whose statements PostgreSQL cuts off after two seconds: what
    /// dashboards watch all day never stands in anybody's way, and is there when everything else is busy.
    pub fn for_watchers(&self) -> anyhow::Result<Self> {
        self.beside(WATCHERS)
    }

    /// The same verbs on one connection of its own, for those who look after the keys of callers.
    pub fn for_keys(&self) -> anyhow::Result<Self> {
        self.beside(KEYS)
    }

    fn beside(&self, (connections, time): (usize, Duration)) -> anyhow::Result<Self> {
        let pool = connect::pool(&connect::limited(&self.target, time), connections)?;
        Ok(Self { readers: pool.clone(), pool, ..self.clone() })
    }

    /// Whether PostgreSQL answers, and its schema is at least this binary's.
    pub async fn check_ready(&self) -> Result<(), StoreError> {
        const APPLIED: &str = "SELECT true FROM __diesel_schema_migrations WHERE version >= $1 LIMIT 1";
        let newest = migrate::newest().unwrap_or_default();
        let applied = self.run(sql("check_ready", APPLIED).bind::<diesel::sql_types::Text, _>(newest));
        match tokio::time::timeout(Duration::from_secs(2), applied).await {
            Err(_) => Err(StoreError::Unavailable("no answer within 2 s".to_owned())),
            Ok(Ok(0)) => Err(StoreError::behind("")),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error),
        }
    }

    /// Settles submissions, all in one commit. One whose answer was lost is tried again as it is, and said to be.
    pub async fn submit(&self, submissions: &[Submission], this: Try) -> Result<Vec<Settled>, StoreError> {
        let call = self.server.call("submit");
        let settled = async {
            let fault = faults::meet("submit").await?;
            let conn = connect::acquire(&self.pool).await?;
            let settled =
                conn.run_within(SUBMIT_TIMEOUT, async |conn| submit::settle(conn, submissions, this).await).await?;
            fault.after().await?;
            Ok(settled)
        };
        let settled = settled.await;
        if let Some(call) = call {
            let tasks = submissions.iter().flat_map(|submission| &submission.tasks);
            call.ended_for(tasks.filter_map(|task| task.trace_context.as_deref()), error_of(&settled));
        }
        self.noted(settled)
    }

    async fn rows<R>(&self, statement: Statement) -> Result<Vec<R>, StoreError>
    where
        R: Send,
        Statement: for<'q> LoadQuery<'q, AsyncPgConnection, R>,
    {
        let call = self.server.call(statement.name());
        let read = async {
            let fault = faults::meet(statement.name()).await?;
            let rows = connect::acquire(&self.pool).await?.run(async |conn| statement.rows(conn).await).await?;
            fault.after().await?;
            Ok(rows)
        };
        self.ended(call, read.await)
    }

    /// Like [`rows`](Self::rows), on the connections for readers; one that takes too long is an error.
    async fn read_rows<R>(&self, statement: Statement) -> Result<Vec<R>, StoreError>
    where
        R: Send,
        Statement: for<'q> LoadQuery<'q, AsyncPgConnection, R>,
    {
        let slow = || StoreError::Unavailable("a reading took too long".to_owned());
        self.read_until(Instant::now() + 3 * LIST_TIMEOUT, statement).await?.ok_or_else(slow)
    }

    /// Runs a statement on the connections for readers, which PostgreSQL cuts off after [`CUT_OFF`]. `None`: it was cut
    /// off or has not answered for as long, or no reader was free until `end`.
    async fn read_until<R>(&self, end: Instant, statement: Statement) -> Result<Option<Vec<R>>, StoreError>
    where
        R: Send,
        Statement: for<'q> LoadQuery<'q, AsyncPgConnection, R>,
    {
        let left = || end.saturating_duration_since(Instant::now());
        let call = self.server.call(statement.name());
        let read = async {
            let fault = faults::meet(statement.name()).await?;
            let Some(reader) = connect::acquire_within(&self.readers, left()).await? else { return Ok(None) };
            let (began, allowed) = (Instant::now(), left());
            match reader.run_within(allowed, async |conn| statement.rows(conn).await).await {
                Ok(rows) => {
                    fault.after().await?;
                    Ok(Some(rows))
                }
                // It answered, with a refusal to go on: told by the time that took, since its words depend on its
                // language.
                Err(StoreError::Unavailable(_)) if began.elapsed() >= CUT_OFF.min(allowed).mul_f64(0.95) => Ok(None),
                Err(error) => Err(error),
            }
        };
        self.ended(call, read.await)
    }

    async fn run(&self, statement: Statement) -> Result<usize, StoreError> {
        let call = self.server.call(statement.name());
        let changed = async {
            let fault = faults::meet(statement.name()).await?;
            let rows = connect::acquire(&self.pool).await?.run(async |conn| statement.run(conn).await).await?;
            fault.after().await?;
            Ok(rows)
        };
        self.ended(call, changed.await)
    }

    /// A statement is over that was made for whoever called.
    fn ended<T>(&self, call: Option<Call<'_>>, outcome: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Some(call) = call {
            call.ended_here(error_of(&outcome));
        }
        self.noted(outcome)
    }

    /// Counts what did not work, and whether PostgreSQL is there.
    fn noted<T>(&self, outcome: Result<T, StoreError>) -> Result<T, StoreError> {
        let stores = &self.metrics.stores;
        match &outcome {
            Ok(_) => drop(stores.postgres_up.set(1)),
            Err(StoreError::Unavailable(_)) => {
                stores.postgres_up.set(0);
                stores.postgres_unavailable();
            }
            Err(StoreError::Refused(_)) => stores.postgres_refused(),
        }
        outcome
    }
}

/// What went wrong, as a trace has it.
fn error_of<T>(outcome: &Result<T, StoreError>) -> Option<&'static str> {
    outcome.as_ref().err().map(|error| match error {
        StoreError::Unavailable(_) => "unavailable",
        StoreError::Refused(_) => "refused",
    })
}

/// Why a verb did not do its work.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// PostgreSQL is away or overloaded: worth repeating later. The text names no connection string.
    #[error("PostgreSQL cannot serve this now: {0}")]
    Unavailable(String),
    /// PostgreSQL refused the statement: a defect of this program, or of the schema.
    #[error("PostgreSQL refused a statement: {0}")]
    Refused(String),
}

/// What an operator reads when the tables are older than the program.
const BEHIND: &str = "the schema is behind this program: run app migrate";

impl StoreError {
    /// The tables are older than the program: it passes with the migration. `missing` is what PostgreSQL says, if
    /// anything.
    fn behind(missing: &str) -> Self {
        StoreError::Unavailable(if missing.is_empty() { BEHIND.to_owned() } else { format!("{BEHIND} ({missing})") })
    }

    /// Whether the tables are older than the program, and nothing else is wrong.
    pub fn is_behind(&self) -> bool {
        matches!(self, StoreError::Unavailable(why) if why.starts_with(BEHIND))
    }
}

impl From<faults::Injected> for StoreError {
    fn from(injected: faults::Injected) -> Self {
        StoreError::Unavailable(injected.to_string())
    }
}

/// What became of an id.
#[derive(Debug, Clone, PartialEq)]
pub enum Lookup<T> {
    /// It is there, and the caller may see it.
    Found(T),
    /// Retention deleted it.
    Gone,
    /// Unknown, or somebody else's: the same answer.
    Missing,
}

impl<T> Lookup<T> {
    /// What is found, turned into something else.
    pub fn map<U>(self, turn: impl FnOnce(T) -> U) -> Lookup<U> {
        match self {
            Lookup::Found(found) => Lookup::Found(turn(found)),
            Lookup::Gone => Lookup::Gone,
            Lookup::Missing => Lookup::Missing,
        }
    }
}

/// Which tasks a list shows. Every part is optional; parts are joined by AND.
#[derive(Debug, Clone, Default)]
pub struct TaskFilter {
    /// Any of these tasks.
    pub ids: Option<Vec<TaskId>>,
    /// In any of these states.
    pub statuses: Vec<Status>,
    /// This type.
    pub task_type: Option<String>,
    /// This queue.
    pub queue: Option<String>,
    /// This priority.
    pub priority: Option<Priority>,
    /// This error code.
    pub error: Option<String>,
    /// Created at or after.
    pub created_after: Option<DateTime<Utc>>,
    /// Created before.
    pub created_before: Option<DateTime<Utc>>,
    /// Metadata members that must be equal, as strings.
    pub metadata: Vec<(String, String)>,
    /// Only tasks older than this one: the keyset cursor.
    pub before: Option<TaskId>,
    /// Only this task and newer ones.
    pub from: Option<TaskId>,
    /// Leave out this many first. For old clients; a cursor costs less.
    pub skip: i64,
    /// At most this many, 1 to 1000.
    pub limit: i64,
}

/// Which events of a task a reader wants.
#[derive(Debug, Clone, Default)]
pub struct EventFilter {
    /// Only `seq` above this.
    pub after: i32,
    /// Only log lines, and of the changes of status the ends that no attempt has told: expired, lost, cancelled.
    pub logs_only: bool,
    /// Only log lines at least this heavy.
    pub level: Option<Level>,
    /// Only this delivery.
    pub delivery: Option<i32>,
    /// At most this many.
    pub limit: i64,
    /// No more after the line that fills this many bytes.
    pub bytes: Option<i64>,
    /// Which of them, where there are more.
    pub end: End,
}

/// The end of a history that a page is taken from. Either way the page is oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum End {
    /// The oldest.
    #[default]
    Oldest,
    /// The newest.
    Newest,
}
