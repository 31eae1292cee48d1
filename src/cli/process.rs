//! The process of a role: its runtime, its signals, and how its last word becomes an exit code.

use std::{process::ExitCode, time::Duration};

use anyhow::Context as _;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::{
    admin::Admin,
    allocator::give_back_when_idle,
    config::{self, SettingError},
    shutdown::Shutdown,
    telemetry,
};

/// Threads for blocking calls beside those of the tasks: name lookups, files.
const SPARE_BLOCKING_THREADS: usize = 64;
/// As clap ends the program for a command line that it cannot read.
const WRONG_USAGE: u8 = 2;
/// How long a closure that ignores every request to stop may hold up the end of the process.
const LAST_THREADS: Duration = Duration::from_secs(1);

/// Runs one role on a runtime of its own. Each task may hold one blocking thread, so there are as many as `slots`.
pub(super) fn run<F>(
    name: &str,
    telemetry: &config::Telemetry,
    slots: usize,
    role: impl FnOnce(Shutdown) -> F,
) -> ExitCode
where
    F: Future<Output = anyhow::Result<()>>,
{
    let _flushed_at_the_end = match telemetry::init(telemetry, name) {
        Ok(guard) => guard,
        Err(error) => return report(Err(error), config::LogFormat::Text),
    };
    raise_file_limit();
    give_back_when_idle();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("app")
        .max_blocking_threads(slots + SPARE_BLOCKING_THREADS)
        .build();
    let runtime = match runtime.context("cannot start the runtime") {
        Ok(runtime) => runtime,
        Err(error) => return report(Err(error), telemetry.log_format),
    };
    let outcome = runtime.block_on(async {
        let stop = Shutdown::install().context("cannot listen for signals")?;
        role(stop.clone()).await?;
        Ok(stop.exit_code())
    });
    // Who was told twice waits for threads only as long as it takes to let go of the children of tasks.
    let made_to_leave = matches!(outcome, Ok(Some(_)));
    runtime.shutdown_timeout(if made_to_leave { LAST_THREADS / 5 } else { LAST_THREADS });
    match outcome {
        Ok(Some(code)) => ExitCode::from(code),
        Ok(None) => ExitCode::SUCCESS,
        Err(error) => report(Err(error), telemetry.log_format),
    }
}

/// A stream is an open file, and the usual limit of 1,024 is meant for programs that use select(2).
fn raise_file_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(soft, hard)| if soft < hard { setrlimit(Resource::RLIMIT_NOFILE, hard, hard) } else { Ok(()) });
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

/// The environment of a process, with its secrets, can be read by every other process of the same user, the commands of
/// tasks among them, and so can its memory. Linux leaves both to root alone when the process is not to be dumped
/// (prctl(2), PR_SET_DUMPABLE; proc(5)). That holds until exec(2), so commands themselves are as usual.
pub(super) fn keep_memory_private() {
    #[cfg(target_os = "linux")]
    if let Err(error) = nix::sys::prctl::set_dumpable(false) {
        // Before the log is open, and not worth refusing to work.
        eprintln!("warning: other processes of this user can read this one's environment: {error}");
    }
}

/// Closes the listener of the operators, where there is one.
pub(super) async fn close(admin: Option<Admin>) {
    if let Some(admin) = admin {
        admin.close().await;
    }
}

/// `None` when a signal came first: nothing has begun, so there is nothing to drain.
pub(super) async fn unless_told<T>(
    stop: &Shutdown,
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<Option<T>> {
    tokio::select! {
        done = work => done.map(Some),
        () = stop.drain.cancelled() => Ok(None),
    }
}

/// When one of two roles in a process ends, the other has to end too.
pub(super) async fn then_stop(role: impl Future<Output = anyhow::Result<()>>, stop: &Shutdown) -> anyhow::Result<()> {
    let outcome = role.await;
    stop.begin();
    outcome
}

/// The error as one line: in a log of JSON lines it is one of them, otherwise it stands alone.
pub(super) fn report(outcome: anyhow::Result<()>, format: config::LogFormat) -> ExitCode {
    let Err(error) = outcome else { return ExitCode::SUCCESS };
    let line = format!("{error:#}").lines().collect::<Vec<_>>().join(" ");
    match format {
        config::LogFormat::Json => tracing::error!("{line}"),
        config::LogFormat::Text => eprintln!("error: {line}"),
    }
    match error.is::<SettingError>() {
        true => ExitCode::from(WRONG_USAGE),
        false => ExitCode::FAILURE,
    }
}
