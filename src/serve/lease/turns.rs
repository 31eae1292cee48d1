//! Turns: calls that write lines for the same task come one after the other, so that each finds how much there is.
//!
//! By process: what several servers are sent at the same moment may go over the allowance by one call each.

use std::time::Duration;

use tokio::{
    sync::{Mutex, MutexGuard},
    time::timeout,
};
use uuid::Uuid;

use super::super::problem::{Code, Problem};
use crate::core::model::TaskId;

/// Tasks that share a turn are as many as there are: one in so many.
const TURNS: usize = 64;
/// Nobody waits longer for a turn.
const PATIENCE: Duration = Duration::from_secs(5);

/// See the module.
pub struct Turns([Mutex<()>; TURNS]);

impl Default for Turns {
    fn default() -> Self {
        Self([const { Mutex::const_new(()) }; TURNS])
    }
}

impl Turns {
    /// Waits for the turn of this task. It is over when the guard is dropped.
    pub async fn of(&self, id: TaskId) -> Result<MutexGuard<'_, ()>, Problem> {
        let place = (Uuid::from(id).as_u128() % TURNS as u128) as usize;
        let late = || Problem::new(Code::Unavailable, "Other calls for this task are not done yet: ask again.");
        timeout(PATIENCE, self.0[place].lock()).await.map_err(|_| late())
    }
}
