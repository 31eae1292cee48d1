//! Logs: what the workers' own log lines tell. When which handler ran, and how often a part of the machinery was seen
//! at work that leaves no trace in the tables.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    clock::{self, Moment},
    history::{Id, id_of_ulid},
};

/// The time in which a handler ran.
#[derive(Debug, Clone)]
pub struct Execution {
    /// The task.
    pub id: Id,
    /// Its delivery.
    pub delivery: i32,
    /// The process that ran it.
    pub process: String,
    /// The slot of that process.
    pub slot: usize,
    /// When its handler began.
    pub from: Moment,
    /// When it returned, or its process ended.
    pub to: Moment,
    /// It returned a result.
    pub returned: bool,
    /// It did not stop when it was asked to.
    pub ignored_stop: bool,
}

/// What was seen at work, by name.
pub type Seen = BTreeMap<&'static str, u64>;

/// A line of the log, the field that says how many, and what that is a sign of.
const SIGNS: [(&str, &str, &str); 5] = [
    ("ended deliveries that were no longer this worker's", "tasks", "endings that were fenced off or cancelled"),
    ("Redis had lost its data: every doorbell was rung again", "rung", "doorbells rung again after a loss of Redis"),
    ("rang doorbells that had been lost", "rung", "single doorbells rung again"),
    ("found ids that Redis had moved and nobody received", "ids", "ids found in an own list"),
    ("handed back deliveries whose claim was never answered", "tasks", "claims handed back whose answer was lost"),
];

/// Reads the log of a process that ended at `ended`.
pub fn read(log: &str, process: &str, slot: usize, ended: Moment, executions: &mut Vec<Execution>, seen: &mut Seen) {
    let mut running: BTreeMap<(Id, i64), Execution> = BTreeMap::new();
    for line in log.lines() {
        // The last line of a process that was killed may be half of one.
        let Ok(line) = serde_json::from_str::<Value>(line) else { continue };
        let message = line["message"].as_str().unwrap_or_default();
        for (text, field, sign) in SIGNS {
            if message == text {
                *seen.entry(sign).or_default() += line[field].as_u64().unwrap_or(0);
            }
        }
        if line["target"] != "longrun::work::attempt" {
            continue;
        }
        let (Some(id), Some(delivery)) = (line["span"]["task.id"].as_str(), line["span"]["delivery"].as_i64()) else {
            continue;
        };
        let at = line["timestamp"].as_str().and_then(clock::parse).expect("a log line has a time");
        let id = id_of_ulid(id);
        if message == "started" {
            let process = process.to_owned();
            let (returned, ignored_stop) = (false, false);
            let begun =
                Execution { id, delivery: delivery as i32, process, slot, from: at, to: ended, returned, ignored_stop };
            running.insert((id, delivery), begun);
        } else if message.starts_with("the handler did not stop") {
            if let Some(execution) = running.get_mut(&(id, delivery)) {
                execution.ignored_stop = true;
            }
        } else if let Some(mut execution) = running.remove(&(id, delivery)) {
            execution.to = at;
            execution.returned = message == "succeeded";
            executions.push(execution);
        }
    }
    executions.extend(running.into_values());
}
