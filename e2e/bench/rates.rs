//! Rates: submits, finished tasks and polls a second, the wait until a task starts, and the start and memory of each role.

use std::time::Instant;

use super::{
    CONNECTIONS, Size, drained, light_task,
    load::{get, load, post},
};
use crate::harness::{Deployment, LONG, Services, memory, private_memory};

#[test]
fn what_a_second_brings() {
    let size = Size::of_this_run();
    let services = Services::private();
    let deployment = Deployment::on(&services)
        .set("RUST_LOG", "info,longrun=info")
        .set("APP_CONCURRENCY", 512)
        .set("APP_MAX_QUEUE_DEPTH", 100_000_000);
    let sql = deployment.sql();
    let body = light_task().to_string();
    let [mut submits, mut slowest, mut drains, mut polls, mut waits] = [(); 5].map(|()| Vec::new());
    let [mut serve_memory, mut work_memory] = [(); 2].map(|()| Vec::new());
    for _ in 0..size.rounds() {
        sql.run("TRUNCATE tasks, task_events").unwrap();
        deployment.redis::<()>(&["FLUSHDB"]);
        let mut serve = deployment.serve();
        let (address, client) = (serve.address(), serve.client());
        client.wait_ready(LONG);
        let submitted = load(address, CONNECTIONS, size.load(), 202, |_| post("/tasks", &body));
        submits.push(submitted.rate);
        slowest.push(submitted.p99);

        let waiting = sql.value::<i64>("SELECT count(*) FROM tasks", &[]);
        let mut work = deployment.work();
        drains.push(drained(&sql, waiting));
        work.wait_for_line("worker started");

        let ids: Vec<String> = client.list("?limit=500").iter().map(|task| text(&task["task_id"])).collect();
        let asked = |number: usize| get(&format!("/tasks/{}", ids[number % ids.len()]));
        polls.push(load(address, CONNECTIONS, size.load(), 200, asked).rate);

        for _ in 0..size.choose(5, 200) {
            let id = client.submit(&light_task());
            client.wait_final(&id, LONG);
            let wait = "SELECT extract(epoch FROM started_at - created_at)::float8 * 1000 FROM tasks
                        WHERE id = from_ulid($1)";
            waits.push(sql.value::<f64>(wait, &[&id]));
        }
        serve_memory.push(megabytes(memory(serve.pid())));
        work_memory.push(megabytes(memory(work.pid())));
        work.stop();
        serve.stop();
    }
    size.figure("submit, 64 connections", "a second", &mut submits);
    size.figure("submit, 99th percentile", "ms", &mut slowest);
    size.figure("drain of what was submitted", "a second", &mut drains);
    size.figure("poll, 64 connections", "a second", &mut polls);
    size.figure("from the row's commit to the handler, idle", "ms", &mut waits);
    size.figure("resident memory of serve after the load", "MB", &mut serve_memory);
    size.figure("resident memory of work after the load", "MB", &mut work_memory);
}

#[test]
fn how_soon_each_role_is_there() {
    let size = Size::of_this_run();
    let deployment = Deployment::new().set("RUST_LOG", "info,longrun=info");
    let [mut serves, mut works, mut migrates] = [(); 3].map(|()| Vec::new());
    let mut idle = [(); 4].map(|()| Vec::new());
    for _ in 0..size.choose(1, 11) {
        let began = Instant::now();
        let mut serve = deployment.serve();
        serve.client().wait_ready(LONG);
        serves.push(began.elapsed().as_secs_f64() * 1_000.0);
        let began = Instant::now();
        let mut work = deployment.work();
        work.wait_for_line("worker started");
        works.push(began.elapsed().as_secs_f64() * 1_000.0);
        let migrated = deployment.run(&["migrate"]);
        assert_eq!(migrated.code, Some(0));
        migrates.push(migrated.took.as_secs_f64() * 1_000.0);
        let weighed = [serve.pid(), work.pid()].map(|pid| [memory(pid), private_memory(pid)]);
        idle.iter_mut().zip(weighed.as_flattened()).for_each(|(all, bytes)| all.push(megabytes(*bytes)));
        work.stop();
        serve.stop();
    }
    // Each includes up to 20 ms until the look that notices it.
    size.figure("start of serve, until it is ready", "ms", &mut serves);
    size.figure("start of work, until it takes tasks", "ms", &mut works);
    size.figure("migrate with nothing to do", "ms", &mut migrates);
    let names = ["serve, resident", "serve, its own", "work, resident", "work, its own"];
    for (name, megabytes) in names.iter().zip(&mut idle) {
        size.figure(&format!("idle memory of {name}"), "MB", megabytes);
    }
}

fn text(value: &serde_json::Value) -> String {
    value.as_str().expect("a text").to_owned()
}

fn megabytes(bytes: f64) -> f64 {
    bytes / f64::from(1 << 20)
}
