//! Bench: where HTTP workers sit that wait for work.
//!
//! Who waits holds no connection and asks nothing. For all who want the same, one look per second counts what there is
//! for them, in one statement, and calls as many as there are tasks; a submit to this process has them looked after at
//! once. Called, a worker claims for itself.
//!
//! A look costs a statement, and a wish that is noted costs rows and a line of `GET /queues`: one caller alone can have
//! so many of either, and takes neither from the others.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    runtime::Handle,
    sync::{Notify, Semaphore},
};

use crate::core::Core;

/// Between two looks, with jitter.
const PERIOD: Duration = Duration::from_secs(1);
/// Kinds of wishes that are looked after at a time, and those of one caller.
const ROWS: usize = 1_000;
const ROWS_PER_CALLER: usize = 100;
/// How often it is noted in PostgreSQL that somebody asks for a kind of work, and how long it counts there.
const NOTED: Duration = Duration::from_secs(15);
const COUNTS: Duration = Duration::from_secs(90);
/// Kinds of wishes that count at a time, and those of one caller.
const WISHES: usize = 10_000;
const WISHES_PER_CALLER: usize = 1_000;
/// Between two searches for wishes that count no more, while there is no room.
const TIDIED: Duration = Duration::from_secs(1);

/// What a worker wants: a queue, and types in order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Wish {
    /// The queue.
    pub queue: String,
    /// The types, sorted.
    pub task_types: Vec<String>,
}

/// Whose rows and wishes are counted together: the owner of a key. Callers without a name are one.
type Owner = Option<String>;

/// Those who want the same.
struct Row {
    /// Who sat down first, and is charged with it.
    owner: Owner,
    waiting: AtomicUsize,
    /// One permit per call that nobody has followed yet.
    calls: Semaphore,
    look: Notify,
}

/// A worker that waits; it gets up when this is dropped.
pub struct Seat {
    row: Arc<Row>,
}

/// The bench of one process.
pub struct Bench {
    core: Core,
    runtime: Handle,
    rows: Mutex<HashMap<Wish, Arc<Row>>>,
    noted: Mutex<Noted>,
}

/// The wishes that count.
#[derive(Default)]
struct Noted {
    wishes: HashMap<Wish, Note>,
    /// How many of them each caller is charged with.
    charged: HashMap<Owner, usize>,
    tidied_at: Option<Instant>,
}

struct Note {
    at: Instant,
    /// Who asked first, and is charged with it.
    owner: Owner,
}

impl Row {
    /// With one who waits.
    fn new(owner: Owner) -> Self {
        Self { owner, waiting: AtomicUsize::new(1), calls: Semaphore::new(0), look: Notify::new() }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.row.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Seat {
    /// Returns when there may be something for whoever sits here.
    pub async fn called(&self) {
        if let Ok(call) = self.row.calls.acquire().await {
            call.forget();
        }
    }
}

impl Bench {
    /// A bench that looks on `runtime`, which must outlive the server's own threads.
    pub fn new(core: Core, runtime: Handle) -> Arc<Self> {
        Arc::new(Self { core, runtime, rows: Mutex::default(), noted: Mutex::default() })
    }

    /// Sits down. Looked after at once: what came between the last claim and this is not missed. `None`: this would be
    /// one row too many.
    pub fn sit(self: &Arc<Self>, wish: &Wish, owner: &Owner) -> Option<Seat> {
        let mut rows = lock(&self.rows);
        if let Some(row) = rows.get(wish) {
            row.waiting.fetch_add(1, Ordering::Relaxed);
            row.look.notify_one();
            return Some(Seat { row: row.clone() });
        }
        if !have_room(&rows, owner) {
            return None;
        }
        let row = Arc::new(Row::new(owner.clone()));
        rows.insert(wish.clone(), row.clone());
        self.runtime.spawn(self.clone().look_after(wish.clone(), row.clone()));
        Some(Seat { row })
    }

    /// There may be something in this queue now.
    pub fn rung(&self, queue: &str) {
        let rows = lock(&self.rows);
        rows.iter().filter(|(wish, _)| wish.queue == queue).for_each(|(_, row)| row.look.notify_one());
    }

    /// Notes in PostgreSQL that somebody asks for this, unless that was noted just now. Nobody waits for it.
    pub fn note(self: &Arc<Self>, wish: &Wish, owner: &Owner) {
        if !lock(&self.noted).admit(wish, owner, Instant::now()) {
            return;
        }
        let (this, wish) = (self.clone(), wish.clone());
        self.runtime.spawn(async move {
            if let Err(error) = this.core.store.note_asked(&wish.queue, &wish.task_types).await {
                tracing::debug!(%error, "could not note that an HTTP worker asks");
                lock(&this.noted).forget(&wish);
            }
        });
    }

    /// Looks for those of a row as long as somebody sits there.
    async fn look_after(self: Arc<Self>, wish: Wish, row: Arc<Row>) {
        loop {
            let uncalled = row.waiting.load(Ordering::Relaxed).saturating_sub(row.calls.available_permits());
            if uncalled > 0 {
                match self.core.store.leasable(&wish.queue, &wish.task_types, uncalled).await {
                    Ok(tasks) => row.calls.add_permits(tasks.min(uncalled)),
                    Err(error) => tracing::debug!(%error, "could not look for work; looking again soon"),
                }
            }
            tokio::select! {
                () = tokio::time::sleep(PERIOD.mul_f64(rand::random_range(0.75..1.25))) => {}
                () = row.look.notified() => {}
            }
            let mut rows = lock(&self.rows);
            if row.waiting.load(Ordering::Relaxed) == 0 {
                rows.remove(&wish);
                return;
            }
        }
    }
}

/// Whether there may be one more row, and one more of this caller.
fn have_room(rows: &HashMap<Wish, Arc<Row>>, owner: &Owner) -> bool {
    rows.len() < ROWS && rows.values().filter(|row| row.owner == *owner).count() < ROWS_PER_CALLER
}

impl Noted {
    /// Whether this is to be noted now. Whoever makes up wishes fills neither memory nor tables; what they ask for is
    /// leased all the same.
    fn admit(&mut self, wish: &Wish, owner: &Owner, now: Instant) -> bool {
        if let Some(note) = self.wishes.get_mut(wish) {
            let is_due = now.saturating_duration_since(note.at) >= NOTED;
            if is_due {
                note.at = now;
            }
            return is_due;
        }
        if !self.has_room(owner) {
            self.tidy(now);
            if !self.has_room(owner) {
                return false;
            }
        }
        self.wishes.insert(wish.clone(), Note { at: now, owner: owner.clone() });
        *self.charged.entry(owner.clone()).or_default() += 1;
        true
    }

    fn has_room(&self, owner: &Owner) -> bool {
        self.wishes.len() < WISHES && self.charged.get(owner).is_none_or(|wishes| *wishes < WISHES_PER_CALLER)
    }

    /// Forgets what counts no more. Not at each call: it goes through all of them.
    fn tidy(&mut self, now: Instant) {
        if self.tidied_at.is_some_and(|at| now.saturating_duration_since(at) < TIDIED) {
            return;
        }
        self.tidied_at = Some(now);
        self.wishes.retain(|_, note| now.saturating_duration_since(note.at) < COUNTS);
        self.charged.clear();
        for note in self.wishes.values() {
            *self.charged.entry(note.owner.clone()).or_default() += 1;
        }
    }

    fn forget(&mut self, wish: &Wish) {
        let Some(note) = self.wishes.remove(wish) else { return };
        if let Some(wishes) = self.charged.get_mut(&note.owner) {
            *wishes = wishes.saturating_sub(1);
            if *wishes == 0 {
                self.charged.remove(&note.owner);
            }
        }
    }
}

/// A panic while this is held leaves a whole map behind.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(queue: usize) -> Wish {
        Wish { queue: format!("queue-{queue}"), task_types: vec!["thing".to_owned()] }
    }

    fn named(owner: &str) -> Owner {
        Some(owner.to_owned())
    }

    #[test]
    fn nobody_fills_the_bench_alone() {
        let mut rows = HashMap::new();
        let mut fill = |owner: &Owner, from: usize| {
            let free = (from..).take_while(|queue| {
                let room = have_room(&rows, owner);
                if room {
                    rows.insert(wish(*queue), Arc::new(Row::new(owner.clone())));
                }
                room
            });
            free.count()
        };
        assert_eq!(fill(&named("many"), 0), ROWS_PER_CALLER);
        assert_eq!(fill(&None, ROWS), ROWS_PER_CALLER, "callers without a name are one");
        let others = (2..12).map(|number| fill(&named(&format!("other-{number}")), number * ROWS)).sum::<usize>();
        assert_eq!(others, ROWS - 2 * ROWS_PER_CALLER);
    }

    #[test]
    fn made_up_wishes_take_the_place_of_nobody_elses() {
        let mut noted = Noted::default();
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let (many, honest) = (named("many"), named("honest"));
        let admitted = (0..2 * WISHES).filter(|queue| noted.admit(&wish(*queue), &many, at(0))).count();
        assert_eq!(admitted, WISHES_PER_CALLER);
        let own = wish(2 * WISHES);
        assert!(noted.admit(&own, &honest, at(0)));
        assert!(!noted.admit(&own, &honest, at(14)), "it was noted just now");
        assert!(noted.admit(&own, &honest, at(16)));
        // What is noted counts for longer than until it would be noted again, and takes room for as long.
        assert!(!noted.admit(&wish(3 * WISHES), &many, at(89)));
        assert!(noted.admit(&wish(3 * WISHES), &many, at(91)));
        assert!(!noted.admit(&own, &honest, at(30)), "others' wishes make it forget nothing");
    }

    #[test]
    fn what_could_not_be_noted_is_tried_again() {
        let mut noted = Noted::default();
        let (owner, now) = (named("somebody"), Instant::now());
        for _ in 0..2 * WISHES_PER_CALLER {
            assert!(noted.admit(&wish(0), &owner, now));
            noted.forget(&wish(0));
        }
    }
}
