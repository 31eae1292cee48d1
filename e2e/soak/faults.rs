//! Faults: what befalls the processes, the servers and the network between them, in an order that follows from the
//! seed.

use std::{thread::Scope, time::Duration};

use nix::sys::signal::Signal;

use super::{
    clock::{Moment, now},
    fleet::Fleet,
    history::{History, Window},
    place::Place,
    plan::{LEASE, Plan},
    random::Random,
};
use crate::harness::{Direction, Flow, Proxy};

/// A server that a worker reaches through a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    /// PostgreSQL.
    Postgres,
    /// Redis.
    Redis,
}

/// One kind of misfortune.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL of a worker.
    KillWorker,
    /// SIGTERM of a worker.
    DrainWorker,
    /// SIGSTOP of a worker, for three leases.
    PauseWorker,
    /// Redis forgets everything.
    FlushRedis,
    /// Redis is killed and comes back empty.
    RestartRedis,
    /// Redis throws out its clients.
    KillRedisClients,
    /// Redis answers nobody for a while.
    PauseRedisClients,
    /// An immediate shutdown of PostgreSQL, and its recovery.
    CrashPostgres,
    /// PostgreSQL ends the sessions of half of its clients.
    TerminateBackends,
    /// The worker of slot 0 loses its connections and gets no new ones.
    Cut(Server),
    /// The worker of slot 0 is heard and hears nothing: its connections are half open.
    Mute(Server),
    /// Nothing gets through between the worker of slot 0 and its server; later it all arrives.
    Hold(Server),
    /// A server of the API is killed, or told to leave, and comes back.
    RestartServe,
}

impl Fault {
    /// What it is called in the report.
    pub fn name(self) -> String {
        match self {
            Fault::KillWorker => "SIGKILL of a worker".to_owned(),
            Fault::DrainWorker => "SIGTERM of a worker".to_owned(),
            Fault::PauseWorker => "SIGSTOP of a worker for three leases".to_owned(),
            Fault::FlushRedis => "Redis: FLUSHALL".to_owned(),
            Fault::RestartRedis => "Redis: killed, back empty".to_owned(),
            Fault::KillRedisClients => "Redis: CLIENT KILL".to_owned(),
            Fault::PauseRedisClients => "Redis: CLIENT PAUSE".to_owned(),
            Fault::CrashPostgres => "PostgreSQL: immediate shutdown".to_owned(),
            Fault::TerminateBackends => "PostgreSQL: terminated backends".to_owned(),
            Fault::Cut(server) => format!("network: cut to {server:?}"),
            Fault::Mute(server) => format!("network: half-open to {server:?}"),
            Fault::Hold(server) => format!("network: held to {server:?}"),
            Fault::RestartServe => "serve restarted".to_owned(),
        }
    }
}

/// What a fault needs.
#[derive(Clone, Copy)]
pub struct Stage<'a> {
    /// The servers.
    pub place: &'a Place<'a>,
    /// The processes.
    pub fleet: &'a Fleet<'a>,
    /// Where it is written down.
    pub history: &'a History,
}

impl Stage<'_> {
    /// Brings about these faults in some order, spread over the plan's time, and returns when the last one has passed.
    pub fn bring_about_all(self, faults: &[(Fault, usize)], plan: &Plan, stream: u64) {
        let mut random = Random::new(plan.seed, stream);
        let mut deck: Vec<Fault> =
            faults.iter().flat_map(|(fault, times)| std::iter::repeat_n(*fault, *times)).collect();
        random.shuffle(&mut deck);
        let began = now();
        let step = plan.time.as_micros() as Moment / deck.len().max(1) as Moment;
        std::thread::scope(|scope| {
            for (number, fault) in deck.into_iter().enumerate() {
                // Somewhere in its part of the time; at once when the faults before took longer.
                let due = began + step * number as Moment + (step as f64 * random.fraction()) as Moment;
                std::thread::sleep(Duration::from_micros((due - now()).max(0) as u64));
                self.bring_about(fault, &mut random, scope);
                self.history.count(&fault.name());
            }
        });
    }

    fn bring_about<'scope>(self, fault: Fault, random: &mut Random, scope: &'scope Scope<'scope, '_>)
    where
        Self: 'scope,
    {
        let Stage { place, fleet, .. } = self;
        let services = place.services;
        match fault {
            Fault::KillWorker => drop(fleet.signal_some_worker(random, Signal::SIGKILL)),
            Fault::DrainWorker => drop(fleet.signal_some_worker(random, Signal::SIGTERM)),
            Fault::PauseWorker => {
                let slot = fleet.signal_some_worker(random, Signal::SIGSTOP);
                scope.spawn(move || {
                    let from = now();
                    std::thread::sleep(3 * LEASE);
                    self.window(Some(slot), from, "pause");
                    fleet.continue_worker(slot, LEASE);
                });
            }
            Fault::FlushRedis => place.redis(&["FLUSHALL"]),
            Fault::RestartRedis => {
                services.redis.stop();
                some_time(random, 2_000);
                services.redis.start();
            }
            Fault::KillRedisClients => {
                for kind in ["normal", "pubsub"] {
                    place.redis::<i64>(&["CLIENT", "KILL", "TYPE", kind]);
                }
            }
            Fault::PauseRedisClients => {
                place.redis::<()>(&["CLIENT", "PAUSE", "2500", "ALL"]);
                std::thread::sleep(Duration::from_millis(2_500));
            }
            Fault::CrashPostgres => {
                services.postgres.stop(Signal::SIGQUIT);
                some_time(random, 2_000);
                services.postgres.start();
            }
            Fault::TerminateBackends => {
                const HALF: &str = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                    WHERE datname = current_database() AND pid <> pg_backend_pid() AND random() < 0.5";
                place.sql().rows(HALF, &[]);
            }
            Fault::Cut(server) => self.network(server, "cut", |proxy| {
                proxy.refuse(true);
                proxy.reset();
                std::thread::sleep(2 * LEASE);
                proxy.refuse(false);
            }),
            Fault::Mute(server) => self.network(server, "half-open", |proxy| {
                proxy.set(Direction::ToClient, Flow::Swallow);
                std::thread::sleep(3 * LEASE);
                proxy.set(Direction::ToClient, Flow::Pass);
                proxy.reset();
            }),
            Fault::Hold(server) => self.network(server, "held", |proxy| {
                proxy.set(Direction::ToServer, Flow::Hold);
                std::thread::sleep(3 * LEASE);
                proxy.set(Direction::ToServer, Flow::Pass);
            }),
            Fault::RestartServe => {
                let signal = *random.pick(&[Signal::SIGKILL, Signal::SIGTERM]);
                fleet.signal_some_serve(random, signal);
            }
        }
    }

    fn network(self, server: Server, why: &'static str, fault: impl FnOnce(&Proxy)) {
        let from = now();
        match server {
            Server::Postgres => {
                fault(&self.fleet.to_postgres);
                self.window(Some(0), from, why);
            }
            // Redis decides nothing: to be cut off from it excuses nothing.
            Server::Redis => fault(&self.fleet.to_redis),
        }
    }

    fn window(self, slot: Option<usize>, from: Moment, why: &'static str) {
        self.history.lock().windows.push(Window { slot, from, to: now(), why });
    }
}

fn some_time(random: &mut Random, up_to_ms: usize) {
    std::thread::sleep(Duration::from_millis(random.below(up_to_ms) as u64));
}
