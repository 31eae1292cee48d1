//! Writer: writes what attempts report and how they end, many of them in one statement.
//!
//! Attempts never own a connection. Reports are written in [rounds](rhythm); an ending goes at once, together with
//! everything that came while the last statement was on its way. Nothing is written twice: before a report is repeated
//! whose answer was lost, the row is read, and its numbers tell what had arrived; and should the first try arrive after
//! that, the row no longer has the version that either of them names.

mod endings;
mod reports;
mod rhythm;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    Worker,
    heartbeat::Unbroken,
    pace,
    seen::Seen,
    unwritten::{Ended, GIVEN, Trouble, Unwritten},
};
use crate::core::{model::TaskId, store::StoreError};
use reports::Doubtful;
use rhythm::Rhythm;

/// Reports or endings per statement, and bytes: what comes first ends a batch.
const BATCH: usize = 256;
const BATCH_BYTES: usize = 8 * 1024 * 1024;
/// Endings that may wait to be written. Beyond it, slots stay taken.
const UNWRITTEN: u32 = 1_024;
/// Two, so that one writes while the other's commit is on its way. A task always has the same desk, which keeps what it
/// reports in order.
const DESKS: usize = 2;

/// The mailboxes of the desks.
pub(super) struct Writer {
    letters: Vec<mpsc::UnboundedSender<Letter>>,
    mailboxes: Mutex<Vec<mpsc::UnboundedReceiver<Letter>>>,
    unwritten: Arc<Semaphore>,
}

enum Letter {
    Reported { id: TaskId, delivery: i32, seen: Arc<Seen> },
    Ended(Box<Ended>, OwnedSemaphorePermit),
}

impl Default for Writer {
    fn default() -> Self {
        let (letters, mailboxes) = (0..DESKS).map(|_| mpsc::unbounded_channel()).unzip();
        let unwritten = Arc::new(Semaphore::new(UNWRITTEN as usize));
        Self { letters, mailboxes: Mutex::new(mailboxes), unwritten }
    }
}

impl Writer {
    /// What an attempt's outbox calls when it stops being empty.
    pub(super) fn doorbell(&self, id: TaskId, delivery: i32, seen: Arc<Seen>) -> impl Fn() + Send + Sync + 'static {
        let letters = self.desk_of(id).clone();
        move || drop(letters.send(Letter::Reported { id, delivery, seen: seen.clone() }))
    }

    /// Hands over the end of a delivery. Waits only while too many are unwritten.
    pub(super) async fn end(&self, ended: Ended) {
        if let Ok(permit) = self.unwritten.clone().acquire_owned().await {
            let _ = self.desk_of(ended.id).send(Letter::Ended(Box::new(ended), permit));
        }
    }

    fn desk_of(&self, id: TaskId) -> &mpsc::UnboundedSender<Letter> {
        // The last byte of an id is random.
        &self.letters[usize::from(id.to_bytes()[15]) % DESKS]
    }

    /// Returns when every ending so far is settled.
    pub(super) async fn flushed(&self) {
        drop(self.unwritten.acquire_many(UNWRITTEN).await);
    }
}

struct Desk {
    worker: Arc<Worker>,
    /// Since when renewals have succeeded: proof that PostgreSQL takes writes.
    unbroken: Arc<Unbroken>,
    /// Outboxes with news, and since when.
    news: HashMap<TaskId, (i32, Arc<Seen>, Instant)>,
    rhythm: Rhythm,
    /// Endings to be written.
    endings: Vec<Unwritten>,
    /// Reports whose statement failed.
    doubtful: Vec<Doubtful>,
    /// Deliveries that were no longer this worker's when they ended, and of which PostgreSQL has not been told yet that
    /// they have stopped. Repeated until it is: an operator's retry waits for it, and this worker may live for weeks.
    unconfirmed: Vec<(TaskId, i32)>,
    /// The last statement failed: read before repeating, and not at once.
    in_doubt: bool,
}

/// Runs all desks until it is stopped. What is unwritten then goes with the worker: the sweep hands those tasks back.
pub(super) async fn run(worker: Arc<Worker>, unbroken: Arc<Unbroken>, stop: CancellationToken) {
    let mailboxes = std::mem::take(&mut *worker.writer.mailboxes.lock().unwrap_or_else(PoisonError::into_inner));
    let desks = mailboxes.into_iter().map(|mailbox| run_desk(worker.clone(), unbroken.clone(), mailbox, &stop));
    futures_util::future::join_all(desks).await;
}

async fn run_desk(
    worker: Arc<Worker>,
    unbroken: Arc<Unbroken>,
    mut mailbox: mpsc::UnboundedReceiver<Letter>,
    stop: &CancellationToken,
) {
    let mut desk = Desk {
        worker,
        unbroken,
        news: HashMap::new(),
        rhythm: Rhythm::default(),
        endings: Vec::new(),
        doubtful: Vec::new(),
        unconfirmed: Vec::new(),
        in_doubt: false,
    };
    let mut letters = Vec::with_capacity(BATCH);
    loop {
        let next_write = desk.next_write();
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = pace::jittered(Duration::from_millis(500)), if desk.in_doubt => {}
            received = mailbox.recv_many(&mut letters, BATCH), if !desk.in_doubt => {
                if received == 0 {
                    return;
                }
            }
            () = tokio::time::sleep_until(next_write.unwrap_or_else(Instant::now)), if next_write.is_some() && !desk.in_doubt => {}
        }
        // Gather what else has come while the last statement was on its way.
        while letters.len() < 4 * BATCH {
            match mailbox.try_recv() {
                Ok(letter) => letters.push(letter),
                Err(_) => break,
            }
        }
        letters.drain(..).for_each(|letter| desk.take_in(letter));
        if let Err(error) = desk.write().await {
            tracing::warn!("cannot write what attempts report: {error}; trying again");
            desk.in_doubt = true;
        }
    }
}

impl Desk {
    fn take_in(&mut self, letter: Letter) {
        match letter {
            Letter::Reported { id, delivery, seen } => {
                self.news.entry(id).or_insert_with(|| (delivery, seen, Instant::now()));
            }
            Letter::Ended(ended, permit) => {
                // The ending brings everything that its outbox had.
                self.news.remove(&ended.id);
                self.endings.push(Unwritten { ended, trouble: Trouble::default(), _room: permit });
            }
        }
    }

    /// When there is something to write without another letter.
    fn next_write(&self) -> Option<Instant> {
        let reports = self.next_round();
        let troubles = self.endings.iter().map(|unwritten| &unwritten.trouble);
        let troubles = troubles.chain(self.doubtful.iter().map(|doubtful| &doubtful.trouble));
        reports.into_iter().chain(troubles.filter_map(Trouble::next_try)).min()
    }

    /// When reports are to be written.
    fn next_round(&self) -> Option<Instant> {
        let oldest = self.news.values().map(|(_, _, since)| *since).min()?;
        Some(self.rhythm.next_round(self.news.len(), oldest))
    }

    async fn write(&mut self) -> Result<(), StoreError> {
        if self.in_doubt {
            self.resolve_doubts().await?;
            self.in_doubt = false;
        }
        self.write_endings().await?;
        self.confirm_stopped().await?;
        self.write_reports().await?;
        // Not written although nothing failed: no longer this worker's, or written by an earlier try that came late.
        if self.has_doubts() {
            self.resolve_doubts().await?;
            self.in_doubt = self.has_doubts();
        }
        // What became of their reports may be known by now, and no letter will come for them any more.
        self.write_endings().await?;
        self.confirm_stopped().await
    }

    /// Whether this could not be written although PostgreSQL took everything else.
    fn is_to_blame(&self, trouble: &Trouble, now: Instant) -> bool {
        trouble.is_to_blame(now) && self.unbroken.for_at_least(GIVEN)
    }
}
