//! Endings: how deliveries end, written once each, and those that were no longer this worker's.

use std::collections::{HashMap, HashSet};

use tokio::time::Instant;

use super::{BATCH, BATCH_BYTES, Desk};
use crate::{
    core::{
        model::TaskId,
        queue::{Bell, Side},
        store::{Ending, Finish, StoreError, Written},
    },
    metrics::Write,
    work::unwritten::{Ended, Unwritten},
};

impl Desk {
    pub(super) async fn write_endings(&mut self) -> Result<(), StoreError> {
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

    /// Cancelled: says that it has stopped. Stolen: this changes nothing.
    pub(super) async fn confirm_stopped(&mut self) -> Result<(), StoreError> {
        if !self.unconfirmed.is_empty() {
            self.worker.core.store.confirm_stopped(self.worker.id, &self.unconfirmed).await?;
            self.unconfirmed.clear();
        }
        Ok(())
    }
}
