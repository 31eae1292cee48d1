//! Submitter: concurrent submits share one INSERT and one push.
//!
//! Requests put their task into a mailbox; a few writers take whatever waits, insert it in one statement, answer all,
//! and ring. The next batch forms while the last one commits, so there is no timer and an idle server adds no delay.
//! A request that is dropped in the middle drops nothing: the writer owns the task from the moment it is sent.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc};

use super::{
    SubmitError,
    courier::{Reply, hand_out},
    faults::mutant,
    model::{NewTask, PendingReason, Start, Status, Submission, Submitted, Task, TaskId},
    queue::{Bell, Outlet, Side},
    store::{Accepted, Settled, Store, StoreError, Try},
};
use crate::telemetry::is_exporting;

/// Tasks per transaction, and bytes of input: what comes first ends a batch. One submission is never divided.
const BATCH: usize = 256;
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// Requests that may wait for a writer. Beyond it a caller hears at once that the store is busy.
const MAILBOX: usize = 4_096;
/// Bytes of input that may wait for a writer. Beyond it a caller hears at once that the store is busy.
const MAILBOX_BYTES: usize = 64 * 1024 * 1024;
/// Who has waited longer, with PostgreSQL away, hears so instead of being submitted after its caller has given up.
const PATIENCE: Duration = Duration::from_secs(5);
/// Two, so that one batch is on its way while the next one forms.
const WRITERS: usize = 2;
/// How often a batch with an unknown outcome is repeated.
const TRIES: u32 = 4;

type Answer = Result<Submitted, SubmitError>;

struct Waiting {
    submission: Submission,
    reply: Reply<Answer>,
    since: Instant,
    /// Its share of the bytes that may wait.
    _room: OwnedSemaphorePermit,
}

impl Waiting {
    fn bytes(&self) -> usize {
        bytes(&self.submission)
    }

    fn key(&self) -> Option<(&str, &str)> {
        self.submission.key.as_ref().map(|key| (key.scope.as_str(), key.key.as_str()))
    }
}

fn bytes(submission: &Submission) -> usize {
    submission.tasks.iter().map(|task| task.input.get().len()).sum()
}

/// The mailbox. Cheap to clone.
#[derive(Clone)]
pub struct Submitter {
    mailbox: mpsc::Sender<Waiting>,
    room: Arc<Semaphore>,
}

impl Submitter {
    /// Starts the writers on this runtime.
    pub fn start(store: Store, outlet: Outlet) -> Self {
        let (mailbox, waiting) = mpsc::channel(MAILBOX);
        let waiting = Arc::new(Mutex::new(waiting));
        for _ in 0..WRITERS {
            let desk = Desk { store: store.clone(), outlet: outlet.clone() };
            tokio::spawn(desk.run(waiting.clone()));
        }
        Self { mailbox, room: Arc::new(Semaphore::new(MAILBOX_BYTES)) }
    }

    pub(super) async fn submit(&self, submission: Submission) -> Answer {
        let (reply, answered) = Reply::expected();
        let busy = || StoreError::Unavailable("too many submits are waiting".to_owned());
        let bytes = u32::try_from(bytes(&submission).min(MAILBOX_BYTES)).unwrap_or(u32::MAX);
        let room = self.room.clone().try_acquire_many_owned(bytes).map_err(|_| busy())?;
        let waiting = Waiting { submission, reply, since: Instant::now(), _room: room };
        self.mailbox.try_send(waiting).map_err(|_| busy())?;
        let stopping = |_| StoreError::Unavailable("the server is stopping".to_owned());
        answered.await.map_err(stopping)?
    }
}

/// One writer.
struct Desk {
    store: Store,
    outlet: Outlet,
}

impl Desk {
    async fn run(self, waiting: Arc<Mutex<mpsc::Receiver<Waiting>>>) {
        loop {
            let mut batch = Vec::with_capacity(BATCH);
            {
                let mut waiting = waiting.lock().await;
                let Some(first) = waiting.recv().await else { return };
                let (mut tasks, mut bytes) = (first.submission.tasks.len(), first.bytes());
                batch.push(first);
                while tasks < BATCH && bytes < BATCH_BYTES {
                    let Ok(next) = waiting.try_recv() else { break };
                    tasks += next.submission.tasks.len();
                    bytes += next.bytes();
                    batch.push(next);
                }
            }
            let (in_time, late): (Vec<Waiting>, Vec<Waiting>) =
                batch.into_iter().partition(|waiting| waiting.since.elapsed() < PATIENCE);
            // Nothing of these was sent: the caller can repeat it.
            let too_late = || StoreError::Unavailable("PostgreSQL did not take the submit in time".to_owned());
            hand_out(late.into_iter().map(|waiting| (waiting.reply, Err(too_late().into()))));
            if !in_time.is_empty() {
                self.settle(in_time).await;
            }
        }
    }

    /// Settles a batch and answers everybody. What PostgreSQL refuses fails alone.
    async fn settle(&self, batch: Vec<Waiting>) {
        let (first, second): (Vec<Waiting>, Vec<Waiting>) = first_of_each_key(batch);
        let (submissions, replies): (Vec<Submission>, Vec<_>) =
            first.into_iter().map(|waiting| (waiting.submission, waiting.reply)).unzip();
        if mutant("answer-first") {
            return self.answer_before_commit(submissions, replies).await;
        }
        match self.repeated(&submissions, Try::First).await {
            Ok(settled) => self.answer_all(submissions, settled, replies).await,
            Err(StoreError::Refused(_)) if submissions.len() > 1 => {
                for (submission, reply) in submissions.into_iter().zip(replies) {
                    match self.repeated(std::slice::from_ref(&submission), Try::Again).await {
                        Ok(settled) => self.answer_all(vec![submission], settled, vec![reply]).await,
                        Err(error) => hand_out([(reply, Err(error.into()))]),
                    }
                }
            }
            Err(error) => hand_out(replies.into_iter().map(|reply| (reply, Err(error.clone().into())))),
        }
        if !second.is_empty() {
            // The same keys again: by now they are decided, and these hear what the first of each heard.
            Box::pin(self.settle(second)).await;
        }
    }

    /// The defect "answer-first": what no client should be told before the commit.
    async fn answer_before_commit(&self, submissions: Vec<Submission>, replies: Vec<Reply<Answer>>) {
        let now = chrono::Utc::now();
        let row = |id| Accepted { id, created_at: now, ready_at: now, scheduled_at: None, ring_now: true };
        hand_out(submissions.iter().zip(replies).map(|(submission, reply)| {
            let tasks = submission.tasks.iter().map(|new| as_accepted(new.clone(), &row(new.id)));
            (reply, Ok(Submitted { tasks: tasks.collect(), replayed: false }))
        }));
        match self.repeated(&submissions, Try::First).await {
            Ok(settled) => self.answer_all(submissions, settled, Vec::new()).await,
            Err(error) => tracing::error!("a batch of submits failed: {error}"),
        }
    }

    /// The ids are made before the INSERT, so a batch whose outcome is unknown is repeated as it is.
    async fn repeated(&self, submissions: &[Submission], first: Try) -> Result<Vec<Settled>, StoreError> {
        let (began, mut tries) = (Instant::now(), 0);
        loop {
            tries += 1;
            let this = if tries == 1 { first } else { Try::Again };
            match self.store.submit(submissions, this).await {
                Err(StoreError::Unavailable(_)) if tries < TRIES && began.elapsed() < PATIENCE => {
                    let wait = rand::random_range(20..100) * u64::from(tries);
                    tokio::time::sleep(Duration::from_millis(wait)).await;
                }
                outcome => return outcome,
            }
        }
    }

    async fn answer_all(&self, submissions: Vec<Submission>, settled: Vec<Settled>, replies: Vec<Reply<Answer>>) {
        // Committed: ring first, so that a worker can be on its way while the answers are written.
        let accepted: HashMap<_, _> =
            settled.iter().flat_map(accepted).map(|accepted| (accepted.id, accepted)).collect();
        let to_ring = submissions.iter().flat_map(|submission| &submission.tasks).filter_map(|new| {
            let ring_now = accepted.get(&new.id)?.ring_now;
            ring_now.then(|| Bell { id: new.id, queue: new.queue.clone(), priority: new.priority })
        });
        let to_ring: Vec<Bell> = to_ring.collect();
        if is_exporting() {
            let traced = submissions.iter().flat_map(|submission| &submission.tasks);
            self.outlet.show_in(traced.filter_map(|new| new.trace_context.clone()).collect());
        }
        self.outlet.ring(to_ring, Side::Back);
        let (mut answers, mut replays) = (Vec::with_capacity(replies.len()), Vec::new());
        for ((submission, settled), reply) in submissions.into_iter().zip(settled).zip(replies) {
            let submitted = match settled {
                Settled::Accepted(accepted) => {
                    let tasks = submission.tasks.into_iter().zip(&accepted).map(|(new, row)| as_accepted(new, row));
                    Ok(Submitted { tasks: tasks.collect(), replayed: false })
                }
                Settled::Replayed(ids) => {
                    replays.push((ids, reply));
                    continue;
                }
                Settled::KeyReused => Err(SubmitError::KeyReused),
            };
            answers.push((reply, submitted));
        }
        // A client that has gone does not matter: its tasks are accepted.
        hand_out(answers);
        if !replays.is_empty() {
            // Nothing of this is to be written, and the next batch need not wait for it.
            tokio::spawn(answer_replays(self.store.clone(), replays));
        }
    }
}

/// Reads the tasks of all these in one statement, and answers each with its own.
async fn answer_replays(store: Store, replays: Vec<(Vec<TaskId>, Reply<Answer>)>) {
    let mut ids: Vec<TaskId> = replays.iter().flat_map(|(ids, _)| ids).copied().collect();
    ids.sort_unstable();
    ids.dedup();
    let found = store.tasks(&ids).await.map(|tasks| {
        let by_id: HashMap<TaskId, Task> = tasks.into_iter().map(|task| (task.id, task)).collect();
        by_id
    });
    hand_out(replays.into_iter().map(|(ids, reply)| {
        let tasks = |by_id: &HashMap<TaskId, Task>| ids.iter().filter_map(|id| by_id.get(id).cloned()).collect();
        let submitted = match &found {
            Ok(by_id) => Ok(Submitted { tasks: tasks(by_id), replayed: true }),
            Err(error) => Err(error.clone().into()),
        };
        (reply, submitted)
    }));
}

fn accepted(settled: &Settled) -> &[Accepted] {
    match settled {
        Settled::Accepted(accepted) => accepted,
        Settled::Replayed(_) | Settled::KeyReused => &[],
    }
}

/// Divides a batch: the first submission of each key and those without one, and the rest.
fn first_of_each_key(batch: Vec<Waiting>) -> (Vec<Waiting>, Vec<Waiting>) {
    let mut seen = std::collections::HashSet::new();
    let first: Vec<bool> = batch
        .iter()
        .map(|waiting| waiting.key().is_none_or(|(scope, key)| seen.insert((scope.to_owned(), key.to_owned()))))
        .collect();
    let (first, second): (Vec<_>, Vec<_>) = batch.into_iter().zip(first).partition(|(_, first)| *first);
    let only = |pairs: Vec<(Waiting, bool)>| pairs.into_iter().map(|(waiting, _)| waiting).collect();
    (only(first), only(second))
}

/// The task as the new row has it, without reading it back.
fn as_accepted(new: NewTask, accepted: &Accepted) -> Task {
    let scheduled = !accepted.ring_now && new.start != Start::Now;
    Task {
        id: new.id,
        task_type: new.task_type,
        status: Status::Pending,
        queue: new.queue,
        priority: new.priority,
        owner: new.owner,
        metadata: new.metadata,
        progress: None,
        attempt: 1,
        max_attempts: new.max_attempts,
        failures: 0,
        delivery: 0,
        timeout: new.timeout,
        pending_reason: Some(if scheduled { PendingReason::Scheduled } else { PendingReason::Ready }),
        ready_at: accepted.ready_at,
        scheduled_at: accepted.scheduled_at,
        last_error: None,
        result: None,
        result_omitted: false,
        error: None,
        created_at: accepted.created_at,
        started_at: None,
        completed_at: None,
        trace_context: new.trace_context,
        seq: 0,
        version: 1,
    }
}
