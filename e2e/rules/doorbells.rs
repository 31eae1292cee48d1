//! Doorbells ring and prove nothing.

use super::*;

#[test]
fn accepted_means_committed_with_or_without_redis() {
    let house = House::of(deployment().set("REDIS_URL", NOWHERE));
    let began = Stopwatch::start();
    let id = house.submit(count(1, 0));
    assert!(began.elapsed() < Duration::from_secs(2), "nobody waits for a push");
    assert_eq!(entry(&house.sql, &id).status, "PENDING");

    let mut refusing = house.deployment.serve_with(&[("APP_FAULTS", "submit:error:1000")]);
    refusing.client().post("/tasks", count(1, 0).to_string(), &[]).expect(503);
    assert_eq!(house.sql.value::<i64>("SELECT count(*) FROM tasks", &[]), 1);
}

#[test]
fn elements_are_hints_however_many_and_whosesoever() {
    let house = House::new();
    let task = house.submit(count(2, 50));
    let later = house.submit(count_with(1, 0, json!({"delay": "1h"})));
    let cancelled = house.submit(count(1, 0));
    house.client.cancel(&cancelled).expect(204);
    let elsewhere = house.submit(count_with(2, 50, json!({"queue": "elsewhere"})));
    let unknown = ulid::Ulid::from_parts(1, 2).to_string();
    for element in [&task, &task, &later, &cancelled, &elsewhere, &unknown, "", "hello", "\u{1F514}"] {
        house.deployment.redis::<i64>(&["LPUSH", READY, element]);
    }
    // No text at all.
    house.deployment.redis::<()>(&["EVAL", "redis.call('LPUSH', KEYS[1], '\\255\\0')", "1", READY]);
    let mut worker = house.deployment.start(&["work", "--queue", "default", "--queue", "elsewhere"]);
    for id in [&task, &elsewhere] {
        assert_eq!(wait_status(&house.sql, id, "SUCCESS").delivery, 1);
        check_history(&house.sql, id);
    }
    until("the lists are empty", LONG, || {
        house.deployment.redis::<Vec<String>>(&["KEYS", "v1:[ri]*"]).is_empty().then_some(())
    });
    assert_eq!(entry(&house.sql, &later).delivery, 0);
    assert_eq!(entry(&house.sql, &cancelled).delivery, 0);
    worker.stop();
}

/// What was once started rings before everything that never was, whoever rings: the due loop after a backoff, and an
/// operator. It is the order in which tasks are claimed without doorbells, and the one that `queue_position` tells.
#[test]
fn once_taken_tasks_ring_at_the_end_that_is_popped_next() {
    let house = House::new();
    let [fresh, waited, failed] = [0; 3].map(|_| house.submit(count(1, 0)));
    house
        .sql
        .run(&format!(
            "UPDATE tasks SET delivery = 1, ready_at = clock_timestamp() + interval '1 s',
                    due_at = clock_timestamp() + interval '1 s' WHERE id = from_ulid('{waited}');
             UPDATE tasks SET delivery = 1, status = 'FAILED', error = '{{\"code\":\"e\",\"message\":\"\",
                    \"retryable\":true,\"attempt\":1}}', completed_at = clock_timestamp()
             WHERE id = from_ulid('{failed}')"
        ))
        .unwrap();
    until("there is an epoch", LONG, || {
        let epoch = house.deployment.redis::<Option<String>>(&["GET", "v1:epoch"]);
        epoch.filter(|epoch| !epoch.contains(' ')).map(drop)
    });
    house.deployment.redis::<i64>(&["DEL", READY]);
    house.deployment.redis::<i64>(&["RPUSH", READY, &fresh]);
    // It looks after all queues, and takes from another one.
    let mut worker = house.deployment.start(&["work", "--queue", "elsewhere"]);
    let rung = |id: &String| {
        let list = house.deployment.redis::<Vec<String>>(&["LRANGE", READY, "0", "-1"]);
        list.contains(id).then_some(list)
    };
    let list = until("it is due", LONG, || rung(&waited));
    assert_eq!(list, [fresh.clone(), waited.clone()], "the last one is popped next");
    house.client.post(&format!("/tasks/{failed}/retry"), String::new(), &[]).expect(202);
    let list = until("it was retried", LONG, || rung(&failed));
    assert_eq!(list.first(), Some(&fresh), "{list:?}");
    let place = |id: &String| house.client.task(id)["queue_position"].as_i64();
    let first_two = until("they are told their places", LONG, || Some((place(&waited)?, place(&failed)?)));
    assert_eq!((first_two, place(&fresh)), ((1, 2), Some(3)));
    worker.stop();
}

/// Whoever looks for lost doorbells and fails gives the look back: it is made again in a few seconds, and neither a
/// whole pause later nor at once.
#[test]
fn a_look_that_fails_is_made_again_at_the_next_turn() {
    let house = House::new();
    house.submit(count(1, 0));
    let mut worker =
        house.deployment.start_with(&["work", "--queue", "elsewhere"], &[("APP_FAULTS", "still_ready:error:1")]);
    until("there is an epoch", LONG, || {
        let epoch = house.deployment.redis::<Option<String>>(&["GET", "v1:epoch"]);
        epoch.filter(|epoch| !epoch.contains(' ')).map(drop)
    });
    house.deployment.redis::<i64>(&["DEL", READY]);
    // Two looks that may have seen the doorbell or not known the task for long enough, and the one that fails.
    until("a look fails", 2 * LONG, || worker.stderr().contains("injected a fault").then_some(()));
    let given_back =
        "SELECT lease_until < clock_timestamp() + interval '6 s' FROM leases WHERE name = 'lost_doorbells'";
    let rung = || house.deployment.redis::<usize>(&["LLEN", READY]) > 0;
    // A look that is kept is nobody else's for 24 seconds.
    until("it is given back, or made again", Duration::from_secs(15), || {
        (house.sql.value::<bool>(given_back, &[]) || rung()).then_some(())
    });
    until("the doorbell rings", LONG, || rung().then_some(()));
    worker.stop();
}

/// Where tasks come faster than a page is read, a look comes to its end all the same.
#[test]
fn a_look_ends_while_tasks_go_on_coming() {
    let house = House::new();
    let lost = house.submit(count(1, 0));
    let mut worker =
        house.deployment.start_with(&["work", "--queue", "elsewhere"], &[("APP_FAULTS", "ready:stall=300ms:1000")]);
    let more = || drop(house.submit(count(1, 0)));
    until("there is an epoch", LONG, || {
        more();
        let epoch = house.deployment.redis::<Option<String>>(&["GET", "v1:epoch"]);
        epoch.filter(|epoch| !epoch.contains(' ')).map(drop)
    });
    house.deployment.redis::<i64>(&["LREM", READY, "0", &lost]);
    until("the doorbell rings", 2 * LONG, || {
        more();
        house.deployment.redis::<Vec<String>>(&["LRANGE", READY, "0", "-1"]).contains(&lost).then_some(())
    });
    worker.stop();
}

/// A Redis that knows no command newer than 5.0: what the dead hold is given back all the same. A server before 6.0 has
/// no access lists to take commands away with, and knows none of these anyway.
#[test]
fn an_old_redis_gives_back_what_the_dead_hold() {
    let services = Services::private();
    let deployment = Deployment::on(&services).with_test_types().set("APP_LEASE", "2s");
    let mut serve = deployment.serve();
    let client = serve.client();
    let redis = |words: &[&str]| deployment.redis::<redis::Value>(words);
    let newer = ["lmove", "blmove", "lmpop", "blmpop", "lpos", "getex", "getdel", "copy", "eval_ro"];
    // ACL refuses a name that the server does not know.
    let known = deployment.redis::<Vec<redis::Value>>(&[&["COMMAND", "INFO"], newer.as_slice()].concat());
    let known = newer.iter().zip(known).filter(|(_, answer)| *answer != redis::Value::Nil);
    let taken: Vec<String> = known.map(|(name, _)| format!("-{name}")).collect();
    if !taken.is_empty() {
        let taken: Vec<&str> = taken.iter().map(String::as_str).collect();
        redis(&[&["ACL", "SETUSER", "default"], taken.as_slice()].concat());
    }
    let [older, newer] = [0; 2].map(|_| client.submit(&count(1, 0)));
    until("there is an epoch", LONG, || {
        let epoch = deployment.redis::<Option<String>>(&["GET", "v1:epoch"]);
        epoch.filter(|epoch| !epoch.contains(' ')).map(drop)
    });
    let dead = ulid::Ulid::from_parts(1, 2).to_string();
    let inflight = format!("v1:inflight:{{default}}:normal:{dead}");
    redis(&["DEL", READY]);
    redis(&["LPUSH", &inflight, &older, &newer]);
    let mut worker = deployment.start(&["work", "--queue", "elsewhere"]);
    let given_back = until("the list of the dead is empty", LONG, || {
        let left = deployment.redis::<usize>(&["LLEN", &inflight]);
        (left == 0).then(|| deployment.redis::<Vec<String>>(&["LRANGE", READY, "0", "-1"]))
    });
    assert_eq!(given_back, [newer, older], "the older one is popped first");
    worker.stop();
}

#[test]
fn a_server_rings_again_when_redis_comes_back_empty() {
    let proxy = Proxy::before(Services::shared().redis.port());
    let house = House::of(deployment().redis_through(&proxy));
    let ids = [house.submit(count(1, 0)), house.submit(count(1, 0))];
    let count = |key: &str| house.deployment.redis::<usize>(&["LLEN", key]);
    until("both have rung, and there is an epoch", LONG, || {
        let epoch = house.deployment.redis::<Option<String>>(&["GET", "v1:epoch"]);
        (count(READY) >= 2 && epoch.is_some_and(|epoch| !epoch.contains(' '))).then_some(())
    });
    house.sql.run("UPDATE leases SET lease_until = '-infinity'").unwrap();
    house.deployment.redis::<()>(&["FLUSHDB"]);
    proxy.cut();
    // Perhaps twice: what was being pushed when the connection was cut is pushed again.
    until("both ring again", LONG, || (count(READY) >= ids.len()).then_some(()));
}

#[test]
fn a_server_that_leaves_has_rung_for_what_it_accepted() {
    let house = House::new();
    let mut leaving = house.deployment.serve_with(&[("APP_FAULTS", "redis.send:stall=1s")]);
    let id = leaving.client().submit(&count(1, 0));
    leaving.wait_for_line("injected a fault");
    leaving.stop();
    let rung = house.deployment.redis::<Vec<String>>(&["LRANGE", READY, "0", "-1"]);
    assert!(rung.contains(&id), "others would have to miss it first");
}

/// The lease is held by somebody who does not come to an end, and nothing reconnects after that.
#[test]
fn a_server_that_did_not_ring_looks_again() {
    let proxy = Proxy::before(Services::shared().redis.port());
    let house = House::of(deployment().redis_through(&proxy));
    house.submit(count(1, 0));
    let rung = || house.deployment.redis::<usize>(&["LLEN", READY]) >= 1;
    until("it has rung, and there is an epoch", LONG, || {
        let epoch = house.deployment.redis::<Option<String>>(&["GET", "v1:epoch"]);
        (rung() && epoch.is_some_and(|epoch| !epoch.contains(' '))).then_some(())
    });
    let held = "UPDATE leases SET holder = gen_random_uuid(), lease_until = now() + interval '3 s'
                WHERE name = 'doorbells'";
    assert_eq!(house.sql.change(held, &[]), 1);
    house.deployment.redis::<()>(&["FLUSHDB"]);
    proxy.cut();
    until("it rings again", LONG, || rung().then_some(()));
}

#[test]
fn a_task_that_was_interrupted_starts_before_the_backlog() {
    let house = House::of(deployment().set("APP_CONCURRENCY", "1"));
    let first = house.submit(count(30, 100));
    let mut dying = house.deployment.work();
    ledger::wait(&house.sql, &first, "on its way", |entry| entry.seq >= 3);
    let backlog: Vec<String> = (0..60).map(|_| house.submit(count(1, 400))).collect();
    dying.kill();
    let mut worker = house.deployment.work();
    wait_status(&house.sql, &first, "SUCCESS");
    check_counted(&house.sql, &first, 30);
    let between = "SELECT count(*) FROM task_events e,
        (SELECT min(at) FILTER (WHERE status = 'PENDING') AS back, max(at) FILTER (WHERE status = 'RUNNING') AS again
         FROM task_events WHERE task_id = from_ulid($1)) AS t
        WHERE e.status = 'RUNNING' AND e.at > t.back AND e.at < t.again";
    let before: i64 = house.sql.value(between, &[&first]);
    assert!(before <= 1, "{before} others of the backlog started first");
    let started: i64 = house.sql.value("SELECT count(*) FROM tasks WHERE delivery > 0", &[]);
    assert!(started < backlog.len() as i64, "there was no backlog any more, so this has shown nothing");
    worker.signal(Signal::SIGTERM);
    assert_eq!(worker.wait_exit(LONG).code(), Some(0));
}

#[test]
fn an_id_leaves_its_list_only_after_the_commit() {
    let house = House::new();
    let id = house.submit(count(1, 0));
    let mut worker = house.deployment.work_with(&[("APP_FAULTS", "finish:stall=5s")]);
    worker.wait_for_line("injected a fault");
    let lists = house.deployment.redis::<Vec<String>>(&["KEYS", "v1:inflight:*"]);
    assert_eq!(lists.len(), 1, "{lists:?}");
    assert!(house.deployment.redis::<Vec<String>>(&["LRANGE", &lists[0], "0", "-1"]).contains(&id));
    assert_eq!(entry(&house.sql, &id).status, "RUNNING");
    wait_status(&house.sql, &id, "SUCCESS");
    wait_until_clean(&house.deployment, &house.sql);
    worker.stop();
}

/// Redis moved it, nobody received it, and no error told of it: the connection was half open.
#[test]
fn an_id_in_the_own_list_that_nobody_holds_is_taken_as_received() {
    let house = House::new();
    let mut worker = house.deployment.work();
    worker.wait_for_line("worker started");
    let own: String = house.sql.value("SELECT ulid(id) FROM workers", &[]);
    let id = moved_and_not_received(&house, &own, count(1, 0));
    let began = Stopwatch::start();
    assert_eq!(wait_status(&house.sql, &id, "SUCCESS").delivery, 1);
    assert!(began.elapsed() < Duration::from_secs(16), "the lists are compared every ten seconds");
    wait_until_clean(&house.deployment, &house.sql);
    worker.stop();
}

/// The same with more ids than slots, and then with no slot at all: others start what this worker cannot.
#[test]
fn what_nobody_received_does_not_wait_for_slots_that_are_taken() {
    let house = House::of(deployment().set("APP_CONCURRENCY", "2"));
    let mut busy = house.deployment.work();
    let first = house.submit(count(9_000, 100));
    wait_status(&house.sql, &first, "RUNNING");
    let own: String = house.sql.value("SELECT ulid(id) FROM workers", &[]);
    let mut idle = house.deployment.work_with(&[("APP_CONCURRENCY", "8")]);
    idle.wait_for_line("worker started");
    for round in ["one slot is free", "none is"] {
        // Long ones: the slot that is free is taken with the first of them.
        let ids: Vec<String> = (0..3).map(|_| moved_and_not_received(&house, &own, count(9_000, 100))).collect();
        let began = Stopwatch::start();
        ids.iter().for_each(|id| drop(wait_status(&house.sql, id, "RUNNING")));
        assert!(began.elapsed() < Duration::from_secs(20), "{round}: the lists are compared every ten seconds");
        for id in &ids {
            assert_eq!(entry(&house.sql, id).delivery, 1, "{round}");
        }
    }
    for worker in [&mut busy, &mut idle] {
        worker.signal(Signal::SIGTERM);
        worker.signal(Signal::SIGTERM);
        worker.wait_exit(LONG);
    }
}

/// A task whose id lies in a worker's own list of the queue `default` and in no other. It came there by way of a queue
/// that nobody takes from.
fn moved_and_not_received(house: &House, worker: &str, mut body: Value) -> String {
    body["options"] = json!({"queue": "aside"});
    let id = house.submit(body);
    until("it has rung", LONG, || {
        (house.deployment.redis::<usize>(&["DEL", "v1:ready:{aside}:normal"]) == 1).then_some(())
    });
    house.sql.change("UPDATE tasks SET queue = 'default' WHERE id = from_ulid($1)", &[&id]);
    house.deployment.redis::<i64>(&["LPUSH", &format!("v1:inflight:{{default}}:normal:{worker}"), &id]);
    id
}

#[test]
fn a_fetch_loop_that_hangs_begins_anew() {
    let house = House::new();
    let mut worker = house.deployment.work_with(&[("APP_FAULTS", "redis.take:stall=1h")]);
    worker.wait_for_line("injected a fault");
    let id = house.submit(count(1, 0));
    let began = Stopwatch::start();
    assert_eq!(wait_status(&house.sql, &id, "SUCCESS").delivery, 1);
    assert!(began.elapsed() < Duration::from_secs(20));
    worker.wait_for_line("begins anew with new connections");
    worker.stop();
}
