//! Contract: streams that are cut, that are many, and that end on the edge of a page.
//!
//! A connection to the database plays the attempt here, so that a test decides when a line is written.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{Semaphore, mpsc::Sender},
};

use crate::harness::{Client, Deployment, LONG, Proxy, Sql, free_port};

/// A task that runs, as far as its row says.
fn running(sql: &Sql) -> String {
    sql.value(
        "INSERT INTO tasks (id, task_type, status, input, max_attempts, delivery, started_at)
         VALUES (gen_random_uuid(), 'vector_processing', 'RUNNING', '{}', 1, 1, clock_timestamp()) RETURNING ulid(id)",
        &[],
    )
}

/// Writes this many lines, numbered on from the last one, and wakes whoever follows the task.
fn write_lines(deployment: &Deployment, sql: &Sql, id: &str, lines: i32) {
    let version: i32 = sql.value(
        "WITH task AS (UPDATE tasks SET seq = seq + $2, version = version + 1 WHERE id = from_ulid($1)
                       RETURNING id, seq, version),
         lines AS (INSERT INTO task_events (task_id, seq, delivery, attempt, level, message)
                   SELECT id, seq - $2 + n, 1, 1, 'INFO', 'line ' || (seq - $2 + n)
                   FROM task, generate_series(1, $2) AS n)
         SELECT version FROM task",
        &[&id, &lines],
    );
    deployment.redis::<i64>(&["PUBLISH", "v1:changed", &format!("{id} {version}\n")]);
}

/// Ends the task with a result.
fn finish(deployment: &Deployment, sql: &Sql, id: &str) {
    let version: i32 = sql.value(
        "WITH task AS (UPDATE tasks SET status = 'SUCCESS', result = '{}', completed_at = clock_timestamp(),
                              seq = seq + 1, version = version + 1 WHERE id = from_ulid($1)
                       RETURNING id, seq, version),
         change AS (INSERT INTO task_events (task_id, seq, delivery, attempt, status)
                    SELECT id, seq, 1, 1, 'SUCCESS' FROM task)
         SELECT version FROM task",
        &[&id],
    );
    deployment.redis::<i64>(&["PUBLISH", "v1:changed", &format!("{id} {version}\n")]);
}

#[test]
fn a_stream_cut_twenty_times_has_every_line_once_and_one_end() {
    const CUTS: usize = 20;
    let port = free_port(Ipv4Addr::LOCALHOST);
    let deployment = Deployment::new().set("APP_BIND", format!("127.0.0.1:{port}"));
    let mut serve = deployment.serve();
    serve.address();
    let proxy = Proxy::before(port);
    let client = Client::new(proxy.address());
    let id = running(&deployment.sql());
    let cut_enough = AtomicBool::new(false);
    let (mut logs, mut finals, mut last, mut cuts) = (Vec::new(), 0, 0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let sql = deployment.sql();
            while !cut_enough.load(Ordering::Relaxed) {
                write_lines(&deployment, &sql, &id, 3);
                // The pace of the attempt, so that a cut finds lines on their way.
                std::thread::sleep(Duration::from_millis(5));
            }
            finish(&deployment, &sql, &id);
        });
        while finals == 0 {
            client.wait_ready(LONG);
            let stream = client.stream(&id, Some(&last.to_string()));
            assert_eq!(stream.status, 200);
            let mut seen = 0;
            for event in stream {
                if let Some(number) = event.id {
                    assert!(number > last, "{number} came after {last}");
                    last = number;
                }
                if event.name.as_deref() == Some("log") {
                    logs.push(event.data["message"].as_str().unwrap().to_owned());
                }
                finals += usize::from(event.status() == Some("SUCCESS"));
                seen += 1;
                if seen == 20 && cuts < CUTS {
                    cuts += 1;
                    match cuts % 5 {
                        0 => {
                            serve.kill();
                            serve = deployment.serve();
                        }
                        1 => {
                            serve.stop();
                            serve = deployment.serve();
                        }
                        2 => proxy.reset(),
                        _ => proxy.cut(),
                    }
                }
            }
            cut_enough.store(cuts == CUTS, Ordering::Relaxed);
        }
    });
    let written: i32 = deployment.sql().value("SELECT seq - 1 FROM tasks", &[]);
    let expected: Vec<String> = (1..=written).map(|n| format!("line {n}")).collect();
    assert_eq!(logs, expected);
    assert_eq!((cuts, finals), (CUTS, 1));
    assert!(written > 20 * 20, "only {written} lines");
    assert_eq!(client.stream(&id, Some(&last.to_string())).status, 204);
}

#[test]
fn a_page_that_ends_with_the_end_is_the_end() {
    let deployment = Deployment::new();
    let mut serve = deployment.serve();
    let client = serve.client();
    let sql = deployment.sql();
    // A page has 200 events: one less, exactly one, one more, and two.
    for lines in [198, 199, 200, 399] {
        let id = running(&sql);
        write_lines(&deployment, &sql, &id, lines);
        finish(&deployment, &sql, &id);
        let events = client.stream(&id, Some("0")).rest();
        let ids: Vec<i64> = events.iter().filter_map(|event| event.id).collect();
        assert_eq!(ids, (1..=i64::from(lines) + 1).collect::<Vec<_>>());
        assert_eq!(events.len(), ids.len(), "nothing beside the events: {:?}", events.last());
        let last = events.last().unwrap();
        assert_eq!((last.status(), &last.data["result"]), (Some("SUCCESS"), &json!({})));
        assert_eq!(client.stream(&id, Some(&ids.len().to_string())).status, 204);
    }
}

/// Opens a stream when it has a permit, gives the permit back when the first state has come, and reads to the end.
async fn follow(address: SocketAddr, id: String, opening: Arc<Semaphore>, opened: Sender<()>) -> String {
    let permit = opening.acquire().await.unwrap();
    let mut permit = Some(permit);
    let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET /tasks/{id}/stream HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let (mut text, mut buffer) = (String::new(), [0; 4096]);
    // The end of a chunked body: the server keeps the connection.
    while !text.ends_with("\r\n0\r\n\r\n") {
        match socket.read(&mut buffer).await.unwrap() {
            0 => break,
            length => text.push_str(std::str::from_utf8(&buffer[..length]).unwrap()),
        }
        if permit.is_some() && text.contains("RUNNING") {
            permit = None;
            opened.send(()).await.unwrap();
        }
    }
    assert!(permit.is_none(), "it ended before it began: {text}");
    text
}

fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn two_thousand_streams_all_see_the_end() {
    const STREAMS: usize = 2_000;
    const TASKS: usize = 20;
    // Both ends of every stream: most systems allow 1,024 files until a program asks for more.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    let deployment = Deployment::new();
    let mut serve = deployment.serve();
    let address = serve.address();
    let sql = deployment.sql();
    let tasks: Vec<String> = (0..TASKS).map(|_| running(&sql)).collect();
    let before = resident_kib(serve.pid());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (opened, mut openings) = tokio::sync::mpsc::channel(STREAMS);
    // Not all in the same instant: a server that is asked for more than its connections to PostgreSQL bear tells the
    // rest to come back, and this test is about those that stay.
    let opening = Arc::new(Semaphore::new(50));
    let streams: Vec<_> = (0..STREAMS)
        .map(|n| runtime.spawn(follow(address, tasks[n % TASKS].clone(), opening.clone(), opened.clone())))
        .collect();
    runtime.block_on(async {
        for _ in 0..STREAMS {
            tokio::time::timeout(2 * LONG, openings.recv()).await.expect("every stream opens").unwrap();
        }
    });
    let each = resident_kib(serve.pid()).saturating_sub(before) as f64 / STREAMS as f64;
    println!("{STREAMS} streams: {each:.1} KiB each");
    tasks.iter().for_each(|id| write_lines(&deployment, &sql, id, 5));
    tasks.iter().for_each(|id| finish(&deployment, &sql, id));
    let texts = runtime.block_on(async {
        let all = futures_util::future::join_all(streams);
        tokio::time::timeout(2 * LONG, all).await.expect("every stream ends")
    });
    for text in texts {
        let text = text.unwrap();
        assert_eq!(text.matches("\"SUCCESS\"").count(), 1, "{text}");
        assert_eq!(text.matches("event: log").count(), 5, "{text}");
    }
    // With its connection and its buffers; measured are some 20.
    assert!(each < 100.0, "{each} KiB for each stream");
}
