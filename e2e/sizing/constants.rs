//! Constants: what one submit, one task, one poll and one stream cost, against those that `app size` calculates with.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::Duration,
};

use longrun::size::constants;
use serde_json::{Value, json};

use super::{figure, measuring};
use crate::harness::{App, Deployment, LONG, Services, Sql, cpu, memory, until};

/// Clients at a time, each on one connection.
const CLIENTS: usize = 16;
/// The slots of the worker.
const SLOTS: usize = 32;

#[test]
fn a_task_costs_what_the_tool_calculates_with() {
    let (each, streams) = if measuring() { (1_250, 1_000) } else { (50, 10) };
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

    let micro = |seconds: f64| 1e6 * seconds;
    figure(&format!("submit: serve {:.0} µs, PostgreSQL {:.0} µs", micro(serve_submit), micro(postgres_submit)));
    figure(&format!("run: work {:.0} µs, PostgreSQL {:.0} µs", micro(work_task), micro(postgres_run)));
    figure(&format!("poll: serve {:.0} µs, PostgreSQL {:.0} µs", micro(serve_poll), micro(postgres_poll)));
    figure(&format!("memory: serve {:.1} MB, work {:.1} MB", serve_memory / 1e6, work_memory / 1e6));
    figure(&format!("a task: {disk:.0} B on disk, {written:.0} B of log, {waiting:.0} B in Redis while it waits"));
    let stream = memory_of_a_stream(&serve, address, streams);
    figure(&format!("a stream: {:.1} kB of serve", stream / 1e3));
    connections(&deployment, &sql, &mut work);

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
    }
}

/// No process opens more connections than `max_connections` is calculated with.
fn connections(deployment: &Deployment, sql: &Sql, work: &mut App) {
    let postgres =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let redis = || {
        deployment.redis::<String>(&["CLIENT", "LIST", "TYPE", "normal"]).lines().count() as u64 - 1
            + deployment.redis::<String>(&["CLIENT", "LIST", "TYPE", "pubsub"]).lines().count() as u64
    };
    let (of_postgres, of_redis) = (sql.value::<i64>(postgres, &[]), redis());
    figure(&format!("connections of one serve and one work: {of_postgres} to PostgreSQL, {of_redis} to Redis"));
    assert!(of_postgres <= 10 + 11, "{of_postgres} connections to PostgreSQL");
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

/// Streams of a task that waits an hour for its start.
fn memory_of_a_stream(serve: &App, address: SocketAddr, count: usize) -> f64 {
    let client = crate::harness::Client::new(address);
    let waiting: Value = json!({"vector_data": [1.0], "options": {"delay": "1h"}});
    let id = client.submit(&waiting);
    let before = memory(serve.pid());
    let request = format!("GET /tasks/{id}/stream HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\n\r\n");
    let open = |_| {
        let mut connection = TcpStream::connect(address).unwrap();
        connection.set_read_timeout(Some(Duration::from_secs(90))).unwrap();
        connection.write_all(request.as_bytes()).unwrap();
        let mut first = [0; 512];
        assert!(connection.read(&mut first).unwrap() > 0, "the stream has begun");
        connection
    };
    let streams: Vec<TcpStream> = (0..count).map(open).collect();
    let after = memory(serve.pid());
    drop(streams);
    (after - before) / count as f64
}

fn used_memory(deployment: &Deployment) -> f64 {
    let info: String = deployment.redis(&["INFO", "memory"]);
    info.lines().find_map(|line| line.strip_prefix("used_memory:")?.trim().parse().ok()).expect("Redis says so")
}
