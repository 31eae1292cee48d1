//! Dev: `app dev` in an empty folder, as somebody who has just cloned the project starts it. Its servers are there
//! when it runs, gone when it does not, and keep their data.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;

use crate::harness::{App, LONG, new_folder, until, watchdog};

/// A first start makes a PostgreSQL cluster.
const START: std::time::Duration = LONG.saturating_mul(2);

fn start(folder: &Path) -> App {
    let mut app = launch(folder, "127.0.0.1:0");
    app.address_within(START);
    app
}

fn launch(folder: &Path, bind: &str) -> App {
    App::start_in(folder, &["dev"], &[("APP_BIND".to_owned(), bind.to_owned())])
}

/// Both servers take their pid files away when they stop in good order.
fn pid_files(folder: &Path) -> [PathBuf; 2] {
    ["postgres/postmaster.pid", "redis/redis.pid"].map(|name| folder.join(".dev/data").join(name))
}

fn servers(folder: &Path) -> [Pid; 2] {
    pid_files(folder).map(|file| {
        let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        Pid::from_raw(text.lines().next().unwrap().trim().parse().unwrap())
    })
}

fn wait_until_gone(servers: [Pid; 2]) {
    until("its servers have stopped", START, || servers.iter().all(|pid| kill(*pid, None).is_err()).then_some(()));
}

fn run_a_task(app: &mut App) -> String {
    let client = app.client();
    let id = client.submit(&json!({"vector_data": [3.0, 4.0], "duration": 0}));
    assert_eq!(client.wait_final(&id, LONG)["result"]["norm_max"], 5.0);
    let metrics = String::from_utf8(client.fetch("/metrics").expect(200).body).unwrap();
    assert!(metrics.contains("longrun_attempts_total") && metrics.contains("longrun_http_requests_total"));
    id
}

/// Ctrl-C, and in the same moment its servers are gone.
fn leave(mut app: App, folder: &Path) {
    let servers = servers(folder);
    app.signal(Signal::SIGINT);
    assert_eq!(app.wait_exit(START).code(), Some(0));
    assert!(servers.iter().all(|pid| kill(*pid, None).is_err()), "dev ended before its servers");
    assert!(pid_files(folder).iter().all(|file| !file.exists()));
    assert!(["database-url", "redis-url"].iter().all(|name| !folder.join(".dev").join(name).exists()));
}

#[test]
fn tasks_are_there_again_after_a_restart_and_the_servers_end_with_dev() {
    let folder = new_folder("dev");
    let mut app = start(&folder);
    assert!(app.stdout().contains("curl"), "it prints a first curl: {}", app.stdout());
    let id = run_a_task(&mut app);
    let task = app.client().task(&id);
    leave(app, &folder);
    let mut app = start(&folder);
    assert_eq!(app.client().task(&id), task);
    leave(app, &folder);
}

#[test]
fn the_servers_end_when_dev_is_killed_and_the_next_start_works() {
    let folder = new_folder("dev-killed");
    let mut app = start(&folder);
    let id = run_a_task(&mut app);
    let first = servers(&folder);
    app.kill();
    // At once, whether or not the first servers have gone already.
    let mut app = start(&folder);
    assert_eq!(app.client().task(&id)["status"], "SUCCESS");
    wait_until_gone(first);
    let second = servers(&folder);
    app.kill();
    wait_until_gone(second);
    // A pid file that names a living process which is not ours to stop: this one.
    fs::write(&pid_files(&folder)[0], format!("{}\n/elsewhere\n", std::process::id())).unwrap();
    let mut app = start(&folder);
    assert_eq!(app.client().task(&id)["status"], "SUCCESS");
    leave(app, &folder);
}

#[test]
fn stale_pid_files_of_a_sudden_end_of_everything_do_not_matter() {
    let folder = new_folder("dev-all-killed");
    let mut app = start(&folder);
    let id = run_a_task(&mut app);
    let killed = servers(&folder);
    for pid in killed {
        kill(pid, Signal::SIGKILL).unwrap();
    }
    app.signal(Signal::SIGKILL);
    app.wait_exit(LONG);
    wait_until_gone(killed);
    assert!(pid_files(&folder)[0].exists(), "nobody took it away");
    let mut app = start(&folder);
    assert_eq!(app.client().task(&id)["status"], "SUCCESS");
    leave(app, &folder);
}

#[test]
fn a_server_that_was_killed_is_said_to_have_been() {
    let folder = new_folder("dev-server-killed");
    let mut app = start(&folder);
    let [_, redis] = servers(&folder);
    kill(redis, Signal::SIGKILL).unwrap();
    assert_eq!(app.wait_exit(START).code(), Some(1));
    let log = app.stderr();
    let last = log.lines().last().unwrap_or_default();
    assert!(last.starts_with("error: Redis was ended by SIGKILL") && last.contains("start app dev again"), "{log}");
}

#[test]
fn a_killed_postgresql_whose_processes_are_still_about_is_waited_for() {
    let folder = new_folder("dev-left-behind");
    let mut app = start(&folder);
    let id = run_a_task(&mut app);
    let killed = servers(&folder);
    let [postmaster, _] = killed;
    // One of its processes cannot notice that the others are gone.
    let lingering = until("PostgreSQL has processes", LONG, || child_of(postmaster));
    watchdog::watch(lingering.as_raw() as u32, Signal::SIGKILL);
    kill(lingering, Signal::SIGSTOP).unwrap();
    for pid in killed {
        kill(pid, Signal::SIGKILL).unwrap();
    }
    app.kill();
    let mut app = launch(&folder, "127.0.0.1:0");
    let log = folder.join(".dev/logs/PostgreSQL.log");
    until("PostgreSQL refuses to start beside it", START, || {
        fs::read_to_string(&log).ok().filter(|text| text.contains("shared memory"))
    });
    kill(lingering, Signal::SIGCONT).unwrap();
    app.address_within(START);
    watchdog::forget(lingering.as_raw() as u32);
    assert_eq!(app.client().task(&id)["status"], "SUCCESS");
    leave(app, &folder);
}

/// A process whose parent this is.
fn child_of(parent: Pid) -> Option<Pid> {
    let listed = Command::new("ps").args(["-A", "-o", "pid=,ppid="]).output().expect("ps runs");
    String::from_utf8_lossy(&listed.stdout).lines().find_map(|line| {
        let mut numbers = line.split_whitespace().map(|number| Pid::from_raw(number.parse().unwrap()));
        let (pid, its_parent) = (numbers.next()?, numbers.next()?);
        (its_parent == parent).then_some(pid)
    })
}

#[test]
fn a_second_dev_in_a_folder_is_refused_with_one_line() {
    let folder = new_folder("dev-twice");
    let app = start(&folder);
    let mut second = launch(&folder, "127.0.0.1:0");
    assert_eq!(second.wait_exit(START).code(), Some(1));
    let line = second.stderr();
    assert_eq!(line.lines().count(), 1, "{line}");
    assert!(line.contains(&format!("process {}", app.pid())) && line.contains("APP_DEV_DIR"), "{line}");
    leave(app, &folder);
}

#[test]
fn a_failure_after_the_servers_have_started_stops_them() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = new_folder("dev-port-taken");
    let address = taken.local_addr().unwrap().to_string();
    let mut app = launch(&folder, &address);
    assert_eq!(app.wait_exit(START).code(), Some(1));
    let log = app.stderr();
    let last = log.lines().last().unwrap_or_default();
    assert!(last.starts_with("error:") && last.contains(&address), "{log}");
    let cluster = folder.join(".dev/data/postgres/PG_VERSION");
    assert!(cluster.exists(), "it failed before PostgreSQL was there");
    assert!(pid_files(&folder).iter().all(|file| !file.exists()));
}
