//! Work: attempts, and what the loops of a worker find.

use std::time::Duration;

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use super::{Counted, Counters, Gauges, Histograms, histograms, long, made};

/// What an attempt came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// It returned a result.
    Success,
    /// It failed for good.
    Failed,
    /// It failed, and will be tried again.
    Retried,
    /// It was handed back, uncharged.
    HandedBack,
    /// Its input could not be decoded here.
    Undecodable,
    /// It stopped because the task was no longer its own: cancelled, or taken by others.
    Stopped,
    /// It gave the task back for a while, uncharged.
    Snoozed,
}

/// Whether a turn of a loop did its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It did.
    Ok,
    /// It did not, and is made again.
    Failed,
}

/// What brought tasks or their doorbells back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovery {
    /// Tasks taken from workers that are dead.
    WorkerLost,
    /// Claims whose reply was lost.
    ClaimReplyLost,
    /// Ids that Redis had moved and nobody received.
    NeverReceived,
    /// Ids in the lists of workers that are dead.
    ListOfTheDead,
    /// Single doorbells that were lost.
    DoorbellLost,
    /// Doorbells rung because Redis had lost its data.
    RedisEmptied,
}

/// A write that the fence refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Write {
    /// The end of a delivery.
    Finish,
    /// Progress, log lines, a checkpoint.
    Report,
}

/// The instruments.
pub struct Work {
    attempts: Counters<2>,
    run: Histograms<1>,
    wait: Histograms<1>,
    running: Gauges<1>,
    slots: Gauges<1>,
    fenced: Counters<1>,
    lost: Counters<1>,
    recoveries: Counters<1>,
    sweeps: Counters<1>,
    renewals: Counters<1>,
    /// Attempts that ignore a request to stop.
    pub unstopped: Gauge,
    /// Workers that this one has declared dead.
    pub declared_dead: Counter,
    /// Incarnations of this worker.
    pub incarnations: Counter,
    /// Whether it takes nothing any more.
    pub draining: Gauge,
    /// Tasks whose time had come.
    pub due: Counter,
    /// Tasks that nobody started in time.
    pub expired: Counter,
    /// Tasks that retention deleted.
    pub purged: Counter,
}

/// The instruments of one task type.
pub struct Kind {
    outcomes: [Counter; AttemptOutcome::ALL.len()],
    run: Histogram,
}

/// The instruments of one queue of a worker.
pub struct Line {
    wait: Histogram,
    running: Gauge,
}

impl AttemptOutcome {
    const ALL: [Self; 7] =
        [Self::Success, Self::Failed, Self::Retried, Self::HandedBack, Self::Undecodable, Self::Stopped, Self::Snoozed];

    fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failed => "failed",
            Self::Retried => "retried",
            Self::HandedBack => "handed_back",
            Self::Undecodable => "undecodable",
            Self::Stopped => "stopped",
            Self::Snoozed => "snoozed",
        }
    }
}

impl Recovery {
    const ALL: [Self; 6] = [
        Self::WorkerLost,
        Self::ClaimReplyLost,
        Self::NeverReceived,
        Self::ListOfTheDead,
        Self::DoorbellLost,
        Self::RedisEmptied,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::WorkerLost => "worker_lost",
            Self::ClaimReplyLost => "claim_reply_lost",
            Self::NeverReceived => "never_received",
            Self::ListOfTheDead => "list_of_the_dead",
            Self::DoorbellLost => "doorbell_lost",
            Self::RedisEmptied => "redis_emptied",
        }
    }
}

impl Outcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
        }
    }
}

impl Write {
    fn as_str(self) -> &'static str {
        match self {
            Self::Finish => "finish",
            Self::Report => "report",
        }
    }
}

impl Work {
    pub(super) fn register(registry: &mut Registry) -> Self {
        Self {
            attempts: made(registry, "attempts", "Attempts that have ended, by task type and outcome"),
            run: histograms(registry, "attempt_run_seconds", "How long attempts ran", long),
            wait: histograms(
                registry,
                "attempt_wait_seconds",
                "How long tasks had been ready when they were started, by queue",
                long,
            ),
            running: made(registry, "attempts_running", "Attempts that run in this worker, by queue"),
            slots: made(registry, "slots", "Attempts that this worker runs at a time, by queue"),
            fenced: made(
                registry,
                "fenced_writes",
                "Writes that changed nothing because the task was no longer the delivery's",
            ),
            lost: made(
                registry,
                "deliveries_lost",
                "Deliveries that ended because their worker died: the task is retried, or failed as worker_lost",
            ),
            recoveries: made(registry, "recoveries", "Tasks and doorbells that were found and brought back"),
            sweeps: made(registry, "sweeps", "Searches for the dead and what they held"),
            renewals: made(registry, "lease_renewals", "Renewals of the lease that came through or not"),
            unstopped: made(
                registry,
                "attempts_unstopped",
                "Attempts that ignore the request to stop; each keeps what it uses until the worker restarts",
            ),
            declared_dead: made(registry, "workers_declared_dead", "Workers that this one declared dead"),
            incarnations: made(registry, "worker_incarnations", "Times that this worker began, after its death too"),
            draining: made(registry, "worker_draining", "1 when this worker takes nothing new, because it leaves"),
            due: made(registry, "tasks_due", "Tasks that became ready because their time had come"),
            expired: made(registry, "tasks_expired", "Tasks that ended because nobody started them in time"),
            purged: made(registry, "tasks_purged", "Tasks that retention deleted"),
        }
    }

    /// The series that any worker has, so that they begin with 0.
    pub fn expect(&self) {
        Recovery::ALL.into_iter().for_each(|recovery| self.recovered(recovery, 0));
        [Write::Finish, Write::Report].into_iter().for_each(|write| self.fenced(write, 0));
        self.lost(0, 0);
        for outcome in [Outcome::Ok, Outcome::Failed] {
            for counters in [&self.sweeps, &self.renewals] {
                drop(counters.get_or_create(&[("outcome", outcome.as_str().into())]));
            }
        }
    }

    /// The instruments of a task type of the registry.
    pub fn kind(&self, task_type: &str) -> Kind {
        let label = ("task_type", task_type.to_owned().into());
        Kind {
            outcomes: AttemptOutcome::ALL.map(|outcome| {
                self.attempts.get_or_create_owned(&[label.clone(), ("outcome", outcome.as_str().into())])
            }),
            run: self.run.get_or_create_owned(&[label]),
        }
    }

    /// The instruments of a queue that this worker serves with so many slots.
    pub fn line(&self, queue: &str, slots: usize) -> Line {
        let label = [("queue", queue.to_owned().into())];
        self.slots.get_or_create(&label).set(slots as i64);
        Line { wait: self.wait.get_or_create_owned(&label), running: self.running.get_or_create_owned(&label) }
    }

    /// The fence refused so many writes.
    pub fn fenced(&self, write: Write, number: usize) {
        self.fenced.get_or_create(&[("write", write.as_str().into())]).inc_by(number as u64);
    }

    /// Deliveries were lost with their workers: so many tasks are retried, so many have failed.
    pub fn lost(&self, retried: usize, failed: usize) {
        for (outcome, number) in [("retried", retried), ("failed", failed)] {
            self.lost.get_or_create(&[("outcome", outcome.into())]).inc_by(number as u64);
        }
    }

    /// So many tasks or doorbells were brought back.
    pub fn recovered(&self, recovery: Recovery, number: usize) {
        self.recoveries.get_or_create(&[("reason", recovery.as_str().into())]).inc_by(number as u64);
    }

    /// A sweep has ended.
    pub fn swept(&self, outcome: Outcome) {
        self.sweeps.get_or_create(&[("outcome", outcome.as_str().into())]).inc();
    }

    /// A renewal has ended.
    pub fn renewed(&self, outcome: Outcome) {
        self.renewals.get_or_create(&[("outcome", outcome.as_str().into())]).inc();
    }
}

impl Kind {
    /// An attempt of the type has ended.
    pub fn ended(&self, outcome: AttemptOutcome, took: Duration) {
        self.outcomes[outcome as usize].inc();
        self.run.observe(took.as_secs_f64());
    }
}

impl Line {
    /// An attempt of the queue runs, for as long as this lives. Its task had been ready for `waited`.
    pub fn started(&self, waited: Duration) -> Counted {
        self.wait.observe(waited.as_secs_f64());
        Counted::in_gauge(&self.running)
    }
}
