//! Size: how many servers, workers, connections, bytes and cores a load needs. Arithmetic: nothing is contacted.
//!
//! A [`Load`] is what an operator knows; its [`Plan`] follows from Little's law, a limit on the utilisation, Erlang's C
//! formula for the wait ([`queueing`]), the binomial distribution for spares, and what this binary was measured to
//! need ([`constants`]). docs/sizing.md compares the predictions with a simulation and with a real run.

pub mod constants;
mod patch;
mod quantity;
pub mod queueing;
mod report;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::time::Duration;

use clap::Args;

use crate::config::duration;
pub use patch::Autoscaler;
pub use quantity::{Bytes, Percent, Rate};
use queueing::{Line, with_spares};

/// Slots are busy for at most this share of the time: above it the wait grows faster than the load.
const MOST_UTILISATION: f64 = 0.85;
/// Cores are busy for at most this share: the rest is for bursts, restarts and the kernel.
const MOST_CPU: f64 = 0.7;
/// The share of the tasks that starts within the time that is asked for.
const SHARE: f64 = 0.95;
/// A pod is up for this share of the time; an assumption: seven minutes a day for rollouts, drained and lost nodes.
const POD_UP: f64 = 0.995;
/// More slots than this in one worker are one large thing to lose.
const MOST_SLOTS: u64 = 256;
/// Connections in the pool of one `serve`, the default of APP_POSTGRES_POOL.
const SERVE_POOL: u64 = 10;
/// Starts per second of one worker up to which a pool of [`SMALL_POOL`] does.
const SMALL_POOL_RATE: f64 = 50.0;
const SMALL_POOL: u64 = 4;
const LARGE_POOL: u64 = 10;
/// Beside the pools: the migration, an operator's psql, a backup.
const SPARE_CONNECTIONS: u64 = 10;
/// A pod's limit of memory over what it is expected to use.
const MEMORY_MARGIN: f64 = 1.5;

/// What is to be carried.
#[derive(Debug, Clone, Args)]
pub struct Load {
    /// Tasks that arrive in the busiest minutes of a normal day: 100/s, 600/m, 5000/h or 1000000/d
    #[arg(long, value_name = "RATE")]
    pub rate: Rate,
    /// How long a task runs, on average
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub duration: Duration,
    /// How unlike each other the tasks are: the standard deviation of their duration over its mean. 0 is all alike
    #[arg(long, default_value_t = 1.0, value_name = "N", value_parser = variation)]
    pub variation: f64,
    /// Cores that one running task keeps busy, on average
    #[arg(long, default_value_t = 0.01, value_name = "CORES", value_parser = cores)]
    pub cpu: f64,
    /// Memory of one running task
    #[arg(long, default_value = "1Mi", value_name = "BYTES")]
    pub memory: Bytes,
    /// 95 % of the tasks start within this time
    #[arg(long, default_value = "5s", value_name = "TIME", value_parser = duration)]
    pub start_within: Duration,
    /// Share of the time, in percent, in which enough pods are up
    #[arg(long, default_value = "99.9", value_name = "PERCENT")]
    pub availability: Percent,
    /// The highest rate that autoscaling has to reach [default: twice the rate]
    #[arg(long, value_name = "RATE")]
    pub peak: Option<Rate>,
    /// The rate of the quiet hours, which the smallest deployment has to carry [default: a tenth of the rate]
    #[arg(long, value_name = "RATE")]
    pub quiet: Option<Rate>,
    /// Cores of a worker's pod
    #[arg(long, default_value_t = 2.0, value_name = "CORES", value_parser = cores)]
    pub worker_cpu: f64,
    /// Memory of a worker's pod, at most
    #[arg(long, default_value = "4Gi", value_name = "BYTES")]
    pub worker_memory: Bytes,
    /// Cores of a server's pod
    #[arg(long, default_value_t = 1.0, value_name = "CORES", value_parser = cores)]
    pub serve_cpu: f64,
    /// How often a client looks at a task before it has ended
    #[arg(long, default_value_t = 5.0, value_name = "N", value_parser = polls)]
    pub polls: f64,
    /// Streams that are open at a time
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub streams: u32,
    /// Bytes of a task's input and result together
    #[arg(long, default_value = "1Ki", value_name = "BYTES")]
    pub payload: Bytes,
    /// How long finished tasks are kept (APP_RETENTION)
    #[arg(long, default_value = "30days", value_name = "TIME", value_parser = duration)]
    pub retention: Duration,
    /// The queue, for --yaml
    #[arg(long, default_value = "default", value_name = "NAME", value_parser = queue)]
    pub queue: String,
    /// Which autoscaler --yaml sets bounds for
    #[arg(long, value_enum, default_value_t = Autoscaler::Keda)]
    pub autoscaler: Autoscaler,
}

/// What carries it.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Tasks that run at a time, on average: Little's law.
    pub running: f64,
    /// The line at the given rate, with the slots of the workers that are needed; the spares are not counted.
    pub line: Line,
    /// Slots of one worker.
    pub slots: u64,
    /// Connections in the pool of one worker.
    pub work_pool: u64,
    /// Workers.
    pub work: Replicas,
    /// Servers.
    pub serve: Replicas,
    /// Cores that all servers keep busy at the given rate.
    pub serve_cores: f64,
    /// Cores that all workers keep busy at the given rate.
    pub work_cores: f64,
    /// Cores that PostgreSQL keeps busy at the given rate.
    pub postgres_cores: f64,
    /// Connections to PostgreSQL when everything is scaled out: its `max_connections`.
    pub postgres_connections: u64,
    /// Connections to Redis when everything is scaled out.
    pub redis_connections: u64,
    /// Memory of one server.
    pub serve_memory: Bytes,
    /// Memory of one worker.
    pub work_memory: Bytes,
    /// Redis's memory for an hour's tasks, all of them waiting.
    pub redis_memory: Bytes,
    /// What PostgreSQL's tables and indexes grow by in a day at the given rate.
    pub disk_per_day: Bytes,
    /// What they come to at the end of the retention.
    pub disk: Bytes,
    /// Write-ahead log of a day at the given rate.
    pub wal_per_day: Bytes,
}

/// How many of one role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replicas {
    /// What the load needs when all of them are up.
    pub needed: u64,
    /// With spares, so that enough are up.
    pub planned: u64,
    /// Where autoscaling begins.
    pub least: u64,
    /// Where it ends.
    pub most: u64,
}

impl Load {
    /// The plan, or what about the load cannot be planned.
    pub fn plan(&self) -> Result<Plan, String> {
        let (peak, quiet) = self.check()?;
        // Never more than half of what the peak needs: there are two workers at least.
        let slots = self.slots_of_a_worker()?.min(self.line(peak).slots.div_ceil(2));
        let work = self.replicas(quiet, peak, |rate| self.line(rate).slots.div_ceil(slots));
        let serve_cores = |rate: f64| rate * (constants::SERVE_SUBMIT_CPU + self.polls * constants::SERVE_POLL_CPU);
        let serve = self.replicas(quiet, peak, |rate| (serve_cores(rate) / (self.serve_cpu * MOST_CPU)).ceil() as u64);
        let rate = self.rate.0;
        let small = rate / work.needed as f64 <= SMALL_POOL_RATE;
        let work_pool = if small { SMALL_POOL } else { LARGE_POOL };
        let day = rate * 86_400.0;
        let disk_per_task = constants::TASK_DISK + self.payload.0;
        let line = Line { slots: work.needed * slots, ..self.line(rate) };
        Ok(Plan {
            running: line.offered(),
            line,
            slots,
            work_pool,
            work,
            serve,
            serve_cores: serve_cores(rate),
            work_cores: rate * (self.duration.as_secs_f64() * self.cpu + constants::WORK_TASK_CPU),
            postgres_cores: rate * (constants::POSTGRES_TASK_CPU + self.polls * constants::POSTGRES_POLL_CPU),
            postgres_connections: serve.most * (SERVE_POOL + constants::SERVE_BESIDE_ITS_POOL)
                + work.most * (work_pool + constants::WORK_BESIDE_ITS_POOL)
                + SPARE_CONNECTIONS,
            redis_connections: serve.most * constants::SERVE_REDIS_CONNECTIONS
                + work.most * constants::WORK_REDIS_CONNECTIONS,
            serve_memory: Bytes(
                constants::SERVE_MEMORY + f64::from(self.streams) / serve.needed as f64 * constants::STREAM_MEMORY,
            ),
            work_memory: Bytes(constants::WORK_MEMORY + slots as f64 * self.memory.0),
            redis_memory: Bytes(rate * 3_600.0 * constants::WAITING_REDIS),
            disk_per_day: Bytes(day * disk_per_task),
            disk: Bytes(rate * self.retention.as_secs_f64() * disk_per_task),
            wal_per_day: Bytes(day * (constants::TASK_WAL + constants::PAYLOAD_WAL * self.payload.0)),
        })
    }

    /// The peak and the quiet rate.
    fn check(&self) -> Result<(f64, f64), String> {
        let peak = self.peak.map_or(2.0 * self.rate.0, |peak| peak.0);
        let quiet = self.quiet.map_or(0.1 * self.rate.0, |quiet| quiet.0);
        if !(quiet <= self.rate.0 && self.rate.0 <= peak) {
            return Err(format!(
                "--quiet ({}) ≤ --rate ({}) ≤ --peak ({}) must hold",
                Rate(quiet),
                self.rate,
                Rate(peak)
            ));
        }
        if self.duration.is_zero() {
            return Err("--duration must be more than nothing".into());
        }
        // Beyond it the search for the number of slots takes longer than anybody waits.
        if peak * self.duration.as_secs_f64() > 1e6 {
            return Err("more than a million tasks would run at a time: plan several queues or deployments".into());
        }
        Ok((peak, quiet))
    }

    fn line(&self, rate: f64) -> Line {
        let duration = self.duration.as_secs_f64() + constants::SLOT_OVERHEAD;
        // The overhead is the same for every task, so it makes them a little more alike.
        let variation = self.variation * self.duration.as_secs_f64() / duration;
        Line { rate, duration, variation, slots: 0 }.with_enough_slots(
            MOST_UTILISATION,
            SHARE,
            self.start_within.as_secs_f64(),
        )
    }

    /// Cores that a busy slot keeps busy: the task itself, and what it takes to take, start and end it.
    fn task_cpu(&self) -> f64 {
        self.cpu + constants::WORK_TASK_CPU / self.duration.as_secs_f64()
    }

    /// As many as the pod's cores and memory allow.
    fn slots_of_a_worker(&self) -> Result<u64, String> {
        let room = self.worker_memory.0 / MEMORY_MARGIN - constants::WORK_MEMORY;
        let by_memory = room / self.memory.0;
        if by_memory < 1.0 {
            return Err(format!("a worker of {} has no room for a task: raise --worker-memory", self.worker_memory));
        }
        if self.cpu > self.worker_cpu {
            return Err(format!("a task keeps {} cores busy: raise --worker-cpu to at least that", self.cpu));
        }
        let by_cpu = (self.worker_cpu * MOST_CPU / self.task_cpu()).max(1.0);
        Ok((by_cpu.min(by_memory) as u64).clamp(1, MOST_SLOTS))
    }

    /// At least two of everything, so that one can go.
    fn replicas(&self, quiet: f64, peak: f64, needed: impl Fn(f64) -> u64) -> Replicas {
        let spared = |needed| with_spares(needed, POD_UP, self.availability.0).max(2);
        let at = |rate| needed(rate).max(1);
        Replicas {
            needed: at(self.rate.0),
            planned: spared(at(self.rate.0)),
            least: spared(at(quiet)),
            most: spared(at(peak)),
        }
    }
}

fn variation(text: &str) -> Result<f64, String> {
    number(text, 0.0..=10.0, "0 for tasks that are all alike, 1 for exponential durations, at most 10")
}

fn cores(text: &str) -> Result<f64, String> {
    number(text, 0.000_1..=1_024.0, "a number of cores, 0.5 for half of one")
}

fn polls(text: &str) -> Result<f64, String> {
    number(text, 0.0..=1e6, "a number from 0 on")
}

fn number(text: &str, range: std::ops::RangeInclusive<f64>, wanted: &str) -> Result<f64, String> {
    text.parse().ok().filter(|number| range.contains(number)).ok_or_else(|| format!("write {wanted}"))
}

fn queue(text: &str) -> Result<String, String> {
    text.parse::<crate::config::QueueSlots>().and_then(|queue| match queue.slots {
        None => Ok(queue.name),
        Some(_) => Err("only the name: the slots are what is to be found out".into()),
    })
}
