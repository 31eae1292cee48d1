//! Growth: what a submit, a drain, a poll and lists cost when the table is full, as a ratio to a nearly empty one.

use std::time::Instant;

use super::{
    CONNECTIONS, Size, drained, light_task,
    load::{get, load, post},
    median,
};
use crate::harness::{App, Client, Deployment, LONG, Services, Sql};

/// Who submits, and who owns a tenth of the history.
const ADMIN: &str = "bench";
const OWNER: &str = "somebody";

/// Lists, by who asks and what for: `rare` has 1,000 matches in either table, `one` has one, `none` has none.
const LISTS: [(&str, &str, &str); 6] = [
    ("list, no filter", ADMIN, ""),
    ("list, tasks of an owner", OWNER, ""),
    ("list, status=FAILED", ADMIN, "?status=FAILED"),
    ("list, metadata with 1,000 matches", ADMIN, "?metadata.rare=yes"),
    ("list, metadata with 1 match", ADMIN, "?metadata.one=yes"),
    ("list, metadata without a match", ADMIN, "?metadata.none=yes"),
];

#[test]
fn what_a_full_table_costs() {
    let size = Size::of_this_run();
    let many = match std::env::var("BENCH_ROWS") {
        Ok(rows) => rows.parse().expect("BENCH_ROWS is a number"),
        Err(_) => size.choose(3_000, 1_000_000),
    };
    let services = Services::private();
    let small = Table::with(&services, size.choose(300, 1_000));
    let large = Table::with(&services, many);
    let names: Vec<&str> = ["submit", "claim to end", "poll"].into_iter().chain(LISTS.map(|(name, ..)| name)).collect();
    let mut measured: Vec<[Vec<f64>; 2]> = names.iter().map(|_| [Vec::new(), Vec::new()]).collect();
    for _ in 0..size.rounds() {
        for (at, table) in [&small, &large].into_iter().enumerate() {
            for (costs, cost) in measured.iter_mut().zip(table.costs(size)) {
                costs[at].push(cost);
            }
        }
    }
    for (name, [few, full]) in names.iter().zip(&mut measured) {
        let ratio = median(full) / median(few);
        size.figure(&format!("{name}: with {many} tasks, {ratio:.2} times the cost of 1,000"), "µs", full);
    }
}

/// A deployment with so many finished tasks.
struct Table<'a> {
    deployment: Deployment<'a>,
    sql: Sql,
    ids: Vec<String>,
    /// The keys of [`ADMIN`] and [`OWNER`].
    keys: [String; 2],
}

impl<'a> Table<'a> {
    fn with(services: &'a Services, rows: i64) -> Self {
        let deployment = Deployment::on(services)
            .set("RUST_LOG", "info,longrun=info")
            .set("APP_CONCURRENCY", 512)
            .set("APP_MAX_QUEUE_DEPTH", 100_000_000);
        let sql = deployment.sql();
        fill(&sql, rows);
        let some = sql.rows("SELECT ulid(id) FROM tasks ORDER BY md5(id::text) LIMIT 500", &[]);
        let ids = some.iter().map(|row| row.get(0)).collect();
        let keys = [deployment.key(ADMIN, "admin"), deployment.key(OWNER, "user")];
        Self { deployment, sql, ids, keys }
    }

    /// Microseconds of each operation, in the order of the names.
    fn costs(&self, size: Size) -> Vec<f64> {
        let mut serve: App = self.deployment.serve();
        let (address, client) = (serve.address(), serve.client());
        client.wait_ready(LONG);
        let [admin, owner] = &self.keys;
        let body = light_task().to_string();
        let submit = load(address, CONNECTIONS, size.load(), 202, |_| with_key(admin, &post("/tasks", &body))).rate;
        let waiting = self.sql.value::<i64>("SELECT count(*) FROM tasks WHERE status = 'PENDING'", &[]);
        let mut work = self.deployment.work();
        let drain = drained(&self.sql, waiting);
        let asked = |number: usize| with_key(admin, &get(&format!("/tasks/{}", self.ids[number % self.ids.len()])));
        let poll = load(address, CONNECTIONS, size.load(), 200, asked).rate;
        let mut costs: Vec<f64> = [submit, drain, poll].map(|rate| 1e6 / rate).to_vec();
        costs.extend(LISTS.map(|(_, who, query)| {
            let key = if who == ADMIN { admin } else { owner };
            list(&client.with_key(key), query, size)
        }));
        work.stop();
        serve.stop();
        // The next round begins with the same table.
        self.sql
            .run("DELETE FROM task_events WHERE task_id IN (SELECT id FROM tasks WHERE queue = 'default')")
            .unwrap();
        self.sql.run("DELETE FROM tasks WHERE queue = 'default'").unwrap();
        self.sql.run("VACUUM ANALYZE tasks, task_metadata").unwrap();
        costs
    }
}

/// The same request, signed in.
fn with_key(key: &str, request: &str) -> String {
    request.replacen("\r\n", &format!("\r\nauthorization: Bearer {key}\r\n"), 1)
}

/// Microseconds of a list, the median of many.
fn list(client: &Client, query: &str, size: Size) -> f64 {
    let mut times: Vec<f64> = (0..size.choose(3, 100))
        .map(|_| {
            let began = Instant::now();
            client.fetch(&format!("/tasks{query}")).expect(200);
            began.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    median(&mut times)
}

/// Inserts tasks that ended over the last weeks: one in a hundred failed, in a queue of their own.
fn fill(sql: &Sql, rows: i64) {
    const STEP: i64 = 100_000;
    let insert = "
        INSERT INTO tasks (id, task_type, status, queue, owner, input, metadata, delivery, max_attempts, result, error,
                           created_at, ready_at, started_at, completed_at, seq, version)
        SELECT (lpad(to_hex((extract(epoch FROM made.at) * 1000)::bigint), 12, '0')
                   || substr(md5(n::text || random()::text), 1, 20))::uuid,
               'vector_processing', made.status, 'history', CASE WHEN n % 10 = 0 THEN 'somebody' END, '{\"vector_data\":[0.1,0.2,0.3],\"duration\":0}',
               CASE WHEN n % greatest($3::bigint / 1000, 1) = 0 AND n <> $3::bigint / 2 + 1 THEN '{\"rare\":\"yes\"}'
                    WHEN n = $3::bigint / 2 + 1 THEN '{\"one\":\"yes\"}' ELSE '{\"k\":\"v\"}' END::json,
               1, 4, CASE made.status WHEN 'SUCCESS' THEN '{\"processed_vectors\":1}'::json END,
               CASE made.status WHEN 'FAILED'
                    THEN '{\"code\":\"timeout\",\"message\":\"no answer\",\"retryable\":true,\"attempt\":4}'::json END,
               made.at, made.at, made.at, made.at, 2, 3
        FROM generate_series($1::bigint, $2::bigint) AS n,
             LATERAL (SELECT clock_timestamp() - interval '20 days' + n * interval '20 days' / $3::bigint AS at,
                             CASE WHEN n % 100 = 0 THEN 'FAILED' ELSE 'SUCCESS' END AS status) AS made";
    for first in (1..=rows).step_by(STEP as usize) {
        sql.change(insert, &[&first, &(first + STEP - 1).min(rows), &rows]);
    }
    sql.run(crate::contract_metadata::FILL).unwrap();
    sql.run("VACUUM ANALYZE tasks, task_metadata").unwrap();
    sql.run("CHECKPOINT").unwrap();
}
