//! Keyring: every key and session, in memory, as PostgreSQL had them at most [`OLDEST`] ago.
//!
//! A request with a known key asks nobody. One with an unknown key waits for a reading that began after it came, so that
//! a new key works at once on every replica; such readings are shared by all who wait, and there are four a second at
//! most, however many guesses come. A key that is revoked is refused, and its streams end, when the next reading is
//! there. Readings that are too old count as none: while PostgreSQL is away nobody is let in on old knowledge.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::super::problem::Problem;
use crate::core::{
    credential::{Credential, CredentialKind},
    model::Role,
    store::{Grant, Store, StoreError},
};

/// A reading is not used for longer: the bound within which a revoked key stops working.
const OLDEST: Duration = Duration::from_secs(5);
/// How often it is read though nobody asks.
const PERIOD: Duration = Duration::from_secs(2);
/// Between two readings for the sake of unknown keys.
const PAUSE: Duration = Duration::from_millis(250);

/// See the module.
pub struct Keyring {
    store: Store,
    last: RwLock<Option<Arc<Keys>>>,
    /// One reading at a time.
    turn: tokio::sync::Mutex<()>,
}

/// One reading.
pub struct Keys {
    /// When it began.
    read_at: Instant,
    /// There is a key, or there was one: the server is not open.
    pub is_configured: bool,
    /// Cancelled when the first key comes.
    pub anonymous: CancellationToken,
    holders: HashMap<(CredentialKind, String), Holder>,
}

/// Whom a key or a session belongs to.
#[derive(Clone)]
pub struct Holder {
    hash: Vec<u8>,
    /// Whose tasks it submits and sees.
    pub owner: String,
    /// What it may do.
    pub role: Role,
    /// Cancelled when it is revoked or has expired.
    pub ends: CancellationToken,
}

impl Keyring {
    /// An empty one.
    pub fn new(store: Store) -> Self {
        Self { store, last: RwLock::default(), turn: tokio::sync::Mutex::default() }
    }

    /// The last reading. One without keys does not grow old: only with PostgreSQL's help could there be one meanwhile.
    pub async fn last(&self) -> Result<Arc<Keys>, Problem> {
        match self.peek() {
            Some(keys) if !keys.is_configured || keys.read_at.elapsed() < OLDEST => Ok(keys),
            _ => Ok(self.newer_than(Instant::now() - OLDEST).await?),
        }
    }

    /// Whom this key or session belongs to.
    pub async fn find(&self, credential: &Credential, kind: CredentialKind) -> Result<Option<Holder>, Problem> {
        let came = Instant::now();
        let name = (kind, credential.id());
        let mut holder = self.last().await?.holders.get(&name).cloned();
        if holder.is_none() {
            holder = self.newer_than(came).await?.holders.get(&name).cloned();
        }
        Ok(holder.filter(|holder| credential.matches(&holder.hash)))
    }

    /// Reads them now.
    pub async fn refresh(&self) -> Result<Arc<Keys>, StoreError> {
        let _turn = self.turn.lock().await;
        self.read().await
    }

    /// Reads them again and again.
    pub async fn keep_fresh(&self) {
        loop {
            tokio::time::sleep(PERIOD.mul_f64(rand::random_range(0.8..1.0))).await;
            if let Err(error) = self.refresh().await {
                tracing::warn!(%error, "the keys of callers cannot be read");
            }
        }
    }

    /// A reading that began after this moment.
    pub async fn newer_than(&self, moment: Instant) -> Result<Arc<Keys>, StoreError> {
        let _turn = self.turn.lock().await;
        if let Some(keys) = self.peek() {
            if keys.read_at > moment {
                return Ok(keys);
            }
            tokio::time::sleep_until(keys.read_at + PAUSE).await;
        }
        self.read().await
    }

    async fn read(&self) -> Result<Arc<Keys>, StoreError> {
        let read_at = Instant::now();
        let grants = self.store.grants().await?;
        let mut last = self.last.write().unwrap_or_else(PoisonError::into_inner);
        let keys = Arc::new(Keys::new(read_at, grants, last.as_deref()));
        *last = Some(keys.clone());
        Ok(keys)
    }

    fn peek(&self) -> Option<Arc<Keys>> {
        self.last.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Keys {
    fn new(read_at: Instant, grants: Vec<Grant>, before: Option<&Keys>) -> Self {
        let is_configured = grants.iter().any(|grant| grant.kind == CredentialKind::Key);
        let anonymous = before.map(|before| before.anonymous.clone()).unwrap_or_default();
        if is_configured {
            anonymous.cancel();
        }
        let known = |name: &(CredentialKind, String)| Some(before?.holders.get(name)?.ends.clone());
        let holders: HashMap<_, _> = grants
            .into_iter()
            .filter(|grant| grant.is_live)
            .map(|grant| {
                let name = (grant.kind, grant.id);
                let ends = known(&name).unwrap_or_default();
                (name, Holder { hash: grant.hash, owner: grant.owner, role: grant.role, ends })
            })
            .collect();
        for (name, holder) in before.iter().flat_map(|before| &before.holders) {
            if !holders.contains_key(name) {
                holder.ends.cancel();
            }
        }
        Self { read_at, is_configured, anonymous, holders }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(credential: &Credential, is_live: bool) -> Grant {
        Grant {
            kind: CredentialKind::Key,
            id: credential.id(),
            hash: credential.hash(),
            owner: "me".to_owned(),
            role: Role::User,
            is_live,
        }
    }

    #[test]
    fn what_is_revoked_ends_and_what_stays_goes_on() {
        let (one, other) = (Credential::new(CredentialKind::Key), Credential::new(CredentialKind::Key));
        let open = Keys::new(Instant::now(), Vec::new(), None);
        assert!(!open.is_configured && !open.anonymous.is_cancelled());
        let both = Keys::new(Instant::now(), vec![grant(&one, true), grant(&other, true)], Some(&open));
        assert!(both.is_configured && open.anonymous.is_cancelled(), "the first key closes the server");
        let ends = |keys: &Keys, of: &Credential| keys.holders[&(CredentialKind::Key, of.id())].ends.clone();
        let (first, second) = (ends(&both, &one), ends(&both, &other));
        let revoked = Keys::new(Instant::now(), vec![grant(&one, false), grant(&other, true)], Some(&both));
        assert!(first.is_cancelled() && !second.is_cancelled());
        assert_eq!(revoked.holders.len(), 1);
        let last = Keys::new(Instant::now(), vec![grant(&one, false)], Some(&revoked));
        assert!(second.is_cancelled() && last.is_configured, "without a good key it stays closed");
    }
}
