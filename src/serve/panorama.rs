//! Panorama: what all dashboards of a process see: counts, queues, workers. Read once a second for all of them, on
//! connections of its own, so that it is there when the system is in trouble, which is when people look.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use super::memo::Memo;
use crate::core::{
    StoreError, TaskFilter,
    model::{Scope, Status},
    store::{HttpWorker, QueueSample, QueueState, Store, WorkerState},
};

/// All queues, with their samples.
pub struct Overview {
    /// Sorted by name.
    pub queues: Vec<QueueState>,
    /// By queue and minute.
    pub samples: Vec<QueueSample>,
    /// Who serves them over HTTP.
    pub http_workers: Vec<HttpWorker>,
}

/// How many tasks there are in each state; see [`Store::counts`].
pub type Counts = Arc<Vec<(Status, Option<i64>)>>;

/// The panorama of one process.
pub struct Panorama {
    /// The connections that dashboards read on.
    pub store: Store,
    overview: Memo<(), Arc<Overview>>,
    /// The last overview is without those who serve over HTTP: said once, however often it is read.
    lacks_http_workers: AtomicBool,
    /// By owner and filter.
    counts: Memo<(Option<String>, String), Counts>,
    /// By owner.
    workers: Memo<Option<String>, Arc<Vec<WorkerState>>>,
}

impl Panorama {
    /// A panorama that reads on a few connections beside those of `store`.
    pub fn new(store: &Store) -> anyhow::Result<Self> {
        Ok(Self {
            store: store.for_watchers()?,
            overview: Memo::default(),
            lacks_http_workers: AtomicBool::new(false),
            counts: Memo::default(),
            workers: Memo::default(),
        })
    }

    /// All queues. They are worth showing without those who serve them over HTTP.
    pub async fn overview(&self) -> Result<Arc<Overview>, StoreError> {
        let read = async {
            let http_workers = async { Ok::<_, StoreError>(self.store.http_workers().await) };
            let (queues, samples, http_workers) =
                tokio::try_join!(self.store.queues(None), self.store.samples(None), http_workers)?;
            let said = self.lacks_http_workers.swap(http_workers.is_err(), Ordering::Relaxed);
            let http_workers = http_workers.unwrap_or_else(|error| {
                if !said {
                    tracing::warn!("queues are shown without their workers over HTTP: {error}");
                }
                Vec::new()
            });
            Ok(Arc::new(Overview { queues, samples, http_workers }))
        };
        self.overview.get((), read).await
    }

    /// An operator has changed a queue.
    pub fn forget_overview(&self) {
        self.overview.forget();
    }

    /// The workers, with the running tasks that may be seen.
    pub async fn workers(&self, scope: &Scope) -> Result<Arc<Vec<WorkerState>>, StoreError> {
        let read = async { Ok(Arc::new(self.store.workers(scope).await?)) };
        self.workers.get(scope.owner().map(str::to_owned), read).await
    }

    /// Counts by state. `name` tells this filter from others.
    pub async fn counts(&self, name: &str, filter: &TaskFilter, scope: &Scope) -> Result<Counts, StoreError> {
        let read = async { Ok(Arc::new(self.store.counts(filter, scope).await?)) };
        self.counts.get((scope.owner().map(str::to_owned), name.to_owned()), read).await
    }
}
