//! Types: the task types of this moment, those of the program and those that were declared over HTTP, and the
//! description of the API that goes with them.
//!
//! Declarations are the same for all replicas: each reads them from PostgreSQL, at most four seconds after they were
//! written. A request works on one snapshot from its beginning to its end.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use super::openapi;
use crate::{
    core::{Core, StoreError, store::DeclarationsStamp},
    tasks::{Registry, declared::Declared},
};

/// How often a replica looks whether the declarations have changed.
const PERIOD: Duration = Duration::from_secs(4);
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
    stamp: tokio::sync::Mutex<Option<DeclarationsStamp>>,
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
        Self { core, built_in, now, stamp: tokio::sync::Mutex::default() }
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
        let mut last = self.stamp.lock().await;
        let stamp = self.core.store.declarations_stamp().await?;
        if last.as_ref() == Some(&stamp) {
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
        *last = Some(stamp);
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
