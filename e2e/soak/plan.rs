//! Plan: how much of everything a soak brings about, and from which seed.

use std::time::Duration;

use super::faults::{Fault, Server};

/// The lease of the workers of a soak. Short, so that a death is noticed soon.
pub const LEASE: Duration = Duration::from_secs(2);

/// The size of a soak.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What it is called in the report.
    pub name: &'static str,
    /// From which all choices follow.
    pub seed: u64,
    /// Worker processes that are kept up.
    pub workers: usize,
    /// Tasks to be submitted. Some of them without an answer and without a row.
    pub tasks: usize,
    /// Tasks that there must be in the end.
    pub at_least: usize,
    /// Over how long.
    pub time: Duration,
    /// Of the tasks, those that kill their worker.
    pub poison: usize,
    /// What befalls the workers, one after the other.
    pub worker_faults: Vec<(Fault, usize)>,
    /// What befalls the servers and the network, one after the other.
    pub server_faults: Vec<(Fault, usize)>,
}

impl Plan {
    /// The plan of `SOAK` (`short`, the default, or `long`) with the seed of `SOAK_SEED` or a new one.
    pub fn from_environment() -> Self {
        let seed = match std::env::var("SOAK_SEED") {
            Ok(text) => text.parse().expect("SOAK_SEED is a number"),
            Err(_) => u64::from(rand::random::<u32>()),
        };
        match std::env::var("SOAK").as_deref() {
            Ok("long") => Self::long(seed),
            Ok("tiny") => Self::tiny(seed),
            Ok("short") | Err(_) => Self::short(seed),
            Ok(other) => panic!("SOAK={other}: it is short, long or tiny"),
        }
    }

    /// Some of everything: to try out a change.
    fn tiny(seed: u64) -> Self {
        Self {
            name: "tiny",
            seed,
            workers: 3,
            tasks: 300,
            at_least: 250,
            time: Duration::from_secs(25),
            poison: 1,
            worker_faults: vec![(Fault::KillWorker, 8), (Fault::DrainWorker, 1), (Fault::PauseWorker, 1)],
            server_faults: vec![
                (Fault::FlushRedis, 1),
                (Fault::RestartRedis, 1),
                (Fault::CrashPostgres, 1),
                (Fault::Mute(Server::Redis), 1),
            ],
        }
    }

    fn short(seed: u64) -> Self {
        Self {
            name: "short",
            seed,
            workers: 4,
            tasks: 2_350,
            at_least: 2_000,
            time: Duration::from_secs(140),
            poison: 5,
            worker_faults: vec![(Fault::KillWorker, 66), (Fault::DrainWorker, 8), (Fault::PauseWorker, 6)],
            server_faults: vec![
                (Fault::FlushRedis, 4),
                (Fault::RestartRedis, 4),
                (Fault::KillRedisClients, 5),
                (Fault::PauseRedisClients, 2),
                (Fault::CrashPostgres, 2),
                (Fault::TerminateBackends, 3),
                (Fault::Cut(Server::Postgres), 1),
                (Fault::Cut(Server::Redis), 1),
                (Fault::Mute(Server::Postgres), 2),
                (Fault::Mute(Server::Redis), 7),
                (Fault::Hold(Server::Postgres), 1),
                (Fault::Hold(Server::Redis), 1),
                (Fault::RestartServe, 3),
            ],
        }
    }

    fn long(seed: u64) -> Self {
        Self {
            name: "long",
            seed,
            workers: 5,
            tasks: 10_600,
            at_least: 10_000,
            time: Duration::from_secs(430),
            poison: 12,
            worker_faults: vec![(Fault::KillWorker, 310), (Fault::DrainWorker, 25), (Fault::PauseWorker, 20)],
            server_faults: vec![
                (Fault::FlushRedis, 12),
                (Fault::RestartRedis, 12),
                (Fault::KillRedisClients, 6),
                (Fault::PauseRedisClients, 4),
                (Fault::CrashPostgres, 6),
                (Fault::TerminateBackends, 8),
                (Fault::Cut(Server::Postgres), 4),
                (Fault::Cut(Server::Redis), 4),
                (Fault::Mute(Server::Postgres), 5),
                (Fault::Mute(Server::Redis), 6),
                (Fault::Hold(Server::Postgres), 3),
                (Fault::Hold(Server::Redis), 3),
                (Fault::RestartServe, 10),
            ],
        }
    }
}
