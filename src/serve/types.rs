//! Types: the task types of this moment, those of the program and those that were declared over HTTP, and the
//! description of the API that goes with them.
//!
//! Declarations are the same for all replicas: each reads them from PostgreSQL, at most four seconds after they were
//! written, and before it refuses a name that it does not know. A request works on one snapshot from its beginning to
//! its end.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

use super::openapi;
use crate::{
    core::{Core, StoreError, store::DeclarationsStamp},
    tasks::{Registry, declared::Declared, registry::ErasedKind},
};

/// How often a replica looks whether the declarations have changed.
const PERIOD: Duration = Duration::from_secs(4);
/// Looks that strangers' names bring about are at least this far apart, however many name what does not exist.
const BETWEEN_LOOKS: Duration = Duration::from_millis(200);
/// A server that starts does not wait longer for the declarations before it answers.
const FIRST: Duration = Duration::from_secs(2);

/// What is known at one moment.
pub struct Snapshot {
    /// All types.
    pub registry: Registry,
    /// The description of the API with them.
    pub openapi: openapi::Document,
}

/// The types of a process.
pub struct Types {
    core: Core,
    built_in: Registry,
    now: RwLock<Arc<Snapshot>>,
    look: tokio::sync::Mutex<Look>,
}

/// What is known of the declarations.
#[derive(Default)]
struct Look {
    /// When it began, and whether PostgreSQL answered.
    last: Option<(Instant, Result<(), StoreError>)>,
    /// Of the declarations that are known.
    stamp: Option<DeclarationsStamp>,
}

impl Snapshot {
    fn of(registry: Registry) -> Arc<Self> {
        let openapi = openapi::Document::new(&registry);
        Arc::new(Self { registry, openapi })
    }
}

impl Types {
    /// Those of the program, until the declarations are read.
    pub fn new(core: Core, built_in: Registry) -> Self {
        let now = RwLock::new(Snapshot::of(built_in.clone()));
        Self { core, built_in, now, look: tokio::sync::Mutex::default() }
    }

    /// The present ones.
    pub fn now(&self) -> Arc<Snapshot> {
        self.now.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether a type is part of the program, so that nobody can declare it.
    pub fn is_built_in(&self, name: &str) -> bool {
        self.built_in.get(name).is_some()
    }

    /// Reads the declarations if they have changed.
    pub async fn refresh(&self) -> Result<(), StoreError> {
        self.look(&mut *self.look.lock().await).await
    }

    /// Knows, when it returns, whatever was declared before it was called. For a name that is not known: all who come
    /// while a look is awaited share it.
    pub async fn catch_up(&self) -> Result<(), StoreError> {
        let came = Instant::now();
        let mut look = self.look.lock().await;
        match &look.last {
            Some((began, outcome)) if *began >= came => return outcome.clone(),
            Some((began, _)) => tokio::time::sleep(BETWEEN_LOOKS.saturating_sub(began.elapsed())).await,
            None => {}
        }
        self.look(&mut look).await
    }

    /// The type of this name or alias, read from PostgreSQL where it is not known yet.
    pub async fn find(&self, name: &str) -> Result<Option<Arc<dyn ErasedKind>>, StoreError> {
        if let Some(kind) = self.now().registry.get(name) {
            return Ok(Some(kind.clone()));
        }
        self.catch_up().await?;
        Ok(self.now().registry.get(name).cloned())
    }

    async fn look(&self, look: &mut Look) -> Result<(), StoreError> {
        let began = Instant::now();
        let outcome = self.read(&mut look.stamp).await;
        look.last = Some((began, outcome.clone()));
        outcome
    }

    async fn read(&self, known: &mut Option<DeclarationsStamp>) -> Result<(), StoreError> {
        let stamp = self.core.store.declarations_stamp().await?;
        if known.as_ref() == Some(&stamp) {
            return Ok(());
        }
        let mut registry = self.built_in.clone();
        for declaration in self.core.store.declarations().await? {
            let name = declaration.name.clone();
            match Declared::new(declaration) {
                Ok(declared) => {
                    if let Err(taken) = registry.add(Arc::new(declared)) {
                        tracing::warn!("a declared task type is left out: {taken}, and it is part of the program");
                    }
                }
                Err(findings) => tracing::warn!(name, ?findings, "a declared task type is left out"),
            }
        }
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = Snapshot::of(registry);
        *known = Some(stamp);
        Ok(())
    }

    /// Reads the declarations for the first time. Without PostgreSQL the server begins with the program's own types.
    pub async fn begin(&self) {
        let _ = tokio::time::timeout(FIRST, self.refresh()).await;
    }

    /// Keeps reading until the process leaves.
    pub async fn run(self: Arc<Self>, closing: CancellationToken) {
        loop {
            tokio::select! {
                () = closing.cancelled() => return,
                () = tokio::time::sleep(PERIOD.mul_f64(rand::random_range(0.6..1.0))) => {}
            }
            if let Err(error) = self.refresh().await {
                tracing::debug!(%error, "the declared task types could not be read; tried again soon");
            }
        }
    }
}
