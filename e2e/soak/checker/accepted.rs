//! What was accepted: nothing of it is lost, nothing else is there, and each has the end that it must have.

use super::{Evidence, Violation};
use crate::soak::{
    client::is_final,
    expected::{self, Ending},
    history::{Id, Kind, Outcome, Request},
};

/// Every acknowledged id has a row, and a final status.
pub fn no_loss(evidence: &Evidence) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut lost = |task, text: String| found.push(Violation { invariant: "no loss", task: Some(task), text });
    for (number, ids) in evidence.accepted() {
        for id in ids {
            match evidence.tables.rows.get(&id) {
                None => lost(id, format!("submission {number} was acknowledged and has no row")),
                Some(row) if row.number != Some(number) => lost(id, format!("submission {number} has another's row")),
                Some(_) => {}
            }
        }
    }
    for (id, row) in &evidence.tables.rows {
        if !is_final(&row.status) {
            lost(*id, format!("it is still {}", row.status));
        }
    }
    found
}

/// Every row was asked for, and no submission without a key was carried out twice.
pub fn no_phantom(evidence: &Evidence) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut phantom = |task, text: String| found.push(Violation { invariant: "no phantom", task: Some(task), text });
    for (id, row) in &evidence.tables.rows {
        if !row.number.is_some_and(|number| evidence.record.submissions.contains_key(&number)) {
            phantom(*id, format!("nobody submitted it: {row:?}"));
        }
    }
    for (number, ids) in evidence.rows_by_number() {
        if ids.len() > 1 {
            phantom(ids[0], format!("submission {number} has {} rows", ids.len()));
        }
        let refused = |entry: &&crate::soak::history::Entry| {
            entry.request == Request::Submit(number)
                && matches!(entry.outcome, Outcome::Answered { status: 400..500, .. })
        };
        if let Some(entry) = evidence.record.entries.iter().find(refused) {
            phantom(ids[0], format!("submission {number} was refused and has a row: {:?}", entry.outcome));
        }
    }
    found
}

/// The stored result is what the input comes to; without a cancel, each task ends as it must.
pub fn one_result(evidence: &Evidence) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut wrong = |task, text: String| found.push(Violation { invariant: "one result", task: Some(task), text });
    for (id, row) in &evidence.tables.rows {
        let Some(submission) = row.number.and_then(|number| evidence.record.submissions.get(&number)) else { continue };
        let expected = expected::ending(&submission.kind);
        match row.status.as_str() {
            "SUCCESS" if expected != Ending::Success => wrong(*id, format!("SUCCESS, where {expected:?} is right")),
            "SUCCESS" => {
                let result = row.result.as_ref().is_some_and(|result| expected::result_is_right(submission, result));
                if !result {
                    wrong(*id, format!("a wrong result: {:?} of {}", row.result, submission.body));
                }
            }
            "FAILED" => {
                let right = matches!(&expected, Ending::Failed(code, failures)
                    if row.error_code.as_deref() == Some(*code) && row.failures == *failures);
                if !right && row.error_code.as_deref() != Some("worker_lost") {
                    wrong(
                        *id,
                        format!(
                            "FAILED {:?} after {} failures, where {expected:?} is right",
                            row.error_code, row.failures
                        ),
                    );
                }
            }
            "CANCELLED" if !was_asked(evidence, &Request::Cancel(*id)) => {
                wrong(*id, "CANCELLED, and nobody asked for it".to_owned());
            }
            _ => {}
        }
        // Of each run: one final status, and the results that it wrote.
        let changes = evidence.tables.changes.get(id).map_or(&[][..], Vec::as_slice);
        let mut finals = 0;
        for change in changes {
            let ended = is_final(&change.to) && !change.from.as_deref().is_some_and(is_final);
            let begun = change.from.as_deref().is_some_and(is_final) && change.to == "PENDING";
            finals = if begun { 0 } else { finals + usize::from(ended) };
            if finals > 1 {
                wrong(*id, "a run has two final statuses".to_owned());
            }
            if change.changed.iter().any(|column| column == "result") && change.to != "SUCCESS" {
                wrong(*id, format!("a result was written with {}", change.to));
            }
        }
    }
    found
}

fn was_asked(evidence: &Evidence, request: &Request) -> bool {
    evidence.record.entries.iter().any(|entry| entry.request == *request)
}

/// One key and body: one task. The same key with another body: 422, and no task.
pub fn idempotency(evidence: &Evidence) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut wrong = |task: Option<Id>, text: String| found.push(Violation { invariant: "idempotency", task, text });
    for (number, ids) in evidence.accepted() {
        let keyed = evidence.record.submissions.get(&number).is_some_and(|submission| submission.key.is_some());
        if keyed && ids.iter().any(|id| *id != ids[0]) {
            wrong(Some(ids[0]), format!("submission {number} was told of several tasks: {ids:x?}"));
        }
    }
    for entry in &evidence.record.entries {
        if let (Request::Misuse(number), Outcome::Answered { status, .. }) = (&entry.request, &entry.outcome)
            && *status != 422
        {
            wrong(None, format!("the key of submission {number} with another body was answered {status}"));
        }
    }
    found
}

/// Only poison is failed as `worker_lost`, and after exactly its cap. Nobody is charged for what befell its worker: a
/// task that succeeds has failed as often as it was asked to, and a task that is handed back has not failed.
pub fn budgets(evidence: &Evidence) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut wrong = |task, text: String| found.push(Violation { invariant: "budgets", task: Some(task), text });
    for (id, row) in &evidence.tables.rows {
        let Some(submission) = row.number.and_then(|number| evidence.record.submissions.get(&number)) else { continue };
        let lost = |event: &&crate::soak::audit::Event| event.message.as_deref() == Some("worker lost");
        let losses = evidence.tables.events.get(id).map_or(0, |events| events.iter().filter(lost).count());
        match &submission.kind {
            Kind::Poison { max_lost } if losses as i64 != max_lost + 1 => {
                wrong(*id, format!("poison ended after {losses} losses, {} are right", max_lost + 1));
            }
            Kind::Poison { .. } => {}
            kind if row.status == "SUCCESS" => {
                let failures = match kind {
                    Kind::Fail { times, .. } | Kind::Leased { times, .. } => *times,
                    _ => 0,
                };
                if row.failures != failures {
                    wrong(*id, format!("charged with {} failures, {failures} are right", row.failures));
                }
            }
            _ if row.error_code.as_deref() == Some("worker_lost") => {
                wrong(*id, format!("failed as worker_lost after {losses} losses, and it is innocent"));
            }
            _ => {}
        }
        let handed_back = |seq: i32| {
            evidence.tables.events.get(id).into_iter().flatten().any(|event| {
                event.seq == seq && event.message.as_deref().is_some_and(|text| text.starts_with("handed back"))
            })
        };
        for change in evidence.tables.changes.get(id).into_iter().flatten() {
            let given_back = change.from.as_deref() == Some("RUNNING") && change.to == "PENDING";
            if given_back && change.changed.iter().any(|column| column == "failures") && handed_back(change.seq) {
                wrong(*id, format!("delivery {} was handed back and charged", change.delivery));
            }
        }
    }
    found
}
