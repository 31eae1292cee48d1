//! Migrate: safe from many replicas at once, and `--check` only looks.

use std::{fs, path::PathBuf};

use nix::sys::signal::Signal;

use crate::harness::{Deployment, LONG};

/// The folder of each migration, the oldest first.
fn migrations() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = fs::read_dir("migrations").unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    folders
}

#[test]
fn check_tells_and_changes_nothing() {
    let deployment = Deployment::empty();
    for _ in 0..2 {
        let behind = deployment.run(&["migrate", "--check"]);
        assert_eq!(behind.code, Some(1), "{}", behind.output());
        assert!(behind.stderr.contains("app migrate"), "it says what to do: {}", behind.stderr);
    }
    assert_eq!(deployment.run(&["migrate"]).code, Some(0));
    assert_eq!(deployment.run(&["migrate", "--check"]).code, Some(0));
    assert_eq!(deployment.run(&["migrate"]).code, Some(0), "a second time is nothing to do");
}

#[test]
fn many_at_once() {
    let deployment = Deployment::empty();
    let finished: Vec<_> = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..6).map(|_| scope.spawn(|| deployment.run(&["migrate"]))).collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    for run in &finished {
        assert_eq!(run.code, Some(0), "{}", run.output());
    }
    let sql = deployment.sql();
    let versions: i64 = sql.value("SELECT count(*) - count(DISTINCT version) FROM __diesel_schema_migrations", &[]);
    assert_eq!(versions, 0);
    assert_eq!(
        sql.value::<i64>("SELECT count(*) FROM leases WHERE name IN ('doorbells', 'janitor')", &[]),
        2,
        "each migration ran once"
    );
}

/// Where PostgreSQL can; the migration passes where it cannot.
#[test]
fn large_columns_are_compressed_with_lz4() {
    let deployment = Deployment::new();
    let sql = deployment.sql();
    let can = "SELECT count(*) > 0 FROM pg_settings WHERE name = 'default_toast_compression' AND 'lz4' = ANY(enumvals)";
    let columns: Vec<String> = sql
        .rows(
            "SELECT attname::text FROM pg_attribute WHERE attrelid = 'tasks'::regclass AND attcompression = 'l' ORDER BY 1",
            &[],
        )
        .iter()
        .map(|row| row.get(0))
        .collect();
    let expected: &[&str] = if sql.value::<bool>(can, &[]) { &["checkpoint", "input", "result"] } else { &[] };
    assert_eq!(columns, expected);
}

#[test]
fn a_server_on_an_empty_database_says_so_and_recovers() {
    let deployment = Deployment::empty();
    let mut serve = deployment.serve();
    let client = serve.client();
    let answer = client.fetch("/readyz");
    assert_eq!(answer.status, 503, "{answer}");
    serve.wait_for_line("the schema is behind this program: run app migrate");
    let submitted = client.post("/tasks", r#"{"vector_data": [1.0]}"#, &[]).expect(503);
    for answer in [&answer, &submitted] {
        let detail = answer.json()["detail"].as_str().unwrap_or_default().to_owned();
        assert!(detail.contains("schema") && detail.contains("app migrate"), "{answer}");
        assert!(!detail.contains("cannot be reached"), "{answer}");
    }
    assert_eq!(deployment.run(&["migrate"]).code, Some(0));
    client.wait_ready(LONG);
}

/// A Job whose pod is drained, or a compose that is stopped, while PostgreSQL is still away: nobody may take that for a
/// database that is up to date.
#[test]
fn told_to_stop_before_it_could_begin_is_a_failure() {
    let deployment = Deployment::empty();
    for arguments in [&["migrate"][..], &["migrate", "--check", "--wait", "1m"]] {
        // Nothing listens on port 1.
        let away = ("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nothing");
        let mut migrate = deployment.start_with(arguments, &[away]);
        migrate.wait_for_line("waiting for");
        migrate.signal(Signal::SIGTERM);
        assert_eq!(migrate.wait_exit(LONG).code(), Some(1), "{}", migrate.stderr());
        assert!(migrate.stderr().contains("told to stop"), "{}", migrate.stderr());
    }
}

/// What a developer does who goes back and forth between two branches.
#[test]
fn the_way_down_leads_to_an_empty_database_and_up_again() {
    let deployment = Deployment::new();
    let sql = deployment.sql();
    for folder in migrations().iter().rev() {
        let down = fs::read_to_string(folder.join("down.sql")).unwrap();
        sql.run(&down).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    }
    let left = "SELECT string_agg(name, ', ') FROM (
                  SELECT relname::text AS name FROM pg_class WHERE relnamespace = 'public'::regnamespace
                    AND relkind IN ('r', 'v', 'm', 'S') AND relname <> '__diesel_schema_migrations'
                  UNION ALL SELECT proname::text FROM pg_proc WHERE pronamespace = 'public'::regnamespace) AS everything";
    assert_eq!(sql.value::<Option<String>>(left, &[]), None, "something is left");
    sql.run("DELETE FROM __diesel_schema_migrations").unwrap();
    assert_eq!(deployment.run(&["migrate"]).code, Some(0));
    assert_eq!(deployment.run(&["migrate", "--check"]).code, Some(0));
}

/// The old image is all that a rollback takes (docs/upgrading.md): so nothing that it reads may go, and nothing may be
/// asked of a row that it does not know. A release that takes something away, which the one before has stopped to use,
/// says so in the name of its migration: `…_contract`.
#[test]
fn a_migration_takes_nothing_from_the_release_before() {
    for (statement, wanted) in [
        ("ALTER TABLE tasks DROP COLUMN queue", true),
        ("-- DROP TABLE tasks\nCREATE TABLE more (id uuid NOT NULL)", false),
        ("alter table tasks rename column queue TO line", true),
        ("ALTER TABLE tasks ADD COLUMN more text NOT NULL", true),
        ("ALTER TABLE tasks ADD COLUMN more text NOT NULL DEFAULT ''", false),
        ("ALTER TABLE tasks ALTER COLUMN queue TYPE varchar", true),
        ("ALTER TABLE tasks ALTER COLUMN result SET NOT NULL", true),
        ("DROP TABLE workers", true),
    ] {
        assert_eq!(takes_away(statement), wanted, "{statement}");
    }
    for folder in migrations().iter().filter(|folder| !folder.to_string_lossy().ends_with("_contract")) {
        let up = fs::read_to_string(folder.join("up.sql")).unwrap();
        for statement in up.split(';') {
            assert!(!takes_away(statement), "{}: {statement}", folder.display());
        }
    }
}

fn takes_away(statement: &str) -> bool {
    let code = statement.lines().map(|line| line.split("--").next().unwrap_or_default()).collect::<Vec<_>>().join(" ");
    let words = code.split_whitespace().map(str::to_uppercase).collect::<Vec<_>>().join(" ");
    let has = |part: &str| words.contains(part);
    match words.starts_with("ALTER TABLE") {
        true => {
            has(" DROP ")
                || has(" RENAME ")
                || has(" TYPE ")
                || has("SET NOT NULL")
                || (has("NOT NULL") && !has("DEFAULT"))
        }
        false => ["DROP TABLE", "DROP FUNCTION", "DROP TYPE", "TRUNCATE"].iter().any(|drop| words.starts_with(drop)),
    }
}
