//! Core: what `serve` and `work` share. The dual write, row first and doorbell second, is written here and only here.
//!
//! PostgreSQL is the truth and Redis is a doorbell: every verb below commits in [`store`], then rings in [`queue`]
//! and publishes through [`queue::Outlet`], which nobody waits for. Lose the second half and the sweep finds it; lose
//! all of Redis, and every doorbell rings again.

mod courier;
pub mod credential;
pub(crate) mod doorbells;
pub mod events;
pub(crate) mod faults;
mod lease;
mod looker;
pub mod model;
pub mod queue;
mod scrape;
pub mod store;
mod submit;

use std::{future::Future, sync::Arc, time::Duration};

use model::{Scope, Status, Submission, Submitted, Task, TaskEvent, TaskId};
use scrape::Scrape;
use serde_json::value::RawValue;
use tracing::Instrument;

pub use events::Events;
pub use lease::Held;
use looker::Looker;
pub use queue::Queue;
pub use scrape::Counting;
pub use store::{Counted, End, EventFilter, Listed, Lookup, Store, StoreError, TaskFilter};
pub use submit::Submitter;

use crate::{config, metrics::Metrics};

/// Why a submission was not accepted.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SubmitError {
    /// Its idempotency key was used for another body.
    #[error("the idempotency key was used for another body")]
    KeyReused,
    /// PostgreSQL did not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a cancel did.
#[derive(Debug, Clone)]
pub enum CancelOutcome {
    /// It is CANCELLED, now or since earlier.
    Cancelled,
    /// It had ended otherwise.
    TooLate(Box<Task>),
}

/// What an operator's retry did.
#[derive(Debug, Clone)]
pub enum RetryOutcome {
    /// It is PENDING again.
    Retried(Box<Task>),
    /// It is cancelled, and its attempt has not confirmed yet that it stopped.
    StillStopping,
    /// It is neither FAILED nor CANCELLED.
    NotFinal(Box<Task>),
}

/// What can be done to many tasks at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bulk {
    /// Cancel those that are not final.
    Cancel,
    /// Retry those that are FAILED or CANCELLED.
    Retry,
}

/// How long a process that leaves waits for its last doorbells.
const LAST_RINGS: Duration = Duration::from_secs(2);

/// Runs something on a task of its own, to its end: a caller that goes away in the middle cannot leave a row changed
/// and nobody told.
async fn unhurried<T: Send + 'static>(
    work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::spawn(work.in_current_span()).await.unwrap_or_else(|error| Err(StoreError::Unavailable(error.to_string())))
}

/// The shared handle. Cheap to clone.
#[derive(Clone)]
pub struct Core {
    /// PostgreSQL.
    pub store: Store,
    /// Redis lists.
    pub queue: Queue,
    /// Wakes streams, long polls and cancellations.
    pub events: Events,
    /// What the process counts.
    pub metrics: Metrics,
    submitter: Submitter,
    looker: Looker,
    scrape: Arc<Scrape>,
}

impl Core {
    /// Connects to PostgreSQL, waiting a bounded time for it. Redis need not be there; one that holds the doorbells of
    /// another database is refused, since each would take the other's for lost, for ever.
    pub async fn connect(postgres: &config::Postgres, redis: &config::Redis) -> anyhow::Result<Self> {
        let metrics = Metrics::new();
        let queue = Queue::new(redis, &metrics)?;
        let store = Store::connect(postgres, &metrics).await?;
        if !queue.answers().await {
            tracing::warn!(
                "{} cannot be reached: tasks are accepted and kept, their starts are delayed",
                queue.describe()
            );
        }
        // What cannot be asked just now is asked again by everybody who compares the epochs.
        if let Ok(identity) = store.identity().await
            && let Ok(false) = queue.belongs_to(identity).await
        {
            anyhow::bail!(
                "{} holds the doorbells of another PostgreSQL database: give each database a Redis, or a database \
                 number of one, of its own; where the other database is gone for good, delete the key {} there",
                queue.describe(),
                queue::keys::DATABASE
            );
        }
        // Said once, here: a role that finds old tables waits for the migration, and looks as if nothing were wrong.
        if let Err(error) = store.check_ready().await
            && error.is_behind()
        {
            tracing::warn!("{error}");
        }
        let events = Events::new(&queue, &metrics);
        let submitter = Submitter::start(store.clone(), queue.outlet().clone());
        let looker = Looker::start(&store);
        let scrape = Scrape::new(store.clone(), metrics.clone());
        Ok(Self { store, queue, events, metrics, submitter, looker, scrape })
    }

    /// Accepts tasks: when this returns `Ok`, they are committed. The answer is the tasks as their rows have them; with
    /// a key that was used before for the same body, the tasks of that time.
    pub async fn submit(&self, submission: Submission) -> Result<Submitted, SubmitError> {
        self.submitter.submit(submission).await
    }

    /// Reads one task.
    pub async fn get(&self, id: TaskId, scope: &Scope) -> Result<Lookup<Task>, StoreError> {
        self.looker.look(id, scope).await
    }

    /// Reads the input of one task, as it came.
    pub async fn input(&self, id: TaskId, scope: &Scope) -> Result<Lookup<Box<RawValue>>, StoreError> {
        self.store.input(id, scope).await
    }

    /// Lists tasks, newest first; results over 1 KiB are left out. Takes two seconds at most.
    pub async fn list(&self, filter: &TaskFilter, scope: &Scope) -> Result<Listed, StoreError> {
        self.store.list(filter, scope).await
    }

    /// The versions of these tasks; ids without a row are left out.
    pub async fn versions(&self, ids: &[TaskId]) -> Result<Vec<(TaskId, i32)>, StoreError> {
        self.store.versions(ids).await
    }

    /// Reads a task and the events after `filter.after`, oldest first. Events come first and the task second, so the
    /// task's `seq` is at least that of every event, and what is committed in between is in the next reading.
    pub async fn history(
        &self,
        id: TaskId,
        scope: &Scope,
        filter: &EventFilter,
    ) -> Result<Lookup<(Task, Vec<TaskEvent>)>, StoreError> {
        let events = self.store.events(id, filter).await?;
        Ok(self.get(id, scope).await?.map(|task| (task, events)))
    }

    /// Cancels a task: one statement, for good.
    pub async fn cancel(&self, id: TaskId, scope: &Scope) -> Result<Lookup<CancelOutcome>, StoreError> {
        loop {
            if self.cancel_many(vec![id], scope).await? > 0 {
                return Ok(Lookup::Found(CancelOutcome::Cancelled));
            }
            return Ok(match self.get(id, scope).await? {
                // Retried between the two statements: it can be cancelled again.
                Lookup::Found(task) if !task.status.is_final() => continue,
                found => found.map(|task| match task.status {
                    Status::Cancelled => CancelOutcome::Cancelled,
                    _ => CancelOutcome::TooLate(Box::new(task)),
                }),
            });
        }
    }

    /// Gives a FAILED or CANCELLED task a new run.
    pub async fn retry(&self, id: TaskId, scope: &Scope) -> Result<Lookup<RetryOutcome>, StoreError> {
        loop {
            let retried = self.retry_many(vec![id], scope).await? > 0;
            return Ok(match self.get(id, scope).await? {
                // Failed between the two statements: it can be retried.
                Lookup::Found(task) if !retried && task.status == Status::Failed => continue,
                found => found.map(|task| match task.status {
                    _ if retried => RetryOutcome::Retried(Box::new(task)),
                    Status::Cancelled => RetryOutcome::StillStopping,
                    _ => RetryOutcome::NotFinal(Box::new(task)),
                }),
            });
        }
    }

    /// Cancels those of these tasks that are not final. Returns how many.
    pub async fn cancel_many(&self, ids: Vec<TaskId>, scope: &Scope) -> Result<usize, StoreError> {
        let (this, scope) = (self.clone(), scope.clone());
        unhurried(async move {
            let changed = this.store.cancel(&ids, &scope).await?;
            this.queue.outlet().cancelled(changed.versions.iter().map(|(id, _)| *id).collect());
            let count = changed.versions.len();
            this.queue.outlet().changed(changed.versions);
            Ok(count)
        })
        .await
    }

    /// Gives those of these tasks that are FAILED or CANCELLED a new run. Returns how many.
    pub async fn retry_many(&self, ids: Vec<TaskId>, scope: &Scope) -> Result<usize, StoreError> {
        let (this, scope) = (self.clone(), scope.clone());
        unhurried(async move {
            let changed = this.store.retry(&ids, &scope).await?;
            let count = changed.versions.len();
            this.queue.outlet().ring_each(changed.bells);
            this.queue.outlet().changed(changed.versions);
            Ok(count)
        })
        .await
    }

    /// Does something to every task that matches, in steps. Returns how many were changed. Tasks that come later are
    /// not included, and those that others change meanwhile are left out.
    pub async fn all_matching(&self, action: Bulk, filter: &TaskFilter, scope: &Scope) -> Result<usize, StoreError> {
        let mut filter = TaskFilter { limit: store::BATCH, ..filter.clone() };
        let mut count = 0;
        loop {
            let found = self.store.matching(&filter, scope).await?;
            if !found.ids.is_empty() {
                count += match action {
                    Bulk::Cancel => self.cancel_many(found.ids, scope).await?,
                    Bulk::Retry => self.retry_many(found.ids, scope).await?,
                };
            }
            match found.next {
                Some(next) => filter.before = Some(next),
                None => return Ok(count),
            }
        }
    }

    /// How many tasks match, up to [`store::COUNT_LIMIT`].
    pub async fn count(&self, filter: &TaskFilter, scope: &Scope) -> Result<Counted, StoreError> {
        self.store.count(filter, scope).await
    }

    /// How many tasks match, by state; see [`Store::counts`].
    pub async fn counts(&self, filter: &TaskFilter, scope: &Scope) -> Result<Vec<(Status, Option<i64>)>, StoreError> {
        self.store.counts(filter, scope).await
    }

    /// Whether PostgreSQL answers and its schema is at least this binary's: what `/readyz` asks.
    pub async fn ready(&self) -> Result<(), StoreError> {
        self.store.check_ready().await
    }

    /// Returns when what was rung and published so far is written or given up, and after two seconds in any case: for a
    /// process that leaves, whose last doorbells others would have to miss first.
    pub async fn flushed(&self) {
        let _ = tokio::time::timeout(LAST_RINGS, self.queue.outlet().flushed()).await;
    }

    /// Whether Redis answered last, as far as anybody here has asked.
    pub fn redis_is_up(&self) -> bool {
        self.queue.health().is_up()
    }

    /// Whether Redis answers now: `false` means that starts are delayed, nothing else.
    pub async fn redis_answers(&self) -> bool {
        self.queue.answers().await
    }
}
