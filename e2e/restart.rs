//! Restart: PostgreSQL, Redis, `serve` and `work` go and come in any order while tasks wait, and every task ends.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::harness::{App, Client, Deployment, LONG, Services};

/// After everything is back: lease, sweep, backoffs, and a busy machine.
const QUIET: Duration = Duration::from_secs(120);

/// A private world with tasks queued, half of them of a second, so that some run while things fall.
struct World<'a> {
    services: &'a Services,
    // Dropped in this order: the processes before their database.
    serve: App,
    work: App,
    deployment: Deployment<'a>,
    ids: Vec<String>,
}

impl<'a> World<'a> {
    fn begin(services: &'a Services) -> Self {
        let deployment = Deployment::on(services).set("APP_LEASE", "2s").set("APP_CONCURRENCY", 4);
        let (serve, work) = (deployment.serve(), deployment.work());
        let mut world = Self { services, serve, work, deployment, ids: Vec::new() };
        world.submit(20);
        world
    }

    fn client(&mut self) -> Client {
        self.serve.client()
    }

    fn submit(&mut self, count: usize) {
        let client = self.client();
        client.wait_ready(LONG);
        for number in 0..count {
            let body = json!({"vector_data": [1.0], "duration": number % 2, "options": {"max_lost": 100}});
            self.ids.push(client.submit(&body));
        }
    }

    fn restart(&mut self, what: &str) {
        match what {
            "postgres" => {
                self.services.postgres.stop(Signal::SIGQUIT);
                self.services.postgres.start();
            }
            "redis" => {
                self.services.redis.stop();
                self.services.redis.start();
            }
            "serve" => {
                self.serve.kill();
                self.serve = self.deployment.serve();
            }
            "work" => {
                self.work.kill();
                self.work = self.deployment.work();
            }
            other => panic!("{other}"),
        }
    }

    /// Everything accepted has succeeded, once, and nothing is left in Redis.
    fn end(mut self) {
        let client = self.client();
        for id in &self.ids {
            let task = client.wait_final(id, QUIET);
            assert_eq!((&task["status"], &task["retry_count"]), (&json!("SUCCESS"), &json!(0)), "{task:#}");
        }
        let sql = self.deployment.sql();
        let twice: i64 = sql.value(
            "SELECT count(*) FROM (SELECT FROM task_events WHERE status = 'SUCCESS' GROUP BY task_id HAVING count(*) > 1) AS t",
            &[],
        );
        assert_eq!(twice, 0, "each is finished once");
        crate::harness::until("the lists in Redis are empty", QUIET, || {
            let lists: Vec<String> = self.deployment.redis(&["KEYS", "v1:[ri]*"]);
            lists.is_empty().then_some(())
        });
    }
}

fn restart_in_order(order: [&str; 4]) {
    let services = Services::private();
    let mut world = World::begin(&services);
    for what in order {
        world.restart(what);
        world.submit(5);
    }
    world.end();
}

#[test]
fn stores_first() {
    restart_in_order(["postgres", "redis", "serve", "work"]);
}

#[test]
fn processes_first() {
    restart_in_order(["work", "serve", "redis", "postgres"]);
}

#[test]
fn all_down_at_once_and_up_in_the_wrong_order() {
    let services = Services::private();
    let mut world = World::begin(&services);
    services.redis.stop();
    services.postgres.stop(Signal::SIGQUIT);
    world.serve.kill();
    world.work.kill();
    // The roles wait for their servers, as containers start in any order.
    world.work = world.deployment.work();
    world.serve = world.deployment.serve();
    world.work.wait_for_line("waiting for");
    services.redis.start();
    services.postgres.start();
    world.submit(5);
    world.end();
}

#[test]
fn redis_away_delays_nothing_for_good() {
    let services = Services::private();
    let mut world = World::begin(&services);
    services.redis.stop();
    let client = world.client();
    let id = client.submit(&json!({"vector_data": [1.0], "duration": 0}));
    client.wait_status(&id, "SUCCESS", LONG);
    let slow = client.submit(&json!({"vector_data": [1.0], "duration": 600}));
    client.wait_status(&slow, "RUNNING", LONG);
    client.cancel(&slow).expect(204);
    let events = client.stream(&id, Some("0")).rest();
    assert_eq!(events.last().unwrap().status(), Some("SUCCESS"));
    let ready = client.fetch("/readyz").expect(200).json();
    assert_eq!(ready["redis"], "degraded");
    services.redis.start();
    world.submit(5);
    world.end();
}

#[test]
fn postgres_away_is_a_503_and_then_over() {
    let services = Services::private();
    let mut world = World::begin(&services);
    let client = world.client();
    services.postgres.stop(Signal::SIGINT);
    let body = json!({"vector_data": [1.0], "duration": 0}).to_string();
    let answer = client.post("/tasks", body, &[]).expect(503);
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    assert!(answer.header("retry-after").is_some());
    client.fetch("/readyz").expect(503);
    client.fetch("/livez").expect(200);
    let id = world.ids[0].clone();
    client.fetch(&format!("/tasks/{id}")).expect(503);
    let stream = client.stream(&id, None);
    assert_eq!(stream.status, 200, "an EventSource gives up on any other status");
    assert!(stream.rest().is_empty());
    services.postgres.start();
    world.submit(5);
    world.end();
}
