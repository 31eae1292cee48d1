//! Constants: what one submit, one task, one poll, one stream and one slot cost, against those that `app size`
//! calculates with, in a table with the constants' own names.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
};

use longrun::size::constants;
use serde_json::{Value, json};

use super::{figure, measuring};
use crate::harness::{App, Client, Deployment, LONG, Services, Sql, cpu, memory, raw_stream, until};

/// Clients at a time, each on one connection.
const CLIENTS: usize = 16;
/// The slots of the worker.
const SLOTS: usize = 32;

#[test]
fn a_task_costs_what_the_tool_calculates_with() {
    let (each, streams, slots) = if measuring() { (1_250, 1_000, 200) } else { (50, 10, 8) };
    let tasks = (each * CLIENTS) as f64;
    let services = Services::private();
    let deployment = Deployment::on(&services).set("APP_CONCURRENCY", SLOTS).set("RUST_LOG", "info");
    let (mut serve, sql) = (deployment.serve(), deployment.sql());
    let address = serve.address();
    serve.client().wait_ready(LONG);
    let pids = [serve.pid(), services.postgres.pid()];
    let cpu_of = |work: &dyn Fn()| {
        let before = pids.map(cpu);
        work();
        [0, 1].map(|at| (cpu(pids[at]) - before[at]) / tasks)
    };
    let wal = || sql.value::<f64>("SELECT (pg_current_wal_lsn() - '0/0'::pg_lsn)::float8", &[]);
    sql.run("CHECKPOINT").unwrap();
    let (wal_before, redis_before) = (wal(), used_memory(&deployment));

    let body = json!({"vector_data": [1.0], "duration": 0}).to_string();
    let submit = format!(
        "POST /tasks HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let [serve_submit, postgres_submit] = cpu_of(&|| requests(address, each, |_| submit.clone()));
    let waiting = (used_memory(&deployment) - redis_before) / tasks;
    let serve_memory = memory(serve.pid());

    let mut work = deployment.work();
    let postgres_before = cpu(services.postgres.pid());
    until("all have ended", 4 * LONG, || {
        (sql.value::<i64>("SELECT count(*) FROM tasks WHERE status <> 'SUCCESS'", &[]) == 0).then_some(())
    });
    let postgres_run = (cpu(services.postgres.pid()) - postgres_before) / tasks;
    let (work_task, work_memory) = (cpu(work.pid()) / tasks, memory(work.pid()));
    let written = (wal() - wal_before) / tasks;
    ["tasks", "task_events"].iter().for_each(|table| sql.run(&format!("VACUUM FULL {table}")).unwrap());
    let tables =
        "SELECT sum(pg_total_relation_size(oid))::float8 FROM pg_class WHERE relname IN ('tasks', 'task_events')";
    let disk = sql.value::<f64>(tables, &[]) / tasks;

    let id = serve.client().list("?limit=1")[0]["task_id"].as_str().unwrap().to_owned();
    let poll = format!("GET /tasks/{id} HTTP/1.1\r\nhost: x\r\n\r\n");
    let [serve_poll, postgres_poll] = cpu_of(&|| requests(address, each, |_| poll.clone()));

    let stream = memory_of_a_stream(&serve, address, streams);
    connections(&deployment, &sql, &mut work);
    let longer = longer_than_its_task(&deployment, &serve.client(), &sql, if measuring() { 200 } else { 5 });
    let slot = memory_of_a_slot(&deployment, &serve.client(), &sql, slots);
    let payload_wal = log_of_a_byte(&deployment, &serve.client(), &sql, if measuring() { 500 } else { 20 });

    figure("| constant | measured | app size takes | share |");
    let row = |name: &str, measured: f64, constant: f64, unit: &str, scale: f64| {
        let share = 100.0 * measured / constant;
        figure(&format!("| {name} | {:.1} {unit} | {:.1} {unit} | {share:.0} % |", measured * scale, constant * scale));
    };
    row("SERVE_SUBMIT_CPU", serve_submit, constants::SERVE_SUBMIT_CPU, "µs", 1e6);
    row("SERVE_POLL_CPU", serve_poll, constants::SERVE_POLL_CPU, "µs", 1e6);
    row("WORK_TASK_CPU", work_task, constants::WORK_TASK_CPU, "µs", 1e6);
    row("POSTGRES_TASK_CPU", postgres_submit + postgres_run, constants::POSTGRES_TASK_CPU, "µs", 1e6);
    row("POSTGRES_POLL_CPU", postgres_poll, constants::POSTGRES_POLL_CPU, "µs", 1e6);
    row("SLOT_OVERHEAD", longer, constants::SLOT_OVERHEAD, "ms", 1e3);
    row("SERVE_MEMORY", serve_memory, constants::SERVE_MEMORY, "MB", 1e-6);
    row("STREAM_MEMORY", stream, constants::STREAM_MEMORY, "kB", 1e-3);
    row("WORK_MEMORY", work_memory, constants::WORK_MEMORY, "MB", 1e-6);
    row("--memory, of a task that only waits", slot, 1_048_576.0, "kB", 1e-3);
    row("TASK_DISK", disk, constants::TASK_DISK, "B", 1.0);
    row("TASK_WAL", written, constants::TASK_WAL, "B", 1.0);
    row("PAYLOAD_WAL", payload_wal, constants::PAYLOAD_WAL, "B", 1.0);
    row("WAITING_REDIS", waiting, constants::WAITING_REDIS, "B", 1.0);
    let micro = |seconds: f64| 1e6 * seconds;
    figure(&format!("PostgreSQL: {:.0} µs of a submit, {:.0} of a run", micro(postgres_submit), micro(postgres_run)));

    // Sizes are the same on any machine; what is saved by compression and pages that are not full differs a little.
    let about = |found: f64, constant: f64, what: &str| {
        assert!((0.3 * constant..=constant).contains(&found), "{what}: {found} is not what {constant} stands for");
    };
    if measuring() {
        about(disk, constants::TASK_DISK, "disk");
        about(written, constants::TASK_WAL, "log");
        about(waiting, constants::WAITING_REDIS, "Redis");
        about(serve_memory, constants::SERVE_MEMORY, "serve");
        about(work_memory, constants::WORK_MEMORY, "work");
        about(stream, constants::STREAM_MEMORY, "stream");
        about(payload_wal, constants::PAYLOAD_WAL, "log of an input");
        assert!(slot < 1_048_576.0, "a slot needs {slot} B");
    }
}

/// No process opens more connections than `max_connections` is calculated with.
fn connections(deployment: &Deployment, sql: &Sql, work: &mut App) {
    /// The default of `APP_POSTGRES_POOL`.
    const POOL: u64 = 10;
    let postgres =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let redis = || {
        deployment.redis::<String>(&["CLIENT", "LIST", "TYPE", "normal"]).lines().count() as u64 - 1
            + deployment.redis::<String>(&["CLIENT", "LIST", "TYPE", "pubsub"]).lines().count() as u64
    };
    let (of_postgres, of_redis) = (sql.value::<i64>(postgres, &[]), redis());
    figure(&format!("connections of one serve and one work: {of_postgres} to PostgreSQL, {of_redis} to Redis"));
    let most = 2 * POOL + constants::SERVE_BESIDE_ITS_POOL + constants::WORK_BESIDE_ITS_POOL;
    assert!(of_postgres.unsigned_abs() <= most, "{of_postgres} connections to PostgreSQL");
    assert!(of_redis <= constants::SERVE_REDIS_CONNECTIONS + constants::WORK_REDIS_CONNECTIONS, "{of_redis} to Redis");
    work.stop();
    let left = until("the worker's connections are gone", LONG, || Some(redis()).filter(|left| *left < of_redis));
    assert!(left <= constants::SERVE_REDIS_CONNECTIONS, "{left} connections of serve to Redis");
}

/// The same request again and again from several clients, each on a connection of its own that stays open.
fn requests(address: SocketAddr, each: usize, request: impl Fn(usize) -> String + Sync) {
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut connection = TcpStream::connect(address).unwrap();
                connection.set_nodelay(true).unwrap();
                for number in 0..each {
                    connection.write_all(request(number).as_bytes()).unwrap();
                    let status = read_answer(&mut connection);
                    assert!(status.is_ok_and(|status| [200, 202].contains(&status)), "request {number} was refused");
                }
            });
        }
    });
}

/// Reads one answer that says its length, and returns its status.
fn read_answer(connection: &mut TcpStream) -> std::io::Result<u16> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let count = connection.read(&mut buffer)?;
        bytes.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let head = head.to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return Ok(head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0));
            }
        }
        if count == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// How much longer than its task a slot is taken: one slot, and tasks of 20 ms one after the other.
fn longer_than_its_task(deployment: &Deployment, client: &Client, sql: &Sql, count: usize) -> f64 {
    const LASTS: f64 = 0.02;
    let ids: Vec<String> =
        (0..count).map(|_| client.submit(&json!({"vector_data": [1.0], "duration": LASTS}))).collect();
    let mut work = deployment.work_with(&[("APP_CONCURRENCY", "1")]);
    all_ended(sql);
    work.stop();
    let from_first_to_last = "SELECT extract(epoch FROM max(started_at) - min(started_at))::float8
                              FROM tasks WHERE ulid(id) = ANY($1)";
    sql.value::<f64>(from_first_to_last, &[&ids]) / (count - 1) as f64 - LASTS
}

/// What a worker needs for a task that only waits, beside what it needs without any.
fn memory_of_a_slot(deployment: &Deployment, client: &Client, sql: &Sql, count: usize) -> f64 {
    let mut work = deployment.work_with(&[("APP_CONCURRENCY", "256"), ("APP_GRACE", "0s")]);
    work.wait_for_line("worker started");
    // The first one warms up what all of them share.
    let submit = || client.submit(&json!({"vector_data": [1.0], "duration": 3600}));
    let running = |wanted: usize| {
        let count = "SELECT count(*) FROM tasks WHERE status = 'RUNNING'";
        until("they run", LONG, || (sql.value::<i64>(count, &[]) == wanted as i64).then_some(()));
    };
    let mut ids = vec![submit()];
    running(1);
    let before = memory(work.pid());
    ids.extend((0..count).map(|_| submit()));
    running(1 + count);
    let after = memory(work.pid());
    ids.iter().for_each(|id| drop(client.cancel(id).expect(204)));
    work.stop();
    (after - before) / count as f64
}

/// Write-ahead log for each byte of an input, beside what a task without one writes.
fn log_of_a_byte(deployment: &Deployment, client: &Client, sql: &Sql, count: usize) -> f64 {
    // Whole pages after a checkpoint and the work of autovacuum have nothing to do with it, and are more than it. The
    // services are this test's own.
    for setting in ["full_page_writes = off", "autovacuum = off"] {
        sql.run(&format!("ALTER SYSTEM SET {setting}")).unwrap();
    }
    sql.run("SELECT pg_reload_conf()").unwrap();
    let settings = "SELECT current_setting('full_page_writes') || current_setting('autovacuum')";
    until("the settings are taken", LONG, || (sql.value::<String>(settings, &[]) == "offoff").then_some(()));
    sql.run("CHECKPOINT").unwrap();
    let mut work = deployment.work();
    work.wait_for_line("worker started");
    let wal = || sql.value::<f64>("SELECT (pg_current_wal_lsn() - '0/0'::pg_lsn)::float8", &[]);
    let written = |body: &Value| {
        let before = wal();
        (0..count).for_each(|_| drop(client.submit(body)));
        all_ended(sql);
        (wal() - before) / count as f64
    };
    let (small, large) = (json!([1.0]), json!((0..50).map(|n| f64::from(n).sqrt().sin()).collect::<Vec<_>>()));
    let bytes = (large.to_string().len() - small.to_string().len()) as f64;
    let of = |data: &Value| json!({"vector_data": data, "duration": 0});
    let (without, with) = (written(&of(&small)), written(&of(&large)));
    work.stop();
    (with - without) / bytes
}

fn all_ended(sql: &Sql) {
    let others =
        "SELECT count(*) FROM tasks WHERE status NOT IN ('SUCCESS', 'CANCELLED') AND ready_at < clock_timestamp()";
    until("all have ended", 4 * LONG, || (sql.value::<i64>(others, &[]) == 0).then_some(()));
}

/// Streams of a task that waits an hour for its start.
fn memory_of_a_stream(serve: &App, address: SocketAddr, count: usize) -> f64 {
    let client = Client::new(address);
    let waiting: Value = json!({"vector_data": [1.0], "options": {"delay": "1h"}});
    let id = client.submit(&waiting);
    let before = memory(serve.pid());
    let streams: Vec<TcpStream> = (0..count).map(|_| raw_stream(address, &id)).collect();
    let after = memory(serve.pid());
    drop(streams);
    (after - before) / count as f64
}

fn used_memory(deployment: &Deployment) -> f64 {
    let info: String = deployment.redis(&["INFO", "memory"]);
    info.lines().find_map(|line| line.strip_prefix("used_memory:")?.trim().parse().ok()).expect("Redis says so")
}
