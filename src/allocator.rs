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
