//! Payload: an attempt of a Rust type, as the process that it has for itself. It knows no server: what it reports are
//! lines on stdout, and what it is to do came on stdin.

use std::{
    io::{Read, Write},
    panic::AssertUnwindSafe,
    process::ExitCode,
    sync::{Arc, mpsc},
    time::Duration,
};

use futures_util::FutureExt;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::Semaphore,
};

use super::{
    isolated::{Envelope, Outbound},
    protocol::{FailureLine, Log, Message, Progress},
};
use crate::{
    config,
    core::model::Claimed,
    tasks::{
        Context, Registry, StopReason, TaskTypes,
        context::{Outbox, Stop, Tools},
        outbound::Outbound as Http,
        registry::RunError,
    },
};

/// What is reported is gathered for as long as this.
const GATHER: Duration = Duration::from_millis(20);

/// Runs the attempt that stdin tells of. Exit code 0 also where it failed: a line says how.
pub fn run(types: impl TaskTypes) -> ExitCode {
    match attempt(types) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn attempt(types: impl TaskTypes) -> anyhow::Result<()> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    let envelope: Envelope = serde_json::from_str(&text)?;
    drop(text);
    let registry = match types.make() {
        Ok(registry) => registry,
        Err(why) => {
            let message = format!("the process of the attempt cannot make the task types: {why}");
            write(&[Message::Failure(FailureLine::Retry { code: "task_types".to_owned(), message, after: None })]);
            return Ok(());
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let last = runtime.block_on(outcome(&registry, envelope))?;
    write(&[last]);
    // A thread that ignored the request to stop does not hold up the end.
    runtime.shutdown_background();
    Ok(())
}

async fn outcome(registry: &Registry, envelope: Envelope) -> anyhow::Result<Message> {
    let Some(kind) = registry.get(&envelope.task_type) else {
        anyhow::bail!("this program does not know the task type {:?}", envelope.task_type);
    };
    let tools = Tools {
        cpu: Arc::new(Semaphore::new(envelope.cpu_threads.max(1))),
        http: Http::new(&outbound(envelope.outbound)?)?,
        // The worker judges it.
        max_result: usize::MAX,
    };
    let (bell, rung) = mpsc::channel();
    let outbox = Arc::new(Outbox::new(move || {
        // Nobody listens any more at the very end.
        let _ = bell.send(());
    }));
    let stop = Stop::default();
    let mut terminate = signal(SignalKind::terminate())?;
    let told = stop.clone();
    tokio::spawn(async move {
        terminate.recv().await;
        // The worker knows the reason, and what becomes of the task.
        told.ask(StopReason::Drain);
    });
    let reported = outbox.clone();
    std::thread::spawn(move || {
        while rung.recv().is_ok() {
            std::thread::sleep(GATHER);
            report(&reported);
        }
    });
    let task = Claimed {
        id: envelope.task_id.parse()?,
        delivery: envelope.delivery,
        attempt: envelope.attempt,
        max_attempts: envelope.max_attempts,
        failures: envelope.attempt - 1,
        task_type: envelope.task_type,
        queue: envelope.queue,
        priority: envelope.priority,
        input: envelope.input.clone(),
        metadata: envelope.metadata,
        checkpoint: envelope.checkpoint,
        timeout: None,
        trace_context: envelope.trace_context,
        undecodable_for_too_long: false,
        waited: std::time::Duration::ZERO,
        seq: 0,
        version: 0,
    };
    let ctx = Context::new(task, outbox.clone(), stop, tools);
    let returned = AssertUnwindSafe(kind.clone().run(&envelope.input, ctx)).catch_unwind().await;
    report(&outbox);
    Ok(match returned {
        Ok(Ok(result)) => Message::Result(result),
        Ok(Err(RunError::Failed(failure))) => Message::Failure(failure.into()),
        Ok(Err(RunError::Undecodable(why))) => Message::Failure(FailureLine::Undecodable(why)),
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
            let message = format!("the task ended in a panic: {}", text.as_deref().unwrap_or("without a message"));
            Message::Failure(FailureLine::Retry { code: "panic".to_owned(), message, after: None })
        }
    })
}

fn outbound(told: Outbound) -> anyhow::Result<config::Outbound> {
    let allow = told.allow.iter().map(|network| network.parse()).collect::<Result<_, _>>()?;
    Ok(config::Outbound {
        outbound_allow: allow,
        outbound_ports: told.ports,
        vector_sink_url: told.sink.map(Into::into),
    })
}

/// Writes what is in the outbox. The lock is held over taking and writing, so that nothing overtakes.
fn report(outbox: &Outbox) {
    let _stdout = std::io::stdout().lock();
    let pending = outbox.take();
    let mut messages: Vec<Message> = Vec::new();
    messages
        .extend(pending.lines.into_iter().map(|line| Message::Log(Log { level: line.level, message: line.message })));
    messages.extend(pending.progress.map(|progress| {
        let steps = |number: i64| number.max(0).cast_unsigned();
        Message::Progress(Progress {
            current: steps(progress.current),
            total: progress.total.map(steps),
            message: progress.message,
        })
    }));
    messages.extend(pending.checkpoint.map(Message::Checkpoint));
    write(&messages);
}

fn write(messages: &[Message]) {
    let text: String = messages.iter().map(Message::line).collect();
    let mut stdout = std::io::stdout().lock();
    // When nobody reads any more, this process is about to be killed.
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}
