//! Signals that a person or a supervisor sends while a command waits, read by a thread.

use std::sync::mpsc::Sender;

use nix::sys::signal::{SigSet, Signal};

use super::exit::Exit;

/// Begins to listen for SIGINT and SIGTERM. Must be called before the command has other threads: they inherit that
/// these two are not delivered to them. Each signal is sent as the exit that it asks for.
pub fn listen<T: Send + 'static>(sender: Sender<T>, told: impl Fn(Exit) -> T + Send + 'static) {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    if signals.thread_block().is_err() {
        return;
    }
    std::thread::spawn(move || {
        while let Ok(signal) = signals.wait() {
            let exit = if signal == Signal::SIGINT { Exit::Interrupted } else { Exit::Terminated };
            if sender.send(told(exit)).is_err() {
                return;
            }
        }
    });
}
