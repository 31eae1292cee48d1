//! Browser: real headless Chromium, driven by the scripts in `e2e/browser`.
//!
//! A scenario is one run of node. Where it needs something done outside the browser, it prints a line that begins with
//! `?`, and goes on when it has read a line.

use std::{
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
};

const FOLDER: &str = "e2e/browser";

/// What the scripts need, installed once.
static INSTALLED: LazyLock<()> = LazyLock::new(|| {
    if ["playwright-core", "esbuild"].iter().all(|name| Path::new(FOLDER).join("node_modules").join(name).exists()) {
        return;
    }
    let installed = Command::new("npm").args(["ci", "--no-audit", "--no-fund"]).current_dir(FOLDER).output();
    let works = installed.as_ref().is_ok_and(|output| output.status.success());
    assert!(works, "npm ci failed in {FOLDER}: `make browser` says what is missing: {installed:?}");
});
/// One browser at a time: a machine with two cores is slow with more.
static ONE: Mutex<()> = Mutex::new(());

/// The one browser, for one test. Others wait for it, which may take minutes: a test takes it before it submits what
/// the browser is to see running.
pub struct Browser(#[expect(dead_code, reason = "held, and not looked at")] MutexGuard<'static, ()>);

impl Browser {
    /// Waits for its turn.
    pub fn take() -> Self {
        LazyLock::force(&INSTALLED);
        Self(ONE.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Runs a scenario to its end; fails with what it says.
    #[track_caller]
    pub fn run(&self, scenario: &str, address: SocketAddr, arguments: &[&str]) {
        self.run_with(scenario, address, arguments, |what| panic!("{scenario} asks for {what}"));
    }

    /// The same, doing what the scenario asks for.
    #[track_caller]
    pub fn run_with(&self, scenario: &str, address: SocketAddr, arguments: &[&str], outside: impl FnMut(&str)) {
        run_scenario(scenario, address, arguments, outside);
    }
}

#[track_caller]
fn run_scenario(scenario: &str, address: SocketAddr, arguments: &[&str], mut outside: impl FnMut(&str)) {
    let mut node = Command::new("node")
        .args(["run.mjs", scenario, &format!("http://{address}")])
        .args(arguments)
        .current_dir(FOLDER)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("node starts: `make browser` says what is missing");
    let mut stderr = node.stderr.take().unwrap();
    let errors = std::thread::spawn(move || std::io::read_to_string(&mut stderr).unwrap_or_default());
    let mut stdin = node.stdin.take().unwrap();
    let mut said = String::new();
    for line in BufReader::new(node.stdout.take().unwrap()).lines().map_while(Result::ok) {
        match line.strip_prefix('?') {
            Some(what) => {
                outside(what);
                let _ = writeln!(stdin, "done");
            }
            None => said += &format!("{line}\n"),
        }
    }
    let status = node.wait().unwrap();
    // `--nocapture` shows what a scenario has measured.
    said.lines().filter(|line| line.starts_with("figure: ")).for_each(|line| eprintln!("{line}"));
    assert!(status.success(), "{scenario}:\n{said}{}", errors.join().unwrap_or_default());
}

/// Runs the unit tests of the dashboard's modules.
#[track_caller]
pub fn run_module_tests() {
    LazyLock::force(&INSTALLED);
    let output = Command::new("node").args(["--test", "unit/"]).current_dir(FOLDER).output();
    let output = output.expect("node starts: `make browser` says what is missing");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
