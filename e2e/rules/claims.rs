//! Claims: what starts, what does not, and in which order.

use super::*;

#[test]
fn a_doorbell_starts_nothing_that_may_not_start() {
    let house = House::new();
    house.sql.run("INSERT INTO queues (name, paused) VALUES ('held', true)").unwrap();
    let later = house.submit(count_with(1, 0, json!({"delay": "1h"})));
    let held = house.submit(count_with(1, 0, json!({"queue": "held"})));
    let late = house.submit(count_with(1, 0, json!({"expires_in": "1ms"})));
    ledger::wait_where(&house.sql, &late, "expires_at < clock_timestamp()");
    let strange = house.submit(json!({"task_type": "newer"}));
    for id in [&later, &held, &late, &strange] {
        house.deployment.redis::<i64>(&["RPUSH", READY, id]);
    }
    let mark = house.submit(count(1, 0));
    let mut worker =
        house.deployment.start_with(&["work", "--queue", "default", "--queue", "held"], &[("E2E_BUILD", "old")]);
    wait_status(&house.sql, &mark, "SUCCESS");
    wait_status(&house.sql, &late, "FAILED");
    for id in [&later, &held, &late, &strange] {
        assert_eq!(entry(&house.sql, id).delivery, 0, "{:?}", entry(&house.sql, id));
    }
    house.sql.run("UPDATE queues SET paused = false").unwrap();
    assert_eq!(wait_status(&house.sql, &held, "SUCCESS").delivery, 1);
    worker.stop();
}

#[test]
fn a_worker_that_was_declared_dead_claims_nothing() {
    let house = House::of(deployment().set("APP_LEASE", "4s"));
    let mut worker = house.deployment.work();
    worker.wait_for_line("worker started");
    let_workers_be_dead(&house.sql);
    let id = house.submit(count(1, 0));
    wait_status(&house.sql, &id, "SUCCESS");
    let by: bool = house.sql.value(
        "SELECT bool_and(w.state <> 'dead') FROM task_events e JOIN workers w ON w.id = e.worker_id
         WHERE e.task_id = from_ulid($1)",
        &[&id],
    );
    assert!(by, "only the next incarnation may claim");
    worker.wait_for_line("begins again under a new id");
    worker.stop();
}

/// The older build does not know one type and cannot decode the other's input. Both wait for the newer build.
#[test]
fn what_an_older_build_cannot_run_is_given_back_uncharged() {
    let house = House::new();
    let strange = house.submit(json!({"task_type": "newer"}));
    let changed = house.submit(json!({"task_type": "changed", "new": 7}));
    let mut old = house.deployment.work_with(&[("E2E_BUILD", "old")]);
    ledger::wait(&house.sql, &changed, "given back", |entry| entry.status == "PENDING" && entry.delivery == 1);
    ledger::wait_where(&house.sql, &changed, "undecodable_since IS NOT NULL AND due_at IS NOT NULL");
    ledger::wait_where(&house.sql, &strange, "due_at IS NOT NULL AND delivery = 0");
    old.stop();
    let mut new = house.deployment.work();
    let entry = wait_status(&house.sql, &strange, "SUCCESS");
    assert_eq!((entry.delivery, entry.failures, entry.lost), (1, 0, 0));
    let entry = wait_status(&house.sql, &changed, "SUCCESS");
    assert_eq!((entry.delivery, entry.failures, entry.lost), (2, 0, 0));
    assert_eq!(entry.result.as_deref(), Some("7"));
    assert_eq!(house.client.task(&changed)["attempt"], 1);
    check_history(&house.sql, &changed);
    new.stop();
}

#[test]
fn what_nobody_could_decode_for_ten_minutes_fails() {
    let house = House::new();
    let changed = house.submit(json!({"task_type": "changed", "new": 7}));
    house.sql.change("UPDATE tasks SET undecodable_since = now() - interval '11 min'", &[]);
    let mut old = house.deployment.work_with(&[("E2E_BUILD", "old")]);
    let entry = wait_status(&house.sql, &changed, "FAILED");
    assert_eq!(entry.error.as_deref(), Some("undecodable_input"));
    old.stop();
}

#[test]
fn delays_and_moments_are_kept() {
    let house = House::new();
    let mut worker = house.deployment.work();
    worker.wait_for_line("worker started");
    let watch = Stopwatch::start();
    let delayed = house.submit(count_with(1, 0, json!({"delay": "5s"})));
    let at = (chrono::Utc::now() + Duration::from_millis(900)).to_rfc3339();
    let planned = house.submit(count_with(1, 0, json!({"run_at": at})));
    assert_eq!(house.client.task(&delayed)["pending_reason"], "scheduled");
    for id in [&delayed, &planned] {
        assert_eq!(wait_status(&house.sql, id, "SUCCESS").delivery, 1);
        let late: f64 = house.sql.value(
            "SELECT extract(epoch FROM started_at - scheduled_at)::float8 FROM tasks WHERE id = from_ulid($1)",
            &[id],
        );
        assert!((0.0..3.0 + watch.lost().as_secs_f64()).contains(&late), "started {late} s after its time");
    }
    worker.stop();
}

#[test]
fn low_priority_gets_its_share_and_high_goes_first() {
    let house = House::of(deployment().set("APP_CONCURRENCY", "1"));
    for (priority, number) in [("low", 20), ("normal", 60), ("high", 60)] {
        let bodies: Vec<Value> = (0..number).map(|_| count_with(0, 0, json!({"priority": priority}))).collect();
        bodies.iter().for_each(|body| drop(house.submit(body.clone())));
    }
    let mut worker = house.deployment.work();
    let started = |number: i64| {
        let query = "SELECT count(*) FROM tasks WHERE status = 'SUCCESS'";
        until("they have run", LONG, || (house.sql.value::<i64>(query, &[]) == number).then_some(()));
    };
    started(140);
    let share = |priority: i16| -> i64 {
        house.sql.value(
            "SELECT count(*) FROM (SELECT priority FROM tasks ORDER BY started_at LIMIT 60) AS first WHERE priority = $1",
            &[&priority],
        )
    };
    let (high, low) = (share(0), share(2));
    // One pass in twenty begins with low; the start may fall anywhere in that cycle.
    assert!((2..=4).contains(&low), "{low} of the first sixty starts were low");
    assert!(high >= 54, "{high} of the first sixty starts were high");
    worker.stop();
}

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
    // What a connection has read is known when it has ended.
    worker.stop();
    house.serve.stop();
    let connected =
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'longrun' AND datname = current_database()";
    until("all connections have ended", LONG, || (house.sql.value::<i64>(connected, &[]) == 0).then_some(()));
    assert!(read_by_id(&house) - before < TASKS / 10);
}

/// A large claim is two statements. What one of them got starts, whatever became of the other, whose tasks are found in
/// the own list.
#[cfg(feature = "faults")]
#[test]
fn one_half_of_a_claim_that_fails_keeps_nothing_of_the_other() {
    let house = House::new();
    let bodies = json!(vec![count(1, 0); 100]).to_string();
    house.client.post("/tasks/batch", bodies, &[]).expect(202);
    let faults = [("APP_CONCURRENCY", "128"), ("APP_FAULTS", "claim:error:1")];
    let mut worker = house.deployment.start_with(&["work"], &faults);
    let ended = |deliveries: &str| {
        let sum = format!("SELECT count(*) FROM tasks WHERE status = 'SUCCESS' AND delivery {deliveries}");
        house.sql.value::<i64>(&sum, &[])
    };
    until("all of them end", LONG, || (ended("= 1") == 100).then_some(()));
    worker.wait_for_line("cannot claim");
    worker.stop();
}
