//! Keeper: the process between `dev` and one server of its own, so that no server outlives `dev`.
//!
//! `dev` holds the writing end of the keeper's stdin. When `dev` is gone, for whatever reason, SIGKILL included, the
//! system closes that end, and the keeper stops its child. The kernel's own means for this (PR_SET_PDEATHSIG) would
//! need unsafe code between fork and exec and exists on Linux only; a pipe works everywhere. A process can signal its
//! own child safely, since the id of a child that was not waited for is not given to another process.
//!
//! Keeper and server have process groups of their own: Ctrl-C in a terminal signals every process of the foreground
//! group, and the servers have to outlast the tasks that still run.

use std::{
    io::Read,
    os::unix::process::{CommandExt, ExitStatusExt},
    path::PathBuf,
    process::{Command, ExitCode},
    sync::mpsc,
    time::{Duration, Instant},
};

use clap::Args;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// A server that has not stopped after this long is killed; both kinds recover from that.
pub(super) const PATIENCE: Duration = Duration::from_secs(15);
const GLANCE: Duration = Duration::from_millis(20);

/// Runs a server as long as stdin is open
#[derive(Args)]
pub struct Keep {
    /// How the server is asked to stop
    #[arg(long)]
    signal: Signal,
    /// The user and group that the server runs as; by default this process's
    #[arg(long, value_name = "UID:GID", value_parser = ids)]
    user: Option<(u32, u32)>,
    /// The folder that it starts in
    #[arg(long)]
    folder: PathBuf,
    /// The server and its arguments
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

fn ids(text: &str) -> Result<(u32, u32), String> {
    let (user, group) = text.split_once(':').ok_or("write UID:GID")?;
    let number = |text: &str| text.parse().map_err(|_| format!("{text:?} is not a number"));
    Ok((number(user)?, number(group)?))
}

/// Runs the server until it ends or stdin is closed. The exit code is the server's, or 1 when it could not be started.
pub fn keep(keep: &Keep) -> ExitCode {
    let Some((program, arguments)) = keep.command.split_first() else { return ExitCode::FAILURE };
    let mut command = Command::new(program);
    command.args(arguments).current_dir(&keep.folder).stdin(std::process::Stdio::null()).process_group(0);
    if let Some((user, group)) = keep.user {
        command.uid(user).gid(group);
    }
    let mut server = match command.spawn() {
        Ok(server) => server,
        Err(error) => {
            eprintln!("cannot start {program}: {error}");
            return ExitCode::FAILURE;
        }
    };
    let gone = watch_stdin();
    let pid = Pid::from_raw(server.id().cast_signed());
    let mut asked: Option<Instant> = None;
    loop {
        if let Ok(Some(status)) = server.try_wait() {
            let code = status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(1);
            return ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX));
        }
        match asked {
            None if gone.recv_timeout(GLANCE) != Err(mpsc::RecvTimeoutError::Timeout) => {
                let _ = kill(pid, keep.signal);
                asked = Some(Instant::now());
            }
            None => {}
            Some(since) => {
                if since.elapsed() > PATIENCE {
                    let _ = server.kill();
                }
                std::thread::sleep(GLANCE);
            }
        }
    }
}

/// A channel that closes when stdin does.
fn watch_stdin() -> mpsc::Receiver<()> {
    let (open, gone) = mpsc::channel();
    std::thread::spawn(move || {
        let _open = open;
        let mut nothing = [0; 64];
        // Nobody writes: this returns at the end of the pipe.
        while std::io::stdin().read(&mut nothing).is_ok_and(|length| length > 0) {}
    });
    gone
}
