//! Commands: programs in any language as task types, and what becomes of those that behave badly.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::{App, Client, Deployment, LONG, Stopwatch, new_folder, until};

/// How soon a slot is free, and everything gone.
const SOON: Duration = Duration::from_secs(2);

/// A file of command tasks, each a shell script that takes any input, with more keys.
fn tasks(scripts: &[(&str, &str, &str)]) -> PathBuf {
    let folder = new_folder("tasks");
    let mut text = String::new();
    for (name, script, more) in scripts {
        fs::write(folder.join(format!("{name}.sh")), script).unwrap();
        text += &format!("[tasks.{name}]\ncommand = [\"sh\", \"{name}.sh\"]\n{more}\ninput_schema.type = \"object\"\n");
    }
    let file = folder.join("tasks.toml");
    fs::write(&file, text).unwrap();
    file
}

struct Stage {
    client: Client,
    work: App,
    _serve: App,
    // Last: its processes end before it.
    deployment: Deployment<'static>,
}

fn stage(file: &Path, settings: &[(&str, &str)]) -> Stage {
    let deployment = Deployment::new().set("APP_TASKS", file.display());
    let (mut serve, work) = (deployment.serve(), deployment.work_with(settings));
    Stage { client: serve.client(), work, _serve: serve, deployment }
}

/// The living processes of a task: they have its id in their environment.
pub fn processes_of(id: &str) -> Vec<String> {
    processes_of_any(&[id.to_owned()])
}

/// Those of several tasks, found in one look at all processes: a look for each would take longer than they may live.
fn processes_of_any(ids: &[String]) -> Vec<String> {
    let wanted: Vec<String> = ids.iter().map(|id| format!("LONGRUN_TASK_ID={id}")).collect();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(environment) = fs::read(entry.path().join("environ")) else { continue };
        let mut variables = environment.split(|byte| *byte == 0);
        if variables.any(|variable| wanted.iter().any(|wanted| variable == wanted.as_bytes())) {
            found.push(fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default().replace('\0', " "));
        }
    }
    found
}

#[track_caller]
fn all_gone(id: &str, within: Duration) {
    let began = Stopwatch::start();
    until("no process of the task is left", LONG, || processes_of(id).is_empty().then_some(()));
    assert!(began.elapsed() <= within, "it took {:?}", began.elapsed());
}

/// The most memory that a process has had, in kB.
fn peak_memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().trim_end_matches(" kB").parse().unwrap()
}

#[track_caller]
fn submit(client: &Client, name: &str) -> String {
    client.submit(&json!({"task_type": name, "options": {"max_attempts": 1}}))
}

#[track_caller]
fn error_of(client: &Client, name: &str) -> (String, String) {
    let id = submit(client, name);
    let task = client.wait_final(&id, LONG);
    assert_eq!(task["status"], "FAILED", "{task:#}");
    all_gone(&id, SOON);
    let text = |key: &str| task["error"][key].as_str().unwrap().to_owned();
    (text("code"), text("message"))
}

#[test]
fn the_examples_count_in_three_languages_and_stop_when_they_are_asked() {
    let stage = stage(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/commands/tasks.toml")), &[]);
    let client = &stage.client;
    let types = client.fetch("/task-types").expect(200).json();
    assert!(types.as_array().unwrap().iter().any(|kind| kind["task_type"] == "sum_node"), "{types:#}");
    for name in ["sum_python", "sum_shell", "sum_node"] {
        let refused = client.post("/tasks", json!({"task_type": name, "n": -1}).to_string(), &[]).expect(422).json();
        assert_eq!(refused["errors"][0]["pointer"], "/n");
        // What the submitter notes for itself is none of the input.
        let notes = json!({"n": 100, "input": {"n": 50}, "checkpoint": {"done": 3, "sum": 1}});
        let id = client.submit(&json!({"task_type": name, "n": 4, "metadata": notes}));
        let task = client.wait_final(&id, LONG);
        assert_eq!((&task["status"], &task["result"]), (&json!("SUCCESS"), &json!({"sum": 10})), "{name}: {task:#}");
        assert_eq!(task["progress"]["percent"], 100.0);
        assert_eq!(client.logs(&id)[0]["message"], "delivery 1 begins after 0");

        let long = client.submit(&json!({"task_type": name, "n": 1_000, "pause": 0.2}));
        client.wait(&long, "a step", LONG, |task| task["progress"]["current"].as_i64() >= Some(1));
        client.cancel(&long).expect(204);
        all_gone(&long, SOON);
    }
}

#[test]
fn a_command_goes_on_from_its_checkpoint_after_a_rollout() {
    let file = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/commands/tasks.toml"));
    let stage = stage(file, &[("APP_GRACE", "0s")]);
    let Stage { client, deployment, work, .. } = stage;
    let id = client.submit(&json!({"task_type": "sum_python", "n": 12, "pause": 0.25}));
    client.wait(&id, "three steps", LONG, |task| task["progress"]["current"].as_i64() >= Some(3));
    work.signal(Signal::SIGTERM);
    client.wait_status(&id, "PENDING", LONG);
    let _next = deployment.work();
    let task = client.wait_final(&id, LONG);
    assert_eq!((&task["result"], &task["delivery"]), (&json!({"sum": 78}), &json!(2)), "{task:#}");
    assert_eq!(task["retry_count"], 0, "a rollout charges nothing");
    let logs = client.logs(&id);
    let second = logs.iter().find(|line| line["delivery"] == 2).unwrap()["message"].as_str().unwrap();
    assert!(second.starts_with("delivery 2 begins after ") && !second.ends_with(" 0"), "{second}");
}

/// Reads the environment of every process that lets it, as any program of the same user may.
const NOSY: &str = r#"
mine=$(grep -lzs "LONGRUN_TASK_ID=$LONGRUN_TASK_ID" /proc/[0-9]*/environ | wc -l)
found=$(grep -lzs c4n4ry-of-the-worker /proc/[0-9]*/environ | wc -l)
echo "{\"result\":{\"mine\":$mine,\"found\":$found}}"
"#;

#[test]
fn a_command_cannot_read_the_environment_of_its_worker() {
    let file = tasks(&[("nosy", NOSY, "")]);
    let deployment = Deployment::new().set("APP_TASKS", file.display());
    let url = format!("{}?application_name=c4n4ry-of-the-worker", deployment.database_url());
    let deployment = deployment.set("DATABASE_URL", url);
    let (mut serve, mut work) = (deployment.serve(), deployment.work_unprivileged());
    work.wait_for_line("worker started");
    if let Ok(environment) = fs::read(format!("/proc/{}/environ", work.pid())) {
        // The tests are root, who may: it is really there.
        assert!(String::from_utf8_lossy(&environment).contains("c4n4ry-of-the-worker"));
    }
    let client = serve.client();
    let id = client.submit(&json!({"task_type": "nosy", "options": {"max_attempts": 1}}));
    let task = client.wait_final(&id, LONG);
    assert!(task["result"]["mine"].as_i64() >= Some(1), "it can read what it may: {task:#}");
    assert_eq!(task["result"]["found"], 0, "and not its worker: {task:#}");
}

#[test]
fn exit_codes_lines_and_errors_mean_what_is_documented() {
    let file = tasks(&[
        ("plain", "echo one; echo two >&2; echo '{\"log\":{\"level\":\"ERROR\",\"message\":\"three\"}}'", ""),
        (
            "broken",
            "echo '{\"result\": '; echo '{\"progress\":{\"current\":-1}}'; echo '{\"result\":{\"a\":1.50}}'",
            "",
        ),
        ("three", "echo 'no such thing' >&2; exit 3", ""),
        ("named", "echo '{\"error\":{\"code\":\"bad_input\",\"message\":\"too blue\"}}'; exit 1", ""),
        ("again", "[ $LONGRUN_DELIVERY = 2 ] && exit 0; exit 75", "backoff = \"100ms\""),
        ("ours", "[ $LONGRUN_DELIVERY = 2 ] && exit 0; exit 99", "backoff = \"100ms\"\nretry_exit_codes = [99]"),
        ("signal", "kill -SEGV $$", ""),
        ("unread", "exec sleep 0.1", ""),
        ("slow", "sleep 600", "timeout = \"1s\""),
        ("spin", "while :; do :; done", "limits.cpu = \"1s\""),
        ("family", "setsid sleep 600 & (sleep 600 &); echo '{\"result\":1}'", ""),
    ]);
    let stage = stage(&file, &[]);
    let client = &stage.client;
    let plain = submit(client, "plain");
    let task = client.wait_final(&plain, LONG);
    assert_eq!((&task["status"], &task["result"]), (&json!("SUCCESS"), &json!({})), "{task:#}");
    let mut lines: Vec<_> =
        client.logs(&plain).iter().map(|line| line["message"].as_str().unwrap().to_owned()).collect();
    lines.sort();
    assert_eq!(lines, ["one", "three", "two"]);

    let broken = submit(client, "broken");
    assert_eq!(client.wait_final(&broken, LONG)["result"].to_string(), r#"{"a":1.50}"#.replace("1.50", "1.5"));
    assert_eq!(client.logs(&broken)[0]["message"], "{\"result\": ");

    assert_eq!(error_of(client, "three"), ("exit_3".into(), "exit code 3: no such thing".into()));
    assert_eq!(error_of(client, "named"), ("bad_input".into(), "exit code 1: too blue".into()));
    let (code, message) = error_of(client, "signal");
    assert!(code == "crashed" && message.contains("SIGSEGV"), "{code}: {message}");
    assert_eq!(error_of(client, "slow").0, "timeout");
    assert_eq!(error_of(client, "spin").0, "cpu_limit");
    for name in ["again", "ours"] {
        let id = client.submit(&json!({"task_type": name}));
        let task = client.wait_final(&id, LONG);
        assert_eq!((&task["status"], &task["retry_count"]), (&json!("SUCCESS"), &json!(1)), "{task:#}");
    }
    let unread = client.submit(&json!({"task_type": "unread", "large": "x".repeat(900_000)}));
    assert_eq!(client.wait_final(&unread, LONG)["status"], "SUCCESS");
    let family = submit(client, "family");
    assert_eq!(client.wait_final(&family, LONG)["result"], 1);
    all_gone(&family, SOON);
}

#[test]
fn whatever_a_command_does_its_slot_is_free_and_nothing_is_left() {
    let limited = "timeout = \"2s\"";
    let small = "limits.memory = \"100MiB\"";
    // What each does, and the code with which it fails; none: it succeeds with the result 1.
    let cases = [
        ("daemon", "setsid sh -c 'setsid sleep 600 <&- >&- 2>&- & exit' & wait; echo '{\"result\":1}'", "", None),
        ("shut", "exec <&- >&- 2>&-; sleep 600", limited, Some("timeout")),
        ("shut_heir", "sleep 600 <&- >&- 2>&- & echo '{\"result\":1}'; exec >&- 2>&-", "", None),
        ("said", "echo '{\"result\":1}'; sleep 600", limited, Some("timeout")),
        ("frozen", "kill -STOP $$", limited, Some("timeout")),
        ("many", "i=0; while [ $i -lt 150 ]; do setsid sleep 600 & i=$((i+1)); done; echo '{\"result\":1}'", "", None),
        (
            "shares",
            "for i in 1 2 3 4; do setsid python3 -c 'import time; held = bytearray(60 << 20); time.sleep(600)' & done; sleep 600",
            small,
            Some("memory_limit"),
        ),
        ("one_line", "head -c 200000000 /dev/zero | tr '\\0' x >&2; echo; echo '{\"result\":1}'", "", None),
    ];
    let scripts: Vec<_> = cases.iter().map(|(name, script, more, _)| (*name, *script, *more)).collect();
    let mut stage = stage(&tasks(&scripts), &[("APP_CONCURRENCY", "1")]);
    let client = &stage.client;
    for (name, _, more, code) in cases {
        let watch = Stopwatch::start();
        let id = submit(client, name);
        // It has the only slot.
        client.wait(&id, "an attempt", LONG, |task| task["started_at"] != Value::Null);
        let next = submit(client, "shut_heir");
        let task = client.wait_final(&id, LONG);
        let ended = Stopwatch::start();
        client.wait(&next, "the slot", LONG, |task| task["started_at"] != Value::Null);
        assert!(ended.elapsed() < SOON, "{name}: the slot was free after {:?}", ended.elapsed());
        assert!(processes_of(&id).is_empty(), "{name}: {:?}", processes_of(&id));
        match code {
            Some(code) => assert_eq!(task["error"]["code"], code, "{name}: {task:#}"),
            None => assert_eq!((&task["status"], &task["result"]), (&json!("SUCCESS"), &json!(1)), "{name}: {task:#}"),
        }
        if more == limited {
            // The limit, the grace, and the rest of an ending.
            let sql =
                "SELECT extract(epoch FROM completed_at - started_at)::float8 FROM tasks WHERE id = from_ulid($1)";
            let took: f64 = stage.deployment.sql().value(sql, &[&id]);
            assert!(took < 5.0 + watch.lost().as_secs_f64(), "{name}: it took {took} s");
        }
        client.wait_final(&next, LONG);
    }
    let peak = peak_memory(stage.work.pid());
    assert!(peak < 200_000, "the worker's peak was {peak} kB");
    assert!(!stage.work.has_ended());
}

#[test]
fn a_grace_that_is_longer_than_the_time_to_stop_is_given() {
    let script = "trap 'sleep 3; echo saved; exit 1' TERM; echo ready; while :; do sleep 0.1; done";
    let file = tasks(&[("slow_to_stop", script, "timeout = \"2s\"\ngrace = \"20s\"")]);
    let stage = stage(&file, &[("APP_STOP_TIMEOUT", "1s")]);
    let id = submit(&stage.client, "slow_to_stop");
    let task = stage.client.wait_final(&id, LONG);
    assert_eq!(task["error"]["code"], "timeout", "{task:#}");
    let said: Vec<_> = stage.client.logs(&id).iter().map(|line| line["message"].clone()).collect();
    assert!(said.contains(&json!("saved")), "{said:?}");
}

#[test]
fn a_command_that_ignores_sigterm_is_killed_with_all_that_it_has_forked() {
    let script = "trap '' TERM; setsid sh -c \"trap '' TERM; sleep 600; sleep 600\" & sleep 600 & echo ready; \
                  while :; do sleep 1; done";
    let stage = stage(&tasks(&[("stubborn", script, "")]), &[("APP_CONCURRENCY", "1")]);
    let client = &stage.client;
    let id = submit(client, "stubborn");
    until("it runs", LONG, || (!client.logs(&id).is_empty() && processes_of(&id).len() >= 4).then_some(()));
    let next = submit(client, "stubborn");
    client.cancel(&id).expect(204);
    let cancelled = Stopwatch::start();
    client.wait_status(&next, "RUNNING", LONG);
    assert!(cancelled.elapsed() < SOON + Duration::from_secs(1), "the slot was free after {:?}", cancelled.elapsed());
    assert!(processes_of(&id).is_empty(), "{:?}", processes_of(&id));
    client.cancel(&next).expect(204);
    all_gone(&next, SOON + Duration::from_secs(1));
}

#[test]
fn memory_is_watched_from_outside() {
    let script = "exec python3 -c 'import time; held = bytearray(300 << 20); time.sleep(600)'";
    let stage = stage(&tasks(&[("hungry", script, "limits.memory = \"100MiB\"")]), &[]);
    let (code, message) = error_of(&stage.client, "hungry");
    assert!(code == "memory_limit" && message.contains("MiB"), "{code}: {message}");
}

#[test]
fn a_flood_on_stdout_costs_the_worker_no_memory() {
    // A gigabyte: 250,000 lines of four thousand bytes.
    let script =
        "line=$(head -c 4000 /dev/zero | tr '\\0' x); yes \"$line\" | head -c 1000000000; echo; echo '{\"result\":1}'";
    let mut stage = stage(&tasks(&[("flood", script, "")]), &[]);
    let id = submit(&stage.client, "flood");
    let task = stage.client.wait_final(&id, Duration::from_secs(300));
    assert_eq!(task["result"], 1, "{task:#}");
    let kept = "SELECT count(*) FROM task_events WHERE task_id = from_ulid($1) AND status IS NULL";
    let lines: i64 = stage.deployment.sql().value(kept, &[&id]);
    assert!((1_000..=1_100).contains(&lines), "four MiB of lines, and not {lines}");
    let said =
        "SELECT count(*) FROM task_events WHERE task_id = from_ulid($1) AND message LIKE '%further lines are dropped'";
    assert_eq!(stage.deployment.sql().value::<i64>(said, &[&id]), 1, "one line says so");
    let peak = peak_memory(stage.work.pid());
    assert!(peak < 200_000, "the worker's peak was {peak} kB");
    assert!(!stage.work.has_ended());
}

#[test]
fn nothing_outlives_a_worker_that_is_killed_and_each_task_is_recovered_once() {
    let script = "[ $LONGRUN_DELIVERY = 1 ] || { echo '{\"result\":1}'; exit; }; (setsid sleep 600 &); sleep 600";
    let deployment = Deployment::new()
        .set("APP_TASKS", tasks(&[("long", script, "")]).display())
        .set("APP_LEASE", "2s")
        .set("APP_CONCURRENCY", "20");
    let (mut serve, mut work) = (deployment.serve(), deployment.work());
    let client = serve.client();
    let ids: Vec<String> = (0..20).map(|_| submit(&client, "long")).collect();
    until("all run", LONG, || ids.iter().all(|id| processes_of(id).len() >= 3).then_some(()));
    work.kill();
    let killed = Stopwatch::start();
    until("all are gone", LONG, || processes_of_any(&ids).is_empty().then_some(()));
    assert!(killed.elapsed() < SOON, "it took {:?}", killed.elapsed());
    let _next = deployment.work();
    for id in &ids {
        let task = client.wait_final(id, LONG);
        assert_eq!((&task["status"], &task["delivery"]), (&json!("SUCCESS"), &json!(2)), "{task:#}");
    }
    let lost: i64 = deployment.sql().value("SELECT count(*) FROM tasks WHERE lost = 1", &[]);
    assert_eq!(lost, 20, "each of them once");
}

#[test]
fn a_program_sees_its_own_environment_and_nothing_of_the_workers() {
    let script = "env; tr '\\0' '\\n' < /proc/$PPID/environ";
    let more = "environment = { COLOUR = \"blue\" }";
    let stage = stage(&tasks(&[("look", script, more)]), &[("SECRET", "s3cr3t")]);
    let id = submit(&stage.client, "look");
    stage.client.wait_final(&id, LONG);
    let lines: Vec<Value> = stage.client.logs(&id).iter().map(|line| line["message"].clone()).collect();
    let text = Value::from(lines).to_string();
    for seen in ["COLOUR=blue", &format!("LONGRUN_TASK_ID={id}"), "LONGRUN_DELIVERY=1", "PATH="] {
        assert!(text.contains(seen), "{seen} is missing: {text}");
    }
    for secret in ["DATABASE_URL", "REDIS_URL", "s3cr3t", "APP_"] {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
}

#[test]
fn what_cannot_be_kept_is_told_in_the_task() {
    const DEEP: &str =
        r#"printf '{"%s":' "$1"; yes '[' | head -n "$2" | tr -d '\n'; yes ']' | head -n "$2" | tr -d '\n'; echo '}'"#;
    let deep = |key: &str, levels: u32| format!("deep() {{ {DEEP}; }}\ndeep {key} {levels}\n");
    let resumed = "read -r told\ncase $told in *'\"checkpoint\":[[['*) echo '{\"result\":7}'; exit 0;; esac\n";
    let file = tasks(&[
        ("saves", &format!("{resumed}{}exit 75", deep("checkpoint", 120)), "max_attempts = 2\nbackoff = \"1ms\""),
        ("saves_too_much", &(deep("checkpoint", 121) + "exec sleep 600"), ""),
        ("returns", &deep("result", 120), ""),
        ("returns_too_much", &deep("result", 20_000), ""),
        ("returns_much", r#"printf '{ "result": "'; head -c 5000000 /dev/zero | tr '\0' x; echo '"}'"#, ""),
        (
            "saves_much",
            r#"printf '{"checkpoint":"'; head -c 5000000 /dev/zero | tr '\0' x; echo '"}'; exec sleep 600"#,
            "",
        ),
        ("fails_oddly", r#"echo '{"error":{"code":"A <b>","message":"","retry_after":"soon"}}'; exit 1"#, ""),
        ("returns_half", r#"echo '{"result":"\ud800"}'"#, ""),
    ]);
    let stage = stage(&file, &[]);
    let saved = stage.client.submit(&json!({"task_type": "saves"}));
    assert_eq!(stage.client.wait_final(&saved, LONG)["result"], 7);
    let (code, message) = error_of(&stage.client, "saves_too_much");
    assert!(code == "checkpoint_too_large" && message.contains("121 levels"), "{code}: {message}");
    let returned = submit(&stage.client, "returns");
    assert_eq!(stage.client.wait_final(&returned, LONG)["status"], "SUCCESS");
    assert!(stage.client.list("").iter().any(|task| task["result"].is_array()), "it is in the list, and can be read");
    let (code, message) = error_of(&stage.client, "returns_too_much");
    assert!(code == "result_too_large" && message.contains("20000 levels"), "{code}: {message}");
    for (name, expected) in [("returns_much", "result_too_large"), ("saves_much", "checkpoint_too_large")] {
        let (code, message) = error_of(&stage.client, name);
        assert!(code == expected && message.contains("has more than the"), "{code}: {message}");
    }
    let (code, message) = error_of(&stage.client, "fails_oddly");
    assert_eq!((code.as_str(), message.as_str()), ("exit_1", "exit code 1: without a word"));
    let odd = stage.client.list("?task_type=fails_oddly")[0]["task_id"].as_str().unwrap().to_owned();
    let lines = format!("{:?}", stage.client.logs(&odd));
    assert!(lines.contains("error's code") && lines.contains("error's retry_after"), "{lines}");
    let half = submit(&stage.client, "returns_half");
    assert_eq!(stage.client.wait_final(&half, LONG)["result"], "\u{FFFD}");
}

#[test]
fn a_file_that_is_wrong_is_refused_at_the_start() {
    let folder = new_folder("tasks");
    let file = folder.join("tasks.toml");
    let deployment = Deployment::new().set("APP_TASKS", file.display());
    for (text, words, code) in [
        ("[tasks.x]\ncomand = []", "comand", 2),
        ("[tasks.x]\ncommand = [\"sh\"]\ninput_schema = { type = \"array\" }", "tasks.x.input_schema.type", 2),
        ("[tasks.x]\ncommand = [\"no-such-program\"]\ninput_schema = {}", "no-such-program", 1),
        ("[tasks.web_scrape]\ncommand = [\"sh\"]\ninput_schema = {}", "already", 2),
    ] {
        fs::write(&file, text).unwrap();
        let finished = deployment.run(&["work"]);
        assert_eq!(finished.code, Some(code), "{text}: {}", finished.output());
        assert!(finished.stderr.contains(words), "{text}: {}", finished.stderr);
        assert_eq!(finished.stderr.lines().filter(|line| line.starts_with("error:")).count(), 1);
    }
    fs::remove_file(&file).unwrap();
    assert!(deployment.run(&["serve"]).stderr.contains("tasks.toml"));
}
