//! Abort: how a thread that waits for a slow server is woken.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ureq::Agent;

use super::message::OutboundError;

/// Cuts a request off from another thread. Clones cut the same request.
#[derive(Clone, Default)]
pub struct Abort {
    state: Arc<Mutex<AbortState>>,
}

#[derive(Default)]
enum AbortState {
    #[default]
    Idle,
    Busy(Agent),
    Aborted,
}

/// Cuts the request off when it is dropped: when a future that waits for it is.
#[must_use]
pub struct AbortOnDrop(Abort);

impl Abort {
    /// Closes the connection of the request, now and for all requests that still come with this handle.
    pub fn abort(&self) {
        let before = std::mem::replace(&mut *self.lock(), AbortState::Aborted);
        if let AbortState::Busy(agent) = before {
            agent.shutdown();
        }
    }

    /// Aborts when the guard goes.
    pub fn on_drop(&self) -> AbortOnDrop {
        AbortOnDrop(self.clone())
    }

    /// Ties the handle to the agent that is about to make the request.
    pub(super) fn watch(&self, agent: &Agent) -> Result<(), OutboundError> {
        let mut state = self.lock();
        if matches!(*state, AbortState::Aborted) {
            return Err(OutboundError::Aborted);
        }
        *state = AbortState::Busy(agent.clone());
        Ok(())
    }

    pub(super) fn is_aborted(&self) -> bool {
        matches!(*self.lock(), AbortState::Aborted)
    }

    fn lock(&self) -> MutexGuard<'_, AbortState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl std::fmt::Debug for Abort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Abort").field("aborted", &self.is_aborted()).finish()
    }
}
