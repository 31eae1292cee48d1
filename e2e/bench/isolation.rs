//! Isolation: what a process per attempt costs, beside the same nothing done in the worker.

use std::{collections::BTreeMap, fs};

use nix::unistd::{SysconfVar, sysconf};
use serde_json::json;

use super::Size;
use crate::harness::{Deployment, LONG, new_folder};

#[test]
fn what_an_attempt_costs() {
    let size = Size::of_this_run();
    let tasks = size.choose(3, 100);
    let file = new_folder("bench").join("tasks.toml");
    fs::write(&file, "[tasks.nothing]\ncommand = [\"true\"]\ninput_schema.type = \"object\"\n").unwrap();
    let deployment = Deployment::new()
        .with_test_types()
        .set("APP_TASKS", file.display())
        .set("RUST_LOG", "info,longrun=info")
        .set("APP_CONCURRENCY", 1);
    let (mut serve, mut work) = (deployment.serve(), deployment.work());
    let (client, sql) = (serve.client(), deployment.sql());
    let kinds = [
        ("in the worker", json!({"vector_data": [1.0], "duration": 0})),
        ("a Rust type in a process", json!({"task_type": "apart", "how": "well"})),
        ("a command", json!({"task_type": "nothing"})),
    ];
    // What a worker does once, at its start and with the first task of a kind, is no part of an attempt.
    work.wait_for_line("worker started");
    for (_, body) in &kinds {
        let task = client.wait_final(&client.submit(body), LONG);
        assert_eq!(task["status"], "SUCCESS", "{task:#}");
    }
    let mut cpu: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    let mut latency: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for _ in 0..size.rounds() {
        for (name, body) in &kinds {
            let before = processor_ms(work.pid());
            let ids: Vec<String> = (0..tasks).map(|_| client.submit(body)).collect();
            for id in &ids {
                let task = client.wait_final(id, LONG);
                assert_eq!(task["status"], "SUCCESS", "{task:#}");
            }
            let took =
                "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM completed_at - started_at))
                            * 1000 FROM tasks WHERE ulid(id) = ANY($1)";
            let took: f64 = sql.value(took, &[&ids]);
            cpu.entry(*name).or_default().push((processor_ms(work.pid()) - before) / f64::from(tasks));
            latency.entry(*name).or_default().push(took);
        }
    }
    for (name, _) in &kinds {
        size.figure(&format!("an attempt of nothing, {name}: processor time"), "ms", cpu.get_mut(name).unwrap());
        size.figure(&format!("an attempt of nothing, {name}: from claim to end"), "ms", latency.get_mut(name).unwrap());
    }
    // It counts what it is to count: whoever starts processes pays for them. A few attempts are less than the system's
    // ticks can tell from what else a worker does.
    if size == Size::Full {
        let least = |name: &str| cpu[name].iter().copied().fold(f64::INFINITY, f64::min);
        assert!(least("a command") > least("in the worker"), "{cpu:?}");
    }
}

/// Processor time that a process has used, with that of its children that have ended (proc(5): utime to cstime).
fn processor_ms(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the worker runs");
    let fields = stat.rsplit_once(')').expect("a name in brackets").1.split_whitespace();
    let ticks: f64 = fields.skip(11).take(4).map(|field| field.parse::<f64>().expect("a number")).sum();
    let per_second = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100) as f64;
    ticks * 1_000.0 / per_second
}
