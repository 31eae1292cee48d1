//! Startup: settings that cannot work end the process with one line that says what to do.

use std::time::Duration;

use serde_json::json;

use crate::harness::{Deployment, Finished, LONG};

/// An error of the world around.
const FAILED: i32 = 1;
/// A setting, or a command line, that cannot be.
const WRONG_USAGE: i32 = 2;

/// Fails unless the process said one clear line and ended with this code.
#[track_caller]
fn assert_one_line(finished: &Finished, code: i32, words: &[&str]) {
    assert_eq!(finished.code, Some(code), "{}", finished.output());
    let errors: Vec<_> = finished.stderr.lines().filter(|line| line.starts_with("error:")).collect();
    assert_eq!(errors.len(), 1, "{}", finished.output());
    assert_eq!(finished.stderr.lines().last(), Some(errors[0]), "the error is the last line: {}", finished.output());
    for word in words {
        assert!(errors[0].contains(word), "{word:?} is not in {:?}", errors[0]);
    }
    for trace in ["panicked", "stack backtrace", "RUST_BACKTRACE"] {
        assert!(!finished.output().contains(trace), "{}", finished.output());
    }
}

#[test]
fn a_database_url_that_cannot_be() {
    for url in ["", "nonsense", "http://x", "postgresql://"] {
        for role in ["serve", "work", "migrate"] {
            let finished = Deployment::new().set("DATABASE_URL", url).run(&[role]);
            assert_one_line(&finished, WRONG_USAGE, &["DATABASE_URL"]);
        }
    }
}

#[test]
fn a_database_url_that_nobody_gave() {
    for role in ["serve", "work", "migrate"] {
        let finished = crate::harness::App::run(&[role], &[]);
        assert_eq!(finished.code, Some(2), "{}", finished.output());
        assert_eq!(finished.stderr.lines().count(), 1, "{}", finished.output());
        assert!(finished.stderr.starts_with("error: DATABASE_URL is not set"), "{}", finished.output());
    }
}

#[test]
fn a_database_that_is_not_there() {
    let deployment = Deployment::new();
    let url = deployment.sql().value::<i32>("SELECT inet_server_port()", &[]);
    let url = format!("postgresql://longrun:hunter2@127.0.0.1:{url}/no_such_database");
    let deployment = deployment.set("DATABASE_URL", &url);
    for role in ["serve", "work", "migrate"] {
        let finished = deployment.run(&[role]);
        assert_one_line(&finished, FAILED, &["no_such_database"]);
        assert!(!finished.output().contains("hunter2"), "a password is never shown");
        assert!(finished.took < Duration::from_secs(15), "waiting mends nothing here");
    }
}

#[test]
fn a_server_that_nobody_runs() {
    let deployment = Deployment::new().set("DATABASE_URL", "postgresql://longrun:hunter2@127.0.0.1:1/longrun");
    std::thread::scope(|scope| {
        for role in ["serve", "work", "migrate"] {
            let deployment = &deployment;
            scope.spawn(move || {
                let finished = deployment.run(&[role]);
                assert_one_line(&finished, FAILED, &["127.0.0.1:1"]);
                assert!(!finished.output().contains("hunter2"), "a password is never shown");
                assert!(finished.stderr.contains("waiting for"), "it says that it waits");
            });
        }
    });
}

#[test]
fn a_redis_url_that_cannot_be() {
    for role in ["serve", "work"] {
        let finished = Deployment::new().set("REDIS_URL", "nonsense").run(&[role]);
        assert_one_line(&finished, WRONG_USAGE, &["REDIS_URL"]);
    }
}

/// Each would take the doorbells of the other for lost ones, and ring for all, for ever.
#[test]
fn a_redis_of_another_database() {
    let (first, second) = (Deployment::new(), Deployment::empty());
    assert_eq!(second.run(&["migrate"]).code, Some(0));
    let mut serve = first.serve();
    serve.address();
    let second = second.set("REDIS_URL", first.redis_url());
    for role in ["serve", "work"] {
        assert_one_line(&second.run(&[role]), FAILED, &["another PostgreSQL database", "v1:database"]);
    }
}

#[test]
fn a_redis_that_becomes_another_databases_is_taken_for_away() {
    let deployment = Deployment::new();
    let (mut serve, mut work) = (deployment.serve(), deployment.work());
    let client = serve.client();
    client.wait_final(&client.submit(&json!({"vector_data": [1.0], "duration": 0})), LONG);
    for (key, value) in [("v1:database", "somebody else"), ("v1:epoch", "of somebody else")] {
        deployment.redis::<()>(&["SET", key, value]);
    }
    work.wait_for_line("it holds the doorbells of another database");
    let task = client.wait_final(&client.submit(&json!({"vector_data": [1.0], "duration": 0})), LONG);
    assert_eq!(task["status"], "SUCCESS");
    assert_eq!(deployment.redis::<String>(&["GET", "v1:epoch"]), "of somebody else");
    deployment.redis::<()>(&["DEL", "v1:database"]);
    work.wait_for_line("Redis is back");
    work.stop();
}

#[test]
fn a_taken_port_and_an_open_one() {
    let deployment = Deployment::new();
    let mut serve = deployment.serve();
    let address = serve.address().to_string();
    let deployment = deployment.set("APP_BIND", &address);
    assert_one_line(&deployment.run(&["serve"]), FAILED, &["APP_BIND", &address]);
    let deployment = deployment.set("APP_BIND", "0.0.0.0:0");
    assert_one_line(&deployment.run(&["serve"]), FAILED, &["APP_BIND", "APP_ALLOW_ANONYMOUS"]);
}

#[test]
fn settings_that_are_unsafe_together() {
    let deployment = Deployment::new().set("APP_LEASE", "100ms");
    assert_one_line(&deployment.run(&["work"]), WRONG_USAGE, &["APP_LEASE"]);
    let deployment = deployment.set("APP_LEASE", "2m");
    assert_one_line(&deployment.run(&["work"]), WRONG_USAGE, &["APP_HUNG_AFTER"]);
}

type Setting<'a> = (&'a str, &'a str);

/// Nothing is waited for first: the database is not there.
#[test]
fn settings_that_cannot_be() {
    let file = crate::harness::new_folder("settings").join("empty.pem");
    std::fs::write(&file, "").unwrap();
    let file = file.to_str().unwrap();
    let cases: [(&str, &[Setting], &[&str]); 13] = [
        ("serve", &[("APP_TLS_CERT", file), ("APP_TLS_KEY", file)], &["APP_TLS_CERT", file]),
        ("dev", &[("APP_TLS_CERT", file), ("APP_TLS_KEY", file)], &["APP_TLS_CERT", file]),
        ("serve", &[("APP_JWT_ISSUER", "x")], &["APP_JWT_AUDIENCE"]),
        (
            "serve",
            &[("APP_JWT_ISSUER", "x"), ("APP_JWT_AUDIENCE", "x"), ("APP_JWT_JWKS", "/no/such/keys")],
            &["APP_JWT_JWKS"],
        ),
        ("dev", &[("APP_VECTOR_SINK_URL", "ftp://x")], &["APP_VECTOR_SINK_URL"]),
        ("serve", &[("APP_TASKS", "/no/such/file")], &["APP_TASKS", "/no/such/file"]),
        ("work", &[("APP_TASKS", file), ("APP_VECTOR_SINK_URL", "ftp://x")], &["APP_VECTOR_SINK_URL"]),
        ("work", &[("RUST_LOG", "a=b=c")], &["RUST_LOG", "write info"]),
        ("work", &[("OTEL_EXPORTER_OTLP_ENDPOINT", "nonsense")], &["OTEL_EXPORTER_OTLP_ENDPOINT"]),
        ("serve", &[("APP_REDIS_CA", "/no/such/file")], &["APP_REDIS_CA"]),
        ("work", &[("APP_REDIS_CA", file)], &["APP_REDIS_CA", file]),
        ("dev", &[("REDIS_URL", "http://x")], &["REDIS_URL"]),
        ("work", &[("APP_QUEUES", "a,a")], &["APP_QUEUES", "twice"]),
    ];
    for (role, settings, words) in cases {
        let deployment = Deployment::empty().set("DATABASE_URL", "postgresql://127.0.0.1:1/longrun");
        let deployment = settings.iter().fold(deployment, |deployment, (name, value)| deployment.set(name, value));
        let finished = deployment.run(&[role]);
        assert_one_line(&finished, WRONG_USAGE, words);
        assert!(!finished.stderr.contains("waiting for"), "{}", finished.output());
    }
}

#[test]
fn a_collector_that_is_not_asked_is_not_looked_at() {
    let deployment = Deployment::new().set("OTEL_EXPORTER_OTLP_ENDPOINT", "nonsense");
    let refused = deployment.start_with(&["migrate"], &[]).finish();
    assert_eq!(refused.code, Some(WRONG_USAGE), "{}", refused.output());
    for off in [("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_EXPORTER", "none")] {
        let finished = deployment.start_with(&["migrate"], &[off]).finish();
        assert_eq!(finished.code, Some(0), "{}", finished.output());
    }
}

#[test]
fn a_certificate_without_its_key_is_told_as_that() {
    let finished = Deployment::new().set("APP_TLS_CERT", "x").run(&["serve"]);
    assert_eq!(finished.code, Some(2), "{}", finished.output());
    assert!(finished.stderr.contains("--tls-key <FILE> (APP_TLS_KEY)"), "{}", finished.output());
    assert!(!finished.stderr.contains("DATABASE_URL is not set"), "{}", finished.output());
}

#[test]
fn times_that_do_not_fit_are_told_at_the_start() {
    let deployment = Deployment::new().set("APP_STOP_TIMEOUT", "99999d").set("APP_ONCE", "1");
    let finished = deployment.run(&["work"]);
    assert_eq!(finished.code, Some(0), "{}", finished.output());
    assert!(finished.stderr.contains("APP_STOP_TIMEOUT") && finished.stderr.contains("fix:"), "{}", finished.output());
}

#[test]
fn a_switch_is_read_as_people_write_it() {
    let deployment = Deployment::new();
    for yes in ["1", "true", "yes"] {
        let finished = deployment.start_with(&["work"], &[("APP_ONCE", yes)]).finish();
        assert_eq!(finished.code, Some(0), "{yes}: {}", finished.output());
    }
    let finished = deployment.start_with(&["work"], &[("APP_ONCE", "perhaps")]).finish();
    assert_eq!(finished.code, Some(2), "{}", finished.output());
}

#[test]
fn help_is_the_manual() {
    let deployment = Deployment::new();
    for arguments in
        [&["--help"][..], &["serve", "--help"], &["work", "--help"], &["migrate", "--help"], &["dev", "--help"]]
    {
        let help = deployment.run(arguments);
        assert_eq!(help.code, Some(0));
        assert!(!help.stdout.is_empty() && help.stderr.is_empty(), "{arguments:?}: {}", help.output());
    }
    assert!(deployment.run(&["--help"]).stdout.contains("health "), "what a container calls is in the manual");
    assert_eq!(deployment.run(&["nonsense"]).code, Some(2));
    assert_eq!(deployment.run(&["serve", "--nonsense"]).code, Some(2));
}
