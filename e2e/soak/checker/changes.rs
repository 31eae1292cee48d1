//! Changes: every write to a task's row is one that the transition table allows, by whom it allows it.
//!
//! The audit names the process of each write, so a write of an attempt that lost its task is seen even when it looks
//! like one of the present attempt.

use std::collections::HashMap;

use super::{Evidence, Violation};
use crate::soak::{
    audit::Change,
    client::is_final,
    history::{Id, Request},
};

/// Every change of status is an edge of the transition table, and leaves a run only where an operator asked for it.
pub fn legal(evidence: &Evidence) -> Vec<Violation> {
    let mut found = Vec::new();
    for change in evidence.tables.changes.values().flatten() {
        let edge = (change.from.as_deref(), change.to.as_str());
        let is_legal = match edge {
            (None, "PENDING") => true,
            (Some("PENDING"), "RUNNING" | "CANCELLED") => true,
            // Only expiry ends a task that does not run, and nothing here expires.
            (Some("PENDING"), "FAILED") => false,
            (Some("RUNNING"), "SUCCESS" | "FAILED" | "PENDING" | "CANCELLED") => true,
            (Some("FAILED" | "CANCELLED"), "PENDING") => was_asked_to_retry(evidence, change),
            (Some(from), to) => from == to,
            _ => false,
        };
        if !is_legal {
            let text = format!("{} -> {} by {}", change.from.as_deref().unwrap_or("-"), change.to, change.writer);
            found.push(Violation { invariant: "legal", task: Some(change.id), text });
        }
    }
    found
}

fn was_asked_to_retry(evidence: &Evidence, change: &Change) -> bool {
    let asked = Request::Retry(change.id);
    evidence.record.entries.iter().any(|entry| entry.request == asked && entry.from <= change.at)
}

/// The delivery rises by one at a claim, and is changed by nothing else. So each is claimed once.
pub fn deliveries(evidence: &Evidence) -> Vec<Violation> {
    let mut found = Vec::new();
    for change in evidence.tables.changes.values().flatten() {
        let is_claim = change.from.as_deref() == Some("PENDING") && change.to == "RUNNING";
        let expected = if is_claim { change.old_delivery + 1 } else { change.old_delivery };
        if change.delivery != expected {
            let text = format!("delivery {} became {} with {}", change.old_delivery, change.delivery, change.to);
            found.push(Violation { invariant: "deliveries", task: Some(change.id), text });
        }
    }
    found
}

/// Columns that may change while a task waits: when it may start, and nothing that an attempt writes.
const WHILE_WAITING: [&str; 5] = ["ready_at", "due_at", "version", "undecodable_since", "updated_at"];

/// Whatever is written in the name of an attempt is written by the process that claimed its delivery, while it runs;
/// for an HTTP worker, by some server. A lease is taken from it when it has run out.
/// The one exception: that a cancelled attempt has stopped.
pub fn fence(evidence: &Evidence) -> Vec<Violation> {
    let mut found = Vec::new();
    let dead = deaths(evidence);
    for (id, changes) in &evidence.tables.changes {
        let mut breach = |text: String| found.push(Violation { invariant: "fence", task: Some(*id), text });
        let mut claims: HashMap<i32, &Change> = HashMap::new();
        for change in changes {
            let from = change.from.as_deref();
            let claimer = claims.get(&change.old_delivery).copied();
            let by_claimer = claimer.is_some_and(|claim| may_write_for(claim, change));
            match (from, change.to.as_str()) {
                (Some("PENDING"), "RUNNING") => drop(claims.insert(change.delivery, change)),
                (Some("RUNNING"), "RUNNING" | "SUCCESS") if !by_claimer => {
                    breach(format!(
                        "{} wrote {} of delivery {}, which it had not claimed",
                        change.writer, change.to, change.delivery
                    ));
                }
                (Some("RUNNING"), "FAILED" | "PENDING") if !by_claimer => {
                    let worker = claimer.and_then(|claim| claim.worker);
                    let is_dead = worker.and_then(|worker| dead.get(&worker)).is_some_and(|at| *at <= change.at);
                    let has_run_out = change.lease_until.is_some_and(|until| until <= change.at);
                    if !is_dead && !has_run_out {
                        breach(format!("{} took delivery {} from a worker that lives", change.writer, change.delivery));
                    }
                    if change.to == "FAILED" && change.error_code.as_deref() != Some("worker_lost") {
                        breach(format!(
                            "{} failed delivery {}, which it had not claimed",
                            change.writer, change.delivery
                        ));
                    }
                }
                (Some("PENDING"), "PENDING") => {
                    let written: Vec<_> =
                        change.changed.iter().filter(|column| !WHILE_WAITING.contains(&column.as_str())).collect();
                    if !written.is_empty() {
                        breach(format!("{} wrote {written:?} while the task waited", change.writer));
                    }
                }
                (Some(before), after) if is_final(before) && before == after && !confirms_a_stop(change) => {
                    breach(format!("{} wrote {:?} after {after}", change.writer, change.changed));
                }
                _ => {}
            }
        }
        for event in evidence.tables.events.get(id).into_iter().flatten() {
            let claim = claims.get(&event.delivery);
            let is_line = event.status.is_none();
            let writes = |claim: &&Change| {
                claim.writer == event.writer
                    || claim.leases && [&claim.writer, &event.writer].iter().all(|it| serves(it))
            };
            if is_line && !claim.is_some_and(writes) {
                breach(format!(
                    "{} wrote event {} of delivery {}, which it had not claimed",
                    event.writer, event.seq, event.delivery
                ));
            }
            // A process may have been several workers, one after the other.
            let ended = event.status.as_deref().is_some_and(|status| status == "SUCCESS" || status == "FAILED");
            if ended
                && let (Some(worker), Some(claim)) = (event.worker, claim)
                && claim.worker != Some(worker)
            {
                breach(format!("event {} ends delivery {} in the name of another worker", event.seq, event.delivery));
            }
        }
    }
    found
}

/// A worker writes for what it has claimed itself. What was leased to an HTTP worker any server writes, in the name under
/// which it was leased: the worker shows its token to this one and to that one.
fn may_write_for(claim: &Change, change: &Change) -> bool {
    let in_its_name = change.to != "RUNNING" || change.worker == claim.worker;
    claim.writer == change.writer || claim.leases && serves(&claim.writer) && serves(&change.writer) && in_its_name
}

fn serves(writer: &str) -> bool {
    writer.starts_with("serve")
}

/// The one write after the end of a run: that the attempt of a cancelled task has stopped.
fn confirms_a_stop(change: &Change) -> bool {
    change.to == "CANCELLED" && change.worker.is_none() && change.changed == ["worker_id"]
}

/// When each worker was declared dead, or left.
fn deaths(evidence: &Evidence) -> HashMap<Id, i64> {
    let dead = evidence.tables.workers.iter().filter(|change| change.state == "dead");
    dead.map(|change| (change.worker, change.at)).collect()
}
