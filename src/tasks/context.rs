//! Context: what an attempt may ask of the world that runs it.
//!
//! Nothing here waits for a server. Progress, log lines and checkpoints go into the attempt's [`Outbox`], in memory;
//! whoever runs the attempt (a worker, or [`testing`](super::testing)) empties it and writes. So a report costs
//! nanoseconds, ten thousand of them cost one row, and a dropped attempt cannot drop a transaction.

use std::{
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
    time::{Duration, Instant},
};

use chrono::Utc;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::{Failure, outbound::Outbound};
use crate::core::model::{
    Claimed, Level, LogLine, Progress, TaskId,
    allowance::{self, Logged, cut},
    storable,
};

/// Why an attempt is asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// Somebody cancelled the task.
    Cancelled,
    /// The worker goes: save a checkpoint, the task goes on elsewhere, nothing is charged.
    Drain,
    /// The time limit of the attempt has passed.
    Deadline,
    /// The task is no longer this delivery's: nothing it writes will count.
    Lost,
}

/// The handle of one attempt. Cheap to clone; clones are the same attempt.
#[derive(Clone)]
pub struct Context {
    attempt: Arc<Attempt>,
}

struct Attempt {
    task: Claimed,
    outbox: Arc<Outbox>,
    stop: Stop,
    tools: Tools,
}

/// Tells whether an attempt still runs somewhere, without keeping it.
///
/// A handler that is dropped stops at its last await; a closure that it gave to a thread goes on, and has a context.
#[derive(Clone)]
pub struct Pulse(Weak<Attempt>);

impl Pulse {
    /// Whether anything still has the attempt's context.
    pub fn beats(&self) -> bool {
        self.0.strong_count() > 0
    }
}

/// What all attempts of a process share.
#[derive(Clone)]
pub struct Tools {
    /// One permit per thread that may compute at a time.
    pub cpu: Arc<Semaphore>,
    /// The guarded HTTP client.
    pub http: Outbound,
    /// Bytes that a result may have.
    pub max_result: usize,
}

/// The request to stop: a token to wait on, and the reason, which is set once.
#[derive(Clone, Default)]
pub struct Stop {
    token: CancellationToken,
    asked: Arc<OnceLock<(StopReason, Instant)>>,
}

impl Stop {
    /// Asks the attempt to stop. The first reason stands.
    pub fn ask(&self, reason: StopReason) {
        let _ = self.asked.set((reason, Instant::now()));
        self.token.cancel();
    }

    /// The reason, once asked.
    pub fn reason(&self) -> Option<StopReason> {
        self.token.is_cancelled().then(|| self.asked.get().map(|(reason, _)| *reason)).flatten()
    }

    /// How long ago the attempt was asked.
    pub fn asked_for(&self) -> Option<Duration> {
        self.asked.get().map(|(_, since)| since.elapsed())
    }

    /// Returns when the attempt is asked to stop.
    pub async fn asked(&self) {
        self.token.cancelled().await;
    }
}

impl Context {
    /// The context of one delivery.
    pub fn new(task: Claimed, outbox: Arc<Outbox>, stop: Stop, tools: Tools) -> Self {
        Self { attempt: Arc::new(Attempt { task, outbox, stop, tools }) }
    }

    /// A sign of life: whether anything of this attempt, a blocking closure above all, still has its context.
    pub fn pulse(&self) -> Pulse {
        Pulse(Arc::downgrade(&self.attempt))
    }

    /// The delivery as it was claimed.
    pub(super) fn task(&self) -> &Claimed {
        &self.attempt.task
    }

    /// Bytes that its result may have.
    pub(super) fn max_result(&self) -> usize {
        self.attempt.tools.max_result
    }

    /// The task.
    pub fn task_id(&self) -> TaskId {
        self.attempt.task.id
    }

    /// Which attempt this is, from 1. Rises only when an attempt failed.
    pub fn attempt(&self) -> i32 {
        self.attempt.task.attempt
    }

    /// Which delivery this is, from 1. Rises with every start, also after a crash or a rollout.
    pub fn delivery(&self) -> i32 {
        self.attempt.task.delivery
    }

    /// The submitter's own notes, a JSON object.
    pub fn metadata(&self) -> &RawValue {
        &self.attempt.task.metadata
    }

    /// W3C `traceparent` of the submit.
    pub fn trace_context(&self) -> Option<&str> {
        self.attempt.task.trace_context.as_deref()
    }

    /// Reports `done` of `total` steps, and is a cancellation point: both in one call for a loop's head.
    pub fn step(&self, done: u64, total: u64) -> Result<(), Failure> {
        self.progress(done, Some(total), None);
        self.check()
    }

    /// Reports progress. The latest report wins; at most about ten a second are written.
    pub fn progress(&self, current: u64, total: Option<u64>, message: Option<&str>) {
        let clamp = |steps: u64| i64::try_from(steps).unwrap_or(i64::MAX);
        self.attempt.outbox.put(|pending| {
            pending.progress = Some(Progress {
                current: clamp(current),
                total: total.map(clamp),
                message: message.map(|text| cut(storable(text).into_owned())),
                updated_at: Utc::now(),
            });
        });
    }

    /// Writes a line into the task's log. It never fails the task; beyond 10,000 lines, or 4 MiB, per delivery they
    /// are dropped.
    pub fn log(&self, level: Level, message: impl AsRef<str>) {
        let line = LogLine { at: Utc::now(), level, message: message.as_ref().to_owned() };
        self.attempt.outbox.put(|pending| pending.lines.extend(pending.logged.admit(line)));
    }

    /// A line of level INFO.
    pub fn info(&self, message: impl AsRef<str>) {
        self.log(Level::Info, message);
    }

    /// A line of level WARNING.
    pub fn warn(&self, message: impl AsRef<str>) {
        self.log(Level::Warning, message);
    }

    /// Saves a position that the next delivery can go on from. The latest one wins; it is durable within a tenth of
    /// a second, and in any case before the task is handed back to be run elsewhere. One of more than 1 MiB of JSON,
    /// of more than 120 levels, or with a number that no double holds, fails the task for good, as `checkpoint_too_large`: it holds a position, and what belongs to it lies elsewhere.
    pub fn checkpoint<T: Serialize>(&self, position: &T) -> Result<(), Failure> {
        let text = serde_json::value::to_raw_value(position)
            .map_err(|error| Failure::fatal("checkpoint", format!("the checkpoint is not JSON: {error}")))?;
        allowance::checkpoint(text.get())?;
        self.attempt.outbox.put(|pending| pending.checkpoint = Some(text));
        Ok(())
    }

    /// The position that an earlier delivery saved; `None` at the first start, or when it does not decode as `T`
    /// (a newer version of the type may have changed its shape: starting over is always right).
    pub fn resume<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_str(self.attempt.task.checkpoint.as_ref()?.get()).ok()
    }

    /// A cancellation point: fails with [`Failure::Stopped`] once the attempt is asked to stop.
    pub fn check(&self) -> Result<(), Failure> {
        match self.stopping() {
            Some(_) => Err(Failure::Stopped),
            None => Ok(()),
        }
    }

    /// Whether the attempt is asked to stop: for loops in [`blocking`](Self::blocking) closures.
    pub fn cancelled(&self) -> bool {
        self.stopping().is_some()
    }

    /// Why the attempt is asked to stop, once it is.
    pub fn stopping(&self) -> Option<StopReason> {
        self.attempt.stop.reason()
    }

    /// Returns when the attempt is asked to stop: for `tokio::select!`.
    pub async fn stopped(&self) {
        self.attempt.stop.asked().await;
    }

    /// Waits, and is a cancellation point: it wakes at once when the attempt is asked to stop.
    pub async fn sleep(&self, time: Duration) -> Result<(), Failure> {
        tokio::select! {
            () = self.stopped() => Err(Failure::Stopped),
            () = tokio::time::sleep(time) => self.check(),
        }
    }

    /// Runs a closure that computes, on one of the process's `APP_CPU_THREADS`. Waits for a free one; asked to stop
    /// while waiting, it does not start.
    pub async fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Context) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let permit = tokio::select! {
            () = self.stopped() => return Err(Failure::Stopped),
            permit = self.attempt.tools.cpu.clone().acquire_owned() => permit?,
        };
        self.blocking(move |ctx| {
            let _held_while_computing = permit;
            work(ctx)
        })
        .await
    }

    /// Runs a closure that blocks on IO, on a thread of its own. The task's span and trace go with it.
    pub async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Context) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let ctx = self.clone();
        let span = tracing::Span::current();
        match tokio::task::spawn_blocking(move || span.in_scope(|| work(&ctx))).await {
            Ok(outcome) => outcome,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Err(Failure::Stopped),
        }
    }

    /// The guarded HTTP client. It blocks: call it inside [`blocking`](Self::blocking).
    pub fn http(&self) -> &Outbound {
        &self.attempt.tools.http
    }
}

/// What an attempt has reported and nobody has written yet.
#[derive(Debug, Default)]
pub struct Pending {
    /// The latest progress.
    pub progress: Option<Progress>,
    /// The latest checkpoint.
    pub checkpoint: Option<Box<RawValue>>,
    /// Log lines, oldest first.
    pub lines: Vec<LogLine>,
    logged: Logged,
}

impl Pending {
    /// Nothing to write.
    pub fn is_empty(&self) -> bool {
        self.progress.is_none() && self.checkpoint.is_none() && self.lines.is_empty()
    }
}

/// The mailbox between an attempt and whoever writes for it.
pub struct Outbox {
    pending: Mutex<Pending>,
    filled: Box<dyn Fn() + Send + Sync>,
}

impl Outbox {
    /// An empty outbox; `filled` is called each time it stops being empty, and must not block.
    pub fn new(filled: impl Fn() + Send + Sync + 'static) -> Self {
        Self { pending: Mutex::default(), filled: Box::new(filled) }
    }

    /// Takes everything out.
    pub fn take(&self) -> Pending {
        let mut pending = self.lock();
        let logged = pending.logged;
        std::mem::replace(&mut *pending, Pending { logged, ..Pending::default() })
    }

    fn put(&self, change: impl FnOnce(&mut Pending)) {
        let was_empty = {
            let mut pending = self.lock();
            let was_empty = pending.is_empty();
            change(&mut pending);
            was_empty && !pending.is_empty()
        };
        if was_empty {
            (self.filled)();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        // A panic between lock and unlock leaves a whole report out, never half a one in.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{core::model::allowance::MAX_CHECKPOINT_BYTES, tasks::testing};

    #[test]
    fn a_checkpoint_is_a_position_and_not_the_data() {
        let ctx = testing::context();
        // Two quotes come on top.
        assert!(ctx.checkpoint(&"x".repeat(MAX_CHECKPOINT_BYTES - 2)).is_ok());
        let refused = ctx.checkpoint(&"x".repeat(MAX_CHECKPOINT_BYTES - 1));
        assert!(matches!(refused, Err(Failure::Fatal { code, .. }) if code == "checkpoint_too_large"));
    }
}
