//! Vitals: whether this worker lives and whether it takes tasks, for those who ask from outside.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use nix::time::{ClockId, clock_gettime};

use crate::admin::Probes;

/// The heartbeat turns every few seconds, also while PostgreSQL is away; this long without is a process that hangs.
const HUNG: Duration = Duration::from_secs(60);

/// Shared by all incarnations of a process. Cheap to clone.
#[derive(Clone, Default)]
pub struct Vitals(Arc<Signs>);

#[derive(Default)]
struct Signs {
    /// Milliseconds of the machine's own clock.
    beat_at: AtomicU64,
    introduced: AtomicBool,
    draining: AtomicBool,
}

impl Vitals {
    /// Whether its loops turn; otherwise what is wrong. Never a dependency.
    pub fn live(&self) -> Result<(), &'static str> {
        let beat_at = self.0.beat_at.load(Ordering::Relaxed);
        // Before the first beat it waits for PostgreSQL to register, which is no hanging.
        let silent = beat_at > 0 && uptime_ms().saturating_sub(beat_at) > HUNG.as_millis() as u64;
        if silent { Err("the heartbeat of this worker has stopped") } else { Ok(()) }
    }

    /// Whether it takes tasks; otherwise why not.
    pub fn ready(&self) -> Result<(), &'static str> {
        if self.0.draining.load(Ordering::Relaxed) {
            return Err("this worker is draining");
        }
        match self.0.introduced.load(Ordering::Relaxed) {
            true => Ok(()),
            false => Err("this worker is not registered in PostgreSQL yet"),
        }
    }

    /// What the admin listener asks.
    pub fn probes(&self) -> Probes {
        let (live, ready) = (self.clone(), self.clone());
        Probes {
            live: Arc::new(move || Box::pin(std::future::ready(live.live().map_err(str::to_owned)))),
            ready: Arc::new(move || Box::pin(std::future::ready(ready.ready().map_err(str::to_owned)))),
        }
    }

    pub(super) fn beat(&self) {
        self.0.beat_at.store(uptime_ms().max(1), Ordering::Relaxed);
    }

    pub(super) fn introduced(&self) {
        self.0.introduced.store(true, Ordering::Relaxed);
    }

    pub(super) fn draining(&self) {
        self.0.draining.store(true, Ordering::Relaxed);
    }
}

fn uptime_ms() -> u64 {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map(|time| Duration::from(time).as_millis() as u64).unwrap_or_default()
}
