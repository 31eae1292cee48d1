//! Operating: what people do to tasks, and what retention does. The operator's retry is called on the core itself.

use super::*;
use longrun::{
    config::{Postgres, Redis},
    core::{Core, Lookup, RetryOutcome, model::Scope},
};

/// What a retry says.
#[derive(Debug, PartialEq)]
pub enum Answer {
    Retried,
    StillStopping,
    NotFinal,
}

/// A core in this process, on its own runtime.
fn with_core<T>(house: &House, work: impl AsyncFnOnce(Core) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let postgres = Postgres { database_url: house.deployment.database_url().into(), postgres_pool: 4 };
    let redis = Redis { redis_url: house.deployment.redis_url().into(), redis_ca: None };
    runtime.block_on(async { work(Core::connect(&postgres, &redis).await.unwrap()).await })
}

/// An operator's retry, and what it has to say.
#[track_caller]
pub fn retry(house: &House, id: &str, expected: Answer) {
    let answer = with_core(house, async |core| {
        let answer = core.retry(id.parse().unwrap(), &Scope::All).await.unwrap();
        // By a task of this runtime, which is about to end.
        assert!(core.queue.outlet().flushed().await, "the doorbell was rung");
        match answer {
            Lookup::Found(RetryOutcome::Retried(_)) => Answer::Retried,
            Lookup::Found(RetryOutcome::StillStopping) => Answer::StillStopping,
            Lookup::Found(RetryOutcome::NotFinal(_)) => Answer::NotFinal,
            other => panic!("{other:?}"),
        }
    });
    assert_eq!(answer, expected);
}

#[test]
fn a_retry_waits_until_the_cancelled_attempt_has_stopped() {
    let house = House::new();
    let id = house.submit(count(60, 50));
    let mut worker = house.deployment.work();
    ledger::wait(&house.sql, &id, "on its way", |entry| entry.seq >= 4);
    worker.signal(Signal::SIGSTOP);
    retry(&house, &id, Answer::NotFinal);
    house.client.cancel(&id).expect(204);
    retry(&house, &id, Answer::StillStopping);
    assert_eq!(entry(&house.sql, &id).status, "CANCELLED");
    worker.kill();
    let mut worker = house.deployment.work();
    ledger::wait(&house.sql, &id, "confirmed", |entry| !entry.has_worker);
    retry(&house, &id, Answer::Retried);
    let entry = wait_status(&house.sql, &id, "SUCCESS");
    // The fence is never lowered, and the new run goes on from the checkpoint.
    assert_eq!((entry.delivery, entry.failures, entry.lost), (2, 0, 0));
    assert!(!events(&house.sql, &id).iter().any(|event| event.message.as_deref() == Some("step 1 in delivery 2")));
    retry(&house, &id, Answer::NotFinal);
    wait_until_clean(&house.deployment, &house.sql);
    worker.stop();
}

/// The failure lands between the two statements of a retry: after the one that finds nothing to retry, before the one
/// that reads why.
#[test]
fn a_failure_in_the_middle_of_a_retry_is_retried() {
    let mut house = House::of(deployment().set("APP_FAULTS", "task:stall=5s"));
    let id = house.submit(count_with(1, 0, json!({"delay": "1h"})));
    std::thread::scope(|scope| {
        let retry = scope.spawn(|| house.client.post(&format!("/tasks/{id}/retry"), "", &[]));
        house.serve.wait_for_line("injected a fault");
        let error = json!({"code": "x", "message": "x", "retryable": true, "attempt": 1}).to_string();
        let fail = "UPDATE tasks SET status = 'FAILED', due_at = NULL, completed_at = now(), error = $2::text::json
                    WHERE id = from_ulid($1)";
        assert_eq!(house.sql.change(fail, &[&id, &error]), 1);
        assert_eq!(retry.join().unwrap().expect(202).json()["status"], "PENDING");
    });
}

/// Many rows at once are locked in the order of their ids, so opposite orders do not lock each other out.
#[test]
fn bulk_actions_in_opposite_order_do_not_deadlock() {
    let house = House::new();
    let mut ids: Vec<_> = (0..150).map(|_| house.submit(count(1, 0)).parse().unwrap()).collect();
    with_core(&house, async |core| {
        let forth = ids.clone();
        ids.reverse();
        let back = ids.clone();
        let both = [forth, back].map(|ids| {
            let core = core.clone();
            tokio::spawn(async move {
                for _ in 0..40 {
                    core.cancel_many(ids.clone(), &Scope::All).await.unwrap();
                    core.retry_many(ids.clone(), &Scope::All).await.unwrap();
                }
            })
        });
        for one in both {
            one.await.unwrap();
        }
    });
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    assert_eq!(house.sql.value::<i64>(deadlocks, &[]), 0);
}

#[test]
fn old_tasks_leave_a_tombstone_and_that_goes_too() {
    let house = House::of(deployment().set("APP_RETENTION", "1s"));
    let id = house.submit(count(1, 0));
    let mut worker = house.deployment.work();
    wait_status(&house.sql, &id, "SUCCESS");
    worker.stop();
    ledger::wait_where(&house.sql, &id, "completed_at < clock_timestamp() - interval '1 s'");
    let waiting = house.submit(count_with(1, 0, json!({"delay": "1h"})));
    // The janitor comes at a worker's start, when nobody else is it.
    let janitor = || {
        house.sql.run("UPDATE leases SET lease_until = '-infinity'").unwrap();
        house.deployment.work()
    };
    let mut worker = janitor();
    let status = |id: &str| house.client.fetch(&format!("/tasks/{id}")).status;
    until("it is gone", LONG, || (status(&id) == 410).then_some(()));
    assert_eq!(house.client.fetch(&format!("/tasks/{id}/logs")).status, 410);
    assert_eq!(house.sql.value::<i64>("SELECT count(*) FROM task_events", &[]), 0);
    assert_eq!(status(&waiting), 200);
    worker.stop();
    house.sql.run("UPDATE tombstones SET purged_at = now() - interval '31 days'").unwrap();
    let mut worker = janitor();
    until("the tombstone is gone", LONG, || (status(&id) == 404).then_some(()));
    worker.stop();
}

/// More of them than one batch, and all of them go in one turn: what a turn leaves behind would grow without bound.
#[test]
fn whatever_tasks_leave_goes_as_fast_as_they_do() {
    let house = House::of(deployment().set("APP_RETENTION", "1s"));
    house
        .sql
        .run(
            "INSERT INTO idempotency_keys SELECT '', i::text, '', '{}', now() - interval '25 h'
             FROM generate_series(1, 1200) AS i;
             INSERT INTO tombstones SELECT gen_random_uuid(), NULL, now() - interval '31 days'
             FROM generate_series(1, 1200)",
        )
        .unwrap();
    let mut worker = house.deployment.work();
    let left = "SELECT (SELECT count(*) FROM idempotency_keys) + (SELECT count(*) FROM tombstones)";
    // The next turn would be a minute later.
    until("all of it is gone", LONG, || (house.sql.value::<i64>(left, &[]) == 0).then_some(()));
    worker.stop();
}
