//! Parameters and headers: what may stand beside a body, each described once.

use serde_json::{Map, Value, json};

use super::super::{list, logs};
use crate::core::model::{Level, Priority, QUEUE_NAME_PATTERN, Status, TYPE_NAME_PATTERN};

/// Printable ASCII, bare, or in quotes as a structured-field string (RFC 9651, 3.3.3).
const IDEMPOTENCY_KEY_PATTERN: &str = r#"^([!#-~]([ !#-~]*[!#-~])?|"([ !#-\[\]-~]|\\["\\])+")$"#;

fn parameter(place: &str, name: &str, description: &str, schema: Value) -> Value {
    json!({"name": name, "in": place, "required": place == "path", "description": description, "schema": schema})
}

/// All parameters, by the name of their component.
pub fn parameters() -> Map<String, Value> {
    let query = |name: &str, description: &str, schema: Value| parameter("query", name, description, schema);
    let header = |name: &str, description: &str, schema: Value| parameter("header", name, description, schema);
    let time = || json!({"type": "string", "format": "date-time"});
    let whole = |from: i64, to: i64| json!({"type": "integer", "minimum": from, "maximum": to});
    let mut statuses = query(
        "status",
        "Only tasks with one of these statuses. May be given several times, or as a list with commas.",
        json!({"type": "array", "items": {"enum": Status::ALL}, "minItems": 1}),
    );
    statuses["explode"] = json!(false);
    let mut metadata = query(
        "metadata",
        "Only tasks whose metadata has this value at this key: `metadata.source=curl`. May be given several times.",
        json!({
            "type": "object",
            "patternProperties": {"^metadata\\..+$": {"type": "string"}},
            "additionalProperties": false,
        }),
    );
    metadata["style"] = json!("form");
    metadata["explode"] = json!(true);
    metadata["example"] = json!({"metadata.source": "curl"});
    let all = [
        ("id", parameter("path", "id", "The task's id.", json!({"type": "string"}))),
        (
            "name",
            parameter("path", "name", "The queue's name.", json!({"type": "string", "pattern": QUEUE_NAME_PATTERN})),
        ),
        (
            "queue-in-path",
            parameter("path", "queue", "The queue's name.", json!({"type": "string", "pattern": QUEUE_NAME_PATTERN})),
        ),
        (
            "type-in-path",
            parameter("path", "name", "The type's name.", json!({"type": "string", "pattern": TYPE_NAME_PATTERN})),
        ),
        ("file", parameter("path", "file", "The file's name.", json!({"enum": ["docs.js", "docs.css"]}))),
        ("page", parameter("path", "page", "Where in the dashboard.", json!({"type": "string"}))),
        ("hash", parameter("path", "hash", "The version's hash, as the page has it.", json!({"type": "string"}))),
        ("asset", parameter("path", "file", "The file's name.", json!({"type": "string"}))),
        (
            "wait",
            query(
                "wait",
                "Holds the answer until the task has another version than the one in If-None-Match or, without that \
                 header, has ended; for this many seconds at most. More than 50 counts as 50.",
                json!({"type": "integer", "minimum": 0, "maximum": u64::MAX}),
            ),
        ),
        (
            "Prefer",
            header(
                "Prefer",
                "`wait=N` holds the answer until the task has ended, for N seconds at most (RFC 7240). More than 50 \
                 counts as 50, and Preference-Applied says so.",
                json!({"type": "string"}),
            ),
        ),
        (
            "Idempotency-Key",
            header(
                "Idempotency-Key",
                "Names this submit: the same key with the same body gives the same task, however often it is sent. \
                 With another body it is refused. Kept for 24 hours at least.",
                json!({"type": "string", "minLength": 1, "maxLength": 255, "pattern": IDEMPOTENCY_KEY_PATTERN}),
            ),
        ),
        (
            "If-None-Match",
            header(
                "If-None-Match",
                "The ETag of the version that the client has: the answer is 304 while there is no other.",
                json!({"type": "string"}),
            ),
        ),
        (
            "Last-Event-ID",
            header(
                "Last-Event-ID",
                "The id of the last event that the client has: the stream goes on after it. An id that is not of this \
                 task counts as none.",
                json!({"type": "string"}),
            ),
        ),
        (
            "stream-after",
            query(
                "after",
                "As Last-Event-ID, which wins where both are given; 0 replays everything.",
                json!({"type": "string", "examples": ["0"]}),
            ),
        ),
        ("after", query("after", "Only lines with a higher `seq`.", whole(0, i64::from(i32::MAX)))),
        ("level", query("level", "Only lines of this level or a heavier one.", json!({"enum": Level::ALL}))),
        ("delivery", query("delivery", "Only lines of this delivery.", whole(0, i64::from(i32::MAX)))),
        ("logs-limit", query("limit", "Lines on a page; 1000 where nothing is said.", whole(1, logs::LARGEST_LIMIT))),
        (
            "logs-last",
            query("last", "Only this many newest lines, without a next page.", whole(1, logs::LARGEST_LIMIT)),
        ),
        ("status", statuses),
        ("task_type", query("task_type", "Only tasks of this type.", json!({"type": "string"}))),
        (
            "queue",
            query("queue", "Only tasks of this queue.", json!({"type": "string", "pattern": QUEUE_NAME_PATTERN})),
        ),
        ("priority", query("priority", "Only tasks of this priority.", json!({"enum": Priority::ALL}))),
        ("error", query("error", "Only tasks that ended with this error code.", json!({"type": "string"}))),
        ("created_after", query("created_after", "Only tasks that were submitted after this moment.", time())),
        ("created_before", query("created_before", "Only tasks that were submitted before this moment.", time())),
        ("metadata", metadata),
        ("first", query("first", "The newest row in view.", json!({"type": "string"}))),
        ("last", query("last", "The oldest row in view.", json!({"type": "string"}))),
        ("limit", query("limit", "Tasks on a page; 50 where nothing is said.", whole(1, list::LARGEST_LIMIT))),
        (
            "cursor",
            query(
                "cursor",
                "Where the page begins: taken from the Link header of the page before, as it is.",
                json!({"type": "string"}),
            ),
        ),
        (
            "skip",
            query("skip", "Leaves out this many tasks. For old clients: use the cursor.", whole(0, list::LARGEST_SKIP)),
        ),
    ];
    all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// All headers of answers: each as one that is always there, and as one that may be.
pub fn headers() -> Map<String, Value> {
    let text = || json!({"type": "string"});
    let all = [
        ("X-Request-Id", "Names this request in the log.", json!({"type": "string", "minLength": 1})),
        ("Location", "Where the task is.", json!({"type": "string", "format": "uri-reference"})),
        ("Retry-After", "After how many seconds it is worth asking again.", json!({"type": "integer", "minimum": 1})),
        ("ETag", "The version, for If-None-Match.", json!({"type": "string", "pattern": "^W/\".+\"$"})),
        ("Link", "`rel=\"next\"`: the next page, where there may be one (RFC 8288).", text()),
        ("Cache-Control", "Who may keep the answer.", text()),
        ("RateLimit", "How much of the rate is left: `r` tasks, for `t` seconds.", text()),
        ("RateLimit-Policy", "The rate: `q` tasks in `w` seconds.", text()),
        ("Content-Security-Policy", "What the page may fetch and run: what it brings along.", text()),
        ("WWW-Authenticate", "How to sign in (RFC 6750).", text()),
        ("Set-Cookie", "The session, or its end (RFC 6265).", text()),
        ("Vary", "What the answer depends on.", text()),
        ("Preference-Applied", "Which preference was kept (RFC 7240).", text()),
        ("Idempotency-Replayed", "An earlier request with the same key made the task.", json!({"const": "true"})),
    ];
    all.into_iter()
        .flat_map(|(name, description, schema)| {
            let header = |required| json!({"description": description, "required": required, "schema": schema});
            [(name.to_owned(), header(true)), (format!("{name}.optional"), header(false))]
        })
        .collect()
}
