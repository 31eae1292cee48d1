//! Process: a private server under its keeper, and what an earlier one may have left behind.

use std::{
    fs,
    io::ErrorKind,
    net::{Ipv4Addr, TcpListener},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow, bail};
use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::process::{Child, ChildStdin};

use super::{keeper::PATIENCE, place::Place};

/// How long a server may take to come up: a PostgreSQL that crashed replays its log first.
const START_TIMEOUT: Duration = Duration::from_secs(60);
const GLANCE: Duration = Duration::from_millis(50);

/// A server that runs under its keeper.
pub(super) struct Server {
    name: &'static str,
    keeper: Child,
    /// Open as long as the server is wanted.
    wanted: ChildStdin,
    log: PathBuf,
}

/// How a server is started and stopped.
pub(super) struct Launch {
    /// For messages and for the log's name.
    pub name: &'static str,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// What asks it to stop.
    pub signal: Signal,
    /// Words in its log that say why it cannot start at this moment but will soon.
    pub passing: Option<&'static str>,
}

impl Server {
    /// Starts the server and waits until `is_ready`. When it does not come up, what it last said is the error.
    pub async fn start(place: &Place, launch: Launch, is_ready: impl Fn() -> bool) -> anyhow::Result<Self> {
        let deadline = Instant::now() + START_TIMEOUT;
        let mut server = Self::spawn(place, &launch)?;
        while !is_ready() {
            let is_late = Instant::now() > deadline;
            if server.keeper.try_wait()?.is_some() {
                if is_late || !server.log_has(launch.passing) {
                    bail!("{} did not start: {}", launch.name, server.last_words());
                }
                server = Self::spawn(place, &launch)?;
            } else if is_late {
                let words = server.last_words();
                server.stop().await;
                bail!("{} was not ready within {} s: {words}", launch.name, START_TIMEOUT.as_secs());
            }
            tokio::time::sleep(GLANCE).await;
        }
        Ok(server)
    }

    fn spawn(place: &Place, launch: &Launch) -> anyhow::Result<Self> {
        let (file, log) = place.log(launch.name)?;
        let mut keeper = Command::new(std::env::current_exe().context("cannot find this program's own file")?);
        keeper.arg("keep").arg(format!("--signal={}", launch.signal)).arg("--folder").arg(place.data(""));
        if let Some((user, group)) = place.user {
            keeper.arg(format!("--user={user}:{group}"));
        }
        keeper.arg("--").arg(&launch.program).args(&launch.arguments);
        keeper.stdin(Stdio::piped()).stdout(file.try_clone()?).stderr(file).process_group(0);
        let mut keeper = tokio::process::Command::from(keeper).spawn().context("cannot start this program again")?;
        let wanted = keeper.stdin.take().context("the keeper has no stdin")?;
        Ok(Self { name: launch.name, keeper, wanted, log })
    }

    /// Returns when the server has ended by itself.
    pub async fn ended(&mut self) -> anyhow::Error {
        let code = self.keeper.wait().await.ok().and_then(|status| status.code());
        // The keeper passes on the server's exit code, that of a signal as shells write it. Who was killed has not said
        // why: its last line tells of something else.
        match code.and_then(|code| Signal::try_from(code - 128).ok()) {
            Some(signal) => anyhow!(
                "{} was ended by {signal}, which somebody else sent: its data is kept, start app dev again (see {})",
                self.name,
                self.log.display()
            ),
            None => anyhow!("{} ended: {}", self.name, self.last_words()),
        }
    }

    /// Stops the server and waits for its end.
    pub async fn stop(mut self) {
        drop(self.wanted);
        if tokio::time::timeout(PATIENCE + START_TIMEOUT, self.keeper.wait()).await.is_err() {
            tracing::warn!(log = %self.log.display(), "{} does not stop", self.name);
        }
    }

    fn log_has(&self, words: Option<&str>) -> bool {
        words.is_some_and(|words| self.log_text().contains(words))
    }

    /// The line that says why, as PostgreSQL marks it, or else the last one.
    fn last_words(&self) -> String {
        let text = self.log_text();
        let said = || text.lines().rev().filter(|line| !line.trim().is_empty());
        let line = said().find(|line| line.contains("FATAL:")).or_else(|| said().next()).unwrap_or("it said nothing");
        format!("{} (see {})", line.trim(), self.log.display())
    }

    fn log_text(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }
}

/// A port of the loopback address that nobody has at this moment.
pub(super) fn free_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port on 127.0.0.1")?;
    Ok(listener.local_addr()?.port())
}

/// Stops a server that an earlier `dev` left behind in this data folder, and takes away a pid file that names nothing
/// of ours.
pub(super) async fn recover(name: &str, pid_file: &Path, folder: &Path, signal: Signal) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let mut asked = false;
    loop {
        match holder(pid_file, folder) {
            Holder::Nobody => break,
            Holder::Unknown(pid) => bail!(
                "process {pid} may be a {name} that still uses {}: stop it, or delete {} if it is another program",
                folder.display(),
                pid_file.display()
            ),
            Holder::Ours(pid) if !asked => {
                tracing::warn!(%pid, "stopping a {name} that an earlier app dev left behind");
                kill(pid, signal).with_context(|| format!("cannot stop process {pid}"))?;
                asked = true;
            }
            Holder::Ours(pid) if Instant::now() > deadline => {
                bail!("the {name} that an earlier app dev left behind does not stop: end process {pid} yourself")
            }
            Holder::Ours(_) => tokio::time::sleep(GLANCE).await,
        }
    }
    match fs::remove_file(pid_file) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove the stale {}", pid_file.display()))
        }
        _ => Ok(()),
    }
}

/// Who has the process id in a pid file.
#[derive(Debug, PartialEq)]
enum Holder {
    /// No process, or one that is provably not our server: ids are given out again.
    Nobody,
    /// A process that runs in our data folder, where both servers go at their start.
    Ours(Pid),
    /// A process, and nothing that tells what it is.
    Unknown(Pid),
}

fn holder(pid_file: &Path, folder: &Path) -> Holder {
    let text = fs::read_to_string(pid_file).unwrap_or_default();
    let pid = match text.lines().next().and_then(|line| line.trim().parse().ok()) {
        Some(number) if number > 1 => Pid::from_raw(number),
        _ => return Holder::Nobody,
    };
    if kill(pid, None) == Err(Errno::ESRCH) {
        return Holder::Nobody;
    }
    if Path::new("/proc/self").exists() {
        // Not readable: another user's, so not our server. Not there: it has just ended.
        let working_folder = fs::read_link(format!("/proc/{pid}/cwd"));
        return if working_folder.is_ok_and(|path| path == folder) { Holder::Ours(pid) } else { Holder::Nobody };
    }
    let listed = Command::new("ps").args(["-o", "command=", "-p", &pid.to_string()]).stdin(Stdio::null()).output();
    match listed {
        Ok(found) if String::from_utf8_lossy(&found.stdout).contains(&*folder.to_string_lossy()) => Holder::Ours(pid),
        _ => Holder::Unknown(pid),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A child that is ended by its own id when the test ends.
    struct Sleeper(std::process::Child);

    impl Sleeper {
        fn in_folder(folder: &Path) -> Self {
            Self(Command::new("sleep").arg("600").current_dir(folder).spawn().unwrap())
        }
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[tokio::test]
    async fn a_pid_file_that_names_another_program_is_removed_and_the_program_lives() {
        let (ours, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut bystander = Sleeper::in_folder(other.path());
        let pid_file = ours.path().join("postmaster.pid");
        fs::write(&pid_file, format!("{}\n", bystander.0.id())).unwrap();
        recover("PostgreSQL", &pid_file, &ours.path().canonicalize().unwrap(), Signal::SIGINT).await.unwrap();
        assert!(!pid_file.exists());
        assert_eq!(bystander.0.try_wait().unwrap(), None);
    }

    #[tokio::test]
    async fn a_server_that_was_left_behind_in_our_folder_is_stopped() {
        let ours = tempfile::tempdir().unwrap();
        let folder = ours.path().canonicalize().unwrap();
        let mut left_behind = Sleeper::in_folder(&folder);
        let pid_file = folder.join("postmaster.pid");
        fs::write(&pid_file, format!("{}\n", left_behind.0.id())).unwrap();
        recover("PostgreSQL", &pid_file, &folder, Signal::SIGTERM).await.unwrap();
        assert!(!pid_file.exists());
        // Its working folder is gone from /proc as soon as it has ended, before anybody has waited for it.
        use std::os::unix::process::ExitStatusExt;
        assert_eq!(left_behind.0.wait().unwrap().signal(), Some(15));
    }

    #[test]
    fn a_pid_file_with_nonsense_names_nobody() {
        let ours = tempfile::tempdir().unwrap();
        let pid_file = ours.path().join("redis.pid");
        for nonsense in ["", "\n", "abc", "-1", "0", "1", "99999999999999"] {
            fs::write(&pid_file, nonsense).unwrap();
            assert_eq!(holder(&pid_file, ours.path()), Holder::Nobody, "{nonsense:?}");
        }
    }
}
