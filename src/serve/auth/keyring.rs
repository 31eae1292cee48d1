//! Keyring: every key and session, in memory, as PostgreSQL had them at most [`OLDEST`] ago.
//!
//! A request with a known key asks nobody. One with an unknown key waits for a reading that began after it came, so that
//! a new key works at once on every replica. One loop makes all readings, four a second at most however many guesses
//! come, on a connection that nobody else uses; whoever waits for one waits [`LOOK_UP`] at most, and no more than
//! [`WAITING`] do. So a PostgreSQL that hangs holds up no request with a known key, and the others for moments. A key that
//! is revoked is refused, and its streams end, when the next reading is there. Readings that are too old count as none:
//! while PostgreSQL is away nobody is let in on old knowledge.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, Semaphore, watch},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::super::problem::{Code, Problem};
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
/// A reading that takes longer has failed: with [`PERIOD`], it would come when the one before is too old.
const READING: Duration = Duration::from_secs(3);
/// No request waits longer for a reading.
const LOOK_UP: Duration = Duration::from_secs(3);
/// Requests that wait for a reading at a time.
const WAITING: usize = 1_000;

/// See the module.
pub struct Keyring {
    store: Store,
    last: watch::Sender<Readings>,
    /// Somebody waits for a reading that has not begun.
    asked: Notify,
    waiting: Semaphore,
}

/// What the last readings came to.
#[derive(Default)]
struct Readings {
    keys: Option<Arc<Keys>>,
    /// When the last one that failed began, and why it did.
    failed: Option<(Instant, StoreError)>,
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
    /// An empty one, which reads on a connection beside those of `store`.
    pub fn new(store: &Store) -> anyhow::Result<Self> {
        Ok(Self {
            store: store.for_keys()?,
            last: watch::Sender::default(),
            asked: Notify::new(),
            waiting: Semaphore::new(WAITING),
        })
    }

    /// The last reading. One that knows nobody does not grow old: only with PostgreSQL's help could there be somebody
    /// meanwhile.
    pub async fn last(&self) -> Result<Arc<Keys>, Problem> {
        match self.peek() {
            Some(keys) if keys.knows_nobody() || keys.read_at.elapsed() < OLDEST => Ok(keys),
            _ => self.newer_than(Instant::now() - OLDEST).await,
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

    /// Reads again and again, and sooner when somebody asks. The only one that reads once the server answers.
    pub async fn keep_fresh(&self) {
        loop {
            let began = Instant::now();
            let failed_before = self.last.borrow().failed.is_some();
            match self.refresh().await {
                Err(error) if !failed_before => tracing::warn!(%error, "the keys of callers cannot be read"),
                Err(error) => tracing::debug!(%error, "the keys of callers still cannot be read"),
                Ok(_) if failed_before => tracing::info!("the keys of callers can be read again"),
                Ok(_) => {}
            }
            tokio::select! {
                () = sleep_until(began + PERIOD.mul_f64(rand::random_range(0.8..1.0))) => {}
                () = self.asked.notified() => sleep_until(began + PAUSE).await,
            }
        }
    }

    /// A reading that began after this moment. When one fails that began after the call, there is none.
    pub async fn newer_than(&self, moment: Instant) -> Result<Arc<Keys>, Problem> {
        let came = Instant::now();
        let Ok(_place) = self.waiting.try_acquire() else {
            return Err(cannot_look_up("too many requests wait for that already"));
        };
        let mut last = self.last.subscribe();
        self.asked.notify_one();
        let settled = last.wait_for(|readings| {
            readings.newer_than(moment).is_some() || readings.failed.as_ref().is_some_and(|(began, _)| *began >= came)
        });
        match timeout(LOOK_UP, settled).await {
            Ok(Ok(readings)) => match (readings.newer_than(moment), &readings.failed) {
                (Some(keys), _) => Ok(keys.clone()),
                (None, Some((_, error))) => Err(error.clone().into()),
                (None, None) => Err(cannot_look_up("the server is stopping")),
            },
            Ok(Err(_)) => Err(cannot_look_up("the server is stopping")),
            Err(_) => Err(cannot_look_up("PostgreSQL does not answer")),
        }
    }

    /// Reads them now.
    pub async fn refresh(&self) -> Result<Arc<Keys>, StoreError> {
        let read_at = Instant::now();
        let late = |_| Err(StoreError::Unavailable(format!("no answer within {READING:?}")));
        let grants = timeout(READING, self.store.grants()).await.unwrap_or_else(late);
        let mut outcome = Err(StoreError::Unavailable(String::new()));
        self.last.send_modify(|last| match grants {
            Ok(grants) => {
                let keys = Arc::new(Keys::new(read_at, grants, last.keys.as_deref()));
                *last = Readings { keys: Some(keys.clone()), failed: None };
                outcome = Ok(keys);
            }
            Err(error) => {
                last.failed = Some((read_at, error.clone()));
                outcome = Err(error);
            }
        });
        outcome
    }

    fn peek(&self) -> Option<Arc<Keys>> {
        self.last.borrow().keys.clone()
    }
}

impl Readings {
    fn newer_than(&self, moment: Instant) -> Option<&Arc<Keys>> {
        self.keys.as_ref().filter(|keys| keys.read_at > moment)
    }
}

/// Not an answer about the key: its holder is to come again.
fn cannot_look_up(why: &str) -> Problem {
    Problem::new(
        Code::Unavailable,
        format!("Keys cannot be looked up just now: {why}. Try again after Retry-After seconds."),
    )
}

impl Keys {
    /// There is no key, and no session.
    fn knows_nobody(&self) -> bool {
        !self.is_configured && self.holders.is_empty()
    }

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
