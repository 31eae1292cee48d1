//! Unwritten: the end of a delivery that waits for its statement, and what it has been through.
//!
//! A statement that fails may say that PostgreSQL is away, or that something in its batch cannot be stored: too large
//! to be sent in time, for one. So what failed together is tried in ever smaller company, behind everything else; what
//! fails alone is tried ever more seldom; and what has failed alone for ten minutes, while PostgreSQL took the worker's
//! renewals, is to blame itself.

use std::time::Duration;

use tokio::{sync::OwnedSemaphorePermit, time::Instant};

use crate::core::{
    model::{Priority, TaskError, TaskId, allowance::error_text},
    store::{Ending, Finish, Report},
};

/// Statements that fail are tried again so long before anything is taken to be to blame. Longer than it takes to see a
/// full disk and make room: a result must not be thrown away for that.
pub(super) const GIVEN: Duration = Duration::from_secs(600);
/// And so often.
const TRIES: u32 = 5;
/// The pause after the first failure alone doubles with each one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Where a delivery came from: its doorbell is in this worker's in-flight list of this queue and priority.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    pub(super) queue: String,
    /// The task's own priority, for a new doorbell.
    pub(super) priority: Priority,
    /// The list of the doorbell; `None` when it was claimed without one.
    pub(super) list: Option<Priority>,
}

/// A delivery that has ended.
pub(super) struct Ended {
    pub(super) id: TaskId,
    pub(super) delivery: i32,
    pub(super) attempt: i32,
    pub(super) origin: Origin,
    /// What to write; `None` when it is no longer this worker's to write.
    pub(super) finish: Option<Finish>,
}

/// It waits to be written.
pub(super) struct Unwritten {
    pub(super) ended: Box<Ended>,
    pub(super) trouble: Trouble,
    /// Its share of the endings that may wait.
    pub(super) _room: OwnedSemaphorePermit,
}

/// How often something could not be written, and among how many others.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Trouble {
    /// At most so many are tried together with it; `None`: any number.
    company: Option<usize>,
    /// Since when it has failed alone, and how often.
    alone: Option<(Instant, u32)>,
    next_try: Option<Instant>,
}

impl Trouble {
    /// It was among so many in a statement that failed.
    pub(super) fn failed_among(&mut self, number: usize, now: Instant) {
        self.company = Some((number / 2).max(1));
        if number == 1 {
            let (_, times) = self.alone.get_or_insert((now, 0));
            *times += 1;
            let pause = FIRST_PAUSE * 2u32.saturating_pow(*times - 1).min(64);
            self.next_try = Some(now + pause.min(LONGEST_PAUSE));
        }
    }

    /// PostgreSQL refused the statement that it was in: from here on it goes by itself.
    pub(super) fn refused(&mut self) {
        self.company = Some(1);
    }

    /// How many may be tried together with it, itself included.
    pub(super) fn company(&self) -> usize {
        self.company.unwrap_or(usize::MAX)
    }

    /// When it may be tried again; `None`: at once.
    pub(super) fn next_try(&self) -> Option<Instant> {
        self.next_try
    }

    /// Whether it may be tried now.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.next_try.is_none_or(|at| at <= now)
    }

    /// Whether it has failed alone often and for long.
    pub(super) fn is_to_blame(&self, now: Instant) -> bool {
        self.alone.is_some_and(|(since, times)| times >= TRIES && now - since >= GIVEN)
    }
}

impl Unwritten {
    /// How much of it the statement has to carry.
    pub(super) fn bytes(&self) -> usize {
        self.ended.finish.as_ref().map_or(0, finish_bytes)
    }

    /// It cannot be stored. It is written without its report, as a failure that says so; when even that is refused it
    /// is given up, and the reconciliation with PostgreSQL hands the task back.
    pub(super) fn make_storable(&mut self, why: &str) {
        const CODE: &str = "not_storable";
        let ended = &mut self.ended;
        tracing::error!(task.id = %ended.id, "an ending cannot be stored: {why}");
        let refused_before = |finish: &Finish| matches!(&finish.ending, Ending::Failed(error) if error.code == CODE);
        ended.finish = ended.finish.take().filter(|finish| !refused_before(finish)).map(|finish| {
            let Report { id, delivery, .. } = finish.report;
            let message = error_text(&format!("what the task returned or reported cannot be stored: {why}"));
            let error = TaskError { code: CODE.to_owned(), message, retryable: false, attempt: ended.attempt };
            Finish {
                report: Report { id, delivery, progress: None, checkpoint: None, lines: Vec::new() },
                ending: Ending::Failed(error),
                trace_context: finish.trace_context,
            }
        });
        self.trouble = Trouble::default();
        self.trouble.refused();
    }
}

fn finish_bytes(finish: &Finish) -> usize {
    let result = match &finish.ending {
        Ending::Success(result) => result.get().len(),
        _ => 0,
    };
    result + report_bytes(&finish.report)
}

/// How much of a report the statement has to carry.
pub(super) fn report_bytes(report: &Report) -> usize {
    let checkpoint = report.checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.get().len());
    checkpoint + report.lines.iter().map(|line| line.message.len()).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_is_isolated_and_then_tried_ever_more_seldom() {
        let (mut trouble, now) = (Trouble::default(), Instant::now());
        assert_eq!(trouble.company(), usize::MAX);
        for (number, company) in [(256, 128), (128, 64), (3, 1)] {
            trouble.failed_among(number, now);
            assert_eq!(trouble.company(), company);
            assert!(trouble.is_due(now), "in company it is tried again at once");
        }
        for pause in [1, 2, 4, 8, 16, 32, 60, 60] {
            trouble.failed_among(1, now);
            assert_eq!(trouble.next_try(), Some(now + Duration::from_secs(pause)));
        }
    }

    #[test]
    fn nothing_is_to_blame_before_it_failed_alone_often_and_for_ten_minutes() {
        let (mut trouble, now) = (Trouble::default(), Instant::now());
        (0..50).for_each(|_| trouble.failed_among(2, now));
        assert!(!trouble.is_to_blame(now + 2 * GIVEN), "others failed with it");
        (0..TRIES - 1).for_each(|_| trouble.failed_among(1, now));
        assert!(!trouble.is_to_blame(now + 2 * GIVEN), "not often enough");
        trouble.failed_among(1, now);
        assert!(!trouble.is_to_blame(now + GIVEN / 2), "not for long enough");
        assert!(trouble.is_to_blame(now + GIVEN));
    }
}
