//! Work: the worker role. One file per loop, each a `run(worker, stop)` around a `run_once`.
//!
//! A process is one worker incarnation after the other: each has an id of its own, a row in `workers`, in-flight lists
//! in Redis, and a heartbeat on a thread of its own. An incarnation that learns that it was declared dead stops its
//! attempts, whose writes would be refused anyway, and the next one begins.

mod attempt;
mod cancel;
mod doorbells;
mod due;
mod fetch;
mod heartbeat;
mod held;
mod janitor;
mod meters;
mod once;
mod pace;
mod seen;
mod sweep;
mod tally;
mod unknown;
mod unseen;
mod unwritten;
mod vitals;
mod writer;

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use futures_util::FutureExt;

use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    config,
    core::{
        Core,
        model::WorkerId,
        queue::Side,
        store::{Introduction, StoreError},
    },
    shutdown::Shutdown,
    tasks::{Registry, StopReason, context::Tools},
};
use heartbeat::Heartbeat;
use held::Held;
use meters::Meters;
use tally::Tally;
pub use vitals::Vitals;
use writer::Writer;

/// How long a worker that leaves waits for PostgreSQL to hear of it.
const SIGN_OFF: Duration = Duration::from_secs(2);

/// How long it waits for everything together once it was told twice, and what is left for each step in any case: a
/// store that answers takes milliseconds.
const AT_ONCE: Duration = Duration::from_millis(800);
const MOMENT: Duration = Duration::from_millis(50);

/// How long the doorbells that were not claimed wait for what runs to be handed back.
const HANDED_BACK_FIRST: Duration = Duration::from_millis(400);

/// One incarnation, as its loops share it.
pub(crate) struct Worker {
    id: WorkerId,
    core: Core,
    registry: Registry,
    types: Vec<String>,
    tools: Tools,
    settings: config::Work,
    /// The deliveries that are this worker's.
    held: Held,
    /// How many there were.
    tally: Tally,
    /// What is counted of them for Prometheus.
    meters: Meters,
    vitals: Vitals,
    /// Writes what they report.
    writer: Writer,
    /// The attempts that run.
    attempts: TaskTracker,
    /// Rings when a slot was freed.
    slot_freed: Notify,
    /// Cancelled when PostgreSQL says that this incarnation is dead.
    dead: CancellationToken,
}

/// How an incarnation ended.
enum End {
    /// Told to leave; everything is handed back or finished.
    Left,
    /// Declared dead.
    Dead,
}

/// Runs the role until it is told to stop.
pub async fn run(
    core: Core,
    registry: Registry,
    settings: &config::Work,
    tools: Tools,
    vitals: Vitals,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    settings.check().map_err(anyhow::Error::msg)?;
    loop {
        let introduced = introduce(&core, &registry, settings, &tools, &vitals, &shutdown).await?;
        let Some(worker) = introduced else { return Ok(()) };
        core.metrics.work.incarnations.inc();
        vitals.introduced();
        match live(worker, &shutdown).await {
            End::Left => return Ok(()),
            End::Dead => tracing::warn!("this worker was declared dead; it begins again under a new id"),
        }
    }
}

/// Writes the row of a new incarnation, waiting for PostgreSQL as long as it takes. `None`: told to leave meanwhile.
async fn introduce(
    core: &Core,
    registry: &Registry,
    settings: &config::Work,
    tools: &Tools,
    vitals: &Vitals,
    shutdown: &Shutdown,
) -> anyhow::Result<Option<Arc<Worker>>> {
    let id = WorkerId::new();
    let types: Vec<String> = registry.names().map(str::to_owned).collect();
    let introduction = Introduction {
        id,
        host: nix::unistd::gethostname()
            .ok()
            .and_then(|name| name.into_string().ok())
            .unwrap_or_else(|| "?".to_owned()),
        pid: std::process::id(),
        queues: settings.slots().into_iter().collect::<BTreeMap<_, _>>(),
        task_types: types.clone(),
        lease: settings.lease,
    };
    loop {
        vitals.beat();
        // A row that nobody hears of is over with its lease.
        let introduced = tokio::select! {
            () = shutdown.drain.cancelled() => return Ok(None),
            introduced = core.store.introduce(&introduction) => introduced,
        };
        match introduced {
            Ok(()) => break,
            Err(StoreError::Unavailable(why)) => tracing::warn!("cannot register this worker yet: {why}"),
            Err(refused) => return Err(refused.into()),
        }
        tokio::select! {
            () = shutdown.drain.cancelled() => return Ok(None),
            () = pace::jittered(Duration::from_secs(1)) => {}
        }
    }
    let worker = Worker {
        id,
        core: core.clone(),
        registry: registry.clone(),
        meters: Meters::new(&core.metrics, &types, &settings.slots()),
        vitals: vitals.clone(),
        types,
        tools: tools.clone(),
        settings: settings.clone(),
        held: Held::default(),
        tally: Tally::default(),
        writer: Writer::default(),
        attempts: TaskTracker::new(),
        slot_freed: Notify::new(),
        dead: CancellationToken::new(),
    };
    Ok(Some(Arc::new(worker)))
}

/// How long the steps of leaving may take, whatever is away.
struct Farewell {
    told_twice: CancellationToken,
    until: OnceLock<Instant>,
}

impl Farewell {
    fn new(shutdown: &Shutdown) -> Self {
        Self { told_twice: shutdown.leave.clone(), until: OnceLock::new() }
    }

    /// Does this step unless it takes too long: [`SIGN_OFF`], and from the second signal on what is left of
    /// [`AT_ONCE`].
    async fn within<T>(&self, step: impl Future<Output = T>) -> Option<T> {
        let hurried = async {
            self.told_twice.cancelled().await;
            let until = *self.until.get_or_init(|| Instant::now() + AT_ONCE);
            tokio::time::sleep(until.saturating_duration_since(Instant::now()).max(MOMENT)).await;
        };
        tokio::select! {
            biased;
            done = step => Some(done),
            () = hurried => None,
            () = tokio::time::sleep(SIGN_OFF) => None,
        }
    }
}

/// One incarnation's life.
async fn live(worker: Arc<Worker>, shutdown: &Shutdown) -> End {
    let heartbeat = Heartbeat::start(worker.clone());
    let farewell = Farewell::new(shutdown);
    let stop_loops = CancellationToken::new();
    let loops = TaskTracker::new();
    loops.spawn(or_abort("writer", writer::run(worker.clone(), heartbeat.unbroken(), stop_loops.clone())));
    loops.spawn(or_abort("cancel", cancel::run(worker.clone(), stop_loops.clone())));
    loops.spawn(or_abort("sweep", sweep::run(worker.clone(), heartbeat.unbroken(), stop_loops.clone())));
    loops.spawn(or_abort("due", due::run(worker.clone(), stop_loops.clone())));
    loops.spawn(or_abort("doorbells", doorbells::run(worker.clone(), stop_loops.clone())));
    loops.spawn(or_abort("janitor", janitor::run(worker.clone(), stop_loops.clone())));
    loops.spawn(or_abort("tally", tally::run(worker.clone(), stop_loops.clone())));
    loops.close();

    let stop_fetching = CancellationToken::new();
    let fetching = TaskTracker::new();
    for (queue, slots) in worker.settings.slots() {
        tracing::info!(worker.id = %worker.id, queue, slots, "worker started");
        fetching.spawn(fetch::run(worker.clone(), queue, slots, stop_fetching.clone()));
    }
    fetching.close();

    let end = tokio::select! {
        () = shutdown.drain.cancelled() => End::Left,
        () = once::drained(&worker), if worker.settings.once => {
            shutdown.begin();
            End::Left
        }
        () = worker.dead.cancelled() => End::Dead,
    };
    stop_fetching.cancel();
    if matches!(end, End::Left) {
        worker.vitals.draining();
        worker.core.metrics.work.draining.set(1);
    }
    match end {
        End::Left => drain(&worker, &fetching, shutdown, &farewell).await,
        End::Dead => {
            let stopped = async {
                stop_attempts(&worker, StopReason::Lost).await;
                // What had finished before anybody took it is still offered: the fence decides.
                let _ = tokio::time::timeout(worker.settings.stop_timeout, worker.writer.flushed()).await;
            };
            tokio::select! {
                () = stopped => {}
                () = shutdown.leave.cancelled() => {}
            }
        }
    }
    stop_loops.cancel();
    // A turn that waits for a store that is away is left behind.
    farewell.within(loops.wait()).await;
    // The heartbeat goes last: until here the attempts were this worker's.
    heartbeat.stop();
    if matches!(end, End::Left) {
        match farewell.within(worker.core.store.leave(worker.id)).await {
            Some(Ok(())) => {}
            Some(Err(error)) => tracing::warn!("could not sign off: {error}; the lease runs out by itself"),
            None => tracing::warn!("could not sign off in time; the lease runs out by itself"),
        }
        tracing::info!(worker.id = %worker.id, "worker stopped");
    }
    end
}

/// A loop of this worker. Should it panic, a defect, nobody else would do its work while the lease goes on: the process
/// ends, and its tasks start elsewhere.
async fn or_abort(name: &'static str, run: impl Future<Output = ()>) {
    if std::panic::AssertUnwindSafe(run).catch_unwind().await.is_err() {
        abort_worker(name);
    }
}

/// Ends the process at once. The lease does the rest.
fn abort_worker(why: &str) -> ! {
    tracing::error!("aborting, the tasks of this worker start elsewhere: {why}");
    std::process::abort()
}

/// Leaves in good order: lets tasks finish for the grace, asks the rest to stop, and hands back who did not finish.
/// Nothing is charged. A second signal hands everything back at once.
async fn drain(worker: &Arc<Worker>, fetching: &TaskTracker, shutdown: &Shutdown, farewell: &Farewell) {
    tracing::info!(running = worker.held.running(), grace = ?worker.settings.grace, "draining: nothing new is taken");
    let draining = worker.clone();
    // Nobody waits for this: it only informs, and PostgreSQL may be away.
    tokio::spawn(async move { draining.core.store.mark_draining(draining.id).await });
    let in_order = async {
        let finished = async {
            fetching.wait().await;
            worker.attempts.close();
            worker.attempts.wait().await;
        };
        if tokio::time::timeout(worker.settings.grace, finished).await.is_err() {
            tracing::info!(running = worker.held.running(), "the grace is over: asking the rest to stop");
            stop_attempts(worker, StopReason::Drain).await;
        }
        if tokio::time::timeout(worker.settings.stop_timeout, worker.writer.flushed()).await.is_err() {
            tracing::warn!("some endings could not be written; the lease hands those tasks back");
        }
    };
    let reason = tokio::select! {
        () = in_order => "handed back: its worker leaves",
        () = shutdown.leave.cancelled() => {
            // They should not go on beside their next delivery, for as long as this process still lives.
            worker.held.ask_all(StopReason::Drain);
            "handed back: its worker was told twice to leave"
        }
    };
    // First what runs: its ids lie in the own lists too, and who takes one before its row waits again throws its
    // doorbell away. The lists do not wait for long: one of the two stores may be away, and the other should still hear
    // of it.
    let handed_back = CancellationToken::new();
    let hand_back = async {
        farewell.within(hand_back_all(worker, reason)).await;
        handed_back.cancel();
    };
    let release = async {
        let _ = tokio::time::timeout(HANDED_BACK_FIRST, handed_back.cancelled()).await;
        farewell.within(release_lists(worker)).await;
    };
    tokio::join!(hand_back, release);
    // What was rung just now must be on its way before the process ends.
    farewell.within(worker.core.queue.outlet().flushed()).await;
}

/// Gives back the doorbells in the own lists: those that were not claimed, and those of tasks that have just been
/// handed back, which then ring twice. Others would do it when they find this worker dead.
async fn release_lists(worker: &Worker) {
    for (queue, _) in worker.settings.slots() {
        for list in worker.core.queue.taker(queue, worker.id).lists() {
            if !worker.core.redis_is_up() {
                return;
            }
            if let Err(error) = worker.core.queue.drain(&list).await {
                tracing::debug!("could not release a list: {error:#}");
            }
        }
    }
}

/// Asks all attempts to stop, and waits until they have. An attempt that ignores it is dropped after
/// `APP_STOP_TIMEOUT`; one that does not even let go of its thread cannot be, and nobody waits for it.
async fn stop_attempts(worker: &Worker, reason: StopReason) {
    worker.held.ask_all(reason);
    worker.attempts.close();
    let patience = worker.settings.stop_timeout + Duration::from_millis(500);
    if tokio::time::timeout(patience, worker.attempts.wait()).await.is_err() {
        let unstopped = worker.held.unstopped(worker.settings.stop_timeout);
        tracing::warn!(unstopped, "some attempts ignore the request to stop; they are left behind");
    }
}

/// Gives back whatever is RUNNING here, in one statement, at most a second: what the second signal cut off, attempts
/// that have not stopped, claims whose reply was lost. What stayed behind would be charged as lost with its worker.
async fn hand_back_all(worker: &Worker, reason: &'static str) {
    let handed_back = worker.core.store.hand_back_all(worker.id, reason);
    match tokio::time::timeout(Duration::from_secs(1), handed_back).await {
        Ok(Ok((bells, changed))) => {
            if !changed.is_empty() {
                tracing::info!(tasks = changed.len(), "{reason}");
            }
            worker.core.queue.outlet().ring(bells, Side::Front);
            worker.core.queue.outlet().changed(changed);
        }
        Ok(Err(error)) => tracing::warn!("could not hand back what runs here: {error}; the lease does it"),
        Err(_) => tracing::warn!("could not hand back what runs here within a second; the lease does it"),
    }
}
