//! Queues, as PostgreSQL knows them: what waits, what runs, who serves them, and how they fared minute by minute.
//!
//! Counting costs time in proportion to what waits (for 200,000 tasks, 10 ms of a core to count them and 80 ms to take
//! their whole line), so nobody calls these verbs per poll: `serve` counts at most once a second and reads a long line
//! far less often, the sampler counts once a minute or twice.

use chrono::{DateTime, Utc};
use diesel::{
    QueryableByName,
    sql_types::{Array, BigInt, Bool, Double, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid},
};
use uuid::Uuid;

use super::{
    Store, StoreError,
    rows::{priority_number, priority_of},
    statement::{Statement, sql},
};
use crate::core::model::{Priority, TaskId};

/// Minutes of history.
const SAMPLES_KEPT: i64 = 60;

/// A queue at one moment.
#[derive(Debug, Clone, PartialEq, QueryableByName)]
pub struct QueueState {
    /// Its name.
    #[diesel(sql_type = Text)]
    pub name: String,
    /// An operator paused it.
    #[diesel(sql_type = Bool)]
    pub paused: bool,
    /// Tasks that wait for a slot.
    #[diesel(sql_type = BigInt)]
    pub ready: i64,
    /// Tasks that run.
    #[diesel(sql_type = BigInt)]
    pub running: i64,
    /// Tasks that wait for a time: a delay, or a retry.
    #[diesel(sql_type = BigInt)]
    pub scheduled: i64,
    /// How long the first in line has been ready, in seconds.
    #[diesel(sql_type = Nullable<Double>)]
    pub oldest_age_seconds: Option<f64>,
    /// Slots of the live workers that serve it.
    #[diesel(sql_type = BigInt)]
    pub slots: i64,
    /// Live workers that serve it.
    #[diesel(sql_type = BigInt)]
    pub workers: i64,
    /// The types that they know, and those that HTTP workers have asked for lately.
    #[diesel(sql_type = Array<Text>)]
    pub task_types: Vec<String>,
    /// Deliveries begun per minute, over the last five minutes or as long as there are samples.
    #[diesel(sql_type = Double)]
    pub started_per_minute: f64,
    /// Deliveries that ended per minute, likewise.
    #[diesel(sql_type = Double)]
    pub ended_per_minute: f64,
}

/// One minute of one queue.
#[derive(Debug, Clone, PartialEq, QueryableByName)]
pub struct QueueSample {
    /// The queue.
    #[diesel(sql_type = Text)]
    pub queue: String,
    /// The beginning of the minute.
    #[diesel(sql_type = Timestamptz)]
    pub minute: DateTime<Utc>,
    /// Deliveries begun in it.
    #[diesel(sql_type = BigInt)]
    pub started: i64,
    /// Deliveries that ended in it.
    #[diesel(sql_type = BigInt)]
    pub ended: i64,
    /// What was ready when it was looked at; `None` when nobody looked.
    #[diesel(sql_type = Nullable<BigInt>)]
    pub ready: Option<i64>,
    /// What ran then.
    #[diesel(sql_type = Nullable<BigInt>)]
    pub running: Option<i64>,
    /// What waited for a time then.
    #[diesel(sql_type = Nullable<BigInt>)]
    pub scheduled: Option<i64>,
    /// How long the first in line had been ready then.
    #[diesel(sql_type = Nullable<Double>)]
    pub oldest_age_seconds: Option<f64>,
}

/// A place in a queue's line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Its priority.
    pub priority: Priority,
    /// Whether it was never claimed: tasks once taken go before the others of their priority.
    pub is_fresh: bool,
    /// Who stands there.
    pub id: TaskId,
    /// Counted from 1.
    pub rank: i64,
}

/// Whether a statement counts what is ready: that alone takes time in proportion.
enum CountReady {
    Here,
    Elsewhere,
}

#[derive(QueryableByName)]
struct DepthRow {
    #[diesel(sql_type = BigInt)]
    tasks: i64,
}

#[derive(QueryableByName)]
struct PlaceRow {
    #[diesel(sql_type = SmallInt)]
    priority: i16,
    #[diesel(sql_type = Bool)]
    is_fresh: bool,
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = BigInt)]
    rank: i64,
}

impl Store {
    /// The state of these queues, or, without names, of all that have a task that is not final, a worker, a sample
    /// of the last minutes or a row of their own. Sorted by name.
    pub async fn queues(&self, names: Option<Vec<String>>) -> Result<Vec<QueueState>, StoreError> {
        self.queue_states(names, CountReady::Here).await
    }

    /// The state of one queue and the first places of its line, `most` of them. What is ready is counted only where
    /// there may be more.
    pub async fn queue_with_head(&self, name: &str, most: i64) -> Result<(QueueState, Vec<Place>), StoreError> {
        let head = self.head(name, most).await?;
        let length = head.len() as i64;
        let ready = if length < most { length } else { self.count_ready(name).await?.max(length) };
        let states = self.queue_states(Some(vec![name.to_owned()]), CountReady::Elsewhere).await?;
        let missing = || StoreError::Refused("a queue was asked for and not told".to_owned());
        let mut state = states.into_iter().next().ok_or_else(missing)?;
        state.ready = ready;
        Ok((state, head))
    }

    async fn queue_states(&self, names: Option<Vec<String>>, count: CountReady) -> Result<Vec<QueueState>, StoreError> {
        const QUEUES: &str = r#"
            WITH ready AS (SELECT queue, count(*) AS tasks FROM tasks
                           WHERE $2 AND status = 'PENDING' AND due_at IS NULL AND ($1 IS NULL OR queue = ANY($1))
                           GROUP BY 1),
            scheduled AS (SELECT queue, count(*) AS tasks FROM tasks
                          WHERE status = 'PENDING' AND due_at IS NOT NULL AND ($1 IS NULL OR queue = ANY($1))
                          GROUP BY 1),
            running AS (SELECT queue, count(*) AS tasks FROM tasks
                        WHERE status = 'RUNNING' AND ($1 IS NULL OR queue = ANY($1)) GROUP BY 1),
            served AS (SELECT q.key COLLATE "C" AS queue, count(*) AS workers, sum(q.value::text::bigint)::bigint AS slots
                       FROM workers w, jsonb_each(w.queues) AS q
                       WHERE w.state = 'alive' AND w.lease_until > clock_timestamp()
                         AND ($1 IS NULL OR q.key = ANY($1)) GROUP BY 1),
            recent AS (SELECT queue, sum(started)::float8 AS started, sum(ended)::float8 AS ended,
                              greatest(extract(epoch FROM clock_timestamp() - min(minute)) / 60, 0.05)::float8 AS minutes
                       FROM queue_samples
                       WHERE minute > clock_timestamp() - interval '5 min' AND ($1 IS NULL OR queue = ANY($1))
                       GROUP BY 1),
            names AS (SELECT unnest($1) COLLATE "C" AS name
                      UNION SELECT queue FROM ready UNION SELECT queue FROM scheduled UNION SELECT queue FROM running
                      UNION SELECT queue FROM served UNION SELECT queue FROM recent
                      UNION SELECT q.name FROM queues q WHERE $1 IS NULL
                      UNION SELECT h.queue FROM http_workers h
                      WHERE $1 IS NULL AND h.asked_at > clock_timestamp() - interval '90 s')
            SELECT n.name, coalesce((SELECT q.paused FROM queues q WHERE q.name = n.name), false) AS paused,
                   coalesce(ready.tasks, 0) AS ready, coalesce(running.tasks, 0) AS running,
                   coalesce(scheduled.tasks, 0) AS scheduled,
                   (SELECT greatest(extract(epoch FROM clock_timestamp() - min(head.ready_at)), 0)::float8
                    FROM unnest(ARRAY[0, 1, 2]::smallint[]) AS p(priority), unnest(ARRAY[true, false]) AS f(fresh),
                         -- What comes next in the index from here on. With `=`, an order by id would be left, and the
                         -- planner may then go through all tasks from the oldest on.
                         LATERAL (SELECT t.ready_at FROM tasks t
                                  WHERE (t.queue, t.priority, (t.delivery = 0)) >= (n.name, p.priority, f.fresh)
                                    AND (t.queue, t.priority, (t.delivery = 0)) <= (n.name, p.priority, f.fresh)
                                    AND t.status = 'PENDING' AND t.due_at IS NULL
                                  ORDER BY t.queue, t.priority, (t.delivery = 0), t.id LIMIT 1) AS head
                   ) AS oldest_age_seconds,
                   coalesce(served.slots, 0) AS slots, coalesce(served.workers, 0) AS workers,
                   ARRAY(SELECT unnest(w.task_types) FROM workers w
                         WHERE w.state = 'alive' AND w.lease_until > clock_timestamp()
                           AND jsonb_exists(w.queues, n.name)
                         UNION SELECT h.task_type FROM http_workers h
                         WHERE h.queue = n.name AND h.asked_at > clock_timestamp() - interval '90 s') AS task_types,
                   coalesce(recent.started / recent.minutes, 0) AS started_per_minute,
                   coalesce(recent.ended / recent.minutes, 0) AS ended_per_minute
            FROM names n
            LEFT JOIN ready ON ready.queue = n.name LEFT JOIN scheduled ON scheduled.queue = n.name
            LEFT JOIN running ON running.queue = n.name LEFT JOIN served ON served.queue = n.name
            LEFT JOIN recent ON recent.queue = n.name
            ORDER BY n.name"#;
        let statement = sql("queues", QUEUES)
            .bind::<Nullable<Array<Text>>, _>(names)
            .bind::<Bool, _>(matches!(count, CountReady::Here));
        self.rows(statement).await
    }

    /// By the index of what is ready, of which one queue is a part.
    async fn count_ready(&self, queue: &str) -> Result<i64, StoreError> {
        const COUNT: &str =
            "SELECT count(*) AS tasks FROM tasks WHERE queue = $1 AND status = 'PENDING' AND due_at IS NULL";
        let rows: Vec<DepthRow> = self.rows(sql("count_ready", COUNT).bind::<Text, _>(queue.to_owned())).await?;
        Ok(rows.first().map_or(0, |row| row.tasks))
    }

    async fn head(&self, queue: &str, most: i64) -> Result<Vec<Place>, StoreError> {
        const HEAD: &str = "
            SELECT t.priority, t.delivery = 0 AS is_fresh, t.id,
                   row_number() OVER (ORDER BY t.priority, (t.delivery = 0), t.id) AS rank
            FROM (SELECT priority, delivery, id FROM tasks
                  WHERE queue = $1 AND status = 'PENDING' AND due_at IS NULL
                  ORDER BY priority, (delivery = 0), id LIMIT $2) AS t
            ORDER BY rank";
        let statement = sql("head", HEAD).bind::<Text, _>(queue.to_owned()).bind::<BigInt, _>(most);
        self.places(statement).await
    }

    /// The line of a queue in the order in which its tasks start: its first thousand places, then as many places as
    /// tell a rank to three digits, and its last one. At most some four thousand, however long the line is.
    pub async fn line(&self, queue: &str) -> Result<Vec<Place>, StoreError> {
        const LINE: &str = "
            SELECT priority, is_fresh, id, rank FROM (
                SELECT t.priority, t.delivery = 0 AS is_fresh, t.id, row_number() OVER line AS rank,
                       lead(true) OVER line IS NULL AS is_last
                FROM tasks t WHERE t.queue = $1 AND t.status = 'PENDING' AND t.due_at IS NULL
                WINDOW line AS (ORDER BY t.priority, (t.delivery = 0), t.id)) AS places
            WHERE rank <= 1000 OR is_last OR rank % greatest((10 ^ (floor(log(rank)) - 2))::bigint, 1) = 0
            ORDER BY rank";
        self.places(sql("line", LINE).bind::<Text, _>(queue.to_owned())).await
    }

    async fn places(&self, statement: Statement) -> Result<Vec<Place>, StoreError> {
        let rows: Vec<PlaceRow> = self.rows(statement).await?;
        let place = |row: PlaceRow| Place {
            priority: priority_of(row.priority),
            is_fresh: row.is_fresh,
            id: row.id.into(),
            rank: row.rank,
        };
        Ok(rows.into_iter().map(place).collect())
    }

    /// How many tasks of a queue wait, for a slot or for a time, counted up to `limit`.
    pub async fn depth(&self, queue: &str, limit: u64) -> Result<u64, StoreError> {
        const DEPTH: &str = "
            SELECT count(*) AS tasks FROM (
                SELECT FROM tasks WHERE queue = $1 AND status = 'PENDING' AND due_at IS NULL
                UNION ALL SELECT FROM tasks WHERE queue = $1 AND status = 'PENDING' AND due_at IS NOT NULL
                LIMIT $2) AS waiting";
        let statement = sql("depth", DEPTH)
            .bind::<Text, _>(queue.to_owned())
            .bind::<BigInt, _>(i64::try_from(limit).unwrap_or(i64::MAX));
        let rows: Vec<DepthRow> = self.rows(statement).await?;
        Ok(rows.first().map_or(0, |row| row.tasks.max(0) as u64))
    }

    /// Pauses or resumes a queue: nothing new starts from it, what runs goes on.
    pub async fn set_paused(&self, queue: &str, paused: bool) -> Result<(), StoreError> {
        const SET: &str = "
            INSERT INTO queues (name, paused) VALUES ($1, $2)
            ON CONFLICT (name) DO UPDATE SET paused = $2, updated_at = clock_timestamp()";
        self.run(sql("set_paused", SET).bind::<Text, _>(queue.to_owned()).bind::<Bool, _>(paused)).await.map(drop)
    }

    /// The samples of the last hour, oldest first, of one queue or of all.
    pub async fn samples(&self, queue: Option<String>) -> Result<Vec<QueueSample>, StoreError> {
        const SAMPLES: &str = "
            SELECT queue, minute, started, ended, ready, running, scheduled, oldest_age_seconds FROM queue_samples
            WHERE minute > clock_timestamp() - $1 * interval '1 min' AND ($2 IS NULL OR queue = $2)
            ORDER BY queue, minute";
        self.rows(sql("samples", SAMPLES).bind::<BigInt, _>(SAMPLES_KEPT).bind::<Nullable<Text>, _>(queue)).await
    }

    /// Adds what one worker has started and ended since its last call to the present minute: queue, started, ended.
    pub async fn add_to_sample(&self, counts: &[(String, i64, i64)]) -> Result<(), StoreError> {
        // Sorted, so that two workers cannot lock each other out.
        const ADD: &str = "
            INSERT INTO queue_samples AS s (queue, minute, started, ended)
            SELECT n.queue, date_trunc('minute', clock_timestamp()), n.started, n.ended
            FROM unnest($1, $2, $3) AS n(queue, started, ended) ORDER BY n.queue COLLATE \"C\"
            ON CONFLICT (queue, minute) DO UPDATE
            SET started = s.started + excluded.started, ended = s.ended + excluded.ended";
        let statement = sql("add_to_sample", ADD)
            .bind::<Array<Text>, _>(counts.iter().map(|count| count.0.clone()).collect::<Vec<_>>())
            .bind::<Array<BigInt>, _>(counts.iter().map(|count| count.1).collect::<Vec<_>>())
            .bind::<Array<BigInt>, _>(counts.iter().map(|count| count.2).collect::<Vec<_>>());
        self.run(statement).await.map(drop)
    }

    /// Notes what waits and runs in every queue, for the present minute, and forgets what is older than an hour.
    pub async fn sample(&self) -> Result<(), StoreError> {
        const NOTE: &str = "
            INSERT INTO queue_samples (queue, minute, ready, running, scheduled, oldest_age_seconds)
            SELECT n.queue, date_trunc('minute', clock_timestamp()), n.ready, n.running, n.scheduled, n.oldest
            FROM unnest($1, $2, $3, $4, $5) AS n(queue, ready, running, scheduled, oldest)
            ORDER BY n.queue COLLATE \"C\"
            ON CONFLICT (queue, minute) DO UPDATE
            SET ready = excluded.ready, running = excluded.running, scheduled = excluded.scheduled,
                oldest_age_seconds = excluded.oldest_age_seconds";
        const FORGET: &str = "DELETE FROM queue_samples WHERE minute < clock_timestamp() - ($1 + 1) * interval '1 min'";
        let queues = self.queues(None).await?;
        fn column<T>(queues: &[QueueState], value: impl Fn(&QueueState) -> T) -> Vec<T> {
            queues.iter().map(value).collect()
        }
        let note = sql("sample", NOTE)
            .bind::<Array<Text>, _>(column(&queues, |queue| queue.name.clone()))
            .bind::<Array<BigInt>, _>(column(&queues, |queue| queue.ready))
            .bind::<Array<BigInt>, _>(column(&queues, |queue| queue.running))
            .bind::<Array<BigInt>, _>(column(&queues, |queue| queue.scheduled))
            .bind::<Array<Nullable<Double>>, _>(column(&queues, |queue| queue.oldest_age_seconds));
        self.run(note).await?;
        self.run(sql("forget_samples", FORGET).bind::<BigInt, _>(SAMPLES_KEPT)).await.map(drop)
    }
}

impl Place {
    /// Sorts places of one line as the line stands. `priority` as its column has it.
    pub fn key(priority: Priority, is_fresh: bool, id: TaskId) -> (i16, bool, TaskId) {
        (priority_number(priority), is_fresh, id)
    }
}
