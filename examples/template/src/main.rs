//! The program: all roles of longrun, with the task types of this crate.

mod greet;

use std::process::ExitCode;

use longrun::prelude::Registry;

#[global_allocator]
static ALLOCATOR: longrun::Allocator = longrun::Allocator;

fn main() -> ExitCode {
    longrun::main(types)
}

/// The types, with what they need of the environment: each holds what it works with. Where something may be missing,
/// return a `Result<Registry, String>`: the error is what the operator reads.
fn types() -> Registry {
    let sender = std::env::var("SENDER").unwrap_or_else(|_| "nobody".to_owned());
    Registry::new().with(greet::Greet { sender })
}
