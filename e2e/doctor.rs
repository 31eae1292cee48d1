//! Doctor: `app doctor` finds what is wrong with real servers, and says what to do.

use serde_json::Value;

use crate::harness::{Deployment, Finished, Services};

#[track_caller]
fn line<'a>(finished: &'a Finished, words: &str) -> &'a str {
    let found = finished.stdout.lines().find(|line| line.contains(words));
    found.unwrap_or_else(|| panic!("no line with {words:?} in\n{}", finished.output()))
}

#[test]
fn servers_that_are_as_they_should_be_are_ok() {
    let services = Services::private();
    services.redis.command::<()>(0, &["CONFIG", "SET", "appendonly", "yes"]);
    let deployment = Deployment::on(&services);
    let finished = deployment.run(&["doctor"]);
    assert_eq!(finished.code, Some(0), "{}", finished.output());
    let lines: Vec<&str> = finished.stdout.lines().collect();
    assert_eq!(lines.len(), 3, "{}", finished.output());
    assert!(lines.iter().all(|line| line.starts_with("ok    ")));
    let postgres = line(&finished, "ok    PostgreSQL ");
    for words in ["migrations current", "pools want 16 of 97 connections", "clock offset ", "commits are durable"] {
        assert!(postgres.contains(words), "{postgres}");
    }
    let redis = line(&finished, "ok    Redis ");
    assert!(redis.contains("maxmemory-policy noeviction · persistence appendonly"), "{redis}");
    assert!(line(&finished, "ok    settings ").contains("workers leave within 1m 5s"));
}

#[test]
fn a_careless_redis_and_a_schema_that_is_behind_are_found() {
    let services = Services::private();
    let deployment = Deployment::on(&services);
    services.redis.command::<()>(0, &["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    let finished = deployment.run(&["doctor"]);
    assert_eq!(finished.code, Some(0), "warnings are no failure: {}", finished.output());
    let evicts = line(&finished, "maxmemory-policy");
    assert!(evicts.starts_with("warn  Redis maxmemory-policy is allkeys-lru: doorbells may be evicted"), "{evicts}");
    assert!(evicts.ends_with("        fix: CONFIG SET maxmemory-policy noeviction"), "{evicts}");
    assert!(line(&finished, "append-only").starts_with("warn  Redis "));

    let sql = deployment.sql();
    let newest: String = sql.value("SELECT max(version) FROM __diesel_schema_migrations", &[]);
    sql.change("DELETE FROM __diesel_schema_migrations WHERE version = $1", &[&newest]);
    let finished = deployment.run(&["doctor", "--json"]);
    assert_eq!(finished.code, Some(1), "{}", finished.output());
    let findings: Vec<Value> = serde_json::from_str(&finished.stdout).unwrap();
    let failed: Vec<&Value> = findings.iter().filter(|finding| finding["level"] == "fail").collect();
    assert_eq!(failed.len(), 1, "{}", finished.stdout);
    assert_eq!((&failed[0]["subject"], &failed[0]["fix"]), (&"PostgreSQL".into(), &"app migrate".into()));
    assert!(findings.iter().all(|finding| finding["level"] == "ok" || finding["fix"].is_string()));
}

#[test]
fn too_many_processes_for_the_connections_and_times_that_do_not_fit_are_found() {
    let services = Services::private();
    let deployment =
        Deployment::on(&services).set("APP_LEASE", "2s").set("APP_STOP_TIMEOUT", "3s").set("APP_LEASE_GRACE", "1s");
    let finished = deployment.run(&["doctor", "--processes", "7"]);
    assert_eq!(finished.code, Some(1), "{}", finished.output());
    let connections = line(&finished, "7 processes want 112 of 97 connections");
    assert!(connections.starts_with("fail  PostgreSQL") && connections.contains("fix: raise max_connections"));
    let little = deployment.run(&["doctor", "--processes", "6"]);
    assert_eq!(little.code, Some(0), "{}", little.output());
    assert!(line(&little, "6 processes want 96 of 97").starts_with("warn  "));
    for setting in ["APP_LEASE is 2s", "APP_STOP_TIMEOUT (3s)", "APP_LEASE_GRACE (1s)"] {
        assert!(line(&finished, setting).starts_with("warn  settings "));
    }
}

#[test]
fn servers_that_are_not_there_are_found_without_secrets() {
    let deployment = Deployment::new()
        .set("DATABASE_URL", "postgresql://longrun:geheim@127.0.0.1:1/longrun")
        .set("REDIS_URL", "redis://:geheim@127.0.0.1:1/0");
    let finished = deployment.run(&["doctor"]);
    assert_eq!(finished.code, Some(1), "{}", finished.output());
    assert!(line(&finished, "PostgreSQL does not answer").starts_with("fail  "));
    assert!(line(&finished, "Redis does not answer").starts_with("warn  "));
    assert!(!finished.output().contains("geheim"), "{}", finished.output());
    assert!(
        !line(&finished, "Redis does not").contains("refused (os error 111): "),
        "told twice: {}",
        finished.output()
    );
    // A setting that cannot be is not taken for a server that is away.
    let deployment = deployment.set("DATABASE_URL", "foo").set("REDIS_URL", "http://x");
    let wrong = deployment.run(&["doctor"]);
    assert_eq!(wrong.code, Some(1), "{}", wrong.output());
    for setting in ["DATABASE_URL", "REDIS_URL"] {
        let told = line(&wrong, setting);
        assert!(told.starts_with("fail  ") && told.contains("was not asked"), "{told}");
        assert_eq!(told.matches("postgresql://").count() + told.matches("redis://").count(), 1, "{told}");
    }
    let settings =
        [("APP_TASKS", "/no/tasks"), ("APP_TLS_CERT", "/no/cert"), ("APP_TLS_KEY", "/no/key"), ("RUST_LOG", "a=b=c")];
    let unable = settings.iter().fold(Deployment::new(), |deployment, (name, value)| deployment.set(name, value));
    let told = unable.run(&["doctor"]);
    assert_eq!(told.code, Some(1), "{}", told.output());
    for setting in ["APP_TASKS", "APP_TLS_CERT", "RUST_LOG"] {
        assert!(line(&told, setting).starts_with("fail  settings "), "{}", told.output());
    }
    // What would be lost by a crash of the machine is a failure: the servers of these tests do not sync.
    let careless = Deployment::new().run(&["doctor"]);
    assert_eq!(careless.code, Some(1), "{}", careless.output());
    assert!(line(&careless, "fsync off").starts_with("fail  PostgreSQL "));
}
