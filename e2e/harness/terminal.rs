//! Terminal: a process of `app` on a pseudo-terminal, as a person runs it, and what that person sees.

use std::{
    fs::File,
    io::{Read, Write},
    num::NonZeroU16,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use nix::{
    pty::{Winsize, openpty},
    sys::signal::Signal,
};

use super::{LONG, until, watchdog};

const ROWS: u16 = 50;
const COLUMNS: u16 = 120;

/// A running process and its terminal. Dropped, the process is killed.
pub struct Terminal {
    child: Child,
    keyboard: File,
    seen: Arc<Mutex<Seen>>,
    ended: bool,
}

struct Seen {
    screen: vt100::Parser,
    bytes: Vec<u8>,
    over: bool,
}

impl Terminal {
    /// Starts `app` with these arguments and these environment variables, on a terminal that shows colours and UTF-8
    /// unless they say otherwise.
    pub fn start(arguments: &[&str], settings: &[(&str, &str)]) -> Self {
        let size = Winsize { ws_row: ROWS, ws_col: COLUMNS, ws_xpixel: 0, ws_ypixel: 0 };
        let pair = openpty(&size, None).expect("there are pseudo-terminals");
        let side = || Stdio::from(pair.slave.try_clone().unwrap());
        // setsid makes the terminal the controlling one, so that Ctrl-C is a signal.
        let child = Command::new("setsid")
            .arg("--ctty")
            .arg(env!("CARGO_BIN_EXE_app"))
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("TERM", "xterm-256color")
            .env("LANG", "C.UTF-8")
            .envs(settings.iter().copied())
            .current_dir(watchdog::new_folder("terminal"))
            .stdin(side())
            .stdout(side())
            .stderr(side())
            .spawn()
            .expect("setsid runs");
        watchdog::watch(child.id(), Signal::SIGKILL);
        drop(pair.slave);
        let (rows, columns) = (NonZeroU16::new(ROWS).unwrap(), NonZeroU16::new(COLUMNS).unwrap());
        let seen = Seen { screen: vt100::Parser::new(rows, columns, 0), bytes: Vec::new(), over: false };
        let seen = Arc::new(Mutex::new(seen));
        let keyboard = File::from(pair.master);
        let (mut output, shared) = (keyboard.try_clone().unwrap(), seen.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // It ends with an error when the last process on the other side has gone.
            while let Ok(length @ 1..) = output.read(&mut buffer) {
                let mut seen = lock(&shared);
                seen.screen.process(&buffer[..length]);
                seen.bytes.extend_from_slice(&buffer[..length]);
            }
            lock(&shared).over = true;
        });
        Self { child, keyboard, seen, ended: false }
    }

    /// What is on the screen now.
    pub fn screen(&self) -> String {
        lock(&self.seen).screen.screen().contents()
    }

    /// Every byte that came so far.
    pub fn bytes(&self) -> Vec<u8> {
        lock(&self.seen).bytes.clone()
    }

    /// Waits until the screen shows these words.
    #[track_caller]
    pub fn shows(&self, words: &str) {
        let mut last = String::new();
        let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            until(&format!("the terminal shows {words:?}"), LONG, || {
                last = self.screen();
                last.contains(words).then_some(())
            });
        }));
        assert!(found.is_ok(), "no {words:?} on the terminal:\n{last}");
    }

    /// Presses keys; Ctrl-C is `\x03`.
    pub fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).expect("the terminal is there");
    }

    /// Waits for its end and all of its output; returns the exit code and what is left on the screen.
    #[track_caller]
    pub fn finish(&mut self) -> (Option<i32>, String) {
        let status = until("the process on the terminal ends", LONG * 2, || self.child.try_wait().unwrap());
        self.ended = true;
        watchdog::forget(self.child.id());
        until("all of its output is here", LONG, || lock(&self.seen).over.then_some(()));
        let screen = self.screen();
        assert!(!screen.contains("panicked"), "it has panicked:\n{screen}");
        (status.code(), screen)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if !self.ended {
            let _ = self.child.kill();
            watchdog::forget(self.child.id());
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- the terminal\n{}", self.screen());
        }
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}
