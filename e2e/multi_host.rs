//! Multi-host: two servers, three workers, PostgreSQL and Redis, each on a host of its own, and a worker that is cut off
//! from PostgreSQL, from Redis, or from both. What docs/reliability.md promises holds.
//!
//! It needs root and says so where it is not (harness::hosts).

use std::time::Duration;

use serde_json::json;

use crate::{
    harness::{App, Client, Deployment, Host, LONG, Network, Services, Sql, Stopwatch, until},
    ledger::{self, check_counted, entry, wait_status, wait_until_clean},
};

/// The promise: a task starts again within a lease and a sweep.
const LEASE: Duration = Duration::from_secs(3);
const SWEEP: Duration = Duration::from_secs(5);
/// What a busy machine adds: it starts anew, and other tests run beside it.
const SLACK: Duration = Duration::from_secs(15);
const STEPS: u64 = 120;

/// The hosts. Processes end before their services, and these before their network.
struct House<'a> {
    clients: [Client; 2],
    sql: Sql,
    _serve: [App; 2],
    work: [App; 3],
    deployment: Deployment<'a>,
}

/// Where each of them stands.
struct Place {
    network: Network,
    postgres: Host,
    redis: Host,
    serve: [Host; 2],
    work: [Host; 3],
    observer: Host,
}

impl Place {
    fn new() -> Self {
        let mut network = Network::new();
        let mut host = || network.host();
        let (postgres, redis) = (host(), host());
        let (serve, work, observer) = ([host(), host()], [host(), host(), host()], host());
        Self { network, postgres, redis, serve, work, observer }
    }

    /// To be called on the observer.
    fn begin<'a>(&self, services: &'a Services) -> House<'a> {
        let deployment = Deployment::on(services)
            .with_test_types()
            .set("APP_LEASE", format!("{}s", LEASE.as_secs()))
            .set("APP_CONCURRENCY", "6")
            .set("APP_POSTGRES_POOL", "4");
        let serve = self.serve.each_ref().map(|host| {
            let bind = format!("{}:8001", host.address());
            host.run(|| deployment.serve_with(&[("APP_BIND", &bind), ("APP_ALLOW_ANONYMOUS", "true")]))
        });
        let work = self.work.each_ref().map(|host| host.run(|| deployment.work()));
        let clients = self.serve.each_ref().map(|host| Client::new((host.address(), 8001).into()));
        clients.iter().for_each(|client| client.wait_ready(LONG));
        let sql = deployment.sql();
        let house = House { clients, sql, _serve: serve, work, deployment };
        // Workers judge nobody before they have been there for a lease.
        until("three workers have been there for a lease", 2 * LONG, || {
            let settled = "SELECT count(*) FROM workers WHERE state = 'alive'
                           AND clock_timestamp() - started_at > interval '3500 ms'";
            (house.sql.value::<i64>(settled, &[]) == 3).then_some(())
        });
        house
    }
}

impl House<'_> {
    /// Long tasks in every worker, submitted at both servers.
    fn long_tasks(&self, count: usize) -> Vec<String> {
        // A second loss would fail the task and the test.
        let body = json!({"task_type": "count", "steps": STEPS, "pace": 100, "options": {"max_lost": 1}});
        let ids: Vec<String> = (0..count).map(|n| self.clients[n % 2].submit(&body)).collect();
        for id in &ids {
            ledger::wait(&self.sql, id, "on its way", |entry| entry.seq >= 3);
        }
        ids
    }

    /// The tasks that the first worker runs, which is the one that is going to be cut off.
    fn of_the_first(&self) -> Vec<String> {
        let pid = self.work[0].pid().cast_signed();
        let query = "SELECT ulid(t.id) FROM tasks t JOIN workers w ON w.id = t.worker_id
                     WHERE w.pid = $1 AND t.status = 'RUNNING'";
        self.sql.rows(query, &[&pid]).iter().map(|row| row.get(0)).collect()
    }

    /// Short tasks go through, whichever server takes them.
    fn short_tasks_go_through(&self) {
        let body = json!({"task_type": "count", "steps": 1, "pace": 50});
        let ids: Vec<String> = (0..8).map(|n| self.clients[n % 2].submit(&body)).collect();
        ids.iter().for_each(|id| drop(self.clients[0].wait_status(id, "SUCCESS", LONG)));
    }

    /// Every task has succeeded, once, with the right sum and all its lines, and nothing is left anywhere.
    fn end(self, ids: &[String]) {
        for id in ids {
            wait_status(&self.sql, id, "SUCCESS");
            check_counted(&self.sql, id, STEPS);
        }
        wait_until_clean(&self.deployment, &self.sql);
    }
}

/// Runs a story on the observer's host.
fn story(tell: impl FnOnce(&Place, House) + Send) {
    let place = Place::new();
    let services = Services::on_hosts(&place.postgres, &place.redis);
    place.observer.run(|| tell(&place, place.begin(&services)));
}

/// Its tasks go on elsewhere from their checkpoints within lease and sweep, what it still computes is refused, a client
/// that follows one of them sees every event once, and when the cut is over it works again.
fn its_tasks_go_on_elsewhere(also_from_redis: bool) {
    story(|place, house| {
        let ids = house.long_tasks(9);
        let its = house.of_the_first();
        assert!(!its.is_empty(), "the first worker has taken nothing");
        let followed = house.clients[1].stream(&its[0], Some("0"));
        let cut_from: Vec<&Host> =
            if also_from_redis { vec![&place.postgres, &place.redis] } else { vec![&place.postgres] };
        let (alone, began) = (&place.work[0], Stopwatch::start());
        cut_from.iter().for_each(|host| place.network.cut(alone, host));
        for id in &its {
            let entry = ledger::wait(&house.sql, id, "running elsewhere", |entry| entry.delivery == 2);
            // `lost` may be 0 again: the first checkpoint elsewhere clears it.
            assert_eq!(entry.failures, 0, "{entry:?}");
        }
        let took = began.elapsed();
        assert!(took < LEASE + SWEEP + SLACK, "it took {took:?} until the tasks of the lost worker went on");
        eprintln!(
            "figure: cut off, {} tasks: all run elsewhere after {:.1} s",
            its.len(),
            began.on_the_wall().as_secs_f64()
        );
        house.short_tasks_go_through();
        let begun_again = its.iter().filter(|id| {
            ledger::events(&house.sql, id).iter().any(|event| event.message.as_deref() == Some("step 1 in delivery 2"))
        });
        assert_eq!(begun_again.count(), 0, "tasks began again instead of going on from their checkpoints");
        for id in ids.iter().filter(|id| !its.contains(id)) {
            assert_eq!(entry(&house.sql, id).lost, 0, "nobody else has lost anything");
        }
        cut_from.iter().for_each(|host| place.network.heal(alone, host));
        // It learns that it is dead, and begins again under a new id.
        until("the worker is back", 2 * LONG, || {
            let alive = "SELECT count(*) FROM workers WHERE pid = $1 AND state = 'alive'";
            (house.sql.value::<i64>(alive, &[&house.work[0].pid().cast_signed()]) == 1).then_some(())
        });
        let events = followed.rest();
        let numbers: Vec<i64> = events.iter().filter_map(|event| event.id).collect();
        assert_eq!(numbers, (1..=numbers.len() as i64).collect::<Vec<_>>(), "events are missing or double");
        assert_eq!(events.last().and_then(|event| event.status()), Some("SUCCESS"));
        house.end(&ids);
    });
}

#[test]
fn a_worker_that_is_cut_off_from_postgresql_loses_its_tasks_to_the_others() {
    its_tasks_go_on_elsewhere(false);
}

#[test]
fn a_worker_that_is_cut_off_from_everything_loses_its_tasks_to_the_others() {
    its_tasks_go_on_elsewhere(true);
}

/// Without Redis a worker goes on with what it has and claims straight from PostgreSQL: nothing runs twice.
#[test]
fn a_worker_that_is_cut_off_from_redis_goes_on() {
    story(|place, house| {
        let ids = house.long_tasks(9);
        place.network.cut(&place.work[0], &place.redis);
        house.short_tasks_go_through();
        // It takes new ones, too: the others have no slots for so many.
        let more = house.long_tasks(9);
        let pid = house.work[0].pid().cast_signed();
        let taken = "SELECT count(*) FROM task_events e JOIN workers w ON w.id = e.worker_id
                     WHERE w.pid = $1 AND e.status = 'RUNNING' AND ulid(e.task_id) = ANY($2)";
        assert!(house.sql.value::<i64>(taken, &[&pid, &more]) > 0, "the worker without Redis takes nothing");
        for id in ids.iter().chain(&more) {
            let entry = wait_status(&house.sql, id, "SUCCESS");
            assert_eq!((entry.delivery, entry.lost, entry.failures), (1, 0, 0), "{entry:?}");
        }
        place.network.heal(&place.work[0], &place.redis);
        let all: Vec<String> = ids.into_iter().chain(more).collect();
        house.end(&all);
    });
}
