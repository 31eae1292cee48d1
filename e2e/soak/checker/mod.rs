//! Checker: holds what was written down against what the promise says. It shares no code with the application.
//!
//! Each invariant is a function from the evidence to its violations; none of them trusts the application's own word
//! where the audit, the clients or the processes' lives can tell.

mod accepted;
mod changes;
mod leases;
mod time;
mod views;

use std::collections::{BTreeMap, HashMap};

use super::{
    audit::Tables,
    history::{Id, Outcome, Record, Request},
    logs::Execution,
};

/// What the checker judges by.
pub struct Evidence {
    /// What clients and injector wrote down.
    pub record: Record,
    /// What the database holds.
    pub tables: Tables,
    /// When which handler ran.
    pub executions: Vec<Execution>,
    /// What was found left over when all was quiet.
    pub leftovers: Vec<String>,
}

/// Something that must not be.
#[derive(Debug, Clone)]
pub struct Violation {
    /// The invariant, by its name in the documentation.
    pub invariant: &'static str,
    /// The task that shows it.
    pub task: Option<Id>,
    /// What is wrong.
    pub text: String,
}

type Check = fn(&Evidence) -> Vec<Violation>;

/// All invariants, by the names of the documentation.
pub const INVARIANTS: [(&str, Check); 15] = [
    ("no loss", accepted::no_loss),
    ("no phantom", accepted::no_phantom),
    ("legal", changes::legal),
    ("deliveries", changes::deliveries),
    ("fence", changes::fence),
    ("leases", leases::tokens),
    ("one result", accepted::one_result),
    ("overlap", time::overlap),
    ("recovery", time::recovery),
    ("cancel", time::cancel),
    ("views", views::polls),
    ("streams", views::streams),
    ("idempotency", accepted::idempotency),
    ("budgets", accepted::budgets),
    ("clean", clean),
];

/// Every violation of every invariant.
pub fn check(evidence: &Evidence) -> Vec<Violation> {
    INVARIANTS.iter().flat_map(|(_, check)| check(evidence)).collect()
}

fn clean(evidence: &Evidence) -> Vec<Violation> {
    let violation = |text: &String| Violation { invariant: "clean", task: None, text: text.clone() };
    evidence.leftovers.iter().map(violation).collect()
}

impl Evidence {
    /// The ids that answers to a submission named, by its number, in their order.
    fn accepted(&self) -> BTreeMap<usize, Vec<Id>> {
        let mut accepted: BTreeMap<usize, Vec<Id>> = BTreeMap::new();
        for entry in &self.record.entries {
            if let (Request::Submit(number), Outcome::Answered { status: 200..300, view: Some(view) }) =
                (&entry.request, &entry.outcome)
            {
                accepted.entry(*number).or_default().push(view.id);
            }
        }
        accepted
    }

    /// The rows, by the number of their submission.
    fn rows_by_number(&self) -> HashMap<usize, Vec<Id>> {
        let mut rows: HashMap<usize, Vec<Id>> = HashMap::new();
        for (id, row) in &self.tables.rows {
            if let Some(number) = row.number {
                rows.entry(number).or_default().push(*id);
            }
        }
        rows
    }

    /// All that is known of a task, for whoever has to understand a violation.
    pub fn story(&self, id: Id) -> String {
        let mut lines: Vec<(i64, String)> = Vec::new();
        for change in self.tables.changes.get(&id).into_iter().flatten() {
            let from = change.from.as_deref().unwrap_or("-");
            let text = format!(
                "{from} -> {} delivery {} version {} by {}, changed {}",
                change.to,
                change.delivery,
                change.version,
                change.writer,
                change.changed.join(" ")
            );
            lines.push((change.at, text));
        }
        for execution in self.executions.iter().filter(|execution| execution.id == id) {
            let Execution { delivery, process, returned, ignored_stop, .. } = execution;
            lines.push((execution.from, format!("handler of delivery {delivery} begins in {process}")));
            let text = format!(
                "handler of delivery {delivery} ends in {process}, returned {returned}, ignored {ignored_stop}"
            );
            lines.push((execution.to, text));
        }
        for entry in &self.record.entries {
            let about = match entry.request {
                Request::Poll(other) | Request::Cancel(other) | Request::Retry(other) => other == id,
                Request::Submit(number) | Request::Misuse(number) => {
                    self.tables.rows.get(&id).is_some_and(|row| row.number == Some(number))
                }
            };
            if about {
                lines.push((entry.from, format!("asked {:?}", entry.request)));
                lines.push((entry.to, format!("heard {:?}: {:?}", entry.request, entry.outcome)));
            }
        }
        let (first, last) = (lines.iter().map(|(at, _)| *at).min(), lines.iter().map(|(at, _)| *at).max());
        for window in &self.record.windows {
            if Some(window.to) >= first && Some(window.from) <= last {
                let slot = window.slot.map_or("all slots".to_owned(), |slot| format!("slot {slot}"));
                lines.push((window.from, format!("{} of {slot} begins", window.why)));
                lines.push((window.to, format!("{} of {slot} ends", window.why)));
            }
        }
        lines.sort();
        let first = lines.first().map_or(0, |(at, _)| *at);
        let mut story: String =
            lines.iter().map(|(at, text)| format!("  {:>10.3} s  {text}\n", (at - first) as f64 / 1e6)).collect();
        for event in self.tables.events.get(&id).into_iter().flatten() {
            story.push_str(&format!(
                "  event {} delivery {} {} {} by {}\n",
                event.seq,
                event.delivery,
                event.status.as_deref().unwrap_or("log"),
                event.message.as_deref().unwrap_or(""),
                event.writer
            ));
        }
        for followed in self.record.followed.iter().filter(|followed| followed.id == id) {
            story.push_str(&format!("  {followed:?}\n"));
        }
        story
    }
}
