//! Backlog: many pending tasks, put into the table at once, and a look at their doorbells.

use std::{collections::HashSet, time::Duration};

use crate::harness::{Deployment, Sql, until};

/// The lists in which doorbells wait, with their queues.
pub const LISTS: [&str; 3] = ["high", "normal", "low"];

/// Which priorities a backlog has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mix {
    /// Normal alone.
    Normal,
    /// Every tenth high, every tenth low.
    All,
}

/// Inserts pending tasks of this length, as if they had been submitted a moment ago, one a millisecond. Nobody rings
/// for them.
pub fn insert(sql: &Sql, mix: Mix, count: i64, seconds: f64) {
    let insert = "
        INSERT INTO tasks (id, task_type, queue, priority, input, max_attempts, ready_at, created_at)
        SELECT (lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1000)::bigint - $1::bigint + n), 12, '0')
                   || substr(md5(n::text || random()::text), 1, 20))::uuid,
               'vector_processing', 'default', CASE n % $2::bigint WHEN 1 THEN 0 WHEN 2 THEN 2 ELSE 1 END,
               json_build_object('vector_data', json_build_array(1.0, 2.0), 'duration', $3::float8), 4,
               clock_timestamp() - interval '1 min', clock_timestamp() - interval '1 min'
        FROM generate_series(3, $1::bigint + 2) AS n";
    // No number here is 1 or 2 itself.
    let every: i64 = match mix {
        Mix::Normal => i64::MAX,
        Mix::All => 10,
    };
    sql.rows(insert, &[&count, &every, &seconds]);
    sql.run("ANALYZE tasks").unwrap();
}

/// What lies in the ready lists of a queue.
pub struct Rung {
    /// All elements.
    pub elements: usize,
    /// Different ones.
    pub ids: HashSet<String>,
}

/// Reads the ready lists of a queue.
pub fn rung(deployment: &Deployment, queue: &str) -> Rung {
    let mut all: Vec<String> = Vec::new();
    for priority in LISTS {
        all.extend(deployment.redis::<Vec<String>>(&["LRANGE", &key(queue, priority), "0", "-1"]));
    }
    Rung { elements: all.len(), ids: all.into_iter().collect() }
}

/// How many elements the ready lists of a queue have.
pub fn length(deployment: &Deployment, queue: &str) -> usize {
    LISTS.iter().map(|priority| deployment.redis::<usize>(&["LLEN", &key(queue, priority)])).sum()
}

/// The key of a ready list.
pub fn key(queue: &str, priority: &str) -> String {
    format!("v1:ready:{{{queue}}}:{priority}")
}

/// Until Redis shows an epoch that is in force: everything that waited has been rung.
#[track_caller]
pub fn wait_until_rung(deployment: &Deployment) {
    until("Redis shows the epoch", Duration::from_secs(90), || {
        deployment.redis::<Option<String>>(&["GET", "v1:epoch"]).filter(|epoch| !epoch.starts_with("ringing")).map(drop)
    });
}
