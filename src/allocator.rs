//! Allocator: what a program of longrun allocates with, named where the program begins:
//!
//! ```
//! #[global_allocator]
//! static ALLOCATOR: longrun::Allocator = longrun::Allocator;
//!
//! # fn main() {}
//! ```
//!
//! On Linux with glibc it is jemalloc. A server's memory follows its bursts: two thousand streams that were opened at
//! once kept 31 kB each with glibc's allocator for as long as they lasted, which gives back only what lies at the end of
//! an arena, and 12 kB with this one. Elsewhere it is what the system has. A library must not choose for its program,
//! so each program names it itself; one that does not works as well.

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub use std::alloc::System as Allocator;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub use tikv_jemallocator::Jemalloc as Allocator;

/// Has memory given back while nobody allocates as well, by threads of jemalloc's own. For the processes of the roles:
/// where such a thread cannot start, as under the limits of an attempt's process, jemalloc would end a program that was
/// built to begin with one.
pub(crate) fn give_back_when_idle() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    if let Err(error) = tikv_jemalloc_ctl::background_thread::write(true) {
        // Without this it would leave all to a thread that is not there.
        let _ = tikv_jemalloc_ctl::background_thread::write(false);
        tracing::warn!(%error, "memory is given back with later allocations only");
    }
}
