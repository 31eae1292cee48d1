//! Heartbeat: renews the lease from a thread, a runtime and a connection of its own, which tasks that compute cannot
//! starve.
//!
//! With every renewal it reads which deliveries PostgreSQL has running for this worker, and compares. It also watches
//! the main runtime: a process that renews but no longer works would hold its tasks for ever, so when the main runtime
//! has not moved for `APP_HUNG_AFTER` the process aborts and the lease does its work.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use nix::time::{ClockId, clock_gettime};
use tokio_util::sync::CancellationToken;

use super::Worker;
use crate::{
    core::{
        faults::mutant,
        model::TaskId,
        queue::Side,
        store::{InItsName, LeaseKeeper, Renewal, StoreError},
    },
    metrics::{Outcome, Recovery},
    tasks::StopReason,
};

/// A renewal is given at least this long, also where the lease is short.
const SHORTEST_TRY: Duration = Duration::from_millis(700);
/// How long connecting may take.
const LONGEST_CONNECT: Duration = Duration::from_secs(10);

/// The thread, as the incarnation sees it.
pub(super) struct Heartbeat {
    stop: CancellationToken,
    unbroken: Arc<Unbroken>,
}

/// Since when every renewal has come in time.
#[derive(Default)]
pub(super) struct Unbroken(Mutex<Option<Beats>>);

/// Renewals without a failure and without a gap between them.
#[derive(Clone, Copy)]
struct Beats {
    first: Duration,
    last: Duration,
}

impl Unbroken {
    /// Whether renewals have come in time for this long: PostgreSQL is there, and so was this process.
    pub(super) fn for_at_least(&self, time: Duration) -> bool {
        self.beats().is_some_and(|beats| uptime().saturating_sub(beats.first) >= time)
    }

    /// Whether they have for a whole lease, up to now. Who has missed one may have been cut off itself, and should not
    /// judge others; or it stood still, and with it perhaps the machine and all the workers on it. A worker renews three
    /// times in a lease, so whose lease ran out in a standstill saw at least two thirds of it pass, and so did whoever
    /// stood still beside it.
    pub(super) fn for_a_lease(&self, lease: Duration) -> bool {
        self.for_a_lease_at(lease, uptime())
    }

    fn for_a_lease_at(&self, lease: Duration, now: Duration) -> bool {
        self.beats().is_some_and(|beats| {
            // A renewal may be noted after `now` was read, and lie behind it.
            now.saturating_sub(beats.first) >= lease && now.saturating_sub(beats.last) < longest_gap(lease)
        })
    }

    fn beats(&self) -> Option<Beats> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, renewed: bool, lease: Duration) {
        self.note_at(renewed, lease, uptime());
    }

    fn note_at(&self, renewed: bool, lease: Duration, now: Duration) {
        let mut beats = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let unbroken = beats.filter(|beats| now.saturating_sub(beats.last) < longest_gap(lease));
        *beats = renewed.then(|| Beats { first: unbroken.map_or(now, |beats| beats.first), last: now });
    }
}

fn longest_gap(lease: Duration) -> Duration {
    lease * 2 / 3
}

/// The monotonic clock that goes on while the machine is suspended.
fn uptime() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default()
}

impl Heartbeat {
    /// Starts the thread.
    pub(super) fn start(worker: Arc<Worker>) -> Self {
        let heartbeat = Self { stop: CancellationToken::new(), unbroken: Arc::default() };
        let main = tokio::runtime::Handle::current();
        let ticks = Arc::new(AtomicU64::new(0));
        main.spawn(tick(ticks.clone(), heartbeat.stop.clone()));
        let (stop, unbroken) = (heartbeat.stop.clone(), heartbeat.unbroken.clone());
        let thread = std::thread::Builder::new().name("heartbeat".to_owned()).spawn(move || {
            let beating = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(beat(worker, main, &unbroken, &ticks, stop));
                // A connection attempt that hangs must not hold up the end of the process.
                runtime.shutdown_background();
                std::io::Result::Ok(())
            }));
            if !matches!(beating, Ok(Ok(()))) {
                super::abort_worker("the heartbeat failed");
            }
        });
        if thread.is_err() {
            super::abort_worker("the heartbeat cannot start");
        }
        heartbeat
    }

    /// For whoever judges others.
    pub(super) fn unbroken(&self) -> Arc<Unbroken> {
        self.unbroken.clone()
    }

    /// Stops renewing.
    pub(super) fn stop(self) {
        self.stop.cancel();
    }
}

/// Moves while the main runtime does.
async fn tick(ticks: Arc<AtomicU64>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        ticks.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

async fn beat(
    worker: Arc<Worker>,
    main: tokio::runtime::Handle,
    unbroken: &Unbroken,
    ticks: &AtomicU64,
    stop: CancellationToken,
) {
    let period = worker.settings.lease / 3;
    let mut keeper = None;
    let mut unreachable_since = None;
    let mut watch = Watch { ticks: 0, moved_at: uptime(), suspected: false };
    while !stop.is_cancelled() {
        watch.check(ticks, worker.settings.hung_after);
        let asked_at = Instant::now();
        let renewed = renew(&worker, &mut keeper, period.max(SHORTEST_TRY)).await;
        unbroken.note(renewed.is_ok(), worker.settings.lease);
        worker.vitals.beat();
        worker.core.metrics.work.renewed(if renewed.is_ok() { Outcome::Ok } else { Outcome::Failed });
        let pause = match renewed {
            Ok(Renewal::Alive(named)) => {
                if unreachable_since.take().is_some() {
                    tracing::info!(worker.id = %worker.id, "the lease is renewed again");
                }
                let strangers = match mutant("no-reconciliation") {
                    true => InItsName::default(),
                    false => worker.held.reconcile(&named, asked_at),
                };
                if !strangers.running.is_empty() {
                    main.spawn(hand_back(worker.clone(), strangers.running));
                }
                if !strangers.stopping.is_empty() {
                    main.spawn(confirm_stopped(worker.clone(), strangers.stopping));
                }
                period
            }
            Ok(Renewal::Dead) => {
                worker.dead.cancel();
                worker.held.ask_all(StopReason::Lost);
                return;
            }
            Err(error) => {
                keeper = None;
                if unreachable_since.is_none() {
                    tracing::warn!(worker.id = %worker.id, "cannot renew the lease, trying on: {error}");
                }
                let since = *unreachable_since.get_or_insert_with(uptime);
                if uptime().saturating_sub(since) > worker.settings.lease_grace && worker.held.running() > 0 {
                    tracing::error!("PostgreSQL has been away for APP_LEASE_GRACE: stopping the attempts");
                    worker.held.ask_all(StopReason::Lost);
                }
                period / 5
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = super::pace::jittered(pause.mul_f64(0.8)) => {}
        }
    }
}

async fn renew(worker: &Worker, keeper: &mut Option<LeaseKeeper>, limit: Duration) -> Result<Renewal, StoreError> {
    let no_answer = |_| StoreError::Unavailable("no answer".to_owned());
    let keeper = match keeper {
        Some(keeper) => keeper,
        None => {
            // Connecting has a limit of its own: there is no better connection to turn to, and on a busy machine tries
            // that are too short for it would fail one after the other.
            let connecting = worker.core.store.lease_keeper(worker.id);
            keeper.insert(tokio::time::timeout(LONGEST_CONNECT, connecting).await.map_err(no_answer)??)
        }
    };
    // Who waits longer for an answer risks the time for another try, on another connection.
    let unstopped = worker.held.unstopped(worker.settings.stop_timeout);
    worker.core.metrics.work.unstopped.set(unstopped as i64);
    let renewed = keeper.renew(unstopped);
    tokio::time::timeout(limit, renewed).await.map_err(no_answer)?
}

/// Gives back what PostgreSQL has running here and nobody here runs: a claim whose reply was lost.
async fn hand_back(worker: Arc<Worker>, strangers: Vec<(TaskId, i32)>) {
    match worker.core.store.hand_back(worker.id, &strangers, "handed back: the reply to the claim was lost").await {
        Ok((bells, changed)) => {
            worker.core.metrics.work.recovered(Recovery::ClaimReplyLost, changed.len());
            tracing::warn!(tasks = changed.len(), "handed back deliveries whose claim was never answered");
            worker.core.queue.outlet().ring(bells, Side::Front);
            worker.core.queue.outlet().changed(changed);
        }
        Err(error) => tracing::debug!("could not hand back yet: {error}"),
    }
}

/// Says of cancelled deliveries in this worker's name that nothing of them runs here.
async fn confirm_stopped(worker: Arc<Worker>, strangers: Vec<(TaskId, i32)>) {
    match worker.core.store.confirm_stopped(worker.id, &strangers).await {
        Ok(tasks) => tracing::info!(tasks, "confirmed cancelled deliveries that do not run here"),
        Err(error) => tracing::debug!("could not confirm yet: {error}"),
    }
}

/// Notices when the main runtime stands still.
struct Watch {
    ticks: u64,
    moved_at: Duration,
    /// The last look found it standing still for too long.
    suspected: bool,
}

impl Watch {
    fn check(&mut self, ticks: &AtomicU64, hung_after: Duration) {
        let now = ticks.load(Ordering::Relaxed);
        if now != self.ticks {
            *self = Watch { ticks: now, moved_at: uptime(), suspected: false };
        } else if uptime().saturating_sub(self.moved_at) > hung_after {
            // Two looks: after a suspension the first one comes before the main runtime has had its turn.
            if self.suspected {
                super::abort_worker("the main runtime has not moved for APP_HUNG_AFTER");
            }
            self.suspected = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(30);

    /// Renewals at these moments, in seconds before now.
    fn renewed(moments: &[u64]) -> Unbroken {
        let unbroken = Unbroken::default();
        // The machine may have been up for less than that.
        let now = uptime() + Duration::from_secs(1_000);
        for ago in moments {
            unbroken.note_at(true, LEASE, now - Duration::from_secs(*ago));
        }
        unbroken
    }

    fn may_judge(moments: &[u64]) -> bool {
        renewed(moments).for_a_lease_at(LEASE, uptime() + Duration::from_secs(1_000))
    }

    #[test]
    fn who_stood_still_judges_nobody_for_a_lease() {
        assert!(may_judge(&[40, 30, 20, 10, 1]));
        assert!(!may_judge(&[20, 10, 1]), "it has just begun");
        assert!(!may_judge(&[]));
        assert!(!may_judge(&[60, 50, 40, 30, 21]), "it stands still, or has until now");
        assert!(!may_judge(&[60, 50, 29, 20, 10, 1]), "it stood still within the lease");
        assert!(may_judge(&[90, 70, 50, 40, 30, 20, 10, 1]) && may_judge(&[60, 31, 21, 11, 1]), "that is over");
    }

    #[test]
    fn a_renewal_that_comes_between_the_question_and_the_answer_is_one_in_time() {
        let asked_at = uptime() + Duration::from_secs(1_000);
        let unbroken = Unbroken::default();
        for after in [0, 10, 20, 30, 31] {
            unbroken.note_at(true, LEASE, asked_at + Duration::from_secs(after));
        }
        assert!(unbroken.for_a_lease_at(LEASE, asked_at + Duration::from_secs(30)));
        assert!(!unbroken.for_a_lease_at(LEASE, asked_at), "the first one too is still to come");
        assert!(!unbroken.for_at_least(Duration::from_secs(1)));
    }

    #[test]
    fn a_failure_begins_anew() {
        let unbroken = renewed(&[40, 30, 20, 10]);
        let now = uptime() + Duration::from_secs(1_000);
        unbroken.note_at(false, LEASE, now);
        unbroken.note_at(true, LEASE, now);
        assert!(!unbroken.for_a_lease_at(LEASE, now));
    }
}
