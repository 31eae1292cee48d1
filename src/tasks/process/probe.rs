//! Probe: whether the processes of attempts can begin at all, asked when a worker starts and not by its first task.
//!
//! Each of them is this program once more, with less in its environment than the worker has. A `main` that makes its
//! types before it calls `longrun::main`, and needs a variable for it, would fail in all of them. One process answers
//! for all types together: a `main` that takes long takes it once.

use std::{
    io,
    process::{ExitCode, ExitStatus, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::{
    io::AsyncReadExt,
    process::{ChildStderr, Command},
    runtime::Handle,
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use super::super::TaskTypes;

/// A `main` that takes longer is no way to begin an attempt.
const PATIENCE: Duration = Duration::from_secs(30);
/// What is kept of its stderr, from the end: there it says why. The rest is read and forgotten, so that no pipe fills up
/// and holds it.
const LAST_WORDS: usize = 2_048;
const TOO_LATE: &str = "the worker was told to stop before it had an answer";
/// Between types in the one argument that names them; no name has it.
const SEPARATOR: char = ',';

tokio::task_local! {
    /// Cancelled when the worker is told to stop while it still asks. A command asks in the midst of its own check, which
    /// knows of no signals.
    static TOLD: CancellationToken;
}

/// Makes checks that may [ask](try_out), and lets none of them ask on when `told` is cancelled.
pub(super) fn asking<T>(told: CancellationToken, check: impl FnOnce() -> T) -> T {
    TOLD.sync_scope(told, check)
}

/// Tries it: with this environment and, where some are named, with these types. The text says what is wrong. Blocks for
/// up to [`PATIENCE`], so on a thread that may.
pub(in crate::tasks) fn try_out(environment: &[(String, String)], task_types: Option<&[&str]>) -> Result<(), String> {
    let told = TOLD.try_with(CancellationToken::clone).unwrap_or_default();
    let mut command = Command::new("/proc/self/exe");
    let names = task_types.map(|names| names.join(&SEPARATOR.to_string()));
    command.args(["attempt-child", "probe"]).args(names).env_clear();
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    let words = match Handle::current().block_on(ask(command, &told))? {
        Answer::Yes => return Ok(()),
        Answer::No(words) => words,
    };
    Err(match task_types {
        Some(_) => format!(
            "{words}. Such a process has the worker's environment without what is the worker's own (DATABASE_URL, \
             REDIS_URL, APP_*, OTEL_*): name in APP_CHILD_ENV what it needs of that"
        ),
        None => format!(
            "the processes around a command begin with an empty environment, and main fails there: {words}. Give \
             longrun::main a function that makes the types: it is not called where none are needed"
        ),
    })
}

#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Yes,
    /// And why not.
    No(String),
}

/// Runs it to its end and hears what it says. The error says why there is no answer; nothing of it is left then.
async fn ask(mut command: Command, told: &CancellationToken) -> Result<Answer, String> {
    if told.is_cancelled() {
        return Err(TOO_LATE.to_owned());
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn().map_err(|error| format!("no process can be started: {error}"))?;
    let leader = child.id().map(|id| Pid::from_raw(id.cast_signed()));
    let stderr = child.stderr.take();
    let heard = async { tokio::join!(child.wait(), last_words(stderr)) };
    let silence = tokio::select! {
        biased;
        () = told.cancelled() => TOO_LATE.to_owned(),
        (status, words) = heard => return judge(status, &words),
        () = sleep(PATIENCE) => format!(
            "the processes of attempts do not begin within {} s: what does main wait for?",
            PATIENCE.as_secs()
        ),
    };
    if let Some(leader) = leader {
        let _ = killpg(leader, Signal::SIGKILL);
    }
    Err(silence)
}

async fn last_words(stderr: Option<ChildStderr>) -> Vec<u8> {
    let mut kept = Vec::new();
    let Some(mut stderr) = stderr else { return kept };
    let mut piece = [0; 4_096];
    while let Ok(count @ 1..) = stderr.read(&mut piece).await {
        kept.extend_from_slice(&piece[..count]);
        kept.drain(..kept.len().saturating_sub(LAST_WORDS));
    }
    kept
}

fn judge(status: io::Result<ExitStatus>, words: &[u8]) -> Result<Answer, String> {
    let status = status.map_err(|error| format!("a process cannot be waited for: {error}"))?;
    if status.success() {
        return Ok(Answer::Yes);
    }
    let words = String::from_utf8_lossy(words);
    // A panic tells in its second line why, and in its last how to see more of it.
    let words: Vec<_> = words.lines().filter(|line| !line.trim().is_empty() && !line.starts_with("note:")).collect();
    Ok(Answer::No(if words.is_empty() { status.to_string() } else { words.join(" ") }))
}

/// The other side: exit code 0 when this program gets here and, where types are named, can make all of them.
pub(super) fn answer(types: impl TaskTypes, task_types: Option<&str>) -> ExitCode {
    let Some(names) = task_types else { return ExitCode::SUCCESS };
    let why = match types.make() {
        Ok(registry) => {
            let missing: Vec<_> = names.split(SEPARATOR).filter(|name| registry.get(name).is_none()).collect();
            if missing.is_empty() {
                return ExitCode::SUCCESS;
            }
            format!("with that environment this program has no type {}", missing.join(", "))
        }
        Err(why) => why,
    };
    eprintln!("{why}");
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use std::fs;

    use nix::{
        errno::Errno,
        sys::wait::{WaitStatus, waitpid},
    };

    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[tokio::test]
    async fn it_answers_and_says_why_not() {
        let told = CancellationToken::new();
        assert_eq!(ask(shell("exit 0"), &told).await, Ok(Answer::Yes));
        let no = ask(shell("echo 'OUR_KEY is not set' >&2; echo 'note: see more' >&2; exit 1"), &told).await;
        assert_eq!(no, Ok(Answer::No("OUR_KEY is not set".into())));
        assert_eq!(ask(shell("exit 7"), &told).await, Ok(Answer::No("exit status: 7".into())));
    }

    #[tokio::test]
    async fn of_a_flood_the_end_is_kept() {
        let flood =
            shell("head -c 3000000 /dev/zero | tr '\\0' x >&2; echo >&2; echo 'OUR_KEY is not set' >&2; exit 1");
        let Ok(Answer::No(words)) = ask(flood, &CancellationToken::new()).await else { panic!("it said no") };
        assert!(words.ends_with("OUR_KEY is not set"), "{words}");
        assert!(words.len() <= LAST_WORDS, "{} bytes", words.len());
    }

    #[tokio::test]
    async fn who_is_told_to_stop_asks_no_longer_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("pid");
        let script = format!("echo $$ > '{0}.new'; mv '{0}.new' '{0}'; exec sleep 60", place.display());
        let told = CancellationToken::new();
        let stop = async {
            while !place.exists() {
                tokio::task::yield_now().await;
            }
            told.cancel();
        };
        let (silence, ()) = tokio::join!(ask(shell(&script), &told), stop);
        assert_eq!(silence, Err(TOO_LATE.to_owned()));
        let leader = Pid::from_raw(fs::read_to_string(&place).unwrap().trim().parse().unwrap());
        // Waits for it, unless the runtime already has.
        let ended = waitpid(leader, None);
        let killed = matches!(ended, Ok(WaitStatus::Signaled(_, Signal::SIGKILL, _)) | Err(Errno::ECHILD));
        assert!(killed, "{ended:?}");
        assert_eq!(ask(shell("exit 0"), &told).await, Err(TOO_LATE.to_owned()), "nothing else begins");
    }
}
