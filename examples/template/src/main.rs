//! The program: all roles of longrun, with the task types of this crate.

mod greet;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: longrun::Allocator = longrun::Allocator;

fn main() -> ExitCode {
    // Read where the program begins; a type holds what it needs.
    let sender = std::env::var("SENDER").unwrap_or_else(|_| "nobody".to_owned());
    longrun::main(longrun::prelude::Registry::new().with(greet::Greet { sender }))
}
