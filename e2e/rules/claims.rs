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
