//! Writer: writes what attempts report and how they end, many of them in one statement.
//!
//! Attempts never own a connection. A report waits at most [`GATHER`] for company; an ending goes at once, together
//! with everything that came while the last statement was on its way. Nothing is written twice: before a report is
//! repeated whose answer was lost, the row is read, and its numbers tell what had arrived; and should the first try
//! arrive after that, the row no longer has the version that either of them names.

use std::{
    collections::{HashMap, HashSet},
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
    seen::{Numbers, Seen},
    unwritten::{Ended, GIVEN, Trouble, Unwritten, report_bytes},
};
use crate::{
    core::{
        model::TaskId,
        queue::{Bell, Side},
        store::{Ending, Finish, Report, StoreError, Written},
    },
    metrics::Write,
    tasks::StopReason,
};

/// How long a report may wait.
const GATHER: Duration = Duration::from_millis(100);
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

/// A report that a statement may have written already, or not.
struct Doubtful {
    report: Report,
    seen: Arc<Seen>,
    trouble: Trouble,
}

impl Doubtful {
    fn as_sent(&self) -> (&Report, Option<i32>) {
        (&self.report, Some(self.seen.numbers().version))
    }

    fn note(&self, written: &Written) {
        self.seen.note(Numbers { seq: written.seq, version: written.version });
    }
}

struct Desk {
    worker: Arc<Worker>,
    /// Since when renewals have succeeded: proof that PostgreSQL takes writes.
    unbroken: Arc<Unbroken>,
    /// Outboxes with news, and since when.
    news: HashMap<TaskId, (i32, Arc<Seen>, Instant)>,
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
        let reports = self.news.values().map(|(_, _, since)| *since + GATHER);
        let troubles = self.endings.iter().map(|unwritten| &unwritten.trouble);
        let troubles = troubles.chain(self.doubtful.iter().map(|doubtful| &doubtful.trouble));
        reports.chain(troubles.filter_map(Trouble::next_try)).min()
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

    /// Whether there are reports to be asked about now.
    fn has_doubts(&self) -> bool {
        let now = Instant::now();
        self.doubtful.iter().any(|doubtful| doubtful.trouble.is_due(now))
    }

    /// What is left of the doubtful reports goes before everything else: some of their deliveries may have ended, and
    /// an ending is the last word.
    async fn resolve_doubts(&mut self) -> Result<(), StoreError> {
        self.settle_doubts().await?;
        let reports = std::mem::take(&mut self.doubtful);
        self.record_all(reports).await
    }

    /// Cancelled: says that it has stopped. Stolen: this changes nothing.
    async fn confirm_stopped(&mut self) -> Result<(), StoreError> {
        if !self.unconfirmed.is_empty() {
            self.worker.core.store.confirm_stopped(self.worker.id, &self.unconfirmed).await?;
            self.unconfirmed.clear();
        }
        Ok(())
    }

    /// Reads the rows whose last write may or may not have happened, and forgets what has arrived. Something is read in
    /// any case: while PostgreSQL does not even answer that, nothing is tried, and nothing is taken to be to blame.
    async fn settle_doubts(&mut self) -> Result<(), StoreError> {
        let mut deliveries: Vec<(TaskId, i32)> =
            self.doubtful.iter().map(|d| (d.report.id, d.report.delivery)).collect();
        if deliveries.is_empty() {
            deliveries.extend(self.endings.first().map(|first| (first.ended.id, first.ended.delivery)));
        }
        let standings = self.worker.core.store.standings(&deliveries).await?;
        for mut doubtful in std::mem::take(&mut self.doubtful) {
            let Report { id, delivery, .. } = doubtful.report;
            let Some(standing) = standings.iter().find(|standing| standing.id == id && standing.running) else {
                self.worker.core.metrics.work.fenced(Write::Report, 1);
                self.stop(id, delivery);
                continue;
            };
            // A report is written whole or not at all, and what was added to it since comes last.
            let arrived = (standing.seq - doubtful.seen.numbers().seq).max(0) as usize;
            doubtful.report.lines.drain(..arrived.min(doubtful.report.lines.len()));
            doubtful.seen.note(Numbers { seq: standing.seq, version: standing.version });
            self.doubtful.push(doubtful);
        }
        Ok(())
    }

    async fn write_endings(&mut self) -> Result<(), StoreError> {
        loop {
            let mut batch = self.next_endings();
            if batch.is_empty() {
                return Ok(());
            }
            let finishes: Vec<&Finish> = batch.iter().filter_map(|unwritten| unwritten.ended.finish.as_ref()).collect();
            match self.finish(&finishes).await {
                Ok(written) => self.settle(batch, &written),
                Err(StoreError::Refused(why)) => {
                    // One of them is to blame: from here on each for itself.
                    match batch.as_mut_slice() {
                        [alone] => alone.make_storable(&why),
                        all => all.iter_mut().for_each(|unwritten| unwritten.trouble.refused()),
                    }
                    self.endings.splice(..0, batch);
                }
                Err(error) => {
                    let (now, number) = (Instant::now(), batch.len());
                    for unwritten in &mut batch {
                        unwritten.trouble.failed_among(number, now);
                        if self.is_to_blame(&unwritten.trouble, now) {
                            unwritten.make_storable(&error.to_string());
                        }
                    }
                    // Behind the others, which may have nothing to do with it.
                    self.endings.append(&mut batch);
                    return Err(error);
                }
            }
        }
    }

    /// The next batch: as many as fit. A statement tells its rows apart by task: two deliveries of one go one after the
    /// other. Nothing ends before it is known what became of its reports.
    fn next_endings(&mut self) -> Vec<Unwritten> {
        let now = Instant::now();
        let (mut number, mut most, mut bytes) = (0, BATCH, 0);
        let mut tasks: HashSet<TaskId> = self.doubtful.iter().map(|doubtful| doubtful.report.id).collect();
        let fits = |unwritten: &mut Unwritten| {
            let company = most.min(unwritten.trouble.company());
            let fits = number < company
                && bytes < BATCH_BYTES
                && unwritten.trouble.is_due(now)
                && tasks.insert(unwritten.ended.id);
            if fits {
                (number, most, bytes) = (number + 1, company, bytes + unwritten.bytes());
            }
            fits
        };
        self.endings.extract_if(.., fits).collect()
    }

    /// Whether this could not be written although PostgreSQL took everything else.
    fn is_to_blame(&self, trouble: &Trouble, now: Instant) -> bool {
        trouble.is_to_blame(now) && self.unbroken.for_at_least(GIVEN)
    }

    async fn finish(&self, finishes: &[&Finish]) -> Result<Vec<Written>, StoreError> {
        if finishes.is_empty() {
            return Ok(Vec::new());
        }
        self.worker.core.store.finish(self.worker.id, finishes).await
    }

    /// These endings are confirmed or fenced off: tell those who wait, and let go.
    fn settle(&mut self, batch: Vec<Unwritten>, written: &[Written]) {
        let outlet = self.worker.core.queue.outlet();
        let written: HashMap<TaskId, &Written> = written.iter().map(|written| (written.id, written)).collect();
        let ended = || batch.iter().map(|unwritten| &unwritten.ended);
        let not_ours: Vec<(TaskId, i32)> =
            ended().filter(|ended| !written.contains_key(&ended.id)).map(|ended| (ended.id, ended.delivery)).collect();
        let refused = ended().filter(|ended| ended.finish.is_some() && !written.contains_key(&ended.id)).count();
        self.worker.core.metrics.work.fenced(Write::Finish, refused);
        if !not_ours.is_empty() {
            tracing::info!(tasks = not_ours.len(), "ended deliveries that were no longer this worker's");
            self.unconfirmed.extend(not_ours);
        }
        let handed_back = |ended: &Ended| matches!(&ended.finish, Some(Finish { ending: Ending::HandBack(_), .. }));
        let bells = ended().filter(|ended| handed_back(ended)).map(|ended| Bell {
            id: ended.id,
            queue: ended.origin.queue.clone(),
            priority: ended.origin.priority,
        });
        // Rung before it is acknowledged, so that its id is always in some list.
        outlet.ring(bells.collect(), Side::Front);
        for ended in ended() {
            if let Some(list) = ended.origin.list {
                outlet.acknowledge(&ended.origin.queue, list, self.worker.id, ended.id);
            }
            self.worker.held.release(ended.id, ended.delivery);
        }
        outlet.changed(written.values().map(|written| (written.id, written.version)).collect());
    }

    async fn write_reports(&mut self) -> Result<(), StoreError> {
        let now = Instant::now();
        let due: Vec<TaskId> =
            self.news.iter().filter(|(_, (_, _, since))| *since + GATHER <= now).map(|(id, _)| *id).collect();
        let mut reports = std::mem::take(&mut self.doubtful);
        for id in due {
            let Some((delivery, seen, _)) = self.news.remove(&id) else { continue };
            let Some(held) = self.worker.held.delivery(id).filter(|held| held.number == delivery) else { continue };
            let pending = held.outbox.take();
            let report = Report {
                id,
                delivery,
                progress: pending.progress,
                checkpoint: pending.checkpoint,
                lines: pending.lines,
            };
            match reports.iter_mut().find(|earlier| earlier.report.id == id) {
                Some(earlier) if earlier.report.delivery == delivery => append(&mut earlier.report, report),
                // What an earlier delivery of the task had to say is no longer this worker's to write.
                Some(earlier) => *earlier = Doubtful { report, seen, trouble: Trouble::default() },
                None => reports.push(Doubtful { report, seen, trouble: Trouble::default() }),
            }
        }
        self.record_all(reports).await
    }

    async fn record_all(&mut self, mut reports: Vec<Doubtful>) -> Result<(), StoreError> {
        loop {
            let batch = next_reports(&mut reports);
            let outcome = if batch.is_empty() { Ok(()) } else { self.record(batch).await };
            if outcome.is_err() || reports.iter().all(|doubtful| !doubtful.trouble.is_due(Instant::now())) {
                self.doubtful.append(&mut reports);
                return outcome;
            }
        }
    }

    async fn record(&mut self, mut batch: Vec<Doubtful>) -> Result<(), StoreError> {
        let reports: Vec<(&Report, Option<i32>)> = batch.iter().map(Doubtful::as_sent).collect();
        match self.worker.core.store.record(&reports).await {
            Ok(written) => {
                let by_id: HashMap<TaskId, &Written> = written.iter().map(|written| (written.id, written)).collect();
                for doubtful in batch {
                    match by_id.get(&doubtful.report.id) {
                        Some(written) => doubtful.note(written),
                        None => self.doubtful.push(doubtful),
                    }
                }
                let changed = written.iter().map(|written| (written.id, written.version)).collect();
                self.worker.core.queue.outlet().changed(changed);
                Ok(())
            }
            Err(StoreError::Refused(why)) => {
                // A failing report never fails a task: leave out what PostgreSQL refuses, one by one.
                for doubtful in batch {
                    match self.worker.core.store.record(&[doubtful.as_sent()]).await {
                        Ok(written) if written.is_empty() => self.doubtful.push(doubtful),
                        Ok(written) => written.iter().for_each(|written| doubtful.note(written)),
                        Err(StoreError::Refused(_)) => {
                            tracing::error!(task.id = %doubtful.report.id, "a report was refused and is left out: {why}");
                        }
                        Err(StoreError::Unavailable(_)) => self.doubtful.push(doubtful),
                    }
                }
                Ok(())
            }
            Err(error) => {
                let (now, number) = (Instant::now(), batch.len());
                batch.iter_mut().for_each(|doubtful| doubtful.trouble.failed_among(number, now));
                batch.retain(|doubtful| {
                    let to_blame = self.is_to_blame(&doubtful.trouble, now);
                    if to_blame {
                        tracing::error!(task.id = %doubtful.report.id, "a report cannot be stored and is left out: {error}");
                    }
                    !to_blame
                });
                self.doubtful.append(&mut batch);
                Err(error)
            }
        }
    }

    /// A running delivery whose row is no longer its own: it must stop.
    fn stop(&self, id: TaskId, delivery: i32) {
        if let Some(held) = self.worker.held.delivery(id).filter(|held| held.number == delivery) {
            held.stop.ask(StopReason::Lost);
        }
    }
}

/// The next batch: as many as fit.
fn next_reports(reports: &mut Vec<Doubtful>) -> Vec<Doubtful> {
    let now = Instant::now();
    let (mut number, mut most, mut bytes) = (0, BATCH, 0);
    let fits = |doubtful: &mut Doubtful| {
        let company = most.min(doubtful.trouble.company());
        let fits = number < company && bytes < BATCH_BYTES && doubtful.trouble.is_due(now);
        if fits {
            (number, most, bytes) = (number + 1, company, bytes + report_bytes(&doubtful.report));
        }
        fits
    };
    reports.extract_if(.., fits).collect()
}

/// Joins two reports of one delivery, the second one later.
fn append(earlier: &mut Report, later: Report) {
    earlier.progress = later.progress.or(earlier.progress.take());
    earlier.checkpoint = later.checkpoint.or(earlier.checkpoint.take());
    earlier.lines.extend(later.lines);
}
