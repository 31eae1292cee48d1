//! Clients: the examples in docs/clients do what they promise, over a network that cuts them off.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::LazyLock,
};

use serde_json::{Value, json};

use crate::harness::{Deployment, Proxy};

/// Each client is cut off after each of its first lines.
const CUTS: usize = 3;

/// A Python with what the example needs, made once.
pub static PYTHON: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("clients");
    let made = Command::new("scripts/venv").arg(&folder).arg("docs/clients/requirements.txt").status();
    assert!(made.is_ok_and(|status| status.success()), "scripts/venv failed: `make clients` says what is missing");
    folder.join("bin/python3")
});

/// Runs a client to its end, cutting its connections off, and returns what it printed: a word and JSON in each line.
fn run_cut_off(command: &mut Command, proxy: &Proxy, body: &Value, key: &str) -> Vec<(String, Value)> {
    command.arg(format!("http://{}", proxy.address())).arg(body.to_string()).arg(key);
    let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("the client starts");
    let mut printed = Vec::new();
    for line in BufReader::new(process.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        let (word, rest) = line.split_once(' ').unwrap_or_else(|| panic!("no word and JSON: {line}"));
        printed.push((word.to_owned(), serde_json::from_str(rest).unwrap_or_else(|error| panic!("{error}: {line}"))));
        if printed.len() <= CUTS {
            proxy.cut();
        }
    }
    assert!(process.wait().unwrap().success());
    printed
}

/// Submits, streams and waits with a client, and does so again with the same key.
fn submits_once_and_misses_nothing(client: impl Fn() -> Command) {
    let deployment = Deployment::new();
    let (mut serve, _work) = (deployment.serve(), deployment.work());
    let api = serve.client();
    let proxy = Proxy::before(serve.address().port());
    let body = json!({"vector_data": [3.0, 4.0], "metadata": {"note": "Grüße ☃"}, "duration": 3});
    let printed = run_cut_off(&mut client(), &proxy, &body, "example-1");

    let (last, events) = printed.split_last().unwrap();
    let task = &last.1;
    assert_eq!((last.0.as_str(), &task["status"]), ("end", &json!("SUCCESS")));
    let id = task["task_id"].as_str().unwrap();
    assert_eq!(task, &api.task(id));
    let logs: Vec<&Value> = events.iter().filter(|(word, _)| word == "log").map(|(_, data)| data).collect();
    assert_eq!(logs, api.logs(id).iter().collect::<Vec<_>>(), "every log line once and in order");
    let finals = events.iter().filter(|(_, data)| data["status"] == "SUCCESS").count();
    assert_eq!(finals, 1, "{events:#?}");
    assert!(proxy.accepted() > CUTS, "it was really cut off");

    let again = run_cut_off(&mut client(), &proxy, &body, "example-1");
    assert_eq!(again.last().unwrap(), last, "the same key is the same task");
    assert_eq!(api.list("").len(), 1);
}

#[test]
fn the_python_client_submits_once_and_misses_nothing() {
    submits_once_and_misses_nothing(|| {
        let mut command = Command::new(&*PYTHON);
        command.arg("docs/clients/client.py");
        command
    });
}

#[test]
fn the_curl_client_submits_once_and_misses_nothing() {
    submits_once_and_misses_nothing(|| Command::new("docs/clients/client.sh"));
}

#[test]
fn a_refused_body_is_told_with_its_problem() {
    let deployment = Deployment::new();
    let mut serve = deployment.serve();
    let server = format!("http://{}", serve.address());
    let python = {
        let mut command = Command::new(&*PYTHON);
        command.arg("docs/clients/client.py");
        command
    };
    for mut command in [python, Command::new("docs/clients/client.sh")] {
        let output = command.args([server.as_str(), r#"{"duration":-1}"#]).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let problem: Value = serde_json::from_slice(output.stderr.trim_ascii()).unwrap_or_else(|error| {
            panic!("{error}: {}", String::from_utf8_lossy(&output.stderr));
        });
        assert_eq!(problem["code"], "invalid_input");
    }
}

/// With a key in the environment they are let in where strangers are not, and the key is in no argument.
#[test]
fn the_clients_show_their_key() {
    let deployment = Deployment::new();
    let key = deployment.key("shop", "user");
    let (mut serve, _work) = (deployment.serve(), deployment.work());
    let server = format!("http://{}", serve.address());
    for (program, first) in
        [(PYTHON.as_path(), Some("docs/clients/client.py")), (Path::new("docs/clients/client.sh"), None)]
    {
        let run = |token: Option<&str>| {
            let mut client = Command::new(program);
            client.args(first).arg(&server).arg(r#"{"vector_data": [3, 4], "duration": 0}"#).stdin(Stdio::null());
            client.env_remove("APP_TOKEN").envs(token.map(|token| ("APP_TOKEN", token)));
            client.output().expect("the client runs")
        };
        let stranger = run(None);
        let told = String::from_utf8_lossy(&stranger.stderr).into_owned();
        assert!(!stranger.status.success() && told.contains("unauthorized"), "{told}");
        let known = run(Some(&key));
        let printed = String::from_utf8_lossy(&known.stdout);
        let last = printed.lines().last().unwrap_or_default();
        assert!(known.status.success() && last.starts_with("end ") && last.contains("SUCCESS"), "{known:?}");
    }
}
