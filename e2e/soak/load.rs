//! Load: the clients of a soak. Some submit, look, cancel and retry; others follow tasks to their end.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    client::{Client, IsMisuse, is_final, ulid_of},
    history::{History, Id, Kind, Outcome, Submission},
    outsider::LEASED_TYPE,
    plan::Plan,
    random::Random,
};

/// Clients that submit.
pub const USERS: u64 = 10;
/// Clients that follow.
pub const FOLLOWERS: u64 = 4;
/// How often a submit is repeated whose outcome is unknown.
const REPEATS: usize = 60;

/// What the clients share.
pub struct Load<'a> {
    plan: &'a Plan,
    history: &'a History,
    ports: &'a [u16],
    began: Instant,
    numbers: AtomicUsize,
    known: Mutex<Vec<Known>>,
    /// Tasks that ended otherwise than with SUCCESS: for an operator who does not like that.
    unlucky: Mutex<Vec<Id>>,
    /// The faults are over: what is still to be submitted is submitted, then the users leave.
    pub last_orders: AtomicBool,
    /// Nothing runs any more: followers give up.
    pub closing: AtomicBool,
}

/// A task that was accepted.
#[derive(Clone, Copy)]
struct Known {
    id: Id,
    is_poison: bool,
}

impl<'a> Load<'a> {
    /// The load of this plan on the servers at these ports.
    pub fn new(plan: &'a Plan, ports: &'a [u16], history: &'a History) -> Self {
        Self {
            plan,
            history,
            ports,
            began: Instant::now(),
            numbers: AtomicUsize::new(0),
            known: Mutex::default(),
            unlucky: Mutex::default(),
            last_orders: AtomicBool::new(false),
            closing: AtomicBool::new(false),
        }
    }

    /// How many are to be submitted by now.
    fn due(&self) -> usize {
        if self.last_orders.load(Ordering::Relaxed) {
            return self.plan.tasks;
        }
        let share = self.began.elapsed().as_secs_f64() / self.plan.time.as_secs_f64();
        (share * self.plan.tasks as f64) as usize
    }

    /// One client that submits, until everything is submitted.
    pub fn use_it(&self, stream: u64) {
        let mut random = Random::new(self.plan.seed, stream);
        let client = Client::new(self.ports, self.history);
        loop {
            let number = self.numbers.load(Ordering::Relaxed);
            if number < self.due() {
                if self.numbers.compare_exchange(number, number + 1, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                    self.submit(&client, &mut random, number);
                }
            } else if self.last_orders.load(Ordering::Relaxed) {
                return;
            }
            match random.below(100) {
                0..34 => self.look(&client, &mut random),
                34..38 => self.cancel(&client, &mut random),
                38..41 => self.retry(&client, &mut random),
                _ => std::thread::sleep(Duration::from_millis(random.below(60) as u64)),
            }
        }
    }

    /// One client that follows tasks, until there are no more.
    pub fn follow(&self, stream: u64) {
        let mut random = Random::new(self.plan.seed, stream);
        let client = Client::new(self.ports, self.history);
        while !self.closing.load(Ordering::Relaxed) {
            let Some(known) = self.some_task(&mut random, 40) else {
                std::thread::sleep(Duration::from_millis(100));
                continue;
            };
            client.follow(&mut random, &ulid_of(known.id), || self.closing.load(Ordering::Relaxed));
        }
    }

    fn submit(&self, client: &Client<'_>, random: &mut Random, number: usize) {
        let submission = self.invent(random, number);
        self.history.lock().submissions.insert(number, submission.clone());
        let key = submission.key.as_deref();
        if key.is_some() && random.percent(10) {
            // The same request twice at a time: a client with a nervous finger.
            std::thread::scope(|scope| {
                let mut other = random.clone();
                let body = &submission.body;
                scope.spawn(move || client.submit(&mut other, number, key, body, IsMisuse::No));
                client.submit(random, number, key, body, IsMisuse::No);
            });
        }
        let mut outcome = client.submit(random, number, key, &submission.body, IsMisuse::No);
        let mut repeats = 0;
        while key.is_some() && matches!(outcome, Outcome::Unknown(_)) && repeats < REPEATS {
            repeats += 1;
            std::thread::sleep(Duration::from_millis(200));
            outcome = client.submit(random, number, key, &submission.body, IsMisuse::No);
        }
        let Outcome::Answered { status: 200..300, view: Some(view) } = outcome else { return };
        let known = Known { id: view.id, is_poison: matches!(submission.kind, Kind::Poison { .. }) };
        self.known.lock().unwrap_or_else(PoisonError::into_inner).push(known);
        if key.is_some() && random.percent(10) {
            client.submit(random, number, key, &submission.body, IsMisuse::No);
        }
        if key.is_some() && random.percent(3) {
            let other = json!({"task_type": "test_sleep", "ms": 1, "steps": 1, "metadata": {"misuse": number}});
            client.submit(random, number, key, &other, IsMisuse::Yes);
        }
    }

    /// Thinks of a task.
    fn invent(&self, random: &mut Random, number: usize) -> Submission {
        // Poison early, since it takes its time: each loss lasts as long as a lease and a sweep.
        let spacing = self.plan.tasks / 2 / self.plan.poison.max(1);
        let is_poison = number % spacing == spacing / 2 && number / spacing < self.plan.poison;
        let (kind, mut body) = if is_poison {
            (Kind::Poison { max_lost: 3 }, json!({"task_type": "test_abort", "after_ms": 150}))
        } else {
            innocent(random)
        };
        body["metadata"] = json!({"n": number, "note": format!("soak {}", self.plan.seed)});
        let mut options = json!({"priority": random.pick(&["high", "normal", "normal", "low"])});
        if !is_poison {
            // Innocent, and among so many deaths it may well meet a thousand.
            options["max_lost"] = json!(1_000);
        }
        if let Kind::Fail { max_attempts, .. } = &kind {
            options["max_attempts"] = json!(max_attempts);
        }
        if random.percent(4) {
            options["delay"] = json!("1s");
        }
        body["options"] = options;
        let key = random.percent(40).then(|| format!("soak-{}-{number}", self.plan.seed));
        Submission { key, kind, body }
    }

    fn some_task(&self, random: &mut Random, of_the_last: usize) -> Option<Known> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let from = known.len().saturating_sub(of_the_last);
        (from < known.len()).then(|| known[from + random.below(known.len() - from)])
    }

    fn look(&self, client: &Client<'_>, random: &mut Random) {
        let Some(known) = self.some_task(random, 100) else { return };
        if let Outcome::Answered { view: Some(view), .. } = client.poll(random, &ulid_of(known.id))
            && !known.is_poison
            && is_final(&view.status)
            && view.status != "SUCCESS"
        {
            self.note_unlucky(known.id);
        }
    }

    fn cancel(&self, client: &Client<'_>, random: &mut Random) {
        let Some(known) = self.some_task(random, 15).filter(|known| !known.is_poison) else { return };
        if let Outcome::Answered { status: 204, .. } = client.cancel(random, &ulid_of(known.id)) {
            self.note_unlucky(known.id);
        }
    }

    /// At once after a cancel it may be too early, and twice too late: both are answered, and nothing comes of them.
    fn retry(&self, client: &Client<'_>, random: &mut Random) {
        let unlucky = self.unlucky.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(id) = unlucky {
            client.retry(random, &ulid_of(id));
        }
    }

    fn note_unlucky(&self, id: Id) {
        self.unlucky.lock().unwrap_or_else(PoisonError::into_inner).push(id);
    }
}

fn innocent(random: &mut Random) -> (Kind, Value) {
    match random.below(100) {
        0..55 => {
            let (count, dimensions) = (1 + random.below(12), 1 + random.below(8));
            let number = |random: &mut Random| (random.fraction() - 0.5) * 2_000.0;
            let vectors: Vec<Vec<f64>> =
                (0..count).map(|_| (0..dimensions).map(|_| number(random)).collect()).collect();
            let duration = *random.pick(&[0.0, 0.0, 0.1, 0.5, 1.0, 2.0]);
            let body = json!({"task_type": "vector_processing", "vector_data": vectors, "duration": duration});
            (Kind::Vector { vectors }, body)
        }
        55..78 => {
            let (ms, steps) = (random.below(2_500), 1 + random.below(12) as u64);
            (Kind::Sleep { steps }, json!({"task_type": "test_sleep", "ms": ms, "steps": steps}))
        }
        78..83 => {
            let (ms, steps) = (random.below(2_500), 1 + random.below(12) as u64);
            (Kind::Sleep { steps }, json!({"task_type": "test_sleep_apart", "ms": ms, "steps": steps}))
        }
        83..86 => {
            let (n, pause) = (1 + random.below(8) as u64, *random.pick(&[0.0, 0.1, 0.3]));
            (Kind::Command { n }, json!({"task_type": "sum_shell", "n": n, "pause": pause}))
        }
        86..91 => {
            let (ms, steps, times) = (random.below(1_500), 1 + random.below(6) as u64, random.below(3) as i64);
            let body = json!({"task_type": LEASED_TYPE, "ms": ms, "steps": steps, "times": times});
            (Kind::Leased { steps, times }, body)
        }
        91..98 => {
            let (times, max_attempts) = (random.below(5) as i64, 3);
            (Kind::Fail { times, max_attempts }, json!({"task_type": "test_fail", "times": times}))
        }
        _ => {
            let ms = random.below(1_500) as u64;
            (Kind::IgnoreStop { ms }, json!({"task_type": "test_ignore_stop", "ms": ms}))
        }
    }
}
