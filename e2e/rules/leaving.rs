//! Leaving: a worker that is told to go takes nothing with it, and nobody pays for it.

use super::*;

/// How long an event with this status came after the moment that the query names, in seconds.
fn seconds(sql: &Sql, id: &str, from: &str, to: &str) -> f64 {
    let query = format!(
        "SELECT extract(epoch FROM (SELECT max(at) FROM task_events WHERE task_id = from_ulid($1) AND {to})
         - (SELECT max(at) FROM task_events WHERE task_id = from_ulid($1) AND {from}))::float8"
    );
    sql.value(&query, &[&id])
}

#[test]
fn a_task_that_cooperates_goes_on_elsewhere_within_a_second_of_the_grace() {
    let house = House::of(deployment().set("APP_LEASE", "30s"));
    let id = house.submit(count(40, 100));
    let short = house.submit(count(1, 400));
    let mut leaving = house.deployment.work_with(&[("APP_GRACE", "1s")]);
    ledger::wait(&house.sql, &id, "on its way", |entry| entry.seq >= 3);
    let mut staying = house.deployment.work();
    staying.wait_for_line("worker started");
    let watch = Stopwatch::start();
    leaving.signal(Signal::SIGTERM);
    assert_eq!(leaving.wait_exit(LONG).code(), Some(0));
    assert!(watch.elapsed() < Duration::from_millis(2_500), "it took {:?} to leave", watch.elapsed());
    let entry = wait_status(&house.sql, &id, "SUCCESS");
    assert_eq!((entry.delivery, entry.failures, entry.lost), (2, 0, 0));
    let gap = seconds(&house.sql, &id, "status = 'PENDING'", "status = 'RUNNING'");
    assert!((0.0..1.0 + watch.lost().as_secs_f64()).contains(&gap), "{gap} s between two deliveries");
    check_counted(&house.sql, &id, 40);
    let resumed = events(&house.sql, &id).iter().any(|event| event.message.as_deref() == Some("step 1 in delivery 2"));
    assert!(!resumed, "it began again instead of going on from its checkpoint");
    // Who finishes within the grace finishes.
    assert_eq!(wait_status(&house.sql, &short, "SUCCESS").delivery, 1);
    wait_until_clean(&house.deployment, &house.sql);
    staying.stop();
}

#[test]
fn a_second_signal_hands_everything_back_at_once() {
    for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130)] {
        let house = House::of(deployment().set("APP_GRACE", "1h").set("APP_LEASE", "30s"));
        let ids = [
            house.submit(json!({"task_type": "cling", "how": "awaits", "time": 60_000})),
            house.submit(count(900, 100)),
        ];
        let mut leaving = house.deployment.work();
        ids.iter().for_each(|id| drop(wait_status(&house.sql, id, "RUNNING")));
        leaving.signal(signal);
        leaving.wait_for_line("draining");
        let began = Stopwatch::start();
        leaving.signal(signal);
        assert_eq!(leaving.wait_exit(LONG).code(), Some(code));
        assert!(began.elapsed() < Duration::from_secs(3), "it took {:?}", began.elapsed());
        for id in &ids {
            let entry = entry(&house.sql, id);
            assert_eq!((entry.status.as_str(), entry.delivery, entry.failures, entry.lost), ("PENDING", 1, 0, 0));
        }
        // Their doorbells have rung: nobody has to miss them first.
        let rung = house.deployment.redis::<Vec<String>>(&["LRANGE", READY, "0", "-1"]);
        assert!(ids.iter().all(|id| rung.contains(id)), "{rung:?}");
    }
}

/// Neither store says anything any more. Told twice, a worker gives up on both of them together, and not one after the
/// other: the lease does the rest.
#[test]
fn a_second_signal_waits_for_no_store() {
    let [postgres, redis] = [Services::shared().postgres.port(), Services::shared().redis.port()].map(Proxy::before);
    let house = House::of(deployment().set("APP_GRACE", "1h").set("APP_LEASE", "30s"));
    let id = house.submit(count(900, 100));
    let (database_url, redis_url) =
        (house.deployment.database_url_by(&postgres), house.deployment.redis_url_by(&redis));
    let mut leaving = house.deployment.work_with(&[("DATABASE_URL", &database_url), ("REDIS_URL", &redis_url)]);
    wait_status(&house.sql, &id, "RUNNING");
    leaving.signal(Signal::SIGTERM);
    leaving.wait_for_line("draining");
    for proxy in [&postgres, &redis] {
        proxy.set(Direction::ToServer, Flow::Swallow);
        proxy.set(Direction::ToClient, Flow::Swallow);
    }
    let began = Stopwatch::start();
    leaving.signal(Signal::SIGTERM);
    assert_eq!(leaving.wait_exit(LONG).code(), Some(143));
    // About a second on an idle machine; one store after the other, it was eight.
    assert!(began.elapsed() < Duration::from_secs(4), "it took {:?}", began.elapsed());
}

/// A handler that ignores every request is handed back as it is, and holds nobody up.
#[test]
fn who_does_not_stop_is_left_behind() {
    for how in ["awaits", "blocks", "hogs"] {
        let house = House::of(deployment().set("APP_GRACE", "300ms").set("APP_STOP_TIMEOUT", "500ms"));
        let id = house.submit(json!({"task_type": "cling", "how": how, "time": 600_000}));
        let mut leaving = house.deployment.work();
        wait_status(&house.sql, &id, "RUNNING");
        let began = Stopwatch::start();
        leaving.signal(Signal::SIGTERM);
        assert_eq!(leaving.wait_exit(LONG).code(), Some(0), "{how}");
        // The grace, the time to stop, a margin, and the second that threads have at the end of the process are less
        // than three seconds; the rest is for a busy machine. The handler would take ten minutes.
        assert!(began.elapsed() < Duration::from_secs(10), "{how}: {:?}", began.elapsed());
        let entry = entry(&house.sql, &id);
        assert_eq!((entry.status.as_str(), entry.failures, entry.lost), ("PENDING", 0, 0), "{how}");
        let log = leaving.stderr();
        assert!(log.contains("did not stop") || log.contains("ignore the request to stop"), "{how} is not reported");
    }
}

/// What `GET /workers` shows: attempts that ignore a request to stop, for as long as they do, and no others.
#[test]
fn attempts_that_ignore_a_cancel_are_counted() {
    let house = House::of(deployment().set("APP_STOP_TIMEOUT", "300ms"));
    let mut worker = house.deployment.work();
    let obedient = house.submit(count(900, 100));
    let deaf = house.submit(json!({"task_type": "cling", "how": "blocks", "time": 10_000}));
    let started = Stopwatch::start();
    for id in [&obedient, &deaf] {
        wait_status(&house.sql, id, "RUNNING");
        house.client.cancel(id).expect(204);
    }
    let unstopped = |number: i32| {
        until(&format!("{number} unstopped"), LONG, || {
            (house.sql.value::<i32>("SELECT unstopped FROM workers", &[]) == number).then_some(())
        });
    };
    unstopped(1);
    assert!(started.elapsed() < Duration::from_secs(10));
    // Its slot is free and its stop confirmed, although its thread goes on.
    ledger::wait(&house.sql, &deaf, "confirmed", |entry| !entry.has_worker);
    unstopped(0);
    assert!(started.on_the_wall() >= Duration::from_secs(10));
    worker.stop();
}

#[test]
fn a_deadline_ends_the_attempt_whether_the_handler_listens_or_not() {
    let house = House::of(deployment().set("APP_STOP_TIMEOUT", "300ms"));
    let mut worker = house.deployment.work();
    let options = json!({"timeout": "300ms", "max_attempts": 1});
    let listens = house.submit(count_with(900, 100, options.clone()));
    let deaf = house.submit(json!({"task_type": "cling", "how": "awaits", "time": 60_000, "options": options}));
    for id in [&listens, &deaf] {
        let entry = wait_status(&house.sql, id, "FAILED");
        assert_eq!((entry.error.as_deref(), entry.failures), (Some("timeout"), 1));
    }
    worker.stop();
}

#[test]
fn a_closed_terminal_is_told_to_leave_like_sigterm() {
    let house = House::of(deployment().set("APP_GRACE", "30s"));
    let id = house.submit(count(20, 50));
    let mut worker = house.deployment.work();
    ledger::wait(&house.sql, &id, "on its way", |entry| entry.seq >= 3);
    worker.signal(Signal::SIGHUP);
    assert_eq!(worker.wait_exit(LONG).code(), Some(0));
    let entry = entry(&house.sql, &id);
    assert_eq!((entry.status.as_str(), entry.lost), ("SUCCESS", 0));
}

#[test]
fn once_drains_the_queue_and_leaves() {
    let house = House::new();
    let ids: Vec<String> = (0..3).map(|_| house.submit(count(2, 50))).collect();
    let soon = house.submit(count_with(1, 0, json!({"delay": "800ms"})));
    let far = house.submit(count_with(1, 0, json!({"delay": "1h"})));
    let elsewhere = house.submit(count_with(1, 0, json!({"queue": "elsewhere"})));
    let done = house.deployment.run(&["work", "--once"]);
    assert_eq!(done.code, Some(0), "{}", done.output());
    for id in ids.iter().chain([&soon]) {
        assert_eq!(entry(&house.sql, id).status, "SUCCESS");
    }
    assert_eq!(entry(&house.sql, &far).status, "PENDING");
    assert_eq!(entry(&house.sql, &elsewhere).status, "PENDING");
    assert_eq!(house.deployment.run(&["work", "--once"]).code, Some(0), "nothing to do is done at once");
}
