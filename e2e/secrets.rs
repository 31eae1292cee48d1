//! Secrets: a canary in every setting and header that holds one, and none of them in anything that comes out.

use serde_json::json;

use crate::harness::{App, Deployment, HttpServer, LONG, Reply};

/// In every secret of the test.
const CANARY: &str = "c4n4ry";

fn canary(name: &str) -> String {
    format!("{CANARY}-{name}")
}

/// Fails when a canary is in the text. What is shown is around it, not the whole.
#[track_caller]
fn is_clean(what: &str, text: &str) {
    if let Some(at) = text.find(CANARY) {
        let from = text.floor_char_boundary(at.saturating_sub(120));
        let to = text.ceil_char_boundary((at + 80).min(text.len()));
        panic!("{what} shows a secret: {:?}", &text[from..to]);
    }
}

fn output(app: &App) -> String {
    app.stdout() + &app.stderr()
}

/// Every row of every table as text.
fn rows(deployment: &Deployment) -> String {
    let sql = deployment.sql();
    let tables = sql.rows("SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'", &[]);
    let dump = tables.iter().map(|row| {
        let table: String = row.get(0);
        let rows = sql.rows(&format!("SELECT row_to_json(t)::text FROM {table} t"), &[]);
        rows.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>().join("\n")
    });
    dump.collect::<Vec<_>>().join("\n")
}

#[test]
fn none_comes_out_while_all_goes_well() {
    let sink = HttpServer::start(|_, _| Reply::Whole(500, Vec::new(), b"broken".to_vec()));
    let collector = HttpServer::start(|_, _| Reply::Whole(401, Vec::new(), Vec::new()));
    let deployment = Deployment::new();
    // PostgreSQL trusts whoever comes from this machine: any password is right.
    let database = deployment.database_url().replacen("longrun@", &format!("longrun:{}@", canary("postgres")), 1);
    let deployment = deployment
        .set("DATABASE_URL", database)
        .set("APP_VECTOR_SINK_URL", format!("{}?token={}", sink.url("/in"), canary("sink")))
        .set("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url(&format!("/{}", canary("path"))))
        .set("OTEL_EXPORTER_OTLP_HEADERS", format!("authorization=Bearer {}", canary("otlp")))
        .set("RUST_LOG", "debug");
    let key = deployment.key("alice", "admin");
    let secret = key.rsplit('_').next().unwrap();
    let (mut serve, work) = (deployment.serve(), deployment.work());
    let client = serve.client().with_key(&key);
    let cookie = client.post("/session", json!({"key": key}).to_string(), &[]).expect(200);
    let cookie = cookie.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let id = client.submit(&json!({"vector_data": [1.0], "duration": 0, "options": {"max_attempts": 1}}));
    let task = client.wait_final(&id, LONG);
    // The same secrets once more, where they are wrong: nothing of them comes back.
    let anybody = serve.client();
    let answers = [
        anybody.request("GET", "/tasks", &[("authorization", &format!("Bearer {}", canary("key")))]),
        anybody.request("GET", "/tasks", &[("authorization", &format!("Basic {}", canary("basic")))]),
        anybody.request("GET", "/tasks", &[("cookie", &format!("longrun_session={}", canary("session")))]),
        anybody.request("GET", "/tasks", &[("authorization", &format!("Bearer a.{}.c", canary("token")))]),
        anybody.post("/session", json!({"key": canary("login")}).to_string(), &[]),
        anybody.post("/session", json!({"key": "x", "password": canary("extra")}).to_string(), &[]),
        anybody.post("/session", format!("{{\"key\": \"{}", canary("broken")), &[]),
        client.request("GET", "/session", &[]),
        client.request("GET", "/workers", &[]),
        client.request("GET", &format!("/tasks/{id}/timeline"), &[]),
        client.request("GET", &format!("/tasks/{id}/logs"), &[]),
    ];
    for answer in &answers {
        is_clean("an answer", &format!("{:?}{answer}", answer.headers));
        assert!(!answer.to_string().contains(secret));
    }
    is_clean("a task", &task.to_string());
    let stored = rows(&deployment);
    for (what, text) in [("serve", output(&serve)), ("work", output(&work)), ("a row", stored)] {
        is_clean(what, &text);
        assert!(!text.contains(secret), "{what} shows a key");
        assert!(!text.contains(cookie.rsplit('_').next().unwrap()), "{what} shows a session");
    }
    assert!(sink.requests().iter().any(|request| request.path.contains(CANARY)), "the secret was really used");
}

/// The commands that a help text lists, client commands and roles alike.
fn commands_in(help: &str) -> Vec<String> {
    let is_name = |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
    let mut found = Vec::new();
    let mut listed = false;
    for line in help.lines() {
        match line.strip_prefix("  ") {
            Some(rest) if listed && !rest.starts_with([' ', '-']) => {
                found.extend(rest.split(' ').next().filter(|name| is_name(name) && *name != "help").map(str::to_owned));
            }
            Some(_) => {}
            None => listed = ["Server:", "Client:", "Commands:"].contains(&line),
        }
    }
    found
}

/// Help is copied into tickets: it names the variables and does not tell what is in them.
#[test]
fn no_help_tells_what_is_in_the_environment() {
    let mut commands: Vec<Vec<String>> = vec![Vec::new()];
    let mut variables = std::collections::BTreeSet::new();
    let mut at = 0;
    while at < commands.len() {
        let command = commands[at].clone();
        let words: Vec<&str> = command.iter().map(String::as_str).chain(["--help"]).collect();
        let help = App::run(&words, &[]);
        assert_eq!(help.code, Some(0), "{words:?}: {}", help.output());
        let names = help.stdout.split("[env:").skip(1);
        variables.extend(names.map(|rest| rest.trim_start().split([']', '=']).next().unwrap().to_owned()));
        commands.extend(commands_in(&help.stdout).into_iter().map(|name| [command.clone(), vec![name]].concat()));
        at += 1;
    }
    assert!(commands.len() > 20 && commands.contains(&vec!["keys".to_owned(), "create".to_owned()]), "{commands:?}");
    for known in ["DATABASE_URL", "REDIS_URL", "APP_JWT_JWKS", "APP_VECTOR_SINK_URL", "OTEL_EXPORTER_OTLP_ENDPOINT"] {
        assert!(variables.contains(known), "{known} is in no help");
    }
    let settings: Vec<_> = variables.iter().map(|name| (name.clone(), canary(name))).collect();
    for command in &commands {
        for flag in ["--help", "-h"] {
            let words: Vec<&str> = command.iter().map(String::as_str).chain([flag]).collect();
            let help = App::run(&words, &settings);
            assert_eq!(help.code, Some(0), "{words:?}: {}", help.output());
            is_clean(&format!("app {}", words.join(" ")), &help.output());
        }
    }
}

#[test]
fn none_comes_out_when_nothing_works() {
    let wrong = |name: &str| canary(name);
    let cases: Vec<(&str, Vec<(&str, String)>)> = vec![
        ("no such server", vec![("DATABASE_URL", format!("postgresql://u:{}@127.0.0.1:1/d", wrong("a")))]),
        ("no URL", vec![("DATABASE_URL", format!("postgresql//u:{}@127.0.0.1", wrong("b")))]),
        ("an unknown option", vec![("DATABASE_URL", format!("postgresql://u:{}@127.0.0.1/d?nonsense=1", wrong("c")))]),
        ("an unknown mode", vec![("DATABASE_URL", format!("postgresql://u:{}@127.0.0.1/d?sslmode=x", wrong("d")))]),
        ("a bad port", vec![("DATABASE_URL", format!("postgresql://u:{}@127.0.0.1:99999/d", wrong("e")))]),
        ("no Redis URL", vec![("REDIS_URL", format!("http://u:{}@127.0.0.1", wrong("f")))]),
        ("a bad Redis port", vec![("REDIS_URL", format!("redis://u:{}@127.0.0.1:99999", wrong("g")))]),
        ("a sink with a password", vec![("APP_VECTOR_SINK_URL", format!("http://u:{}@127.0.0.1/", wrong("h")))]),
        ("a collector", vec![("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://u:ä {}@127.0.0.1:1x", wrong("j")))]),
        ("a strange sink", vec![("APP_VECTOR_SINK_URL", format!("ftp://127.0.0.1/{}", wrong("i")))]),
    ];
    std::thread::scope(|scope| {
        for (what, settings) in &cases {
            for role in ["serve", "work"] {
                scope.spawn(move || {
                    let mut deployment = Deployment::new().set("RUST_LOG", "debug");
                    for (name, value) in settings {
                        deployment = deployment.set(name, value);
                    }
                    let is_for_work = settings[0].0 == "APP_VECTOR_SINK_URL";
                    if is_for_work && role == "serve" {
                        return;
                    }
                    let finished = deployment.run(&[role]);
                    let code = if *what == "no such server" { 1 } else { 2 };
                    assert_eq!(finished.code, Some(code), "{what}: {}", finished.output());
                    is_clean(what, &finished.output());
                });
            }
        }
    });
    // Redis with a password that it does not want: everything works without it, and nothing is told.
    let deployment = Deployment::new();
    let redis = deployment.redis_url().replacen("redis://", &format!("redis://user:{}@", canary("redis")), 1);
    let deployment = deployment.set("REDIS_URL", redis).set("RUST_LOG", "debug");
    let (mut serve, work) = (deployment.serve(), deployment.work());
    let client = serve.client();
    let id = client.submit(&json!({"vector_data": [1.0], "duration": 0}));
    client.wait_status(&id, "SUCCESS", LONG);
    is_clean("serve", &output(&serve));
    is_clean("work", &output(&work));
    is_clean("a row", &rows(&deployment));
}
