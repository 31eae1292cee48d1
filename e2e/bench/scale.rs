//! Scale: how rates change with the size of an input and with the number of workers, what streams cost by their number,
//! and whether memory stays flat under load.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use super::{
    CONNECTIONS, Size, drained, light_task,
    load::{load, post},
};
use crate::harness::{App, Deployment, LONG, Services, Sql, cpu, memory, private_memory, raw_stream};

/// How long after a burst its memory is weighed again: an allocator gives back in its own time.
const SETTLED: Duration = Duration::from_secs(20);

#[test]
fn what_the_size_of_an_input_costs() {
    let size = Size::of_this_run();
    let services = Services::private();
    let deployment = fast(&services);
    let sql = deployment.sql();
    // The smallest is the task of every other load.
    let inputs = [
        (light_task().to_string(), "65 B"),
        (body(1 << 10), "1 KiB"),
        (body(16 << 10), "16 KiB"),
        (body(256 << 10), "256 KiB"),
    ];
    let mut measured = inputs.each_ref().map(|_| [Vec::new(), Vec::new()]);
    for _ in 0..size.rounds() {
        for ((body, _), [submits, drains]) in inputs.iter().zip(&mut measured) {
            empty(&deployment, &sql);
            let mut serve = deployment.serve();
            serve.client().wait_ready(LONG);
            submits.push(load(serve.address(), CONNECTIONS, size.load(), 202, |_| post("/tasks", body)).rate);
            let waiting = sql.value::<i64>("SELECT count(*) FROM tasks", &[]);
            let mut work = deployment.work();
            drains.push(drained(&sql, waiting));
            work.stop();
            serve.stop();
        }
    }
    for ((_, name), [submits, drains]) in inputs.iter().zip(&mut measured) {
        size.figure(&format!("submit of {name}, 64 connections"), "a second", submits);
        size.figure(&format!("drain of tasks of {name}"), "a second", drains);
    }
}

#[test]
fn what_more_workers_bring() {
    let size = Size::of_this_run();
    let services = Services::private();
    let deployment = fast(&services);
    let sql = deployment.sql();
    let tasks = size.choose(100, 50_000);
    let counts = [1, 2, 4];
    let mut measured = counts.map(|_| Vec::new());
    for _ in 0..size.rounds() {
        for (count, drains) in counts.iter().zip(&mut measured) {
            empty(&deployment, &sql);
            let mut serve = deployment.serve();
            let client = serve.client();
            client.wait_ready(LONG);
            let batch = serde_json::Value::from(vec![light_task(); 100]).to_string();
            for _ in 0..tasks / 100 {
                client.post("/tasks/batch", batch.as_str(), &[]).expect(202);
            }
            let mut workers: Vec<App> = (0..*count).map(|_| deployment.work()).collect();
            drains.push(drained(&sql, tasks));
            workers.iter_mut().for_each(App::stop);
            serve.stop();
        }
    }
    for (count, drains) in counts.iter().zip(&mut measured) {
        size.figure(&format!("drain by {count} workers"), "a second", drains);
    }
}

/// Streams of one task that moves once a second: what of a core they take, and what each weighs, right after all were
/// opened at once and some time later.
#[test]
fn what_streams_cost_by_their_number() {
    let size = Size::of_this_run();
    let services = Services::private();
    let deployment = fast(&services);
    let mut work = deployment.work();
    for count in size.choose([5, 20], [1_000, 10_000]) {
        let mut serve = deployment.serve();
        let (address, client) = (serve.address(), serve.client());
        client.wait_ready(LONG);
        let seconds = size.choose(1, 60);
        let id = client.submit(&json!({"vector_data": [1.0], "duration": seconds}));
        let before = memory(serve.pid());
        let openers = size.choose(2, 8);
        let streams: Vec<_> = thread::scope(|scope| {
            let opening = || (0..count / openers).map(|_| raw_stream(address, &id)).collect::<Vec<_>>();
            let threads: Vec<_> = (0..openers).map(|_| scope.spawn(opening)).collect();
            threads.into_iter().flat_map(|thread| thread.join().expect("each is opened")).collect()
        });
        let kib = |bytes: f64| (bytes - before) / 1_024.0 / streams.len() as f64;
        let burst = kib(memory(serve.pid()));
        let (began, used) = (Instant::now(), cpu(serve.pid()));
        if size == Size::Full {
            thread::sleep(SETTLED);
        }
        let share = (cpu(serve.pid()) - used) / began.elapsed().as_secs_f64();
        size.figure(&format!("each of {count} streams, just opened"), "KiB", &mut [burst]);
        size.figure(&format!("each of {count} streams, later"), "KiB", &mut [kib(memory(serve.pid()))]);
        size.figure(&format!("{count} streams of a task that moves each second"), "% of a core", &mut [share * 100.0]);
        client.wait_final(&id, 3 * LONG);
        drop(streams);
        serve.stop();
    }
    work.stop();
}

/// Ten minutes in a full run. Both roles are weighed after the first minute and at the end.
#[test]
fn memory_stays_flat_under_load() {
    let size = Size::of_this_run();
    let services = Services::private();
    let deployment = fast(&services);
    let (mut serve, mut work) = (deployment.serve(), deployment.work());
    let (address, client) = (serve.address(), serve.client());
    client.wait_ready(LONG);
    let body = light_task().to_string();
    let (minute, minutes) = size.choose((Duration::from_millis(300), 2), (Duration::from_secs(60), 10));
    let mut tasks = 0.0;
    let mut weighed = Vec::new();
    for _ in 0..minutes {
        tasks += load(address, CONNECTIONS, minute, 202, |_| post("/tasks", &body)).rate * minute.as_secs_f64();
        weighed.push([serve.pid(), work.pid()].map(memory));
    }
    for (at, name) in ["serve", "work"].iter().enumerate() {
        let [first, last] = [weighed[0], weighed[weighed.len() - 1]].map(|both| both[at] / f64::from(1 << 20));
        size.figure(&format!("{name} after the first minute of load"), "MB", &mut [first]);
        size.figure(&format!("{name} at the end, after {tasks:.0} tasks"), "MB", &mut [last]);
        assert!(size == Size::Small || last <= first * 1.3, "{name} grew from {first:.1} to {last:.1} MB");
    }
    let own = private_memory(serve.pid()) / f64::from(1 << 20);
    size.figure("serve at the end, its own", "MB", &mut [own]);
    for role in [&serve, &work] {
        assert!(gives_back_when_idle(role.pid()), "nothing gives memory back while nobody allocates");
    }
    if size == Size::Small {
        drained(&deployment.sql(), tasks as i64);
    }
    work.stop();
    serve.stop();
}

/// Whether jemalloc has a thread of its own there.
fn gives_back_when_idle(pid: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("the process is there").flatten();
    threads.into_iter().any(|thread| {
        std::fs::read_to_string(thread.path().join("comm")).is_ok_and(|name| name.trim() == "jemalloc_bg_thd")
    })
}

fn fast(services: &Services) -> Deployment<'_> {
    Deployment::on(services)
        .set("RUST_LOG", "info,longrun=info")
        .set("APP_CONCURRENCY", 512)
        .set("APP_MAX_QUEUE_DEPTH", 100_000_000)
}

fn empty(deployment: &Deployment<'_>, sql: &Sql) {
    sql.run("TRUNCATE tasks, task_events").expect("the tables are there");
    deployment.redis::<()>(&["FLUSHDB"]);
}

/// A submit of about so many bytes: the more, the more numbers.
fn body(bytes: usize) -> String {
    let numbers: Vec<f64> = (0..(bytes / 8).saturating_sub(6).max(1)).map(|n| n as f64 / 1e5).collect();
    json!({"vector_data": numbers, "duration": 0}).to_string()
}
