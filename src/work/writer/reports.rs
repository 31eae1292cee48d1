//! Reports: what running deliveries have to say, and those of which nobody knows whether they were written.

use std::{collections::HashMap, sync::Arc};

use tokio::time::Instant;

use super::{BATCH, BATCH_BYTES, Desk, rhythm};
use crate::{
    core::{
        model::TaskId,
        store::{Report, StoreError, Written},
    },
    metrics::Write,
    tasks::StopReason,
    work::{
        cancel::reason_to_stop,
        seen::{Numbers, Seen},
        unwritten::{Trouble, report_bytes},
    },
};

/// A report that a statement may have written already, or not.
pub(super) struct Doubtful {
    pub(super) report: Report,
    seen: Arc<Seen>,
    pub(super) trouble: Trouble,
}

impl Doubtful {
    fn as_sent(&self) -> (&Report, Option<i32>) {
        (&self.report, Some(self.seen.numbers().version))
    }

    fn note(&self, written: &Written) {
        self.seen.note(Numbers { seq: written.seq, version: written.version });
    }
}

impl Desk {
    /// Whether there are reports to be asked about now.
    pub(super) fn has_doubts(&self) -> bool {
        let now = Instant::now();
        self.doubtful.iter().any(|doubtful| doubtful.trouble.is_due(now))
    }

    /// What is left of the doubtful reports goes before everything else: some of their deliveries may have ended, and
    /// an ending is the last word.
    pub(super) async fn resolve_doubts(&mut self) -> Result<(), StoreError> {
        self.settle_doubts().await?;
        let reports = std::mem::take(&mut self.doubtful);
        self.record_all(reports).await
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
            let standing = standings.iter().find(|standing| standing.id == id);
            let reason = reason_to_stop(standing.and_then(|standing| standing.status));
            let (Some(standing), None) = (standing, reason) else {
                self.worker.core.metrics.work.fenced(Write::Report, 1);
                self.stop(id, delivery, reason.unwrap_or(StopReason::Lost));
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

    pub(super) async fn write_reports(&mut self) -> Result<(), StoreError> {
        let now = Instant::now();
        let due: Vec<TaskId> = match self.next_round() {
            Some(round) if round <= now => {
                let age = rhythm::age(self.news.len());
                self.rhythm.note(now);
                self.news.iter().filter(|(_, (_, _, since))| *since + age <= now).map(|(id, _)| *id).collect()
            }
            _ => Vec::new(),
        };
        let mut reports = std::mem::take(&mut self.doubtful);
        for id in due {
            let Some((delivery, seen, _)) = self.news.remove(&id) else { continue };
            let Some(held) = self.worker.held.delivery(id).filter(|held| held.number == delivery) else { continue };
            let pending = held.outbox.take();
            // It has ended since: its ending has everything.
            if pending.is_empty() {
                continue;
            }
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
                self.settle_reports(batch, &written);
                Ok(())
            }
            Err(StoreError::Refused(why)) => {
                // A failing report never fails a task: leave out what PostgreSQL refuses, one by one.
                for doubtful in batch {
                    match self.worker.core.store.record(&[doubtful.as_sent()]).await {
                        Ok(written) => self.settle_reports(vec![doubtful], &written),
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

    /// These reports are written, but for those that were no longer this worker's or arrived before.
    fn settle_reports(&mut self, batch: Vec<Doubtful>, written: &[Written]) {
        let by_id: HashMap<TaskId, &Written> = written.iter().map(|written| (written.id, written)).collect();
        for doubtful in batch {
            match by_id.get(&doubtful.report.id) {
                Some(written) => doubtful.note(written),
                None => self.doubtful.push(doubtful),
            }
        }
        self.worker.core.queue.outlet().changed(written.iter().map(|written| (written.id, written.version)).collect());
    }

    /// A running delivery whose row is no longer its own: it must stop.
    fn stop(&self, id: TaskId, delivery: i32, reason: StopReason) {
        if let Some(held) = self.worker.held.delivery(id).filter(|held| held.number == delivery) {
            held.stop.ask(reason);
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
