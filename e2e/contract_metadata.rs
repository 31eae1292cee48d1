//! Contract: tasks are found by their metadata; the rows that this takes are few, and go when their tasks go.

use serde_json::{Value, json};

use crate::harness::{Client, Deployment, Sql};

/// A task without a server; what follows is its metadata.
const INSERT: &str = "INSERT INTO tasks (id, task_type, input, max_attempts, metadata)
                      SELECT gen_random_uuid(), 'vector_processing', '{}', 1,";
/// Writes the members of all tasks.
pub const FILL: &str = include_str!("../migrations/2026-01-09-010000_task_metadata_filled/up.sql");

fn body(metadata: Value) -> Value {
    json!({"vector_data": [1.0], "duration": 0, "metadata": metadata})
}

fn ids(client: &Client, query: &str) -> Vec<String> {
    client.list(query).iter().map(|task| task["task_id"].as_str().unwrap().to_owned()).collect()
}

/// How many rows there are, over all tasks.
fn pairs(sql: &Sql) -> i64 {
    sql.value("SELECT count(*) FROM task_metadata", &[])
}

#[test]
fn a_member_of_any_metadata_is_found_and_forgotten_with_its_task() {
    let deployment = Deployment::new();
    let (mut serve, sql) = (deployment.serve(), deployment.sql());
    let client = serve.client();
    // Members of any kind, more filters than are looked up, and metadata too large or of too many members to be
    // divided.
    let several = json!({"a": "1", "b": "2", "c": "3", "d": "4", "e": "5", "n": 7, "o": {"p": [1]}, "z": null});
    let (mut large, mut many) = (several.clone(), several.clone());
    large["text"] = json!("x".repeat(5_000));
    for n in 0..40 {
        many[format!("m{n}")] = json!(n);
    }
    let mut sorted = [several, large, many].map(|metadata| client.submit(&body(metadata)));
    client.submit(&body(json!({"a": "1", "b": "2", "c": "3", "d": "4", "e": "6"})));
    sorted.sort_unstable();
    sorted.reverse();
    for query in [
        "?metadata.n=7",
        "?metadata.o=%7B%22p%22:%5B1%5D%7D",
        "?metadata.a=1&metadata.e=5",
        "?metadata.a=1&metadata.b=2&metadata.c=3&metadata.d=4&metadata.e=5",
    ] {
        assert_eq!(ids(&client, query), sorted, "{query}");
        assert_eq!(client.list(&format!("{query}&limit=1")).len(), 1);
    }
    for query in ["?metadata.n=8", "?metadata.z=null", "?metadata.a=1&metadata.e=7"] {
        assert!(client.list(query).is_empty(), "{query}");
    }
    let counted = client.fetch("/tasks/counts?metadata.a=1&status=PENDING").expect(200).json();
    assert_eq!(counted["counts"]["PENDING"], 4);
    // Each once: what too large or too many members stand under counts as one.
    assert_eq!(pairs(&sql), 7 + 1 + 1 + 5);
    // The trigger that deletes them divides the metadata by itself.
    sql.run("DELETE FROM tasks").unwrap();
    assert_eq!(pairs(&sql), 0);
}

/// A batch of a thousand tasks is not to write a million rows.
#[test]
fn a_task_stands_once_under_each_member_of_its_metadata_and_under_few() {
    let deployment = Deployment::new();
    let (mut serve, sql) = (deployment.serve(), deployment.sql());
    let client = serve.client();
    let object = |members: usize| Value::Object((0..members).map(|n| (format!("k{n}"), json!(n))).collect());
    for (members, expected) in [(32, 32), (33, 32 + 1)] {
        client.submit(&body(object(members)));
        assert_eq!(pairs(&sql), expected, "with {members} members");
    }
    // Those are the members that the database itself finds.
    let different = "SELECT count(*) FROM (
        (SELECT pair, task_id FROM task_metadata
         EXCEPT SELECT pair, t.id FROM tasks t, metadata_pairs(t.metadata) AS pair)
        UNION ALL
        (SELECT pair, t.id FROM tasks t, metadata_pairs(t.metadata) AS pair
         EXCEPT SELECT pair, task_id FROM task_metadata)
    ) AS different";
    for metadata in
        [json!({}), json!({"a": "é\n\"\\", "b": null, "c": [1, {"d": 1.50}], "": "", "e": "null", "f": true})]
    {
        client.submit(&body(metadata));
    }
    let as_written = r#"{"vector_data":[1],"metadata":{ "n" : 1.50 , "o" : { "p" : [ 1, 2 ] } , "u" : "\u00e9\/\ud83d\ude00",
        "\u0061" : -0 , "e" : 1e5 }}"#;
    client.post("/tasks", as_written, &[]).expect(202);
    for bytes in [4_096, 4_097] {
        client.submit(&body(json!({"k": "x".repeat(bytes - r#"{"k":""}"#.len())})));
    }
    assert_eq!(sql.value::<i64>(different, &[]), 0);
}

/// Whoever wants two members of one hash can find them.
#[test]
fn two_members_of_one_hash_are_one_row() {
    let deployment = Deployment::new();
    let (mut serve, sql) = (deployment.serve(), deployment.sql());
    sql.run(
        "CREATE OR REPLACE FUNCTION metadata_pair(key text, value text) RETURNS bigint
         LANGUAGE sql IMMUTABLE PARALLEL SAFE AS 'SELECT length(key)::bigint'",
    )
    .unwrap();
    let client = serve.client();
    client.submit(&body(json!({"a": "1", "b": "2"})));
    assert_eq!(pairs(&sql), 1);
    assert_eq!(client.list("?metadata.b=2").len(), 1);
    assert!(client.list("?metadata.b=3").is_empty());
}

/// Retention deletes a few hundred tasks at a time out of any number.
#[test]
fn what_is_deleted_is_forgotten_without_a_look_at_all_metadata() {
    let deployment = Deployment::new();
    let sql = deployment.sql();
    sql.run(&format!("{INSERT} json_build_object('n', n) FROM generate_series(1, 2000) AS n")).unwrap();
    sql.run(FILL).unwrap();
    sql.run("ANALYZE tasks, task_metadata").unwrap();
    let scans =
        "(SELECT coalesce(sum(seq_scan), 0) FROM pg_stat_xact_user_tables WHERE relname = 'task_metadata')::bigint";
    sql.run(&format!(
        "DO $$ DECLARE scans_before bigint := {scans}; BEGIN
             DELETE FROM tasks WHERE id IN (SELECT id FROM tasks ORDER BY id LIMIT 500);
             ASSERT {scans} = scans_before, 'it read the whole table';
         END $$"
    ))
    .unwrap();
    assert_eq!(pairs(&sql), 1500);
}

/// By their own tasks, and not by way of everybody's: what others have makes no list slower, nor tells by its time.
#[test]
fn an_owner_finds_their_own_tasks_by_metadata() {
    let deployment = Deployment::new();
    let mut serve = deployment.serve();
    let client = serve.client();
    let [one, two, root] = [("one", "user"), ("two", "user"), ("root", "admin")]
        .map(|(name, role)| client.with_key(&deployment.key(name, role)));
    let [first, second, _] = ["red", "red", "blue"].map(|colour| one.submit(&body(json!({"colour": colour}))));
    let mut red = [first, second];
    red.sort_unstable();
    red.reverse();
    two.submit(&body(json!({"colour": "red"})));
    assert_eq!(ids(&root, "?metadata.colour=red").len(), 3);
    assert_eq!(ids(&two, "?metadata.colour=red").len(), 1);
    assert_eq!(ids(&two, "?metadata.colour=blue").len(), 0);
    // Only those who see all tasks need the table.
    deployment.sql().run("DELETE FROM task_metadata").unwrap();
    assert_eq!(ids(&root, "?metadata.colour=red").len(), 0);
    assert_eq!(ids(&one, "?metadata.colour=red"), red);
    assert_eq!(ids(&one, "?metadata.colour=red&status=PENDING&limit=1"), red[..1]);
    let counts = one.fetch("/tasks/counts?metadata.colour=red&status=PENDING").expect(200).json();
    assert_eq!(counts["counts"]["PENDING"], 2);
}

/// Tasks that were there before their metadata had an index are found too.
#[test]
fn metadata_from_before_its_index_is_found() {
    let deployment = Deployment::new();
    let sql = deployment.sql();
    let insert = format!(r#"{INSERT} '{{"k":"v","k":"v"}}'"#);
    sql.run(&insert).unwrap();
    sql.run(FILL).unwrap();
    sql.run(&insert).unwrap();
    // Of a task that was deleted while the others were gone through.
    sql.run("INSERT INTO task_metadata (pair, task_id) VALUES (1, gen_random_uuid())").unwrap();
    sql.run(FILL).unwrap();
    assert_eq!(pairs(&sql), 2);
    assert_eq!(deployment.serve().client().list("?metadata.k=v").len(), 2);
}
