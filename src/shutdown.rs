//! Shutdown: signals, read once, become two tokens: stop taking work, then stop working.
//!
//! The first SIGTERM, SIGINT or SIGHUP (the terminal was closed) cancels `drain`, the second cancels `leave`, and a third ends the process on the spot,
//! for the case that leaving itself hangs. Whoever drains in time exits with 0; who was made to leave exits with 128
//! plus the signal's number, as shells expect.

use std::sync::{
    Arc,
    atomic::{AtomicI32, Ordering},
};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The two stages of leaving. Cheap to clone.
#[derive(Clone, Default)]
pub struct Shutdown {
    /// First SIGTERM, SIGINT or SIGHUP: take nothing new, finish what runs.
    pub drain: CancellationToken,
    /// Second signal: leave now.
    pub leave: CancellationToken,
    made_to_leave_by: Arc<AtomicI32>,
}

impl Shutdown {
    /// Listens for signals from here on. Must be called inside the runtime.
    pub fn install() -> std::io::Result<Self> {
        let shutdown = Self::default();
        let signals = Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: if ignores_hangup() { None } else { Some(signal(SignalKind::hangup())?) },
        };
        tokio::spawn(shutdown.clone().listen(signals));
        Ok(shutdown)
    }

    /// Begins to drain without a signal: another part of the process has ended.
    pub fn begin(&self) {
        self.drain.cancel();
    }

    /// The signal that made the process leave before it was done, as an exit code: 130 for SIGINT, 143 for SIGTERM, 129
    /// for SIGHUP.
    pub fn exit_code(&self) -> Option<u8> {
        match self.made_to_leave_by.load(Ordering::Relaxed) {
            0 => None,
            number => Some(exit_code(number)),
        }
    }

    async fn listen(self, mut signals: Signals) {
        let first = signals.next().await;
        tracing::info!(signal = first, "stopping: what runs may finish; a second signal leaves at once");
        self.drain.cancel();
        let second = signals.next().await;
        tracing::warn!(signal = second, "leaving at once");
        self.made_to_leave_by.store(second, Ordering::Relaxed);
        self.leave.cancel();
        let third = signals.next().await;
        std::process::exit(exit_code(third).into());
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Option<Signal>,
}

impl Signals {
    /// The number of the next signal.
    async fn next(&mut self) -> i32 {
        let Self { terminate, interrupt, hangup } = self;
        let hangup = async {
            match hangup {
                Some(signal) => signal.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = terminate.recv() => SignalKind::terminate().as_raw_value(),
            _ = interrupt.recv() => SignalKind::interrupt().as_raw_value(),
            _ = hangup => SignalKind::hangup().as_raw_value(),
        }
    }
}

/// Whether whoever started this process wants it to outlive its terminal (nohup): listening would undo that. Told by
/// Linux only, in proc(5); elsewhere nobody is known to.
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (SignalKind::hangup().as_raw_value() - 1) & 1 == 1
}

fn exit_code(signal: i32) -> u8 {
    // Signal numbers end at 64.
    u8::try_from(128 + signal).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use nix::{
        sys::signal::{Signal, kill},
        unistd::Pid,
    };

    use super::*;

    // One test, because the signals of a process are one.
    #[tokio::test]
    async fn the_first_signal_drains_and_the_second_leaves() {
        let shutdown = Shutdown::install().unwrap();
        assert!(!shutdown.drain.is_cancelled());
        kill(Pid::this(), Signal::SIGINT).unwrap();
        shutdown.drain.cancelled().await;
        assert!(!shutdown.leave.is_cancelled());
        assert_eq!(shutdown.exit_code(), None);
        kill(Pid::this(), Signal::SIGTERM).unwrap();
        shutdown.leave.cancelled().await;
        assert_eq!(shutdown.exit_code(), Some(143));
    }
}
