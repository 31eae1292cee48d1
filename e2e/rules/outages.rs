//! Outages: one of the two stores is away, or lets go of its connections.

use super::*;

#[test]
fn everything_goes_on_while_redis_is_away() {
    let house = House::of(deployment().set("REDIS_URL", NOWHERE));
    let mut worker = house.deployment.work();
    let ids: Vec<String> = (0..20).map(|_| house.submit(count(2, 50))).collect();
    let frames: Vec<_> = house.client.stream(&ids[0], Some("0")).collect();
    assert_eq!(frames.last().and_then(|frame| frame.status()), Some("SUCCESS"));
    for id in &ids {
        assert_eq!(house.client.wait_final(id, LONG)["status"], "SUCCESS");
        assert_eq!(entry(&house.sql, id).delivery, 1);
        check_counted(&house.sql, id, 2);
    }
    // The message is lost; the next renewal tells.
    let long = house.submit(count(900, 100));
    wait_status(&house.sql, &long, "RUNNING");
    house.client.cancel(&long).expect(204);
    ledger::wait(&house.sql, &long, "confirmed", |entry| entry.status == "CANCELLED" && !entry.has_worker);
    // A drain hands back uncharged all the same.
    let kept = house.submit(count(900, 100));
    wait_status(&house.sql, &kept, "RUNNING");
    worker.signal(Signal::SIGTERM);
    worker.signal(Signal::SIGTERM);
    worker.wait_exit(LONG);
    let entry = entry(&house.sql, &kept);
    assert_eq!((entry.status.as_str(), entry.delivery, entry.lost), ("PENDING", 1, 0));
}

#[test]
fn postgres_away_for_three_leases_restarts_nothing() {
    let services = Services::private();
    let deployment = Deployment::on(&services).with_test_types().set("APP_LEASE", "1s");
    let mut serve = deployment.serve();
    let client = serve.client();
    let ids: Vec<String> = (0..4).map(|_| client.submit(&count(50, 100))).collect();
    let mut workers = [deployment.work(), deployment.work()];
    {
        let sql = deployment.sql();
        ids.iter().for_each(|id| drop(wait_status(&sql, id, "RUNNING")));
    }
    services.postgres.stop(Signal::SIGQUIT);
    std::thread::sleep(Duration::from_secs(3));
    services.postgres.start();
    let sql = deployment.sql();
    for id in &ids {
        let entry = wait_status(&sql, id, "SUCCESS");
        assert_eq!((entry.delivery, entry.failures, entry.lost), (1, 0, 0));
        check_counted(&sql, id, 50);
    }
    workers.iter_mut().for_each(App::stop);
}

#[test]
fn connections_that_are_cut_cost_no_attempt() {
    let house = House::new();
    let mut worker = house.deployment.work();
    let ids: Vec<String> = (0..6).map(|_| house.submit(count(12, 100))).collect();
    ids.iter().for_each(|id| drop(wait_status(&house.sql, id, "RUNNING")));
    for round in 3..6 {
        ledger::wait(&house.sql, &ids[0], "further", |entry| entry.seq >= round);
        let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                   WHERE datname = current_database() AND application_name = 'longrun'";
        until("there was something to cut", LONG, || (house.sql.value::<i64>(cut, &[]) > 0).then_some(()));
    }
    for id in &ids {
        let entry = wait_status(&house.sql, id, "SUCCESS");
        assert_eq!((entry.delivery, entry.failures, entry.lost), (1, 0, 0));
        check_counted(&house.sql, id, 12);
    }
    wait_until_clean(&house.deployment, &house.sql);
    worker.stop();
}

/// A client that goes away in the middle of its submit leaves a whole task and no open transaction.
#[test]
fn a_dropped_request_drops_no_transaction() {
    use std::io::Write;
    let house = House::new();
    let mut slow = house.deployment.serve_with(&[("APP_FAULTS", "submit:stall=500ms")]);
    let body = count(1, 0).to_string();
    let request = format!(
        "POST /tasks HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nidempotency-key: k\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = std::net::TcpStream::connect(slow.address()).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    slow.wait_for_line("injected a fault");
    drop(stream);
    until("the task is there", LONG, || (house.sql.value::<i64>("SELECT count(*) FROM tasks", &[]) == 1).then_some(()));
    let mut worker = house.deployment.work();
    wait_until_clean(&house.deployment, &house.sql);
    worker.stop();
    slow.stop();
}

/// A server vanishes in the middle of a submit with a key: its machine has lost its power, and says nothing any more.
#[test]
fn a_server_that_vanishes_lets_go_of_its_keys() {
    let house = House::new();
    let proxy = Proxy::before(Services::shared().postgres.port());
    let url = house.deployment.database_url_by(&proxy);
    let mut vanishing = house.deployment.serve_with(&[("DATABASE_URL", &url)]);
    let client = vanishing.client();
    client.wait_ready(LONG);
    // In the way of the second statement of the transaction.
    house.sql.run("BEGIN; LOCK TABLE tasks IN SHARE MODE").unwrap();
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let body = count(1, 0).to_string();
    let post = |client: &Client| client.post("/tasks", body.clone(), &[("idempotency-key", "k")]);
    std::thread::scope(|scope| {
        scope.spawn(|| post(&client));
        // By another connection: within a transaction, who does what is looked up once.
        let looking = house.deployment.sql();
        until("the transaction has its key", LONG, || (looking.value::<i64>(waits, &[]) > 0).then_some(()));
        for direction in [Direction::ToServer, Direction::ToClient] {
            proxy.set(direction, Flow::Swallow);
        }
        house.sql.run("COMMIT").unwrap();
        until("another server gets the key", LONG, || (post(&house.client).status == 202).then_some(()));
    });
    assert_eq!(house.sql.value::<i64>("SELECT count(*) FROM tasks", &[]), 1);
    vanishing.kill();
}

/// PostgreSQL has no room for one result: its task waits, is tried alone, and holds up nobody else.
#[test]
fn an_ending_that_cannot_be_written_holds_up_no_other() {
    let house = House::new();
    house
        .sql
        .run(
            "CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql
                 AS $$ BEGIN RAISE EXCEPTION 'out of memory' USING ERRCODE = 'out_of_memory'; END $$;
             CREATE TRIGGER no_room BEFORE UPDATE ON tasks FOR EACH ROW
                 WHEN (NEW.result ->> 'steps' = '3') EXECUTE FUNCTION no_room()",
        )
        .unwrap();
    let large = house.submit(count(3, 0));
    let mut worker = house.deployment.work();
    worker.wait_for_line("cannot write what attempts report");
    for _ in 0..2 {
        let others: Vec<String> = (0..6).map(|_| house.submit(count(2, 150))).collect();
        for id in &others {
            assert_eq!(wait_status(&house.sql, id, "SUCCESS").delivery, 1);
            check_counted(&house.sql, id, 2);
        }
    }
    assert_eq!(entry(&house.sql, &large).status, "RUNNING", "its result is kept, and offered again");
    house.sql.run("DROP TRIGGER no_room ON tasks").unwrap();
    assert_eq!(wait_status(&house.sql, &large, "SUCCESS").delivery, 1);
    wait_until_clean(&house.deployment, &house.sql);
    worker.stop();
}

/// What passes by itself is repeated whatever the server calls it: here one whose messages are German.
#[test]
fn a_server_of_another_language_breaks_no_retry() {
    let house = House::new();
    // Each kind of write fails twice. A sequence goes on although its transaction is rolled back.
    house
        .sql
        .run(
            "CREATE SEQUENCE tried_insert; CREATE SEQUENCE tried_running; CREATE SEQUENCE tried_success;
             CREATE FUNCTION german() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 IF TG_OP = 'INSERT' AND nextval('tried_insert') <= 2 THEN
                     RAISE EXCEPTION 'konnte Zugriff nicht serialisieren wegen gleichzeitiger Aktualisierung'
                         USING ERRCODE = 'serialization_failure';
                 ELSIF NEW.status = 'RUNNING' AND NEW.seq = 1 AND nextval('tried_running') <= 2 THEN
                     RAISE EXCEPTION 'Verklemmung (Deadlock) entdeckt' USING ERRCODE = 'deadlock_detected';
                 ELSIF NEW.status = 'SUCCESS' AND nextval('tried_success') <= 2 THEN
                     RAISE EXCEPTION 'konnte Datei nicht erweitern: Auf dem Gerät ist kein Speicherplatz mehr verfügbar'
                         USING ERRCODE = 'disk_full';
                 END IF;
                 RETURN NEW;
             END $$;
             CREATE TRIGGER german BEFORE INSERT OR UPDATE ON tasks FOR EACH ROW EXECUTE FUNCTION german()",
        )
        .unwrap();
    let id = house.submit(count(2, 0));
    let mut worker = house.deployment.work();
    let entry = wait_status(&house.sql, &id, "SUCCESS");
    assert_eq!((entry.delivery, entry.failures, entry.lost), (1, 0, 0));
    check_counted(&house.sql, &id, 2);
    for tried in ["tried_insert", "tried_running", "tried_success"] {
        let times: i64 = house.sql.value(&format!("SELECT last_value FROM {tried}"), &[]);
        assert!(times >= 3, "{tried}: {times}");
    }
    wait_until_clean(&house.deployment, &house.sql);
    worker.stop();
}

/// Text that PostgreSQL refuses is refused in requests, and cleaned in what tasks say.
#[test]
fn nul_characters_fail_no_task() {
    let house = House::new();
    let body = r#"{"task_type":"count","steps":1,"pace":0,"metadata":{"a":"b\u0000c"}}"#;
    house.client.post("/tasks", body, &[]).expect(422);
    let mut worker = house.deployment.work();
    let well = house.submit(json!({"task_type": "odd", "fail": false}));
    let badly = house.submit(json!({"task_type": "odd", "fail": true}));
    assert_eq!(house.client.wait_final(&well, LONG)["status"], "SUCCESS");
    let failed = house.client.wait_final(&badly, LONG);
    assert_eq!(
        (failed["error"]["code"].as_str(), failed["error"]["message"].as_str()),
        (Some("odd"), Some("c\u{FFFD}d"))
    );
    assert_eq!(house.client.logs(&well)[0]["message"], "a\u{FFFD}b");
    worker.stop();
}

#[test]
fn two_migrations_at_a_time_are_one() {
    let deployment = Deployment::empty();
    let mut both = [deployment.start(&["migrate"]), deployment.start(&["migrate"])];
    for migrate in &mut both {
        let status = migrate.wait_exit(LONG);
        assert_eq!(status.code(), Some(0), "{}", migrate.stderr());
    }
    assert_eq!(deployment.run(&["migrate", "--check"]).code, Some(0));
}

#[test]
fn eight_posts_with_one_key_make_one_task() {
    let house = House::new();
    let ids: Vec<(String, bool)> = std::thread::scope(|scope| {
        let post = || {
            let answer =
                house.client.post("/tasks", count(1, 0).to_string(), &[("idempotency-key", "one")]).expect(202);
            let replayed = answer.header("idempotency-replayed").is_some();
            (answer.json()["task_id"].as_str().unwrap().to_owned(), replayed)
        };
        let posts: Vec<_> = (0..8).map(|_| scope.spawn(post)).collect();
        posts.into_iter().map(|post| post.join().unwrap()).collect()
    });
    assert!(ids.iter().all(|(id, _)| *id == ids[0].0));
    assert_eq!(ids.iter().filter(|(_, replayed)| !replayed).count(), 1);
    assert_eq!(house.sql.value::<i64>("SELECT count(*) FROM tasks", &[]), 1);
    house.client.post("/tasks", count(2, 0).to_string(), &[("idempotency-key", "one")]).expect(422);
}

/// Whoever repeats a submit waits for a look at its task; whoever submits something new does not wait for that.
#[test]
fn replays_hold_up_no_submit() {
    let house = House::new();
    let keyed = || count(1, 0).to_string();
    house.client.post("/tasks", keyed(), &[("idempotency-key", "k")]).expect(202);
    let mut slow = house.deployment.serve_with(&[("APP_FAULTS", "tasks:stall=10s:2")]);
    let client = slow.client();
    std::thread::scope(|scope| {
        // As many as there are writers.
        let replays: Vec<_> = (1..=2)
            .map(|number| {
                let replay =
                    scope.spawn(|| client.post("/tasks", keyed(), &[("idempotency-key", "k")]).expect(202).status);
                until("its task is being read", LONG, || {
                    (slow.stderr().matches("injected a fault").count() == number).then_some(())
                });
                replay
            })
            .collect();
        client.submit(&count(1, 0));
        assert!(replays.iter().all(|replay| !replay.is_finished()), "it was answered after the replays");
    });
    slow.stop();
}
