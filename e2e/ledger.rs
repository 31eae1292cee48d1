//! Ledger: what the tables say of a task, and what has to be true of it when it has ended, whatever went wrong.

use std::time::Duration;

use crate::harness::{Deployment, Sql, found_within, until};

/// A worker looks at its own list every ten seconds; nothing else takes longer to be cleaned up.
const CLEANED_UP: Duration = Duration::from_secs(120);

/// The row of a task.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub status: String,
    pub delivery: i32,
    pub failures: i32,
    pub lost: i32,
    pub seq: i32,
    /// As JSON text.
    pub result: Option<String>,
    /// The code of its error.
    pub error: Option<String>,
    /// Whether some worker is still named.
    pub has_worker: bool,
}

/// A row of the history.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    pub seq: i32,
    pub delivery: i32,
    /// `None` for a log line.
    pub status: Option<String>,
    pub message: Option<String>,
}

/// Reads the row.
#[track_caller]
pub fn entry(sql: &Sql, id: &str) -> Entry {
    let query = "SELECT status, delivery, failures, lost, seq, result::text, error->>'code', worker_id IS NOT NULL
                 FROM tasks WHERE id = from_ulid($1)";
    let rows = sql.rows(query, &[&id]);
    assert_eq!(rows.len(), 1, "task {id} has one row");
    let row = &rows[0];
    Entry {
        status: row.get(0),
        delivery: row.get(1),
        failures: row.get(2),
        lost: row.get(3),
        seq: row.get(4),
        result: row.get(5),
        error: row.get(6),
        has_worker: row.get(7),
    }
}

/// Reads the history, in order.
pub fn events(sql: &Sql, id: &str) -> Vec<Event> {
    let query = "SELECT seq, delivery, status, message FROM task_events WHERE task_id = from_ulid($1) ORDER BY seq";
    let event = |row: tokio_postgres::Row| Event {
        seq: row.get(0),
        delivery: row.get(1),
        status: row.get(2),
        message: row.get(3),
    };
    sql.rows(query, &[&id]).into_iter().map(event).collect()
}

/// Waits until a task satisfies `wanted`, and returns its row.
#[track_caller]
pub fn wait(sql: &Sql, id: &str, what: &str, wanted: impl Fn(&Entry) -> bool) -> Entry {
    let mut last = None;
    let found = found_within(CLEANED_UP, || {
        let now = last.insert(entry(sql, id));
        wanted(now).then(|| now.clone())
    });
    found.unwrap_or_else(|| {
        panic!("task {id} did not become {what} within {CLEANED_UP:?}; it is {last:?}\n{:#?}", events(sql, id))
    })
}

/// Waits until a task has this status.
#[track_caller]
pub fn wait_status(sql: &Sql, id: &str, status: &str) -> Entry {
    wait(sql, id, status, |entry| entry.status == status)
}

/// Checks the history of a task that has ended: every number once and none left out, one delivery per claim and one
/// claim per delivery, nothing written by a delivery after its end, one final status, no line twice.
#[track_caller]
pub fn check_history(sql: &Sql, id: &str) {
    let (entry, events) = (entry(sql, id), events(sql, id));
    let told = || format!("task {id}: {entry:?}\n{events:#?}");
    let numbers: Vec<i32> = events.iter().map(|event| event.seq).collect();
    assert_eq!(numbers, (1..=entry.seq).collect::<Vec<_>>(), "numbers are missing or double: {}", told());
    let mut running = None;
    let mut claims = 0;
    let mut ends = 0;
    for event in &events {
        match event.status.as_deref() {
            Some("RUNNING") => {
                claims += 1;
                assert_eq!((event.delivery, running), (claims, None), "a claim out of turn: {}", told());
                running = Some(event.delivery);
            }
            Some(status) => {
                if running.is_some() {
                    assert_eq!(running, Some(event.delivery), "an end that is another delivery's: {}", told());
                }
                running = None;
                ends += i32::from(status != "PENDING");
            }
            None => assert_eq!(running, Some(event.delivery), "a line after the end: {}", told()),
        }
    }
    assert_eq!((claims, ends), (entry.delivery, 1), "claims and final statuses: {}", told());
    let mut lines: Vec<_> = events.iter().filter(|event| event.status.is_none()).map(|event| &event.message).collect();
    let all = lines.len();
    lines.sort();
    lines.dedup();
    assert_eq!(lines.len(), all, "a line was written twice: {}", told());
}

/// Checks a `count` task that has succeeded: its sum, and that its last delivery has told each of its steps.
#[track_caller]
pub fn check_counted(sql: &Sql, id: &str, steps: u64) {
    let entry = entry(sql, id);
    assert_eq!(entry.status, "SUCCESS", "task {id}: {entry:?}");
    let result: serde_json::Value = serde_json::from_str(entry.result.as_deref().unwrap_or("null")).unwrap();
    assert_eq!(result, serde_json::json!({"steps": steps, "sum": steps * (steps + 1) / 2}), "task {id}");
    check_history(sql, id);
    let suffix = format!(" in delivery {}", entry.delivery);
    let told = events(sql, id).into_iter().filter(|event| event.status.is_none()).filter_map(|event| event.message);
    let told: Vec<u64> =
        told.filter_map(|line| line.strip_suffix(&suffix)?.strip_prefix("step ")?.parse().ok()).collect();
    let first = told.first().copied().unwrap_or(steps + 1);
    assert_eq!(told, (first..=steps).collect::<Vec<_>>(), "task {id} lost lines of its last delivery");
}

/// Waits until nothing is left: no id in any list, nobody who runs something, no transaction that is open.
#[track_caller]
pub fn wait_until_clean(deployment: &Deployment, sql: &Sql) {
    let mut left = String::new();
    let is_clean = found_within(CLEANED_UP, || {
        let lists = deployment.redis::<Vec<String>>(&["KEYS", "v1:[ri]*"]);
        let running: i64 = sql.value(
            "SELECT count(*) FROM tasks WHERE status IN ('PENDING', 'RUNNING') OR worker_id IS NOT NULL
                       AND status = 'CANCELLED'",
            &[],
        );
        let open: i64 = sql.value(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'",
            &[],
        );
        left = format!("lists {lists:?}, {running} tasks, {open} open transactions");
        (lists.is_empty() && running == 0 && open == 0).then_some(())
    });
    assert!(is_clean.is_some(), "after {CLEANED_UP:?} there is still something left: {left}");
}

/// Waits until the database's clock says that this is true of a task: `ready_at < clock_timestamp()`.
#[track_caller]
pub fn wait_where(sql: &Sql, id: &str, condition: &str) {
    let query = format!("SELECT count(*) FROM tasks WHERE id = from_ulid($1) AND {condition}");
    until(condition, CLEANED_UP, || (sql.value::<i64>(&query, &[&id]) == 1).then_some(()));
}
