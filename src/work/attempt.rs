//! Attempt: one delivery of one task, from its claim to its ending.
//!
//! It reads as a pipeline: decode, run with the deadline and the request to stop, catch a panic, turn whatever
//! happened into one ending. An attempt never talks to the HTTP layer and never owns a connection.

use std::{
    convert::Infallible,
    panic::AssertUnwindSafe,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use chrono::Utc;
use futures_util::FutureExt;
use serde_json::value::RawValue;
use tokio::sync::OwnedSemaphorePermit;
use tracing::{Instrument, Span, field::Empty};

use super::{
    Worker,
    held::Delivery,
    seen::{Numbers, Seen},
    unwritten::{Ended, Origin},
};
use crate::{
    core::{
        model::{Claimed, Level, LogLine, Priority, RetryPolicy, TaskError, allowance},
        store::{Ending, Finish, Report},
    },
    metrics::Counted,
    tasks::{
        Context, Failure, StopReason,
        context::{Outbox, Stop},
        registry::RunError,
    },
    telemetry,
};

/// Between the end of a grace and the word that nothing is left.
const TO_KILL: Duration = Duration::from_secs(1);

/// An attempt that takes longer is shown in its trace while it runs.
const LONG: Duration = Duration::from_secs(1);

/// What the handler came to.
enum Outcome {
    Returned(Result<Box<RawValue>, RunError>),
    Panicked(String),
    /// Asked to stop, it did not within `APP_STOP_TIMEOUT`, and was dropped.
    Dropped,
}

/// What an attempt takes up while it runs.
struct Running {
    _slot: OwnedSemaphorePermit,
    _counted: Option<Counted>,
}

/// Starts a delivery whose claim is confirmed. The slot is free when the handler has returned.
pub(super) fn start(worker: &Arc<Worker>, task: Claimed, list: Option<Priority>, slot: OwnedSemaphorePermit) {
    let stop = Stop::default();
    let seen = Arc::new(Seen::new(Numbers { seq: task.seq, version: task.version }));
    let outbox = Arc::new(Outbox::new(worker.writer.doorbell(task.id, task.delivery, seen)));
    let delivery = Delivery {
        number: task.delivery,
        confirmed_at: Instant::now(),
        grace: grace(worker, &task.task_type),
        stop: stop.clone(),
        outbox: outbox.clone(),
    };
    worker.held.confirm(task.id, delivery);
    worker.tally.started(&task.queue);
    let counted = worker.meters.started(&task);
    let span = span_of(worker, &task);
    let run =
        run(worker.clone(), task, list, Running { _slot: slot, _counted: counted }, stop, outbox).instrument(span);
    worker.attempts.spawn(run);
}

/// The span of an attempt, named and filled as OpenTelemetry's semantic conventions for messaging say.
fn span_of(worker: &Worker, task: &Claimed) -> Span {
    if !telemetry::wants_span(task.trace_context.as_deref()) {
        return Span::none();
    }
    let span = tracing::info_span!(
        "attempt",
        otel.name = format!("process {}", task.task_type),
        otel.kind = "consumer",
        messaging.system = "longrun",
        messaging.destination.name = task.queue,
        messaging.operation.name = "process",
        messaging.operation.type = "process",
        messaging.message.id = %task.id,
        otel.status_code = Empty,
        error.type = Empty,
        task.id = %task.id,
        task.type = task.task_type,
        attempt = task.attempt,
        delivery = task.delivery,
        worker.id = %worker.id,
        trace_id = Empty,
    );
    if let Some(submit) = &task.trace_context {
        telemetry::set_parent_from_header(&span, submit);
        telemetry::add_link(&span, submit);
    }
    if task.trace_context.is_some() || telemetry::is_exporting() {
        telemetry::note_trace_id(&span);
    }
    span
}

async fn run(
    worker: Arc<Worker>,
    task: Claimed,
    list: Option<Priority>,
    running: Running,
    stop: Stop,
    outbox: Arc<Outbox>,
) {
    let began = Instant::now();
    let trace_context = telemetry::is_exporting().then(telemetry::current_traceparent).flatten();
    let vanishing = worker.held.until_told(task.id, task.delivery);
    tracing::debug!("started");
    let outcome = execute(&worker, &task, &stop, &outbox).await;
    let ending = conclude(&worker, &task, stop.reason(), outcome);
    worker.tally.ended(&task.queue);
    let took = began.elapsed();
    worker.meters.ended(&task, ending.as_ref(), took);
    log(&ending, stop.reason(), took);
    let pending = outbox.take();
    let mut lines = pending.lines;
    lines.extend(last_line(&ending));
    let report = Report {
        id: task.id,
        delivery: task.delivery,
        progress: pending.progress,
        checkpoint: pending.checkpoint,
        lines,
    };
    let ended = Ended {
        id: task.id,
        delivery: task.delivery,
        attempt: task.attempt,
        origin: Origin { queue: task.queue, priority: task.priority, list },
        finish: ending.map(|ending| Finish { report, ending, trace_context }),
    };
    worker.writer.end(ended).await;
    vanishing.told();
    drop(running);
    worker.slot_freed.notify_waiters();
}

/// Runs the handler until it returns, or until it has had its time to stop.
async fn execute(worker: &Worker, task: &Claimed, stop: &Stop, outbox: &Arc<Outbox>) -> Outcome {
    let Some(kind) = worker.registry.get(&task.task_type) else {
        return Outcome::Returned(Err(RunError::Undecodable("this worker does not know the type".to_owned())));
    };
    let ctx = Context::new(task.clone(), outbox.clone(), stop.clone(), worker.tools.clone());
    let pulse = ctx.pulse();
    let mut handler = pin!(AssertUnwindSafe(async { kind.clone().run(&task.input, ctx).await }).catch_unwind());
    let deadline = async {
        match task.timeout {
            Some(timeout) => tokio::time::sleep(timeout).await,
            None => std::future::pending().await,
        }
    };
    let returned = tokio::select! {
        biased;
        returned = &mut handler => Some(returned),
        never = shown_when_long(task) => match never {},
        () = stop.asked() => None,
        () = deadline => {
            stop.ask(StopReason::Deadline);
            None
        }
    };
    let returned = match returned {
        Some(returned) => Ok(returned),
        None => {
            let patience = match stop.reason() {
                // The slot alone waits for it. A worker that leaves, or is dead, does not.
                Some(StopReason::Cancelled | StopReason::Deadline) => {
                    worker.settings.stop_timeout.max(grace(worker, &task.task_type))
                }
                Some(StopReason::Drain | StopReason::Lost) | None => worker.settings.stop_timeout,
            };
            tokio::time::timeout(patience, handler).await
        }
    };
    match returned {
        Ok(Ok(returned)) => Outcome::Returned(returned),
        Ok(Err(panic)) => Outcome::Panicked(panic_text(&*panic)),
        Err(_) => {
            tracing::warn!("the handler did not stop within its time; it is dropped");
            worker.held.note_dropped(pulse);
            Outcome::Dropped
        }
    }
}

/// How long the type may take to stop, by its own word: with what it takes to kill and to say so.
fn grace(worker: &Worker, task_type: &str) -> Duration {
    match worker.registry.get(task_type).map_or(Duration::ZERO, |kind| kind.grace()) {
        Duration::ZERO => Duration::ZERO,
        grace => grace + TO_KILL,
    }
}

/// Makes a long attempt visible in its trace before it ends.
async fn shown_when_long(task: &Claimed) -> Infallible {
    if telemetry::is_exporting() {
        let began = SystemTime::now();
        tokio::time::sleep(LONG).await;
        telemetry::calls::show_that_it_runs(format!("started {}", task.task_type), began);
    }
    std::future::pending().await
}

/// Every outcome meets here. `None`: nothing is to be written, since the task is no longer this delivery's.
fn conclude(worker: &Worker, task: &Claimed, asked: Option<StopReason>, outcome: Outcome) -> Option<Ending> {
    let failure = match outcome {
        // A result is always offered, whatever was asked meanwhile: the fence decides whether it still counts.
        Outcome::Returned(Ok(result)) => match allowance::result(result.get(), worker.tools.max_result) {
            Ok(()) => return Some(Ending::Success(result)),
            Err(too_large) => too_large.into(),
        },
        Outcome::Returned(Err(RunError::Undecodable(why))) if task.undecodable_for_too_long => {
            Failure::fatal("undecodable_input", format!("no worker could decode the input for ten minutes: {why}"))
        }
        Outcome::Returned(Err(RunError::Undecodable(why))) => return Some(Ending::Undecodable(why)),
        Outcome::Returned(Err(RunError::Failed(failure))) => failure,
        Outcome::Panicked(text) => Failure::retry("panic", format!("the task panicked: {text}")),
        Outcome::Dropped => Failure::Stopped,
    };
    let failure = match (failure, asked) {
        (Failure::Fatal { code, message }, _) => return Some(Ending::Failed(error(task, code, &message, false))),
        // A failure after the request to stop is taken as the answer to it.
        (_, Some(StopReason::Cancelled | StopReason::Lost)) => return None,
        (_, Some(StopReason::Drain)) => return Some(Ending::HandBack("handed back: its worker leaves")),
        (_, Some(StopReason::Deadline)) => {
            let limit = humantime::format_duration(task.timeout.unwrap_or_default());
            Failure::retry("timeout", format!("the attempt took longer than its limit of {limit}"))
        }
        (Failure::Stopped, None) => Failure::retry("stopped", "the handler stopped without being asked to"),
        (failure, None) => failure,
    };
    let (code, message, after) = match failure {
        Failure::Retry { code, message, after } => (code, message, after),
        Failure::Snooze { time } => return Some(Ending::Snooze(i64::try_from(time.as_millis()).unwrap_or(i64::MAX))),
        Failure::Fatal { .. } | Failure::Stopped => return None,
    };
    let error = error(task, code, &message, true);
    let policy = worker.registry.get(&task.task_type).map_or_else(RetryPolicy::default, |kind| kind.defaults().retry);
    let wait = after.unwrap_or_else(|| policy.backoff(task.failures + 1, rand::random()));
    Some(Ending::after_failure(error, task.failures, task.max_attempts, wait))
}

fn error(task: &Claimed, code: String, message: &str, retryable: bool) -> TaskError {
    TaskError { code, message: allowance::error_text(message), retryable, attempt: task.attempt }
}

/// What the task's own log says at the end of an attempt that failed.
fn last_line(ending: &Option<Ending>) -> Option<LogLine> {
    let (level, message) = match ending {
        Some(Ending::Failed(error)) => (Level::Error, format!("attempt {} failed: {}", error.attempt, error.message)),
        Some(Ending::RetryAfter(error, ms)) => {
            let seconds = Duration::from_millis(*ms as u64).as_secs_f64();
            (Level::Error, format!("attempt {} failed, next in {seconds:.1} s: {}", error.attempt, error.message))
        }
        Some(Ending::HandBack(why)) => (Level::Info, (*why).to_owned()),
        Some(Ending::Success(_) | Ending::Snooze(_) | Ending::Undecodable(_)) | None => return None,
    };
    Some(LogLine { at: Utc::now(), level, message })
}

fn log(ending: &Option<Ending>, asked: Option<StopReason>, took: Duration) {
    let took_ms = took.as_millis() as u64;
    if let Some(Ending::Failed(error) | Ending::RetryAfter(error, _)) = ending {
        let span = Span::current();
        span.record("otel.status_code", "ERROR");
        span.record("error.type", &error.code);
    }
    match ending {
        Some(Ending::Success(_)) => tracing::debug!(took_ms, "succeeded"),
        Some(Ending::Failed(error)) => tracing::warn!(took_ms, error.code, "failed: {}", error.message),
        Some(Ending::RetryAfter(error, wait_ms)) => {
            tracing::info!(took_ms, wait_ms, error.code, "failed, will be retried: {}", error.message);
        }
        Some(Ending::HandBack(why)) => tracing::info!(took_ms, "{why}"),
        Some(Ending::Snooze(wait_ms)) => tracing::debug!(took_ms, wait_ms, "snoozes"),
        Some(Ending::Undecodable(why)) => tracing::warn!("gave back an input that cannot be decoded here: {why}"),
        None if asked == Some(StopReason::Cancelled) => tracing::info!(took_ms, "stopped: the task was cancelled"),
        None => tracing::info!(took_ms, "stopped: the task is no longer this delivery's"),
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a message".to_owned())
}
