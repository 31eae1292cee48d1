//! Supervisor: the process that keeps a payload, and the stage in which a process of this binary becomes the payload.
//!
//! It has no runtime and logs nothing: its stdin is the worker, its stderr has lines with the plan's mark. Three
//! threads tell its main one what happens: a byte or the end on stdin, the end of a child, and the time.

use std::{
    ffi::OsString,
    io::{BufRead, BufReader, Read, Stdin, Write},
    os::unix::process::CommandExt,
    process::{Command, ExitCode, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::{
        prctl,
        resource::{Resource, setrlimit},
        signal::{Signal, killpg},
        wait::{WaitStatus, waitpid},
    },
    unistd::{Pid, getppid},
};

use super::{
    Limits, family,
    plan::{ASK, Ended, Plan, Report, STOP},
};

/// How often the resident memory is looked at.
const LOOK: Duration = Duration::from_millis(250);
/// Between two rounds of killing what is left.
const ROUND: Duration = Duration::from_millis(5);
/// What cannot be killed for so long hangs in the kernel: nobody can wait for it.
const UNKILLABLE: Duration = Duration::from_secs(10);

enum Event {
    /// A byte of the worker.
    Told(u8),
    /// The worker is gone.
    Gone,
    /// A child, own or adopted, has ended.
    Ended(Pid, Option<i32>, Option<i32>),
    /// There is no child left.
    Alone,
}

/// Reads a plan from stdin, runs the payload, and leaves when nothing of it is left.
pub fn supervise() -> ExitCode {
    let mut stdin = BufReader::new(std::io::stdin());
    let mut line = String::new();
    if stdin.read_line(&mut line).is_err() {
        return ExitCode::FAILURE;
    }
    let Ok(plan) = serde_json::from_str::<Plan>(&line) else { return ExitCode::FAILURE };
    drop(line);
    let told = match prctl::set_child_subreaper(true).map_err(std::io::Error::from).and_then(|()| start(&plan)) {
        Ok(payload) => {
            tell(&plan.mark, &Report::Started(payload.as_raw()));
            Report::Ended(keep(&plan, payload, stdin))
        }
        Err(error) => Report::NotStarted(format!("{}: {error}", plan.command.first().map_or("", String::as_str))),
    };
    tell(&plan.mark, &told);
    ExitCode::SUCCESS
}

/// Sets the limits and becomes the payload. Dies with the supervisor, should that be killed: by the kernel's own means,
/// which hold over exec(2) and are lost in a fork only.
pub fn exec(limits: &str, parent: i32, command: Vec<OsString>) -> ExitCode {
    let prepared =
        prctl::set_pdeathsig(Signal::SIGKILL).map_err(|error| format!("pdeathsig: {error}")).and_then(|()| {
            // It may have died before.
            if getppid().as_raw() != parent {
                return Err("the supervisor is gone".to_owned());
            }
            let limits: Limits = serde_json::from_str(limits).map_err(|error| error.to_string())?;
            limit(&limits).map_err(|error| format!("setrlimit: {error}"))
        });
    if let Err(why) = prepared {
        eprintln!("cannot prepare: {why}");
        return ExitCode::from(126);
    }
    let mut words = command.into_iter();
    let Some(program) = words.next() else { return ExitCode::from(126) };
    let error = Command::new(&program).args(words).exec();
    eprintln!("cannot run {}: {error}", program.display());
    // As shells say it.
    ExitCode::from(127)
}

fn limit(limits: &Limits) -> nix::Result<()> {
    let set = |resource, value: Option<u64>| match value {
        Some(value) => setrlimit(resource, value, value),
        None => Ok(()),
    };
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    set(Resource::RLIMIT_DATA, limits.data)?;
    set(Resource::RLIMIT_NOFILE, limits.files)?;
    set(Resource::RLIMIT_FSIZE, limits.file_size)?;
    match limits.cpu.map(|time| time.as_secs().max(1)) {
        // The first second over the limit is SIGXCPU, which says why; the next one is SIGKILL.
        Some(seconds) => setrlimit(Resource::RLIMIT_CPU, seconds, seconds + 1),
        None => Ok(()),
    }
}

fn start(plan: &Plan) -> std::io::Result<Pid> {
    let limits = serde_json::to_string(&plan.limits)?;
    let mut command = Command::new("/proc/self/exe");
    command
        .args(["attempt-child", "exec", "--limits", &limits, "--parent", &std::process::id().to_string(), "--"])
        .args(&plan.command)
        .env_clear()
        .envs(plan.environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::piped())
        .process_group(0);
    if let Some(folder) = &plan.folder {
        command.current_dir(folder);
    }
    let mut payload = command.spawn()?;
    if let Some(mut stdin) = payload.stdin.take() {
        let input = plan.input.clone();
        // A payload that does not read holds up nobody; one that has ended is an error that says nothing.
        std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    }
    // Waited for by its id, like those that are adopted.
    Ok(Pid::from_raw(payload.id().cast_signed()))
}

/// Waits until the payload and everything that came of it has ended.
fn keep(plan: &Plan, payload: Pid, stdin: BufReader<Stdin>) -> Ended {
    let (events, happened) = mpsc::channel();
    listen(stdin, events.clone());
    reap(events);
    let mut ended = Ended { code: None, signal: None, too_large: None };
    let mut kill_at: Option<Instant> = None;
    loop {
        match next(&happened, plan.limits.memory.map(|_| LOOK), kill_at) {
            Some(Event::Ended(pid, code, signal)) if pid == payload => {
                (ended.code, ended.signal) = (code, signal);
                break;
            }
            Some(Event::Ended(..)) => {}
            Some(Event::Alone) => break,
            Some(Event::Gone) => {
                kill_at = Some(Instant::now());
            }
            Some(Event::Told(byte)) => {
                let _ = killpg(payload, Signal::SIGTERM);
                if byte == STOP {
                    kill_at = kill_at.or(Some(Instant::now() + plan.grace));
                }
            }
            None => {}
        }
        if let (Some(limit), None) = (plan.limits.memory, ended.too_large) {
            let used = family::resident(&family::descendants());
            if used > limit {
                ended.too_large = Some(used);
                kill_at = Some(Instant::now());
            }
        }
        if kill_at.is_some_and(|at| at <= Instant::now()) {
            let _ = killpg(payload, Signal::SIGKILL);
            kill_all(&happened, &mut |pid, code, signal| {
                if pid == payload {
                    (ended.code, ended.signal) = (code, signal);
                }
            });
            return ended;
        }
    }
    kill_all(&happened, &mut |_, _, _| ());
    ended
}

/// What happens next, or `None` when it is time to look.
fn next(happened: &Receiver<Event>, look: Option<Duration>, kill_at: Option<Instant>) -> Option<Event> {
    let until_killed = kill_at.map(|at| at.saturating_duration_since(Instant::now()));
    let wait = [look, until_killed].into_iter().flatten().min();
    match wait {
        None => happened.recv().ok(),
        Some(wait) => match happened.recv_timeout(wait) {
            Ok(event) => Some(event),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Event::Alone),
        },
    }
}

/// Kills until nothing is left. First everything is stopped, so that nothing forks while its siblings are killed.
fn kill_all(happened: &Receiver<Event>, ended: &mut dyn FnMut(Pid, Option<i32>, Option<i32>)) {
    let began = Instant::now();
    while began.elapsed() < UNKILLABLE {
        let left = family::descendants();
        family::signal_all(&left, Signal::SIGSTOP);
        family::signal_all(&left, Signal::SIGKILL);
        match happened.recv_timeout(ROUND) {
            Ok(Event::Ended(pid, code, signal)) => ended(pid, code, signal),
            Ok(Event::Alone) | Err(RecvTimeoutError::Disconnected) => return,
            Ok(Event::Told(_) | Event::Gone) | Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

fn listen(mut stdin: BufReader<Stdin>, events: Sender<Event>) {
    std::thread::spawn(move || {
        let mut byte = [0];
        loop {
            let event = match stdin.read(&mut byte) {
                Ok(1) if matches!(byte[0], STOP | ASK) => Event::Told(byte[0]),
                Ok(1) => continue,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                _ => Event::Gone,
            };
            let gone = matches!(event, Event::Gone);
            if events.send(event).is_err() || gone {
                return;
            }
        }
    });
}

/// Waits for every child, own and adopted, until there is none.
fn reap(events: Sender<Event>) {
    std::thread::spawn(move || {
        loop {
            let event = match waitpid(None::<Pid>, None) {
                Ok(WaitStatus::Exited(pid, code)) => Event::Ended(pid, Some(code), None),
                Ok(WaitStatus::Signaled(pid, signal, _)) => Event::Ended(pid, None, Some(signal as i32)),
                Ok(_) | Err(Errno::EINTR) => continue,
                Err(_) => {
                    let _ = events.send(Event::Alone);
                    return;
                }
            };
            if events.send(event).is_err() {
                return;
            }
        }
    });
}

/// One line, in one write, on a line of its own.
fn tell(mark: &str, report: &Report) {
    let report = serde_json::to_string(report).unwrap_or_default();
    let _ = std::io::stderr().write_all(format!("\n{mark} {report}\n").as_bytes());
}
