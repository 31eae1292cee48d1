//! Plans: what PostgreSQL reads to answer, where the planner could take a way that reads nearly everything.

use super::*;

/// PostgreSQL keeps its plans, and the first ones are made while next to nothing is in the tables. Read whole, they would
/// go on being read whole when a hundred thousand tasks are there.
#[test]
fn what_is_written_in_batches_reads_by_index_from_the_first_task_on() {
    let house = House::new();
    let mut worker = house.deployment.work();
    let scans = |kind: &str| {
        let sum = format!(
            "SELECT sum({kind})::bigint FROM pg_stat_user_tables WHERE relname IN ('tasks', 'task_events', 'task_metadata')"
        );
        house.sql.value::<i64>(&sum, &[])
    };
    let before = scans("seq_scan");
    for _ in 0..20 {
        let id = house.submit(count(1, 0));
        house.client.wait_status(&id, "SUCCESS", LONG);
    }
    until("PostgreSQL has counted them", LONG, || (scans("idx_scan") >= 40).then_some(()));
    worker.stop();
    house.sql.run("SELECT pg_stat_force_next_flush()").unwrap();
    assert_eq!(scans("seq_scan"), before);
}

/// Entries of the primary key of the tasks that were read, by all whose statistics PostgreSQL has by now.
fn read_by_id(house: &House) -> i64 {
    let read = "SELECT idx_tup_read FROM pg_stat_user_indexes WHERE indexrelname = 'tasks_pkey'";
    house.sql.value::<i64>(read, &[])
}

/// Tasks that were read because all of them were.
fn read_whole(house: &House) -> i64 {
    house.sql.value::<i64>("SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'tasks'", &[])
}

/// What a connection has read is known when it has ended.
fn all_have_left(house: &House) {
    let connected =
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'longrun' AND datname = current_database()";
    until("all connections have ended", LONG, || (house.sql.value::<i64>(connected, &[]) == 0).then_some(()));
}

/// Where nearly all tasks wait, the order of their ids looks like the cheapest way to the first of them, to a planner that
/// does not know that all others would be read for those that are not there.
#[test]
fn the_age_of_a_long_line_is_that_of_its_head() {
    const TASKS: i64 = 10_000;
    let house = House::new();
    let body = json!(vec![count(1, 0); 1_000]).to_string();
    for _ in 0..TASKS / 1_000 {
        house.client.post("/tasks/batch", body.clone(), &[]).expect(202);
    }
    house.sql.run("ANALYZE tasks").unwrap();
    let before = read_by_id(&house);
    let counted = || {
        let scans = "SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'tasks_running'";
        house.sql.value::<i64>(scans, &[])
    };
    let first = counted();
    until("PostgreSQL has seen the queue counted", LONG, || {
        let queues = house.client.fetch("/queues").expect(200).json();
        assert!(queues[0]["oldest_age_seconds"].as_f64().unwrap() > 0.0, "{queues:#}");
        (counted() >= first + 10).then_some(())
    });
    assert!(read_by_id(&house) - before < TASKS);
}

/// The same for those whose time has come. The others wait for theirs, so that nothing else looks at them.
#[test]
fn what_is_due_or_expires_is_found_by_its_time() {
    const TASKS: i64 = 100_000;
    let mut house = House::new();
    // Of today, or they would be looked at for what is old.
    let insert = format!(
        "INSERT INTO tasks (id, task_type, queue, input, max_attempts, ready_at, due_at, expires_at)
         SELECT (lpad(to_hex((extract(epoch FROM now()) * 1000)::bigint), 12, '0') || lpad(to_hex(n), 20, '0'))::uuid,
                'count', 'later', '{{}}', 1, at, at, at
         FROM generate_series(1, {TASKS}) AS n, (SELECT now() + interval '1 day' AS at) AS later;
         ANALYZE tasks"
    );
    house.sql.run(&insert).unwrap();
    let before = read_by_id(&house);
    let mut worker = house.deployment.start_with(&["work", "--queue", "elsewhere"], &[]);
    for _ in 0..3 {
        let late = house.submit(count_with(1, 0, json!({"expires_in": "1ms"})));
        let due = house.submit(count_with(1, 0, json!({"delay": "1ms"})));
        wait_status(&house.sql, &late, "FAILED");
        ledger::wait_where(&house.sql, &due, "due_at IS NULL");
    }
    worker.stop();
    house.serve.stop();
    all_have_left(&house);
    assert!(read_by_id(&house) - before < TASKS / 10);
}

/// An owner of a tenth of all tasks seems to have one among any ten; and to those of this one, all of which are old, the
/// order of the ids leads by way of everybody's.
#[test]
fn an_owners_list_reads_nothing_of_the_others() {
    const TASKS: i64 = 20_000;
    let mut house = House::new();
    let insert = format!(
        "INSERT INTO tasks (id, task_type, queue, owner, input, max_attempts, ready_at, status, result, completed_at)
         SELECT (lpad(to_hex((extract(epoch FROM now()) * 1000)::bigint), 12, '0') || lpad(to_hex(n), 20, '0'))::uuid,
                'count', 'default', CASE WHEN n <= {TASKS} / 2 AND n % 5 = 0 THEN 'early' ELSE 'late' END, '{{}}', 1,
                now(), 'SUCCESS', '{{}}', now()
         FROM generate_series(1, {TASKS}) AS n;
         ANALYZE tasks"
    );
    house.sql.run(&insert).unwrap();
    let rows = house.sql.rows("SELECT ulid(id) FROM tasks WHERE owner = 'early' ORDER BY id DESC", &[]);
    let own: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    let early = house.client.with_key(&house.deployment.key("early", "user"));
    let pages = |first: &str| {
        let (mut listed, mut page) = (Vec::new(), Some(first.to_owned()));
        while let Some(path) = page {
            let answer = early.fetch(&path).expect(200);
            let tasks = answer.json();
            listed.extend(tasks.as_array().unwrap().iter().map(|task| task["task_id"].as_str().unwrap().to_owned()));
            page = answer.next_page();
        }
        listed
    };
    house.sql.run("SELECT pg_stat_force_next_flush()").unwrap();
    let before = (read_by_id(&house), read_whole(&house));
    assert!(pages("/tasks?limit=100") == own, "the pages are not the owner's tasks, newest first");
    let year = "created_after=2026-01-01T00:00:00Z&created_before=2099-01-01T00:00:00Z";
    assert!(pages(&format!("/tasks?limit=1000&{year}")) == own, "within some time they are not");
    house.serve.stop();
    all_have_left(&house);
    assert!(read_by_id(&house) - before.0 < TASKS / 10);
    assert_eq!(read_whole(&house), before.1);
}
