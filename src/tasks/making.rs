//! Making: how `main` gives its task types, ready made or as a function that makes them.
//!
//! The program is many processes: servers, workers, commands of clients, and the processes of attempts. Only some of
//! them need the types, and those of attempts have not the whole environment of their worker. What a function does is
//! done where it is needed and nowhere else, and what it misses is told in one line.

use std::fmt::Display;

use super::Registry;

/// The task types of a program, or a function that makes them.
pub trait TaskTypes {
    /// The types, or why there are none.
    fn make(self) -> Result<Registry, String>;
}

/// What a function that makes types returns: a [`Registry`], or a `Result` with one.
pub trait Made {
    /// The types, or why there are none.
    fn made(self) -> Result<Registry, String>;
}

impl TaskTypes for Registry {
    fn make(self) -> Result<Registry, String> {
        Ok(self)
    }
}

impl<F: FnOnce() -> M, M: Made> TaskTypes for F {
    fn make(self) -> Result<Registry, String> {
        self().made()
    }
}

impl Made for Registry {
    fn made(self) -> Result<Registry, String> {
        Ok(self)
    }
}

impl<E: Display> Made for Result<Registry, E> {
    fn made(self) -> Result<Registry, String> {
        // With its causes, where it is an error that tells them.
        self.map_err(|error| format!("{error:#}"))
    }
}
