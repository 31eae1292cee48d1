//! Migrate: safe from many replicas at once, and `--check` only looks.

use std::{collections::HashSet, fs, path::PathBuf};

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
    let function = |body: &str| format!("CREATE FUNCTION clear() RETURNS void LANGUAGE sql AS $$ {body} $$");
    for harmful in [
        "ALTER TABLE tasks DROP COLUMN queue",
        "alter table tasks rename column queue TO line",
        "ALTER TABLE tasks RENAME TO jobs",
        "ALTER TABLE tasks ADD COLUMN more text NOT NULL",
        "ALTER TABLE tasks ADD more text NOT NULL DEFAULT NULL",
        "ALTER TABLE tasks ADD a text NOT NULL, ADD b int DEFAULT 0",
        "ALTER TABLE tasks ADD a numeric(4, 2) DEFAULT 0, ADD b int NOT NULL",
        "ALTER TABLE tasks ADD COLUMN more text DEFAULT '' UNIQUE",
        "ALTER TABLE tasks ALTER COLUMN queue TYPE varchar",
        "ALTER TABLE tasks ALTER queue SET DATA TYPE varchar",
        "ALTER TABLE tasks ALTER COLUMN result SET NOT NULL",
        "ALTER TABLE tasks ALTER COLUMN status DROP DEFAULT",
        "ALTER TABLE tasks ADD CONSTRAINT short CHECK (length(queue) < 9)",
        "ALTER TABLE tasks ADD CHECK (length(queue) < 9) NOT VALID",
        "ALTER TABLE ONLY tasks ADD UNIQUE (queue)",
        "ALTER TABLE tasks DISABLE TRIGGER note_metadata",
        "ALTER FUNCTION ulid(uuid) RENAME TO spelled",
        "ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'",
        "DROP TABLE workers",
        "DROP TABLE tasks; CREATE TABLE tasks (id uuid)",
        "CREATE TABLE IF NOT EXISTS tasks (id uuid); DROP TABLE tasks",
        "CREATE TABLE more (id uuid); DROP TABLE more, tasks",
        "CREATE TABLE more (id uuid); DROP TABLE more CASCADE",
        "DROP VIEW IF EXISTS everything",
        "DROP TRIGGER note_metadata ON tasks",
        "DROP FUNCTION ulid(uuid)",
        "DROP INDEX CONCURRENTLY tasks_ready",
        "CREATE UNIQUE INDEX ON tasks (queue)",
        "CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS tasks_queue ON ONLY public.tasks (queue)",
        "TRUNCATE task_events",
        "DELETE FROM workers",
        "SELECT 1; /* ; */ DROP TABLE workers",
        "SELECT '--'; DROP TABLE workers",
        "DO $$ BEGIN DROP TABLE workers; END $$",
        "DO $$ BEGIN EXECUTE 'ALTER TABLE tasks DROP COLUMN queue'; EXCEPTION WHEN syntax_error THEN NULL; END $$",
        "DO $do$ BEGIN EXECUTE format('ALTER TABLE %I ADD a text DEFAULT ''x'', ADD b int NOT NULL', t); END $do$",
        "DO $do$ BEGIN IF true THEN EXECUTE $$ALTER TABLE tasks DROP queue$$; END IF; END $do$",
    ] {
        assert!(taken_away(harmful).is_some(), "{harmful}");
    }
    for harmless in [
        "-- DROP TABLE tasks\nCREATE TABLE more (id uuid NOT NULL)",
        "ALTER TABLE tasks ADD COLUMN more text NOT NULL DEFAULT ''",
        "ALTER TABLE tasks ADD COLUMN IF NOT EXISTS more text, ADD least numeric(4, 2) NOT NULL DEFAULT 0",
        "ALTER TABLE tasks ADD more text CHECK (more IN ('a', 'b')), ALTER COLUMN input SET COMPRESSION lz4",
        "ALTER TABLE tasks SET (fillfactor = 70)",
        "DO $do$ BEGIN EXECUTE format('ALTER TABLE %I ADD a text DEFAULT ''x'', ADD b int', t); END $do$",
        "CREATE INDEX tasks_more ON tasks (queue)",
        "DELETE FROM task_metadata m WHERE NOT EXISTS (SELECT FROM tasks t WHERE t.id = m.task_id)",
        "CREATE TABLE more (id uuid); CREATE UNIQUE INDEX ON more (id); ALTER TABLE more ADD CHECK (id IS NOT NULL)",
        "CREATE TABLE more (id uuid); TRUNCATE more; DROP TABLE IF EXISTS more",
        "CREATE TRIGGER all_gone AFTER TRUNCATE ON tasks FOR EACH STATEMENT EXECUTE FUNCTION f()",
        &function("TRUNCATE tasks; DROP TABLE tasks"),
    ] {
        assert_eq!(taken_away(harmless), None, "{harmless}");
    }
    for folder in migrations().iter().filter(|folder| !folder.to_string_lossy().ends_with("_contract")) {
        let up = fs::read_to_string(folder.join("up.sql")).unwrap();
        assert_eq!(taken_away(&up), None, "{}", folder.display());
    }
}

/// The first statement of a migration that takes something away from the release before, or that is not known not to.
/// What a migration has made itself it may change and drop as it likes.
fn taken_away(migration: &str) -> Option<String> {
    let mut made = HashSet::new();
    for statement in statements(migration) {
        let words: Vec<&str> = statement.iter().map(String::as_str).collect();
        if takes(&words, &made) {
            return Some(words.join(" "));
        }
        made.extend(made_by(&words));
    }
    None
}

/// The statements of a text as words in upper case, without comments. Texts in quotes stand as `''` in their statement
/// and are read as statements of their own after it: `DO` and `EXECUTE` run them. Bodies of functions are not read,
/// since nothing of them is done by the migration.
fn statements(text: &str) -> Vec<Vec<String>> {
    let (mut found, mut words, mut quoted) = (Vec::new(), Vec::<String>::new(), Vec::<String>::new());
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix("--") {
            rest = after.split_once('\n').map_or("", |(_, after)| after);
        } else if let Some(after) = rest.strip_prefix("/*") {
            rest = after.split_once("*/").map_or("", |(_, after)| after);
        } else if let Some(after) = rest.strip_prefix(';') {
            end(&mut found, &mut words, &mut quoted);
            rest = after;
        } else if let Some(after) = rest.strip_prefix('\'') {
            let (inside, after) = until_quote(after);
            words.push("''".to_owned());
            quoted.push(inside);
            rest = after;
        } else if let Some(quote) = dollar_quote(rest) {
            let after = &rest[quote.len()..];
            let (inside, after) = after.split_once(quote).unwrap_or((after, ""));
            words.push("''".to_owned());
            quoted.push(inside.to_owned());
            rest = after;
        } else {
            let length = rest.find(|c: char| !c.is_alphanumeric() && !"_.%\"".contains(c)).unwrap_or(rest.len());
            let (word, after) = rest.split_at(length.max(first.len_utf8()));
            let word = word.replace('"', "").to_uppercase();
            words.push(word.strip_prefix("PUBLIC.").unwrap_or(&word).to_owned());
            rest = after;
        }
        rest = rest.trim_start();
    }
    end(&mut found, &mut words, &mut quoted);
    found
}

/// The end of a statement, which may hold others.
fn end(found: &mut Vec<Vec<String>>, words: &mut Vec<String>, quoted: &mut Vec<String>) {
    let begins = words.iter().take(4).map(String::as_str).collect::<Vec<_>>();
    let only_defines =
        begins.first() == Some(&"CREATE") && begins.iter().any(|word| ["FUNCTION", "PROCEDURE"].contains(word));
    let quoted = std::mem::take(quoted);
    if !words.is_empty() {
        found.push(std::mem::take(words));
    }
    if !only_defines {
        found.extend(quoted.iter().flat_map(|text| statements(text)));
    }
}

/// What is inside of the quotes, two of which stand for one, and what comes after them.
fn until_quote(mut rest: &str) -> (String, &str) {
    let mut inside = String::new();
    loop {
        let (part, after) = rest.split_once('\'').unwrap_or((rest, ""));
        inside += part;
        let Some(more) = after.strip_prefix('\'') else { return (inside, after) };
        inside.push('\'');
        rest = more;
    }
}

/// `$$` or `$name$`, when a text begins with it.
fn dollar_quote(text: &str) -> Option<&str> {
    let name = text.strip_prefix('$')?;
    let length = name.find(|c: char| !c.is_alphanumeric() && c != '_')?;
    name[length..].starts_with('$').then(|| &text[..length + 2])
}

/// What a statement makes: `TABLE TASKS`. Not what may have been there before.
fn made_by(words: &[&str]) -> Option<String> {
    let kinds = ["TABLE", "VIEW", "INDEX", "TYPE", "FUNCTION", "TRIGGER", "SEQUENCE"];
    let manners = ["UNIQUE", "UNLOGGED", "TEMPORARY", "TEMP", "MATERIALIZED", "CONSTRAINT"];
    let mut rest = after(words, &["CREATE"])?.iter().skip_while(|word| manners.contains(word));
    let kind = rest.next().filter(|kind| kinds.contains(kind))?;
    let name = rest.find(|word| **word != "CONCURRENTLY").filter(|name| **name != "IF")?;
    Some(format!("{kind} {name}"))
}

/// Whether a statement takes something away that the migration has not made itself.
fn takes(words: &[&str], made: &HashSet<String>) -> bool {
    let is_new = |kind: &str, rest: &[&str]| made.contains(&format!("{kind} {}", named(rest)));
    let are_new = |kind: &str, rest: &[&str]| {
        clauses(rest).into_iter().all(|one| is_new(kind, one)) && !rest.contains(&"CASCADE")
    };
    match after(words, &["ALTER"]) {
        Some(["TABLE", rest @ ..]) => {
            let name = named(rest);
            let changes = after(rest, &[name]).unwrap_or_default();
            return !is_new("TABLE", rest) && !clauses(changes).into_iter().all(is_harmless);
        }
        Some([kind, rest @ ..]) => return !is_new(kind, rest),
        Some([]) | None => {}
    }
    if let Some([kind, rest @ ..]) = after(words, &["DROP"]) {
        return !are_new(kind, rest);
    }
    // Not the event of a trigger.
    if let Some(rest @ [next, ..]) = after(words, &["TRUNCATE"])
        && !["ON", "OR"].contains(next)
    {
        return !are_new("TABLE", rest);
    }
    // As good as the same, unless it says of which rows.
    if let Some(rest) = after(words, &["DELETE", "FROM"])
        && !rest.contains(&"WHERE")
    {
        return !is_new("TABLE", rest);
    }
    let index = after(words, &["UNIQUE", "INDEX"]).and_then(|rest| after(rest, &["ON"]));
    index.is_some_and(|rest| !is_new("TABLE", rest))
}

/// Whether a clause of `ALTER TABLE` is one of those that ask nothing of the rows that are there, or of those to come
/// from a program that knows nothing of it.
fn is_harmless(clause: &[&str]) -> bool {
    match clause {
        ["ADD", "CONSTRAINT" | "CHECK" | "UNIQUE" | "PRIMARY" | "FOREIGN" | "EXCLUDE", ..] => false,
        ["ADD", column @ ..] => {
            let has = |part: &[&str]| after(column, part).is_some();
            let is_filled = has(&["DEFAULT"]) && !has(&["DEFAULT", "NULL"]) || has(&["GENERATED"]);
            (is_filled || !has(&["NOT", "NULL"])) && !has(&["UNIQUE"]) && !has(&["PRIMARY"])
        }
        ["ALTER", "COLUMN", _, change @ ..] | ["ALTER", _, change @ ..] => {
            matches!(change, ["SET", "COMPRESSION" | "STORAGE" | "STATISTICS" | "DEFAULT" | "(", ..] | ["RESET", ..])
        }
        ["SET" | "RESET", "(", ..] => true,
        _ => false,
    }
}

/// What comes after the first place where these words stand.
fn after<'w, 'a>(words: &'w [&'a str], part: &[&str]) -> Option<&'w [&'a str]> {
    words.windows(part.len()).position(|words| words == part).map(|at| &words[at + part.len()..])
}

/// The name with which this begins.
fn named<'a>(words: &[&'a str]) -> &'a str {
    let before = ["TABLE", "IF", "EXISTS", "ONLY", "CONCURRENTLY"];
    words.iter().find(|word| !before.contains(word)).copied().unwrap_or_default()
}

/// What stands between the commas that are in no brackets.
fn clauses<'w, 'a>(words: &'w [&'a str]) -> Vec<&'w [&'a str]> {
    let mut depth = 0;
    let is_between = |word: &&str| {
        match *word {
            "(" => depth += 1,
            ")" => depth -= 1,
            _ => {}
        }
        *word == "," && depth == 0
    };
    words.split(is_between).collect()
}
