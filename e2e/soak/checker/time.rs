//! Time: who ran when, how soon what was interrupted goes on, and what an acknowledged cancel means from then on.

use std::{collections::HashMap, time::Duration};

use super::{Evidence, Violation};
use crate::soak::{
    clock::{Moment, SECOND},
    history::{Id, Outcome, Request},
    logs::Execution,
    plan::LEASE,
};

/// Log lines are written a moment after what they tell.
const MOMENT: Moment = SECOND / 100;
/// How long after a pause or a cut a worker may take to hear that it is dead, and its handlers to stop: the next
/// renewal, with a connection to be made, and `APP_STOP_TIMEOUT`.
const NOTICE: Moment = 4 * SECOND;

/// Two handlers of one task run at a time only where the older one's worker was paused or cut off, or where the older
/// one did not stop when it was asked to.
pub fn overlap(evidence: &Evidence) -> Vec<Violation> {
    let mut by_task: HashMap<Id, Vec<&Execution>> = HashMap::new();
    for execution in &evidence.executions {
        by_task.entry(execution.id).or_default().push(execution);
    }
    let mut found = Vec::new();
    for (id, mut executions) in by_task {
        executions.sort_by_key(|execution| execution.delivery);
        for (place, older) in executions.iter().enumerate() {
            for newer in &executions[place + 1..] {
                if newer.from + MOMENT < older.to && !older.ignored_stop && !is_excused(evidence, older, newer) {
                    let text = format!(
                        "delivery {} in {} ran {:.3} s into delivery {} in {}",
                        older.delivery,
                        older.process,
                        (older.to.min(newer.to) - newer.from) as f64 / 1e6,
                        newer.delivery,
                        newer.process
                    );
                    found.push(Violation { invariant: "overlap", task: Some(id), text });
                }
            }
        }
    }
    found
}

fn is_excused(evidence: &Evidence, older: &Execution, newer: &Execution) -> bool {
    evidence.record.windows.iter().any(|window| {
        window.slot.is_none_or(|slot| slot == older.slot)
            && window.from <= newer.from
            && older.to.min(newer.to) <= window.to + NOTICE
    })
}

/// What its worker's death interrupted starts again soon: when the lease is over, somebody else has renewed for one, and
/// it has swept. Only the tasks of a scene in which everything else is well are judged: in a soak the servers themselves
/// are away for longer than that.
pub fn recovery(evidence: &Evidence) -> Vec<Violation> {
    let mut found = Vec::new();
    for (id, begun) in &evidence.record.prompt {
        // The sweeps and the claim, on a busy machine.
        let limit: Duration = 2 * LEASE + Duration::from_secs(6);
        let changes = evidence.tables.changes.get(id).map_or(&[][..], Vec::as_slice);
        let started = changes.iter().find(|change| change.at >= *begun && change.to == "RUNNING");
        let after = started.map(|change| change.at - begun);
        if after.is_none_or(|after| after > limit.as_micros() as Moment) {
            let text = match after {
                Some(after) => {
                    format!("it started {:.1} s after its worker's death, {limit:?} are promised", after as f64 / 1e6)
                }
                None => "it never started after its worker's death".to_owned(),
            };
            found.push(Violation { invariant: "recovery", task: Some(*id), text });
        }
    }
    found
}

/// An acknowledged cancel: the task was CANCELLED at some moment between request and answer. Nothing but a retry that
/// somebody asked for leaves CANCELLED, which `legal` says.
pub fn cancel(evidence: &Evidence) -> Vec<Violation> {
    let mut found = Vec::new();
    for entry in &evidence.record.entries {
        let (Request::Cancel(id), Outcome::Answered { status: 204, .. }) = (&entry.request, &entry.outcome) else {
            continue;
        };
        let changes = evidence.tables.changes.get(id).map_or(&[][..], Vec::as_slice);
        // The audit dates a change by its statement. Until that statement's commit, which takes its time, others still
        // see the row as it was: at the latest until whoever asked for the retry hears of it.
        let visible = |at: Moment| {
            let retries =
                evidence.record.entries.iter().filter(|entry| matches!(&entry.request, Request::Retry(of) if of == id));
            let heard = retries.filter(|retry| retry.from <= at && at <= retry.to).map(|retry| retry.to).max();
            heard.unwrap_or(at + SECOND)
        };
        let until = |place: usize| changes.get(place + 1).map_or(Moment::MAX, |next| visible(next.at));
        let was_cancelled = changes
            .iter()
            .enumerate()
            .any(|(place, change)| change.to == "CANCELLED" && change.at <= entry.to && until(place) >= entry.from);
        if !was_cancelled {
            let text = "a cancel was acknowledged, and the task was not CANCELLED then".to_owned();
            found.push(Violation { invariant: "cancel", task: Some(*id), text });
        }
    }
    found
}
