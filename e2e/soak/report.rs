//! Report: what a soak did and what came of it, as a table for people and as JSON for programs.

use std::{collections::BTreeMap, path::PathBuf};

use serde_json::json;

use super::{
    checker::{Evidence, INVARIANTS, Violation},
    history::{Outcome, Request},
    logs::Seen,
    plan::Plan,
};

/// How many violations of one invariant are told with their whole story.
const TOLD: usize = 3;

/// What is worth knowing of a run.
pub struct Report<'a> {
    /// What was asked for.
    pub plan: &'a Plan,
    /// What was written down.
    pub evidence: &'a Evidence,
    /// What was seen at work.
    pub seen: &'a Seen,
    /// Worker processes started.
    pub workers: usize,
    /// What is wrong.
    pub violations: &'a [Violation],
    /// What should have been seen and was not.
    pub vacuous: &'a [String],
    /// In seconds.
    pub took: f64,
}

impl Report<'_> {
    /// Prints the table, writes `target/soak/report.json`, and tells the stories of the violations.
    pub fn publish(&self) {
        let Report { plan, evidence, seen, violations, .. } = self;
        let mut rows: Vec<(String, String)> = vec![
            ("size and seed".into(), format!("{}, {}", plan.name, plan.seed)),
            ("commit".into(), commit()),
            ("time".into(), format!("{:.0} s", self.took)),
            ("tasks".into(), evidence.tables.rows.len().to_string()),
            ("worker processes".into(), self.workers.to_string()),
        ];
        rows.extend(self.endings().into_iter().map(|(name, count)| (name, count.to_string())));
        rows.extend(self.requests().into_iter().map(|(name, count)| (name, count.to_string())));
        let faults = &evidence.record.faults;
        rows.extend(faults.iter().map(|(name, count)| (format!("fault: {name}"), count.to_string())));
        rows.extend(seen.iter().map(|(name, count)| (format!("seen: {name}"), count.to_string())));
        let count = |name: &str| violations.iter().filter(|violation| violation.invariant == name).count();
        rows.extend(INVARIANTS.iter().map(|(name, _)| (format!("violations: {name}"), count(name).to_string())));
        let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        println!();
        rows.iter().for_each(|(name, value)| println!("| {name:width$} | {value:>20} |"));
        let json = json!({
            "plan": plan.name, "seed": plan.seed, "commit": commit(), "seconds": self.took,
            "tasks": evidence.tables.rows.len(), "worker_processes": self.workers,
            "endings": self.endings(), "requests": self.requests(), "faults": faults, "seen": seen,
            "violations": INVARIANTS.iter().map(|(name, _)| (*name, count(name))).collect::<BTreeMap<_, _>>(),
            "not_seen": self.vacuous,
        });
        let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/soak/report.json");
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, format!("{json:#}\n")).unwrap();
        tell(evidence, violations);
    }

    fn endings(&self) -> BTreeMap<String, usize> {
        let mut endings = BTreeMap::new();
        for row in self.evidence.tables.rows.values() {
            let code = row.error_code.as_deref().filter(|_| row.status == "FAILED");
            let name = code.map_or(row.status.clone(), |code| format!("{} {code}", row.status));
            *endings.entry(format!("ended: {name}")).or_default() += 1;
        }
        endings
    }

    fn requests(&self) -> BTreeMap<String, usize> {
        let mut requests = BTreeMap::new();
        for entry in &self.evidence.record.entries {
            let asked = match entry.request {
                Request::Submit(_) => "submit",
                Request::Misuse(_) => "submit with a used key",
                Request::Poll(_) => "poll",
                Request::Cancel(_) => "cancel",
                Request::Retry(_) => "retry",
            };
            let heard = match &entry.outcome {
                Outcome::Answered { status, .. } => status.to_string(),
                Outcome::Unknown(_) => "unknown".to_owned(),
            };
            *requests.entry(format!("{asked}: {heard}")).or_default() += 1;
        }
        requests
    }
}

/// Prints violations, the first of each invariant with the whole story of their tasks.
pub fn tell(evidence: &Evidence, violations: &[Violation]) {
    for (name, _) in INVARIANTS {
        for (place, violation) in violations.iter().filter(|violation| violation.invariant == name).enumerate() {
            let task = violation.task.map_or(String::new(), super::client::ulid_of);
            println!("VIOLATION {name}: {task} {}", violation.text);
            if place < TOLD
                && let Some(id) = violation.task
            {
                println!("{}", evidence.story(id));
            }
        }
    }
}

fn commit() -> String {
    let output = std::process::Command::new("git")
        .args(["describe", "--always", "--dirty", "--abbrev=12"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output();
    let text = output.ok().filter(|output| output.status.success()).map(|output| output.stdout).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).trim().to_owned();
    if text.is_empty() { "unknown".to_owned() } else { text }
}
