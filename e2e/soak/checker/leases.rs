//! Leases: what HTTP workers hold task by task, with a token for each delivery.

use super::{Evidence, Violation};
use crate::soak::history::Kind;

/// A completion that was acknowledged is in the table, with its delivery; the result and the lines of a task are those
/// of the delivery that they say they are of.
pub fn tokens(evidence: &Evidence) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut wrong = |task, text: String| found.push(Violation { invariant: "leases", task: Some(task), text });
    let succeeded = |id, delivery: i32| {
        let changes = evidence.tables.changes.get(&id).into_iter().flatten();
        changes.filter(|change| change.to == "SUCCESS" && change.from.as_deref() == Some("RUNNING")).any(|change| {
            // An operator's retry may have begun another run since.
            change.delivery == delivery
        })
    };
    for (id, delivery) in &evidence.record.completed {
        if !succeeded(*id, *delivery) {
            wrong(*id, format!("delivery {delivery} was told that it is complete, and it is not"));
        }
    }
    for (id, row) in &evidence.tables.rows {
        let submission = row.number.and_then(|number| evidence.record.submissions.get(&number));
        if !submission.is_some_and(|submission| matches!(submission.kind, Kind::Leased { .. })) {
            continue;
        }
        if let Some(result) = row.result.as_ref().filter(|_| row.status == "SUCCESS") {
            let delivery = result["delivery"].as_i64().unwrap_or(0) as i32;
            if !succeeded(*id, delivery) {
                wrong(*id, format!("its result is that of delivery {delivery}, which did not end it"));
            }
        }
        for event in evidence.tables.events.get(id).into_iter().flatten().filter(|event| event.status.is_none()) {
            // Those of its own; the server has some too.
            let own = event.message.as_deref().and_then(|line| line.rsplit_once(" in delivery "));
            if own.is_some_and(|(_, delivery)| delivery != event.delivery.to_string()) {
                wrong(*id, format!("{event:?} is of another delivery"));
            }
        }
    }
    found
}
