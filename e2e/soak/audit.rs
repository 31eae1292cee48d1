//! Audit: triggers of the harness that write down every change of a row, in the transaction that makes it.
//!
//! Each process connects under an application name of its own, so the audit knows which process made a change without
//! asking the application.

use std::collections::HashMap;

use serde_json::Value;

use super::{
    clock::Moment,
    history::{Id, id_of_uuid},
};
use crate::harness::Sql;

const INSTALL: &str = r#"
CREATE SCHEMA soak;
CREATE TABLE soak.changes (
    n bigserial PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp(), tx bigint NOT NULL DEFAULT txid_current(),
    writer text NOT NULL DEFAULT current_setting('application_name'), task_id uuid NOT NULL,
    old_status text, new_status text NOT NULL, old_delivery integer, new_delivery integer NOT NULL,
    worker uuid, seq integer NOT NULL, version integer NOT NULL, error_code text, changed text[] NOT NULL,
    old_lease timestamptz, new_lease timestamptz);
CREATE FUNCTION soak.change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        INSERT INTO soak.changes (task_id, old_status, new_status, old_delivery, new_delivery, seq, version, changed)
        VALUES (OLD.id, OLD.status, 'DELETED', OLD.delivery, OLD.delivery, OLD.seq, OLD.version, '{}');
    ELSIF TG_OP = 'INSERT' THEN
        INSERT INTO soak.changes (task_id, new_status, new_delivery, worker, seq, version, changed)
        VALUES (NEW.id, NEW.status, NEW.delivery, NEW.worker_id, NEW.seq, NEW.version, '{}');
    ELSE
        INSERT INTO soak.changes (task_id, old_status, new_status, old_delivery, new_delivery, worker, seq, version,
                                  error_code, old_lease, new_lease, changed)
        VALUES (NEW.id, OLD.status, NEW.status, OLD.delivery, NEW.delivery, NEW.worker_id, NEW.seq, NEW.version,
                NEW.error ->> 'code', OLD.lease_until, NEW.lease_until,
                ARRAY(SELECT n.key FROM jsonb_each(to_jsonb(NEW)) n WHERE n.value IS DISTINCT FROM to_jsonb(OLD) -> n.key));
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER soak AFTER INSERT OR UPDATE OR DELETE ON tasks FOR EACH ROW EXECUTE FUNCTION soak.change();

CREATE TABLE soak.events (task_id uuid NOT NULL, seq integer NOT NULL,
    writer text NOT NULL DEFAULT current_setting('application_name'), at timestamptz NOT NULL DEFAULT clock_timestamp());
CREATE FUNCTION soak.event() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO soak.events (task_id, seq) SELECT task_id, seq FROM added;
    RETURN NULL;
END $$;
CREATE TRIGGER soak AFTER INSERT ON task_events REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION soak.event();

CREATE TABLE soak.workers (at timestamptz NOT NULL DEFAULT clock_timestamp(), worker uuid NOT NULL, state text NOT NULL,
    writer text NOT NULL DEFAULT current_setting('application_name'));
CREATE FUNCTION soak.worker() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO soak.workers (worker, state) VALUES (NEW.id, NEW.state);
    RETURN NULL;
END $$;
CREATE TRIGGER soak_made AFTER INSERT ON workers FOR EACH ROW EXECUTE FUNCTION soak.worker();
CREATE TRIGGER soak_changed AFTER UPDATE ON workers FOR EACH ROW
    WHEN (OLD.state IS DISTINCT FROM NEW.state) EXECUTE FUNCTION soak.worker();
"#;

/// Installs the triggers. The tables must be there, and no process of the application yet.
pub fn install(sql: &Sql) {
    sql.run(INSTALL).expect("the audit can be installed");
}

/// A change of a row of `tasks`.
#[derive(Debug, Clone)]
pub struct Change {
    /// When, within its transaction.
    pub at: Moment,
    /// The process that made it.
    pub writer: String,
    /// The task.
    pub id: Id,
    /// `None`: the row was made.
    pub from: Option<String>,
    /// The status after it.
    pub to: String,
    /// The delivery before it.
    pub old_delivery: i32,
    /// The delivery after it.
    pub delivery: i32,
    /// The worker after it.
    pub worker: Option<Id>,
    /// The version after it.
    pub version: i32,
    /// The number of the last event after it.
    pub seq: i32,
    /// The code of the error after it.
    pub error_code: Option<String>,
    /// Until when an HTTP worker held the task before it.
    pub lease_until: Option<Moment>,
    /// An HTTP worker holds the task after it.
    pub leases: bool,
    /// The columns that it changed.
    pub changed: Vec<String>,
}

/// A row of `task_events`, with the process that wrote it.
#[derive(Debug, Clone)]
pub struct Event {
    /// Its number.
    pub seq: i32,
    /// The delivery that it says it belongs to.
    pub delivery: i32,
    /// Set: a change of status.
    pub status: Option<String>,
    /// The line, or why the status changed.
    pub message: Option<String>,
    /// The worker that it names.
    pub worker: Option<Id>,
    /// The process that wrote it.
    pub writer: String,
}

/// A row of `tasks` at the end.
#[derive(Debug, Clone)]
pub struct Row {
    /// What the submitter called it.
    pub number: Option<usize>,
    /// Its status.
    pub status: String,
    /// Its result.
    pub result: Option<Value>,
    /// The code of its error.
    pub error_code: Option<String>,
    /// Failed attempts.
    pub failures: i64,
}

/// When an incarnation of a worker changed its state.
#[derive(Debug, Clone)]
pub struct WorkerChange {
    /// When.
    pub at: Moment,
    /// The incarnation.
    pub worker: Id,
    /// To which state.
    pub state: String,
}

/// What the database holds at the end.
#[derive(Debug, Default)]
pub struct Tables {
    /// By task, in the order in which they were made.
    pub changes: HashMap<Id, Vec<Change>>,
    /// By task, in the order of their numbers.
    pub events: HashMap<Id, Vec<Event>>,
    /// By task.
    pub rows: HashMap<Id, Row>,
    /// In the order in which they were made.
    pub workers: Vec<WorkerChange>,
}

impl Tables {
    /// Reads everything.
    pub fn read(sql: &Sql) -> Self {
        let mut tables = Self::default();
        const MICROS: &str = "(extract(epoch FROM at) * 1000000)::bigint";
        let changes = format!(
            "SELECT {MICROS}, writer, task_id::text, old_status, new_status, old_delivery, new_delivery, worker::text,
                    version, seq, error_code, changed, (extract(epoch FROM old_lease) * 1000000)::bigint,
                    new_lease IS NOT NULL FROM soak.changes ORDER BY n"
        );
        for row in sql.rows(&changes, &[]) {
            let change = Change {
                at: row.get(0),
                writer: row.get(1),
                id: id_of_uuid(row.get(2)),
                from: row.get(3),
                to: row.get(4),
                old_delivery: row.get::<_, Option<i32>>(5).unwrap_or(0),
                delivery: row.get(6),
                worker: row.get::<_, Option<&str>>(7).map(id_of_uuid),
                version: row.get(8),
                seq: row.get(9),
                error_code: row.get(10),
                changed: row.get(11),
                lease_until: row.get(12),
                leases: row.get(13),
            };
            tables.changes.entry(change.id).or_default().push(change);
        }
        const EVENTS: &str =
            "SELECT e.task_id::text, e.seq, e.delivery, e.status, e.message, e.worker_id::text, a.writer
            FROM task_events e LEFT JOIN soak.events a USING (task_id, seq) ORDER BY e.task_id, e.seq";
        for row in sql.rows(EVENTS, &[]) {
            let event = Event {
                seq: row.get(1),
                delivery: row.get(2),
                status: row.get(3),
                message: row.get(4),
                worker: row.get::<_, Option<&str>>(5).map(id_of_uuid),
                writer: row.get::<_, Option<String>>(6).unwrap_or_default(),
            };
            tables.events.entry(id_of_uuid(row.get(0))).or_default().push(event);
        }
        const ROWS: &str = "SELECT id::text, (metadata ->> 'n')::bigint, status, result::text, error ->> 'code',
            failures::bigint FROM tasks";
        for row in sql.rows(ROWS, &[]) {
            let result: Option<&str> = row.get(3);
            let found = Row {
                number: row.get::<_, Option<i64>>(1).map(|n| n as usize),
                status: row.get(2),
                result: result.map(|text| serde_json::from_str(text).expect("a result is JSON")),
                error_code: row.get(4),
                failures: row.get(5),
            };
            tables.rows.insert(id_of_uuid(row.get(0)), found);
        }
        for row in sql.rows(&format!("SELECT {MICROS}, worker::text, state FROM soak.workers ORDER BY at"), &[]) {
            tables.workers.push(WorkerChange { at: row.get(0), worker: id_of_uuid(row.get(1)), state: row.get(2) });
        }
        tables
    }
}
