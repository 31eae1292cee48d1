//! Streams: how many there may be at a time, in all and for one caller.
//!
//! One caller alone cannot take what the process has: there is a place for each stream, and each caller gets a share.
//! Dashboards have a smaller share of their own besides: each reads for itself alone, on connections that all of them
//! share.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use actix_web::HttpRequest;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    caller::Caller,
    problem::{Code, Problem},
};

/// See the module.
pub struct Streams {
    all: Arc<Semaphore>,
    any: Share,
    dashboards: Share,
}

/// What each caller may have of something.
struct Share {
    per_caller: usize,
    open: Mutex<HashMap<Owner, usize>>,
}

/// Whose streams are counted together: callers without a name are told apart by their address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Owner {
    Named(String),
    At(Option<IpAddr>),
}

/// A place for one stream, given back when it is dropped.
pub struct Place {
    streams: Arc<Streams>,
    owner: Owner,
    of: Kind,
    _of_all: OwnedSemaphorePermit,
}

/// What a stream is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One task.
    Task,
    /// What a dashboard shows.
    Dashboard,
}

impl Streams {
    /// Places for so many streams in all, so many for one caller, and so many dashboards of one caller.
    pub fn new(all: usize, per_caller: usize, dashboards_per_caller: usize) -> Arc<Self> {
        let all = Arc::new(Semaphore::new(all.min(Semaphore::MAX_PERMITS)));
        Arc::new(Self { all, any: Share::of(per_caller), dashboards: Share::of(dashboards_per_caller) })
    }

    /// A place for one more stream of this caller.
    pub fn open(self: &Arc<Self>, caller: &Caller, request: &HttpRequest, kind: Kind) -> Result<Place, Problem> {
        let owner = match &caller.owner {
            Some(name) => Owner::Named(name.clone()),
            None => Owner::At(request.peer_addr().map(|peer| peer.ip())),
        };
        self.place(owner, kind)
    }

    fn place(self: &Arc<Self>, owner: Owner, kind: Kind) -> Result<Place, Problem> {
        let full = |whose: &str| Problem::new(Code::Unavailable, format!("{whose} that there may be."));
        let of_all = self.all.clone().try_acquire_owned().map_err(|_| full("This process has all the streams"))?;
        if !self.any.take(&owner) {
            return Err(full("You have all the streams"));
        }
        if kind == Kind::Dashboard && !self.dashboards.take(&owner) {
            self.any.give_back(&owner);
            return Err(full("You have all the dashboards"));
        }
        Ok(Place { streams: self.clone(), owner, of: kind, _of_all: of_all })
    }
}

impl Share {
    fn of(per_caller: usize) -> Self {
        Self { per_caller, open: Mutex::default() }
    }

    fn take(&self, owner: &Owner) -> bool {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.get(owner).copied().unwrap_or_default() >= self.per_caller {
            return false;
        }
        *open.entry(owner.clone()).or_default() += 1;
        true
    }

    fn give_back(&self, owner: &Owner) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let left = open.get_mut(owner).map(|count| {
            *count -= 1;
            *count
        });
        if left == Some(0) {
            open.remove(owner);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.streams.any.give_back(&self.owner);
        if self.of == Kind::Dashboard {
            self.streams.dashboards.give_back(&self.owner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_caller_leaves_places_for_others() {
        let streams = Streams::new(3, 2, 1);
        let named = |name: &str| streams.place(Owner::Named(name.to_owned()), Kind::Task);
        let (one, two) = (named("a").unwrap(), named("a").unwrap());
        assert!(named("a").is_err(), "its share is used up");
        let other = streams.place(Owner::At(None), Kind::Task).unwrap();
        assert!(named("b").is_err(), "all are used up");
        drop((one, other));
        assert!(named("a").is_ok() && named("b").is_ok());
        drop(two);
        assert!(streams.any.open.lock().unwrap().is_empty(), "nothing is kept of callers that have left");
    }

    #[test]
    fn dashboards_count_as_streams_and_by_themselves() {
        let streams = Streams::new(9, 2, 1);
        let open = |kind| streams.place(Owner::Named("a".to_owned()), kind);
        let dashboard = open(Kind::Dashboard).unwrap();
        assert!(open(Kind::Dashboard).is_err(), "its dashboards are used up");
        let task = open(Kind::Task).unwrap();
        assert!(open(Kind::Task).is_err(), "with the dashboard, so are its streams");
        drop(dashboard);
        assert!(open(Kind::Dashboard).is_ok(), "a refused one has left nothing behind");
        drop(task);
        for share in [&streams.any, &streams.dashboards] {
            assert!(share.open.lock().unwrap().is_empty());
        }
    }
}
