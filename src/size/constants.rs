//! Constants: what this binary was measured to need. docs/sizing.md has the command that measures them again.
//!
//! Times are seconds of one core of the machine that docs/sizing.md names; sizes are bytes.

/// CPU that one submit costs `serve`.
pub const SERVE_SUBMIT_CPU: f64 = 100e-6;
/// CPU that one poll costs `serve`.
pub const SERVE_POLL_CPU: f64 = 80e-6;
/// CPU that taking, starting and ending one task costs `work`, whatever the task itself does.
pub const WORK_TASK_CPU: f64 = 60e-6;
/// CPU that one task costs PostgreSQL from its submit to its end.
pub const POSTGRES_TASK_CPU: f64 = 320e-6;
/// CPU that one poll costs PostgreSQL.
pub const POSTGRES_POLL_CPU: f64 = 110e-6;
/// How much longer than its handler a task holds its slot: it is taken, claimed and started, and then the slot is free.
pub const SLOT_OVERHEAD: f64 = 0.005;

/// Memory of `serve` without streams, under load: a third of it was measured, the rest is for bodies in flight.
pub const SERVE_MEMORY: f64 = 64e6;
/// Memory of one open stream.
pub const STREAM_MEMORY: f64 = 20e3;
/// Memory of `work` without tasks, under load: half of it was measured, the rest is for inputs and results.
pub const WORK_MEMORY: f64 = 48e6;
/// Disk of one finished task in PostgreSQL with its history and indexes, without input and result.
pub const TASK_DISK: f64 = 1_100.0;
/// Write-ahead log of one task from its submit to its end, without input and result.
pub const TASK_WAL: f64 = 3_000.0;
/// Write-ahead log of each byte of input and result: an input is written with the submit and again with the two versions
/// of its row that a claim and an end make, the result once.
pub const PAYLOAD_WAL: f64 = 3.2;
/// Memory of one waiting task in Redis.
pub const WAITING_REDIS: f64 = 40.0;

/// Connections to PostgreSQL of one `serve` beside its pool, at most: for lists, for dashboards and for keys.
pub const SERVE_BESIDE_ITS_POOL: u64 = 6;
/// Connections to PostgreSQL of one `work` beside its pool: it renews its lease there, and reads no lists and no keys.
pub const WORK_BESIDE_ITS_POOL: u64 = 1;
/// Connections to Redis of one `serve`, at most.
pub const SERVE_REDIS_CONNECTIONS: u64 = 6;
/// Connections to Redis of one `work` with one queue, at most.
pub const WORK_REDIS_CONNECTIONS: u64 = 7;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::store::CONNECTIONS_BESIDE_THE_POOL;

    /// The arithmetic imports no store; here the two are held together.
    #[test]
    fn a_server_opens_beside_its_pool_what_the_store_does() {
        assert_eq!(i64::try_from(SERVE_BESIDE_ITS_POOL), Ok(CONNECTIONS_BESIDE_THE_POOL));
    }
}
