//! Sizing: what `app size` says against what really happens.
//!
//! Like those of [`recovery`](crate::recovery), each test has two sizes: `SIZING=1` (`make sizing`) measures with an
//! optimised program and prints the figures of docs/sizing.md; the small one is part of every run and asks only for
//! what a busy machine cannot change.

mod constants;
mod line;

/// Whether figures are wanted.
fn measuring() -> bool {
    std::env::var_os("SIZING").is_some_and(|value| value == "1")
}

/// Prints a figure, for the docs.
fn figure(text: &str) {
    if measuring() {
        eprintln!("figure: {text}");
    }
}
