//! Report: the plan in words, each figure with the formula that it comes from.

use super::{
    Load, MEMORY_MARGIN, MOST_CPU, MOST_UTILISATION, POD_UP, Plan, Rate, Replicas, SERVE_POOL, SHARE,
    SPARE_CONNECTIONS, constants,
    quantity::{short, time},
};

/// From so many connections on they are a load of their own.
const MANY_CONNECTIONS: u64 = 500;

/// A name, a figure, and where it comes from.
type Row = (&'static str, String, String);

impl Plan {
    /// For people, as wide as a terminal.
    pub fn report(&self, load: &Load) -> String {
        let sections = [self.replicas(load), self.waits(load), self.resources(load)];
        let mut text = sections.map(|rows| section(&rows)).join("\n");
        text += &format!(
            "\nAt most {} of the slots and {} of the cores busy; a pod is taken to be up for {} of the time.\n",
            percent(MOST_UTILISATION),
            percent(MOST_CPU),
            percent(POD_UP),
        );
        if self.postgres_connections > MANY_CONNECTIONS {
            text += "So many connections are a load of their own: larger pods (--worker-cpu) need fewer.\n";
        }
        text
    }

    fn replicas(&self, load: &Load) -> Vec<Row> {
        let slots_from = format!(
            "at most {} cores · {MOST_CPU} / {}, {} / {MEMORY_MARGIN} / {}, half the peak",
            load.worker_cpu,
            short(load.task_cpu()),
            load.worker_memory,
            load.memory,
        );
        let needed = format!("{} slots needed, {} there, then spares", load.line(load.rate.0).slots, self.line.slots);
        let busy = format!("{} cores busy, {} in each", short(self.serve_cores), load.serve_cpu);
        let (peak, quiet) = load.check().unwrap_or((load.rate.0, load.rate.0));
        let rates = format!("for {} to {}", Rate(quiet), Rate(peak));
        let mean = format!("Little's law: {} · {}", load.rate, time(self.line.duration));
        vec![
            ("running at a time", short(self.running), mean),
            ("slots in one worker", self.slots.to_string(), slots_from),
            ("work", pods(&self.work), needed),
            ("serve", pods(&self.serve), busy),
            ("autoscaling, work", bounds(&self.work), rates.clone()),
            ("autoscaling, serve", bounds(&self.serve), rates),
        ]
    }

    fn waits(&self, load: &Load) -> Vec<Row> {
        let line = &self.line;
        let busy = format!("{} / {} slots", short(self.running), line.slots);
        let asked = format!("asked: {}", time(load.start_within.as_secs_f64()));
        vec![
            ("utilisation", percent(line.utilisation()), busy),
            ("tasks that wait", percent(line.waits()), "Erlang C".into()),
            ("mean wait", time(line.mean_wait()), format!("Kimura, variation {}", short(line.variation))),
            ("95 % start within", time(line.wait_of(SHARE)), asked),
        ]
    }

    fn resources(&self, load: &Load) -> Vec<Row> {
        let (rate, duration) = (load.rate, time(load.duration.as_secs_f64()));
        let [task, submit, poll, postgres_task, postgres_poll] = [
            constants::WORK_TASK_CPU,
            constants::SERVE_SUBMIT_CPU,
            constants::SERVE_POLL_CPU,
            constants::POSTGRES_TASK_CPU,
            constants::POSTGRES_POLL_CPU,
        ]
        .map(|seconds| format!("{} µs", short(seconds * 1e6)));
        let (serve, work) = (self.serve.most, self.work.most);
        let (serve_redis, work_redis) = (constants::SERVE_REDIS_CONNECTIONS, constants::WORK_REDIS_CONNECTIONS);
        let (serve_beside, work_beside) = (constants::SERVE_BESIDE_ITS_POOL, constants::WORK_BESIDE_ITS_POOL);
        let postgres = format!(
            "{serve} · ({SERVE_POOL} + {serve_beside}) + {work} · ({} + {work_beside}) + {SPARE_CONNECTIONS}",
            self.work_pool
        );
        vec![
            ("CPU, work", cores(self.work_cores), format!("{rate} · ({duration} · {} + {task})", load.cpu)),
            ("CPU, serve", cores(self.serve_cores), format!("{rate} · ({submit} + {} polls · {poll})", load.polls)),
            (
                "CPU, PostgreSQL",
                cores(self.postgres_cores),
                format!("{rate} · ({postgres_task} + {} polls · {postgres_poll})", load.polls),
            ),
            ("memory of a worker", self.work_memory.to_string(), format!("with {} slots", self.slots)),
            ("memory of a server", self.serve_memory.to_string(), format!("with {} streams in all", load.streams)),
            ("max_connections", self.postgres_connections.to_string(), postgres),
            (
                "Redis connections",
                self.redis_connections.to_string(),
                format!("{serve} · {serve_redis} + {work} · {work_redis}"),
            ),
            ("Redis memory", self.redis_memory.to_string(), "if the tasks of an hour all waited".into()),
            ("disk per day", self.disk_per_day.to_string(), format!("and {} of write-ahead log", self.wal_per_day)),
            ("disk in all", self.disk.to_string(), format!("kept for {}", time(load.retention.as_secs_f64()))),
        ]
    }
}

fn section(rows: &[Row]) -> String {
    rows.iter().map(|(name, figure, from)| format!("{name:<21}{figure:<19}{from}\n")).collect()
}

fn pods(replicas: &Replicas) -> String {
    let spares = replicas.planned - replicas.needed;
    format!("{} pods ({} + {spares})", replicas.planned, replicas.needed)
}

fn bounds(replicas: &Replicas) -> String {
    format!("{} to {} pods", replicas.least, replicas.most)
}

fn cores(cores: f64) -> String {
    format!("{} cores", short(cores))
}

fn percent(share: f64) -> String {
    format!("{} %", short(100.0 * share))
}
