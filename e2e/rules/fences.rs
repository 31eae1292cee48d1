//! Fences: a delivery that is no longer the task's writes nothing more, and whoever is dead stays dead.

use super::*;
use longrun::core::model::WorkerId;

/// SIGSTOP for three leases, then SIGCONT: the zombie computes on, and every write of it is refused.
#[test]
fn a_zombie_is_refused_and_begins_again_under_a_new_id() {
    let house = House::new();
    let id = house.submit(count(60, 50));
    let mut zombie = house.deployment.work();
    ledger::wait(&house.sql, &id, "on its way", |entry| entry.seq >= 4);
    zombie.signal(Signal::SIGSTOP);
    let mut healthy = house.deployment.work();
    ledger::wait(&house.sql, &id, "delivered again", |entry| entry.status == "RUNNING" && entry.delivery == 2);
    // Three leases in all, two of which it took to find that out.
    std::thread::sleep(Duration::from_secs(1));
    let before = entry(&house.sql, &id);
    zombie.signal(Signal::SIGCONT);
    zombie.wait_for_line("begins again under a new id");
    let entry = wait_status(&house.sql, &id, "SUCCESS");
    assert_eq!((entry.delivery, entry.failures), (2, 0), "{entry:?} after {before:?}");
    check_counted(&house.sql, &id, 60);
    let named =
        "SELECT w.state FROM task_events e JOIN workers w ON w.id = e.worker_id WHERE e.message = 'worker lost'";
    assert_eq!(house.sql.value::<String>(named, &[]), "dead", "the history says who was lost");
    let dead: i64 = house.sql.value("SELECT count(*) FROM workers WHERE state = 'dead'", &[]);
    let live: i64 = house.sql.value("SELECT count(*) FROM workers WHERE state = 'alive'", &[]);
    assert_eq!((dead, live), (1, 2), "death is absorbing: the old row stays dead");
    wait_until_clean(&house.deployment, &house.sql);
    // The new incarnation works.
    healthy.stop();
    let id = house.submit(count(1, 0));
    wait_status(&house.sql, &id, "SUCCESS");
    zombie.stop();
}

/// The same, but the zombie wakes when its task has been cancelled and given a new run.
#[test]
fn a_zombie_does_not_touch_the_next_run() {
    let house = House::new();
    let id = house.submit(count(60, 50));
    let mut zombie = house.deployment.work();
    ledger::wait(&house.sql, &id, "on its way", |entry| entry.seq >= 4);
    zombie.signal(Signal::SIGSTOP);
    house.client.cancel(&id).expect(204);
    let mut healthy = house.deployment.work();
    ledger::wait(&house.sql, &id, "confirmed by the sweep", |entry| !entry.has_worker);
    operating::retry(&house, &id, operating::Answer::Retried);
    ledger::wait(&house.sql, &id, "delivered again", |entry| entry.delivery == 2);
    zombie.signal(Signal::SIGCONT);
    zombie.wait_for_line("begins again under a new id");
    let entry = wait_status(&house.sql, &id, "SUCCESS");
    assert_eq!((entry.delivery, entry.failures, entry.lost), (2, 0, 0));
    for event in events(&house.sql, &id).iter().skip_while(|event| event.status.as_deref() != Some("CANCELLED")).skip(2)
    {
        assert_eq!(event.delivery, 2, "{event:?}");
    }
    wait_until_clean(&house.deployment, &house.sql);
    zombie.stop();
    healthy.stop();
}

/// A machine stands still for longer than a lease, and one of its workers is scheduled before the other.
#[test]
fn workers_that_stood_still_together_bury_nobody() {
    // Long: the second one has to be back before the first one may judge again.
    let house = House::of(deployment().set("APP_LEASE", "20s"));
    let mut workers = [house.deployment.work_with(&[("APP_ADMIN_BIND", "127.0.0.1:0")]), house.deployment.work()];
    let first = Client::new(workers[0].admin_address());
    let id = house.submit(count(9_000, 100));
    wait_status(&house.sql, &id, "RUNNING");
    let are = |number: i64, what: &str| {
        let query = format!("SELECT count(*) FROM workers WHERE {what}");
        until(&format!("{number} workers are: {what}"), LONG, || {
            (house.sql.value::<i64>(&query, &[]) == number).then_some(())
        });
    };
    // This renewal is not the first one: when its lease is over, the first is more than a lease ago, and nothing but the
    // standstill keeps anybody from judging.
    are(2, "renewed_at > started_at + interval '1 s'");
    workers.iter().for_each(|worker| worker.signal(Signal::SIGSTOP));
    are(2, "lease_until < clock_timestamp() - interval '500 ms'");
    workers[0].signal(Signal::SIGCONT);
    are(1, "lease_until > clock_timestamp()");
    // The next one may have begun before the standstill; the one after it has seen the other worker's lease.
    let before = sweeps(&first);
    until("it has swept", LONG, || (sweeps(&first) >= before + 2).then_some(()));
    workers[1].signal(Signal::SIGCONT);
    are(2, "lease_until > clock_timestamp()");
    assert_eq!(house.sql.value::<i64>("SELECT count(*) FROM workers WHERE state = 'dead'", &[]), 0);
    assert_eq!((entry(&house.sql, &id).delivery, entry(&house.sql, &id).lost), (1, 0));
    house.client.cancel(&id).expect(204);
    ledger::wait(&house.sql, &id, "confirmed", |entry| !entry.has_worker);
    workers.iter_mut().for_each(App::stop);
}

/// How many sweeps a worker has made, as its metrics say.
fn sweeps(worker: &Client) -> u64 {
    let metrics = worker.fetch("/metrics").expect(200).to_string();
    let count = metrics.lines().find_map(|line| line.strip_prefix("longrun_sweeps_total{outcome=\"ok\"} "));
    count.and_then(|count| count.parse().ok()).expect("sweeps are counted")
}

/// A cancel and a finish at the same moment: whichever is first stands, and the answers say so.
#[test]
fn cancel_against_finish_has_one_winner() {
    let house = House::of(deployment().set("APP_CONCURRENCY", "40"));
    let ids: Vec<String> = (0..40).map(|place| house.submit(count(1, 300 + 300 * place))).collect();
    let mut worker = house.deployment.work();
    ledger::wait(&house.sql, &ids[0], "ended", |entry| entry.status == "SUCCESS");
    let (mut cancelled, mut late) = (0, 0);
    // From both ends towards the moment: the first has ended, the last has seconds to go.
    for id in ids.iter().rev() {
        let answer = house.client.cancel(id);
        let entry =
            ledger::wait(&house.sql, id, "at rest", |entry| entry.status != "RUNNING" && entry.status != "PENDING");
        match answer.status {
            204 => {
                assert_eq!(entry.status, "CANCELLED");
                cancelled += 1;
            }
            409 => {
                assert_eq!(entry.status, "SUCCESS");
                late += 1;
            }
            _ => panic!("{answer}"),
        }
    }
    assert!(cancelled > 0 && late > 0, "{cancelled} cancelled, {late} too late: this has shown nothing");
    wait_until_clean(&house.deployment, &house.sql);
    ids.iter().for_each(|id| check_history(&house.sql, id));
    worker.stop();
}

/// The heartbeat has a thread of its own: tasks that never let go of the runtime's threads do not kill their worker.
#[test]
fn tasks_that_hog_every_thread_do_not_cost_the_lease() {
    let house = House::new();
    let cores = std::thread::available_parallelism().unwrap().get();
    let mut judge = house.deployment.start(&["work", "--queue", "elsewhere"]);
    judge.wait_for_line("worker started");
    let mut worker = house.deployment.work();
    worker.wait_for_line("worker started");
    let ids: Vec<String> =
        (0..cores).map(|_| house.submit(json!({"task_type": "cling", "how": "hogs", "time": 3500}))).collect();
    for id in &ids {
        let entry = wait_status(&house.sql, id, "SUCCESS");
        assert_eq!((entry.delivery, entry.lost), (1, 0));
    }
    assert_eq!(house.sql.value::<i64>("SELECT count(*) FROM workers WHERE state = 'dead'", &[]), 0);
    worker.stop();
    judge.stop();
}

/// … and a worker whose runtime stands still for too long ends itself, so that its lease does its work.
#[test]
fn a_worker_that_hangs_aborts() {
    let house = House::of(deployment().set("APP_HUNG_AFTER", "2s"));
    let cores = std::thread::available_parallelism().unwrap().get();
    let mut worker = house.deployment.work();
    worker.wait_for_line("worker started");
    (0..cores).for_each(|_| drop(house.submit(json!({"task_type": "cling", "how": "hogs", "time": 60_000}))));
    worker.wait_abort();
    worker.wait_for_line("the main runtime has not moved");
}

/// A task that kills its workers does so once more than `max_lost` allows, and is failed.
#[test]
fn poison_is_failed_after_exactly_its_cap() {
    let house = House::new();
    let poison = house.submit(json!({"task_type": "kill", "deliveries": 1000, "options": {"max_lost": 2}}));
    let unlucky = house.submit(json!({"task_type": "kill", "deliveries": 1}));
    for _ in 0..3 {
        let mut worker = house.deployment.start(&["work"]);
        worker.wait_abort();
        let_workers_be_dead(&house.sql);
    }
    let mut worker = house.deployment.work();
    let entry = wait_status(&house.sql, &poison, "FAILED");
    assert_eq!((entry.error.as_deref(), entry.delivery, entry.failures), (Some("worker_lost"), 3, 0), "{entry:?}");
    check_history(&house.sql, &poison);
    assert_eq!(wait_status(&house.sql, &unlucky, "SUCCESS").failures, 0);
    worker.stop();
}

/// A dead worker's row stays for a day, and as long as a RUNNING row names it.
#[test]
fn rows_of_the_dead_are_kept_until_nothing_names_them() {
    let house = House::new();
    let id = house.submit(count(1, 0));
    let names = ["named", "old", "recent"];
    for (host, age) in names.into_iter().zip(["2 days", "2 days", "1 hour"]) {
        let insert =
            "INSERT INTO workers (id, host, pid, version, queues, task_types, state, lease_ms, lease_until, ended_at)
                      VALUES (from_ulid($1), $2, 1, '0', '{}', '{}', 'dead', 1000, now(), now() - $3::text::interval)";
        house.sql.change(insert, &[&WorkerId::new().to_string(), &host, &age]);
    }
    let running = "UPDATE tasks SET status = 'RUNNING', delivery = 1, lease_until = now() + interval '1 hour',
                   worker_id = (SELECT id FROM workers WHERE host = 'named') WHERE id = from_ulid($1)";
    house.sql.change(running, &[&id]);
    let mut worker = house.deployment.work();
    let left = "SELECT string_agg(host, ' ' ORDER BY host) FROM workers WHERE state = 'dead'";
    until("the janitor has been", LONG, || (house.sql.value::<String>(left, &[]) == "named recent").then_some(()));
    worker.stop();
}
