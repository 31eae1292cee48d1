//! Breaker: a circuit breaker, which spares a failing service (and whoever waits for it) calls that would fail.
//!
//! Closed, it lets everything through and counts failures in a row. After [`FAILURES_TO_OPEN`] it is open for
//! [`OPEN_FOR`] and lets nothing through. Then it is half-open: one call, the probe, decides whether it closes or
//! opens again. A probe that ends without a verdict (the task was cancelled) leaves the place to the next.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Failures in a row that open it.
pub const FAILURES_TO_OPEN: u32 = 5;
/// How long it stays open before a probe is let through.
pub const OPEN_FOR: Duration = Duration::from_secs(60);

/// A circuit breaker, shared by all calls to one service.
pub struct Breaker {
    state: Mutex<State>,
    now: Box<dyn Fn() -> Instant + Send + Sync>,
}

#[derive(Debug, Default)]
struct State {
    failures: u32,
    opened_at: Option<Instant>,
    probe_is_out: bool,
}

/// Leave to make one call. Say how it went; dropped without a word it counts as never made.
#[must_use]
pub struct Pass<'a> {
    breaker: &'a Breaker,
    kind: Kind,
    settled: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Usual,
    Probe,
}

impl Default for Breaker {
    fn default() -> Self {
        Self::with_clock(Instant::now)
    }
}

impl Breaker {
    /// A closed breaker that reads the time here.
    pub fn with_clock(now: impl Fn() -> Instant + Send + Sync + 'static) -> Self {
        Self { state: Mutex::default(), now: Box::new(now) }
    }

    /// Leave to make a call, or `None` while the breaker is open.
    pub fn admit(&self) -> Option<Pass<'_>> {
        let mut state = self.lock();
        let kind = match state.opened_at {
            None => Kind::Usual,
            Some(opened_at) if !state.probe_is_out && (self.now)().duration_since(opened_at) >= OPEN_FOR => {
                state.probe_is_out = true;
                Kind::Probe
            }
            Some(_) => return None,
        };
        Some(Pass { breaker: self, kind, settled: false })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change below is a plain assignment: a panic cannot leave half of one behind.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass<'_> {
    /// The service answered, be it with a refusal: it is alive.
    pub fn succeeded(mut self) {
        self.settled = true;
        let mut state = self.breaker.lock();
        // A call from before the opening says nothing about the service of now.
        if self.kind == Kind::Probe || state.opened_at.is_none() {
            *state = State::default();
        }
    }

    /// The service did not answer, or answered that it is failing.
    pub fn failed(mut self) {
        self.settled = true;
        let now = (self.breaker.now)();
        let mut state = self.breaker.lock();
        match self.kind {
            Kind::Probe => *state = State { opened_at: Some(now), ..State::default() },
            Kind::Usual if state.opened_at.is_none() => {
                state.failures += 1;
                if state.failures >= FAILURES_TO_OPEN {
                    *state = State { opened_at: Some(now), ..State::default() };
                }
            }
            Kind::Usual => (),
        }
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if !self.settled && self.kind == Kind::Probe {
            self.breaker.lock().probe_is_out = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// A breaker and the hand of its clock.
    fn breaker() -> (Breaker, Arc<Mutex<Instant>>) {
        let hand = Arc::new(Mutex::new(Instant::now()));
        let shown = hand.clone();
        (Breaker::with_clock(move || *shown.lock().unwrap()), hand)
    }

    fn fail(breaker: &Breaker, times: u32) {
        for _ in 0..times {
            breaker.admit().expect("closed").failed();
        }
    }

    #[test]
    fn five_failures_in_a_row_open_it() {
        let (breaker, _) = breaker();
        fail(&breaker, 4);
        breaker.admit().unwrap().succeeded();
        fail(&breaker, 4);
        assert!(breaker.admit().is_some(), "a success in between starts the count again");
        fail(&breaker, 1);
        assert!(breaker.admit().is_none());
    }

    #[test]
    fn after_a_minute_one_probe_decides() {
        let (breaker, hand) = breaker();
        fail(&breaker, 5);
        *hand.lock().unwrap() += OPEN_FOR - Duration::from_millis(1);
        assert!(breaker.admit().is_none());
        *hand.lock().unwrap() += Duration::from_millis(1);
        let probe = breaker.admit().expect("half-open");
        assert!(breaker.admit().is_none(), "one probe at a time");
        probe.failed();
        assert!(breaker.admit().is_none(), "open again");
        *hand.lock().unwrap() += OPEN_FOR;
        breaker.admit().expect("half-open").succeeded();
        fail(&breaker, 4);
        assert!(breaker.admit().is_some(), "closed, and the count is at its start");
    }

    #[test]
    fn a_probe_without_verdict_leaves_the_place_to_the_next() {
        let (breaker, hand) = breaker();
        fail(&breaker, 5);
        *hand.lock().unwrap() += OPEN_FOR;
        drop(breaker.admit().expect("half-open"));
        assert!(breaker.admit().is_some());
    }

    #[test]
    fn calls_from_before_the_opening_change_nothing() {
        let (breaker, _) = breaker();
        let (late_success, late_failure) = (breaker.admit().unwrap(), breaker.admit().unwrap());
        fail(&breaker, 5);
        late_success.succeeded();
        late_failure.failed();
        assert!(breaker.admit().is_none());
    }
}
