//! App: a process of the real `app` binary. Its output goes to a file, which is shown when the test fails.

use std::{
    fs::{self, File},
    net::SocketAddr,
    os::unix::process::{CommandExt, ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{Client, LONG, Stopwatch, until, watchdog};

/// No command that runs to its end takes longer: a role gives up an unreachable server after half a minute.
const LONGEST_RUN: Duration = Duration::from_secs(120);
/// Lines of the log that a failed test shows.
const SHOWN: usize = 200;

/// A running process. Dropped, it is killed; the test fails when its log tells of a panic.
pub struct App {
    name: String,
    child: Child,
    output: PathBuf,
    ended: Option<ExitStatus>,
    may_abort: bool,
    began: Stopwatch,
}

/// A process that has ended.
pub struct Finished {
    /// The exit code; `None` after a signal.
    pub code: Option<i32>,
    /// What it wrote.
    pub stdout: String,
    /// What it wrote there.
    pub stderr: String,
    /// From start to end, without standstills of the machine.
    pub took: Duration,
}

impl Finished {
    /// All that it wrote.
    pub fn output(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

impl App {
    /// Starts `app` with these arguments and these environment variables, in an empty folder of its own. Nothing of
    /// our own environment but the search path goes with it.
    pub fn start(arguments: &[&str], settings: &[(String, String)]) -> Self {
        Self::start_in(&watchdog::new_folder("empty"), arguments, settings)
    }

    /// Starts `app` in a folder that may hold something. What it writes goes elsewhere.
    pub fn start_in(folder: &Path, arguments: &[&str], settings: &[(String, String)]) -> Self {
        // Measurements are taken with an optimised program, which its tests need not be.
        let program = std::env::var("APP_UNDER_TEST").unwrap_or_else(|_| env!("CARGO_BIN_EXE_app").to_owned());
        Self::start_program(&program, folder, arguments, settings)
    }

    /// Starts another program than `app` that reads the same command line. What it writes goes elsewhere.
    pub fn start_program(program: &str, folder: &Path, arguments: &[&str], settings: &[(String, String)]) -> Self {
        let output = watchdog::new_folder(&format!("app-{}", arguments[0]));
        let began = Stopwatch::start();
        let child = Command::new(program)
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(settings.iter().map(|(name, value)| (name, value)))
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(File::create(output.join("stdout")).unwrap())
            .stderr(File::create(output.join("stderr")).unwrap())
            .process_group(0)
            .spawn()
            .expect("app starts");
        watchdog::watch(child.id(), Signal::SIGKILL);
        Self { name: arguments.join(" "), child, output, ended: None, may_abort: false, began }
    }

    /// Runs `app` to its end.
    pub fn run(arguments: &[&str], settings: &[(String, String)]) -> Finished {
        Self::start(arguments, settings).finish()
    }

    /// Waits for its end.
    pub fn finish(mut self) -> Finished {
        let status = self.wait_exit(LONGEST_RUN);
        Finished { code: status.code(), stdout: self.stdout(), stderr: self.stderr(), took: self.began.elapsed() }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has written so far.
    pub fn stdout(&self) -> String {
        read(&self.output.join("stdout"))
    }

    /// What it has logged so far.
    pub fn stderr(&self) -> String {
        read(&self.output.join("stderr"))
    }

    /// Where it serves, as its log says: the port is chosen by the system. Waits until it does.
    #[track_caller]
    pub fn address(&mut self) -> SocketAddr {
        self.address_within(LONG)
    }

    /// The same, with more or less patience.
    #[track_caller]
    pub fn address_within(&mut self, within: Duration) -> SocketAddr {
        until(&format!("'app {}' says where it serves", self.name), within, || {
            self.still_runs();
            let text = self.stderr() + &self.stdout();
            let says_where = |line: &&str| ["serving", "listening", "API "].iter().any(|word| line.contains(word));
            let line = text.lines().find(says_where)?;
            let from = line.find("127.0.0.1:")?;
            let end = line[from..].find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':');
            line[from..end.map_or(line.len(), |end| from + end)].parse().ok()
        })
    }

    /// Where its probes and metrics are, as its log says. Waits until it does.
    #[track_caller]
    pub fn admin_address(&mut self) -> SocketAddr {
        let line = self.wait_for_line("probes and metrics");
        let from = line.find("127.0.0.1:").expect("an address");
        let end = line[from..].find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':');
        line[from..end.map_or(line.len(), |end| from + end)].parse().expect("an address")
    }

    /// A client of it.
    #[track_caller]
    pub fn client(&mut self) -> Client {
        Client::new(self.address())
    }

    /// Waits for a line of its log.
    #[track_caller]
    pub fn wait_for_line(&mut self, words: &str) -> String {
        until(&format!("'app {}' logs {words:?}", self.name), LONG, || {
            let line = self.stderr().lines().find(|line| line.contains(words)).map(str::to_owned);
            if line.is_none() {
                self.still_runs();
            }
            line
        })
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        assert!(self.ended.is_none(), "'app {}' has ended", self.name);
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).expect("the process is there");
    }

    /// SIGKILL, and its end.
    pub fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        self.wait_exit(LONG);
    }

    /// SIGTERM, and its end; fails unless it exits with 0.
    #[track_caller]
    pub fn stop(&mut self) {
        self.signal(Signal::SIGTERM);
        let status = self.wait_exit(LONGEST_RUN);
        assert_eq!(status.code(), Some(0), "'app {}' did not leave in order ({status})", self.name);
    }

    /// Its end by SIGABRT, which is then no failure of the test.
    #[track_caller]
    pub fn wait_abort(&mut self) {
        self.may_abort = true;
        let status = self.wait_exit(LONG);
        assert_eq!(status.signal(), Some(Signal::SIGABRT as i32), "'app {}' was to abort ({status})", self.name);
    }

    /// Whether it has ended, without waiting.
    pub fn has_ended(&mut self) -> bool {
        if self.ended.is_none()
            && let Some(status) = self.child.try_wait().unwrap()
        {
            watchdog::forget(self.child.id());
            self.ended = Some(status);
        }
        self.ended.is_some()
    }

    /// Its end.
    #[track_caller]
    pub fn wait_exit(&mut self, within: Duration) -> ExitStatus {
        if let Some(status) = self.ended {
            return status;
        }
        let status = until(&format!("'app {}' ends", self.name), within, || self.child.try_wait().unwrap());
        watchdog::forget(self.child.id());
        self.ended = Some(status);
        status
    }

    #[track_caller]
    fn still_runs(&mut self) {
        if let Some(status) = self.child.try_wait().unwrap() {
            watchdog::forget(self.child.id());
            self.ended = Some(status);
            panic!("'app {}' has ended ({status})", self.name);
        }
    }
}

impl Drop for App {
    fn drop(&mut self) {
        if self.ended.is_none() {
            let _ = self.child.kill();
            watchdog::forget(self.child.id());
            let _ = self.child.wait();
        }
        let log = self.stdout() + &self.stderr();
        let crashed = self.ended.and_then(|status| status.signal()).is_some_and(|signal| {
            [Signal::SIGABRT, Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGILL].iter().any(|bad| *bad as i32 == signal)
        });
        let panicked = log.contains("panicked") || crashed && !self.may_abort;
        if panicked || std::thread::panicking() {
            let lines: Vec<&str> = log.lines().collect();
            let left_out = lines.len().saturating_sub(SHOWN);
            eprintln!("--- 'app {}', process {}, {left_out} lines left out", self.name, self.child.id());
            lines[left_out..].iter().for_each(|line| eprintln!("{line}"));
        }
        if panicked && !std::thread::panicking() {
            panic!("'app {}' has panicked: see its log", self.name);
        }
    }
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}
