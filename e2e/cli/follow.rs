//! Following: every log line once, through restarts, cuts and silence; the end is the task's own.

use std::{net::Ipv4Addr, time::Duration};

use serde_json::Value;

use super::{House, ending};
use crate::harness::{App, Client, Deployment, Direction, Flow, LONG, Proxy, free_port, until};

/// The messages of the log lines that `follow` wrote in a pipe.
fn messages(stdout: &str) -> Vec<String> {
    let is_log = |line: &&str| line.split(' ').nth(1) == Some("INFO");
    stdout.lines().filter(is_log).map(|line| line[33..].to_owned()).collect()
}

fn logged(api: &Client, id: &str) -> Vec<String> {
    api.logs(id).iter().map(|line| line["message"].as_str().unwrap().to_owned()).collect()
}

fn start_at(url: &str, arguments: &[&str]) -> App {
    App::start(arguments, &[("APP_URL".to_owned(), url.to_owned())])
}

#[test]
fn every_line_comes_once_across_restarts_of_serve_and_cuts() {
    let deployment = Deployment::new().set("APP_TEST_TYPES", 1);
    // The same port after the restart.
    let port = free_port(Ipv4Addr::LOCALHOST);
    let bind = format!("127.0.0.1:{port}");
    let mut serve = deployment.serve_with(&[("APP_BIND", &bind)]);
    let _work = deployment.work();
    let api = serve.client();
    let proxy = Proxy::before(port);
    let url = format!("http://{}", proxy.address());
    let id = api.submit(&serde_json::json!({"task_type": "test_sleep", "ms": 16_000, "steps": 200}));
    let mut lines = start_at(&url, &["follow", &id]);
    let mut json = start_at(&url, &["follow", &id, "--json"]);
    until("both follow", LONG, || {
        (lines.stdout().contains("step 5 ") && json.stdout().contains("step 5 ")).then_some(())
    });
    proxy.cut();
    until("it has resumed", LONG, || lines.stderr().contains("resumed, nothing missed").then_some(()));
    serve.kill();
    let mut serve = deployment.serve_with(&[("APP_BIND", &bind)]);
    serve.address();
    until("it has resumed again", LONG, || (lines.stderr().matches("resumed").count() >= 2).then_some(()));
    proxy.reset();
    assert_eq!(lines.wait_exit(LONG).code(), Some(0), "{}", lines.stderr());
    assert_eq!(json.wait_exit(LONG).code(), Some(0), "{}", json.stderr());

    let written = logged(&api, &id);
    assert_eq!(written.len(), 200);
    assert_eq!(messages(&lines.stdout()), written);
    assert!(lines.stdout().lines().last().unwrap().contains(" final SUCCESS 100% 200/200 "), "{}", lines.stdout());

    let told: Vec<Value> = json.stdout().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(told.iter().all(|event| event["task_id"] == id.as_str() && event["seq"].is_i64()));
    let logs: Vec<_> = told.iter().filter(|event| event["event"] == "log").collect();
    assert_eq!(logs.iter().map(|event| event["message"].as_str().unwrap()).collect::<Vec<_>>(), written);
    let numbers: Vec<_> = told.iter().filter_map(|event| event["seq"].as_i64()).collect();
    assert!(numbers.is_sorted(), "{numbers:?}");
    assert!(told.iter().any(|event| event["event"] == "connection" && event["state"] == "lost"));
    assert!(
        told.iter().any(|event| event["event"] == "status") && told.iter().any(|event| event["event"] == "progress")
    );
    let last = told.last().unwrap();
    assert_eq!((&last["event"], &last["status"]), (&"final".into(), &"SUCCESS".into()));
    assert_eq!(last["result"], api.task(&id)["result"]);
}

#[test]
fn a_connection_that_has_gone_silent_is_given_up() {
    let mut house = House::open();
    let proxy = Proxy::before(house.serve.address().port());
    let id = house.submit(&["test_sleep", "ms=15000", "steps=150"]);
    let mut follow = start_at(&format!("http://{}", proxy.address()), &["follow", &id]);
    until("it follows", LONG, || follow.stdout().contains("step 2 ").then_some(()));
    // The stream is the first connection. From here on nothing comes, not even its end.
    proxy.set_one(0, Direction::ToClient, Flow::Swallow);
    assert_eq!(follow.wait_exit(3 * LONG).code(), Some(0));
    assert!(follow.stderr().contains("connection lost"), "{}", follow.stderr());
    assert_eq!(messages(&follow.stdout()), logged(&house.api, &id));
}

#[test]
fn a_lost_connection_is_no_result() {
    let mut house = House::open();
    let proxy = Proxy::before(house.serve.address().port());
    let id = house.submit(&["test_sleep", "ms=60000", "steps=600"]);
    let mut follow = start_at(&format!("http://{}", proxy.address()), &["follow", &id, "--reconnect-for", "1s"]);
    until("it follows", LONG, || follow.stdout().contains("step 2 ").then_some(()));
    proxy.refuse(true);
    proxy.cut();
    assert_eq!(follow.wait_exit(LONG).code(), Some(9));
    assert!(follow.stderr().contains("The task goes on"), "{}", follow.stderr());
    assert_eq!(house.api.task(&id)["status"], "RUNNING");
}

#[test]
fn the_end_of_an_earlier_run_is_not_the_end() {
    let house = House::open();
    let id = house.submit(&["test_sleep", "ms=6000", "steps=60"]);
    house.api.wait_status(&id, "RUNNING", LONG);
    house.api.cancel(&id).expect(204);
    until("it can be retried", LONG, || (house.run(&["retry", &id]).code == Some(0)).then_some(()));
    let done = house.run(&["follow", &id]);
    assert_eq!(done.code, Some(0), "{}", done.output());
    let statuses: Vec<_> =
        done.stdout.lines().filter(|line| line.contains(" status ") || line.contains(" final ")).collect();
    assert!(statuses.iter().any(|line| line.contains("status CANCELLED")), "{statuses:#?}");
    assert!(statuses.last().unwrap().contains("final SUCCESS"), "{statuses:#?}");
}

#[test]
fn several_tasks_have_a_bar_each_and_the_worst_decides() {
    let house = House::open();
    let good = house.submit(&["test_sleep", "ms=1500", "steps=15"]);
    let failed = house.failed();
    let mut terminal = house.on_terminal(&["follow", &good, ending(&failed)]);
    terminal.shows("SUCCESS");
    let (code, screen) = terminal.finish();
    assert_eq!(code, Some(3));
    for (id, status) in [(&good, "SUCCESS"), (&failed, "FAILED")] {
        let bar = format!("…{} ", ending(id));
        let lines: Vec<_> = screen.lines().filter(|line| line.starts_with(&bar)).collect();
        assert!(lines.len() == 1 && lines[0].contains(status), "one bar that stays: {screen}");
    }
    let done = house.run(&["follow", &good, &failed]);
    assert_eq!(done.code, Some(3));
    assert!(done.stdout.lines().any(|line| line.contains(&format!("{good} final SUCCESS"))), "{}", done.stdout);
}

#[test]
fn a_waiting_task_says_why() {
    let deployment = Deployment::new();
    let mut serve = deployment.serve();
    let url = format!("http://{}", serve.address());
    let api = serve.client();
    let scheduled = serde_json::json!({"vector_data": [1.0], "duration": 0, "options": {"delay": "1h"}});
    let id = api.submit(&scheduled);
    let mut follow = start_at(&url, &["follow", &id]);
    until("it says why", LONG, || follow.stdout().contains("status PENDING scheduled, in ").then_some(()));
    api.cancel(&id).expect(204);
    assert_eq!(follow.wait_exit(LONG).code(), Some(4));

    let id = api.submit(&serde_json::json!({"vector_data": [1.0], "duration": 0}));
    let mut terminal = crate::harness::Terminal::start(&["follow", &id], &[("APP_URL", &url)]);
    terminal.shows("no worker for vector_processing");
    let _work = deployment.work();
    let (code, screen) = terminal.finish();
    assert_eq!(code, Some(0), "{screen}");
}

#[test]
fn a_pipe_is_told_of_progress_now_and_then() {
    let house = House::open();
    let done = house.run(&["submit", "test_sleep", "ms=2000", "steps=100", "--follow"]);
    assert_eq!(done.code, Some(0));
    let progress = done.stdout.lines().filter(|line| line.contains(" progress ")).count();
    assert!((2..=22).contains(&progress), "every 5 %, not every step: {progress}");
    assert_eq!(messages(&done.stdout).len(), 100);
    assert!(done.took < Duration::from_secs(60));
}

#[test]
fn a_reader_that_has_seen_enough_ends_it_quietly() {
    let house = House::open();
    let id = house.submit(&["test_sleep", "ms=0", "steps=1500"]);
    house.api.wait_final(&id, LONG * 2);
    for command in [format!("logs {id}"), format!("follow {id}"), format!("logs {id} --json"), "list".to_owned()] {
        let line = format!("{} {command} | head -n 1; exit ${{PIPESTATUS[0]}}", env!("CARGO_BIN_EXE_app"));
        let shell = std::process::Command::new("bash").args(["-c", &line]).env("APP_URL", &house.url).output().unwrap();
        assert!(!shell.stdout.is_empty());
        assert_eq!(String::from_utf8_lossy(&shell.stderr), "", "{command}");
        assert!(matches!(shell.status.code(), Some(0 | 141)), "{command}: {:?}", shell.status);
    }
}
