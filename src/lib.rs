//! longrun: a server for long-running operations.
//!
//! In reading order: [`core::model`] says what a task is; [`core`] accepts, cancels and reads tasks; [`tasks`] is what
//! you implement; [`work`] runs it; [`serve`] speaks HTTP; [`config`] and [`cli`] put the roles together, [`dev`] with
//! a private PostgreSQL and Redis; [`shutdown`], [`telemetry`], [`metrics`], [`admin`] and [`tls`] are what every role
//! needs to leave, to be seen and not to be overheard; [`doctor`] looks at the servers around it. [`client`] stands
//! apart: the commands that speak to a server from a terminal or a script. [`size`] is the arithmetic of `app size`.
//!
//! A program is [`main`] with a list of task types, and [`Allocator`] under it.

// What cannot happen is said by a type, or answered with an error all the same.
#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used))]

pub mod admin;
mod allocator;
pub mod cli;
pub mod client;
pub mod config;
pub mod core;
pub mod dev;
pub mod doctor;
#[cfg(test)]
mod house;
pub mod metrics;
pub mod serve;
pub mod shutdown;
pub mod size;
pub mod tasks;
pub mod telemetry;
pub mod tls;
pub mod work;

pub use allocator::Allocator;
pub use cli::main;

/// What a file with a task type imports: `use longrun::prelude::*`.
pub mod prelude {
    pub use crate::{
        core::model::{Level, RetryPolicy},
        tasks::{
            Context, Defaults, Failure, Finding, Isolation, Limits, Registry, StopReason, TaskKind, TaskTypes, testing,
        },
    };
    pub use schemars::{self, JsonSchema};
    pub use serde::{self, Deserialize, Serialize};
}
