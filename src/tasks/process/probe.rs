//! Probe: whether the processes of attempts can begin at all, asked when a worker starts and not by its first task.
//!
//! Each of them is this program once more, with less in its environment than the worker has. A `main` that makes its
//! types before it calls `longrun::main`, and needs a variable for it, would fail in all of them.

use std::{
    os::unix::process::CommandExt,
    process::{Command, ExitCode, Output, Stdio},
    sync::mpsc,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

use super::super::TaskTypes;

/// A `main` that takes longer is no way to begin an attempt.
const PATIENCE: Duration = Duration::from_secs(30);

/// Tries it: with this environment and, where one is named, with this type. The text says what is wrong.
pub(in crate::tasks) fn try_out(environment: &[(String, String)], task_type: Option<&str>) -> Result<(), String> {
    let mut command = Command::new("/proc/self/exe");
    command.args(["attempt-child", "probe"]).args(task_type).env_clear();
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).process_group(0);
    let child = command.spawn().map_err(|error| format!("no process can be started: {error}"))?;
    let leader = Pid::from_raw(child.id().cast_signed());
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || tell.send(child.wait_with_output()));
    let output: Output = match told.recv_timeout(PATIENCE) {
        Ok(output) => output.map_err(|error| format!("a process cannot be waited for: {error}"))?,
        Err(_) => {
            let _ = killpg(leader, Signal::SIGKILL);
            return Err(format!(
                "its processes do not begin within {} s: what does main wait for?",
                PATIENCE.as_secs()
            ));
        }
    };
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    // A panic tells in its second line why, and in its last how to see more of it.
    let words: Vec<_> = words.lines().filter(|line| !line.trim().is_empty() && !line.starts_with("note:")).collect();
    let words = if words.is_empty() { output.status.to_string() } else { words.join(" ") };
    Err(match task_type {
        Some(_) => format!(
            "its processes cannot make it: {words}. They have the worker's environment without what is the worker's own \
             (DATABASE_URL, REDIS_URL, APP_*, OTEL_*): name in APP_CHILD_ENV what they need of that"
        ),
        None => format!(
            "the processes around a command begin with an empty environment, and main fails there: {words}. Give \
             longrun::main a function that makes the types: it is not called where none are needed"
        ),
    })
}

/// The other side: exit code 0 when this program gets here and, where a type is named, can make it.
pub(super) fn answer(types: impl TaskTypes, task_type: Option<&str>) -> ExitCode {
    let Some(name) = task_type else { return ExitCode::SUCCESS };
    match types.make() {
        Ok(registry) if registry.get(name).is_some() => ExitCode::SUCCESS,
        Ok(_) => {
            eprintln!("with that environment this program has no type of that name");
            ExitCode::FAILURE
        }
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}
