//! Line: tasks that arrive at random at two workers, and how long they wait for a slot.
//!
//! Three waits are compared. **Predicted** is what `app size` calculates. **Simulated** is what the very tasks of the run
//! wait, arrivals and durations from a seed, in a house that is nothing but slots: it differs from the prediction by the
//! luck of these minutes alone. **Measured** is what they waited in a real deployment, from `created_at` to `started_at`,
//! both by PostgreSQL's clock: it differs from the simulated wait by what a deployment adds, the way from the commit
//! through the doorbell to the claim, and the time for which a slot is held longer than its task lasts.
//!
//! Near the limit a line multiplies what is added to each task: 10 ms on 500 ms are 2 % more use, and at 90 % that is a
//! fifth more wait; on tasks of two seconds they are a twentieth. So the tasks are long, and the number of slots is such
//! that each point waits for some 300 ms, which is long beside a start, while the line forgets its past within half a
//! minute.

use std::{
    thread,
    time::{Duration, Instant},
};

use longrun::size::{constants::SLOT_OVERHEAD, queueing::Line};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::json;

use super::{figure, measuring};
use crate::harness::{Deployment, LONG, until};

const WORKERS: usize = 2;
/// How far a wait may be from the predicted one, as docs/sizing.md says.
const TOLERANCE: f64 = 0.2;
/// How far the simulated wait of the chosen tasks may be from the predicted one.
const LUCK: f64 = 0.03;

/// A load to be tried: how many slots are busy for which share of the time.
#[derive(Clone, Copy)]
struct Point {
    slots: usize,
    utilisation: f64,
    /// Mean duration of a task in seconds.
    duration: f64,
    /// For how many seconds tasks come.
    seconds: f64,
}

const MEASURED: [Point; 3] = [
    Point { slots: 8, utilisation: 0.75, duration: 2.0, seconds: 300.0 },
    Point { slots: 16, utilisation: 0.85, duration: 2.0, seconds: 300.0 },
    Point { slots: 32, utilisation: 0.9, duration: 2.0, seconds: 300.0 },
];
const SMALL: [Point; 1] = [Point { slots: 8, utilisation: 0.9, duration: 0.5, seconds: 6.0 }];

/// A task as it is planned.
struct Planned {
    arrives: f64,
    lasts: f64,
}

/// A task as it was: in seconds, by the database's clock.
struct Seen {
    created: f64,
    started: f64,
    completed: f64,
}

impl Point {
    /// As `app size` sees it: a task holds its slot for a little longer than it lasts.
    fn line(self) -> Line {
        let held = self.duration + SLOT_OVERHEAD;
        let rate = self.utilisation * self.slots as f64 / held;
        Line { rate, duration: held, variation: self.duration / held, slots: self.slots as u64 }
    }

    /// Random arrivals and durations.
    fn tasks(self, seed: u64) -> Vec<Planned> {
        let mut random = StdRng::seed_from_u64(seed);
        let mut exponential = |mean: f64| -mean * (1.0 - random.random::<f64>()).ln();
        let (mut at, mut tasks) = (0.0, Vec::new());
        while at < self.seconds {
            at += exponential(1.0 / self.line().rate);
            tasks.push(Planned { arrives: at, lasts: exponential(self.duration) });
        }
        tasks
    }

    /// The first seed whose tasks wait about as long as the mean of all seeds: a few minutes differ twofold from others,
    /// and what is to be seen here is not their luck. Also what they wait.
    fn average_tasks(self) -> (u64, Vec<Planned>, f64) {
        let predicted = self.line().mean_wait();
        let about = |(_, _, simulated): &(u64, Vec<Planned>, f64)| (simulated / predicted - 1.0).abs() < LUCK;
        let tried = (1..100_000).map(|seed| {
            let tasks = self.tasks(seed);
            let simulated = play(tasks.iter().map(|task| (task.arrives, task.lasts + SLOT_OVERHEAD)), self.slots);
            (seed, tasks, simulated)
        });
        tried.into_iter().find(about).expect("one seed in twenty is")
    }

    /// Compares the three, and returns whether the prediction was near enough.
    fn judge(self) -> bool {
        let (seed, planned, simulated) = self.average_tasks();
        let seen = self.run(&planned);
        let mean = |of: &dyn Fn(&Seen) -> f64| seen.iter().map(of).sum::<f64>() / seen.len() as f64;
        let (predicted, measured) = (self.line().mean_wait(), mean(&|task| task.started - task.created));
        let held = mean(&|task| task.completed - task.started);
        let wanted = planned.iter().map(|task| task.lasts).sum::<f64>() / planned.len() as f64;
        // With the arrivals and durations as they were in the end: what slots alone explain of the wait.
        let explained = play(seen.iter().map(|task| (task.created, task.completed - task.started)), self.slots);
        let off = predicted / measured - 1.0;
        figure(&format!(
            "| {} | {:.0} % | {} | {} | {:.0} ms | {:.0} ms | {:.0} ms | {:+.0} % | {:+.0} % | {:.1} ms | {:.0} ms |",
            self.slots,
            100.0 * self.utilisation,
            seed,
            seen.len(),
            1e3 * predicted,
            1e3 * simulated,
            1e3 * measured,
            100.0 * off,
            100.0 * (simulated / measured - 1.0),
            1e3 * (held - wanted),
            1e3 * explained,
        ));
        // A busy machine makes them wait longer, and nothing makes them wait less than the slots do.
        assert!(
            measured >= explained * (1.0 - TOLERANCE),
            "waited {measured} s, {explained} s with {} slots: there are more",
            self.slots
        );
        off.abs() <= TOLERANCE
    }

    /// Has a real deployment do it.
    fn run(self, planned: &[Planned]) -> Vec<Seen> {
        let deployment = Deployment::new().set("APP_CONCURRENCY", self.slots / WORKERS).set("RUST_LOG", "info");
        let mut serve = deployment.serve();
        let _workers: Vec<_> = (0..WORKERS).map(|_| deployment.work()).collect();
        let sql = deployment.sql();
        until("the workers are there", LONG, || {
            (sql.value::<i64>("SELECT count(*) FROM workers WHERE state = 'alive'", &[]) == 2).then_some(())
        });
        let client = serve.client();
        let began = Instant::now();
        for task in planned {
            let body = json!({"vector_data": [1.0], "duration": task.lasts});
            // The load, not a wait for something: tasks arrive when they arrive.
            thread::sleep(Duration::from_secs_f64(task.arrives).saturating_sub(began.elapsed()));
            client.submit(&body);
        }
        until("all have ended", 2 * LONG, || {
            (sql.value::<i64>("SELECT count(*) FROM tasks WHERE status <> 'SUCCESS'", &[]) == 0).then_some(())
        });
        let times = "SELECT extract(epoch FROM created_at)::float8, extract(epoch FROM started_at)::float8,
                            extract(epoch FROM completed_at)::float8 FROM tasks ORDER BY created_at";
        let seen = |row: &tokio_postgres::Row| Seen { created: row.get(0), started: row.get(1), completed: row.get(2) };
        sql.rows(times, &[]).iter().map(seen).collect()
    }
}

#[test]
fn tasks_wait_as_predicted() {
    let points: &[Point] = if measuring() { &MEASURED } else { &SMALL };
    figure(
        "| slots | use | seed | tasks | predicted | simulated | measured | predicted is off by | simulated is off by \
         | held longer by | with the durations as they were |",
    );
    // All at a time: together they keep a tenth of a core busy.
    let near: Vec<bool> = thread::scope(|scope| {
        let runs: Vec<_> = points.iter().map(|point| scope.spawn(|| point.judge())).collect();
        runs.into_iter().map(|run| run.join().expect("no point panics")).collect()
    });
    figure(&format!(
        "load average at the end: {}",
        std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim()
    ));
    if measuring() {
        assert!(near.iter().all(|near| *near), "a prediction is off by more than {TOLERANCE}: see the figures");
    }
}

/// The mean wait of tasks with these arrivals and these times in a slot, in the order of their arrival, where nothing but
/// the slots holds them up.
fn play(tasks: impl Iterator<Item = (f64, f64)>, slots: usize) -> f64 {
    let mut free = vec![f64::MIN; slots];
    let (mut waited, mut count) = (0.0, 0);
    for (arrives, held) in tasks {
        let soonest = free.iter_mut().min_by(|a, b| a.total_cmp(b)).expect("there is a slot");
        let starts = soonest.max(arrives);
        waited += starts - arrives;
        *soonest = starts + held;
        count += 1;
    }
    waited / f64::from(count)
}
