//! Meters: the instruments of this worker's task types and queues, looked up once when an incarnation begins.

use std::{collections::HashMap, time::Duration};

use crate::{
    core::{model::Claimed, store::Ending},
    metrics::{AttemptOutcome, Counted, Kind, Line, Metrics},
};

pub(super) struct Meters {
    kinds: HashMap<String, Kind>,
    lines: HashMap<String, Line>,
}

impl Meters {
    /// Those of these types, and of these queues with their slots.
    pub(super) fn new(metrics: &Metrics, types: &[String], queues: &[(String, usize)]) -> Self {
        metrics.work.expect();
        Self {
            kinds: types.iter().map(|name| (name.clone(), metrics.work.kind(name))).collect(),
            lines: queues.iter().map(|(name, slots)| (name.clone(), metrics.work.line(name, *slots))).collect(),
        }
    }

    /// An attempt runs, for as long as what is returned lives.
    pub(super) fn started(&self, task: &Claimed) -> Option<Counted> {
        Some(self.lines.get(&task.queue)?.started(task.waited))
    }

    /// It has ended; `None`: the task was no longer its own.
    pub(super) fn ended(&self, task: &Claimed, ending: Option<&Ending>, took: Duration) {
        let outcome = match ending {
            Some(Ending::Success(_)) => AttemptOutcome::Success,
            Some(Ending::Failed(_)) => AttemptOutcome::Failed,
            Some(Ending::RetryAfter(..)) => AttemptOutcome::Retried,
            Some(Ending::HandBack(_)) => AttemptOutcome::HandedBack,
            Some(Ending::Snooze(_)) => AttemptOutcome::Snoozed,
            Some(Ending::Undecodable(_)) => AttemptOutcome::Undecodable,
            None => AttemptOutcome::Stopped,
        };
        if let Some(kind) = self.kinds.get(&task.task_type) {
            kind.ended(outcome, took);
        }
    }
}
