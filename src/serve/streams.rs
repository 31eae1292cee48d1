//! Streams: how many there may be at a time, in all and for one caller.
//!
//! One caller alone cannot take what the process has: there is a place for each stream, and each caller gets a share.

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
    _of_all: OwnedSemaphorePermit,
}

impl Streams {
    /// Places for so many streams in all, and so many for one caller.
    pub fn new(all: usize, per_caller: usize) -> Arc<Self> {
        let all = Arc::new(Semaphore::new(all.min(Semaphore::MAX_PERMITS)));
        Arc::new(Self { all, per_caller, open: Mutex::default() })
    }

    /// A place for one more stream of this caller.
    pub fn open(self: &Arc<Self>, caller: &Caller, request: &HttpRequest) -> Result<Place, Problem> {
        let owner = match &caller.owner {
            Some(name) => Owner::Named(name.clone()),
            None => Owner::At(request.peer_addr().map(|peer| peer.ip())),
        };
        self.place(owner)
    }

    fn place(self: &Arc<Self>, owner: Owner) -> Result<Place, Problem> {
        let full = |whose: &str| Problem::new(Code::Unavailable, format!("{whose} all the streams that there may be."));
        let of_all = self.all.clone().try_acquire_owned().map_err(|_| full("This process has"))?;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(owner.clone()).or_default();
        if *count >= self.per_caller {
            return Err(full("You have"));
        }
        *count += 1;
        Ok(Place { streams: self.clone(), owner, _of_all: of_all })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.streams.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.get_mut(&self.owner).map(|count| {
            *count -= 1;
            *count
        });
        if count == Some(0) {
            open.remove(&self.owner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_caller_leaves_places_for_others() {
        let streams = Streams::new(3, 2);
        let named = |name: &str| streams.place(Owner::Named(name.to_owned()));
        let (one, two) = (named("a").unwrap(), named("a").unwrap());
        assert!(named("a").is_err(), "its share is used up");
        let other = streams.place(Owner::At(None)).unwrap();
        assert!(named("b").is_err(), "all are used up");
        drop((one, other));
        assert!(named("a").is_ok() && named("b").is_ok());
        drop(two);
        assert!(streams.open.lock().unwrap().is_empty(), "nothing is kept of callers that have left");
    }
}
