//! Migrate: safe from many replicas at once, and `--check` only looks.

use crate::harness::Deployment;

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
    client.wait_ready(crate::harness::LONG);
}
