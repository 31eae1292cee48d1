//! Process: an attempt in a process of its own, which can be killed, may leak, loop or crash, and never outlives its
//! worker.
//!
//! Between the worker and the program that does the work, the *payload*, stands a *supervisor*: this same binary as
//! `app attempt-child supervise`. The worker holds the writing end of its stdin. When the worker is gone, for whatever
//! reason, SIGKILL included, the system closes that end, and the supervisor kills the payload and everything that came
//! of it: it is their subreaper (prctl(2), PR_SET_CHILD_SUBREAPER), so that what has left its parent and its session
//! hangs below it all the same. The payload's stdout and stderr lead straight to the worker.
//!
//! In reading order: [`plan`] is what the supervisor is told and what it tells; [`attempt`] is the worker's side;
//! `supervisor` and `family` keep and count the processes; `payload` is a Rust type in such a process;
//! [`protocol`] are the lines that a payload writes; `probe` asks at the start whether all that can begin.

pub mod attempt;
mod family;
pub mod isolated;
mod limits;
mod lines;
pub mod payload;
pub mod plan;
pub(in crate::tasks) mod probe;
pub mod protocol;
pub mod supervisor;

use std::{ffi::OsString, process::ExitCode};

pub use limits::{Isolation, Limits};

use super::TaskTypes;

/// The parts of an attempt that are processes of this binary. Started by the program itself, never by people.
#[derive(Debug, clap::Args)]
pub struct AttemptChild {
    #[command(subcommand)]
    stage: Stage,
}

#[derive(Debug, clap::Subcommand)]
enum Stage {
    /// Keeps the payload and everything that comes of it
    Supervise,
    /// Limits itself and becomes the payload
    Exec {
        /// The limits, as JSON
        #[arg(long)]
        limits: String,
        /// The process that must be its parent
        #[arg(long)]
        parent: i32,
        /// The payload and its arguments
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
    /// Runs an attempt of a Rust type
    Run,
    /// Says whether this program gets as far as an attempt would
    Probe {
        /// The types that it is to make, separated by commas.
        task_type: Option<String>,
    },
}

impl AttemptChild {
    /// Runs this part to its end. The types are made by those parts alone that need them.
    pub fn run(self, types: impl TaskTypes) -> ExitCode {
        match self.stage {
            Stage::Supervise => supervisor::supervise(),
            Stage::Exec { limits, parent, command } => supervisor::exec(&limits, parent, command),
            Stage::Run => payload::run(types),
            Stage::Probe { task_type } => probe::answer(types, task_type.as_deref()),
        }
    }
}
