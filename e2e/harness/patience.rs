//! Patience: waiting for something to become true, up to a deadline, on a machine that may stand still.
//!
//! A machine may stand still for seconds. What was promised in seconds is promised for a machine that runs, so
//! whatever a test bounds from above is measured by a [`Stopwatch`], which leaves such times out. Lower bounds and
//! figures that are printed are measured by the clock on the wall.

use std::{
    sync::{LazyLock, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// For what normally takes a second or two: the machine may be busy, so the deadline is far off. It costs time only
/// when the test fails.
pub const LONG: Duration = Duration::from_secs(60);
/// Between two looks.
const STEP: Duration = Duration::from_millis(20);
/// Between two looks at the clock, by which a standstill is noticed.
const TICK: Duration = Duration::from_millis(50);
/// A thread that sleeps is woken late on any busy machine; by so much, only on one that stood still.
const STANDSTILL: Duration = Duration::from_millis(500);
/// A machine that mostly stands still ends a wait too: after so many times what it may take.
const HARD_END: u32 = 4;

/// How long this process has not been scheduled so far.
static LOST: LazyLock<&'static Mutex<Lost>> = LazyLock::new(|| {
    let lost: &'static Mutex<Lost> =
        Box::leak(Box::new(Mutex::new(Lost { seen: Instant::now(), time: Duration::ZERO })));
    thread::spawn(move || {
        loop {
            thread::sleep(TICK);
            lost.lock().unwrap_or_else(PoisonError::into_inner).look();
        }
    });
    lost
});

struct Lost {
    /// The last look at the clock.
    seen: Instant,
    /// Of all standstills that are over.
    time: Duration,
}

impl Lost {
    /// Whoever looks first after a standstill notices it, so that nobody counts it as time.
    fn look(&mut self) -> Duration {
        let now = Instant::now();
        let gap = now - self.seen;
        if gap >= STANDSTILL {
            self.time += gap - TICK;
        }
        self.seen = now;
        self.time
    }
}

/// Measures the time in which this process could have acted.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch {
    began: Instant,
    lost_before: Duration,
}

impl Stopwatch {
    /// Starts it.
    pub fn start() -> Self {
        let lost_before = Self::all_lost();
        Self { began: Instant::now(), lost_before }
    }

    fn all_lost() -> Duration {
        LOST.lock().unwrap_or_else(PoisonError::into_inner).look()
    }

    /// The time since the start without the standstills in it: for what must not take longer than promised.
    pub fn elapsed(&self) -> Duration {
        // In this order: a standstill between the two looks fails nobody.
        let all = self.began.elapsed();
        all.saturating_sub(self.lost())
    }

    /// The standstills since the start: what a time that another clock has measured may be longer.
    pub fn lost(&self) -> Duration {
        Self::all_lost() - self.lost_before
    }

    /// The time since the start, all of it: for figures, and for what must not be shorter.
    pub fn on_the_wall(&self) -> Duration {
        self.began.elapsed()
    }

    /// Whether this much time has passed, or, with standstills, several times as much.
    pub fn is_over(&self, within: Duration) -> bool {
        self.elapsed() >= within || self.on_the_wall() >= HARD_END * within
    }
}

/// Looks again and again until `look` finds something; fails the test at the deadline.
#[track_caller]
pub fn until<T>(what: &str, within: Duration, look: impl FnMut() -> Option<T>) -> T {
    match found_within(within, look) {
        Some(found) => found,
        None => panic!("waited {within:?} for this in vain: {what}"),
    }
}

/// The same for whoever has more to say when it was in vain.
pub fn found_within<T>(within: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let watch = Stopwatch::start();
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if watch.is_over(within) {
            return None;
        }
        thread::sleep(STEP);
    }
}
