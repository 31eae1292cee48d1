//! Network: connections that break, or fall silent, between a process and its servers.

use std::time::Duration;

use serde_json::json;

use crate::harness::{Deployment, Direction, Flow, LONG, Proxy, Services, until};

/// Response timeouts, reconnects, a renewal or two, and a busy machine.
const QUIET: Duration = Duration::from_secs(120);

/// Redis has moved an id to the worker's list and the worker never hears of it.
#[test]
fn an_id_whose_way_to_the_worker_was_cut_is_found_in_its_own_list() {
    let proxy = Proxy::before(Services::shared().redis.port());
    let deployment = Deployment::new();
    let mut serve = deployment.serve();
    let url = deployment.redis_url_by(&proxy);
    let deployment = deployment.set("REDIS_URL", url);
    let mut work = deployment.work();
    let client = serve.client();
    let first = client.submit(&json!({"vector_data": [1.0], "duration": 0}));
    client.wait_status(&first, "SUCCESS", LONG);

    proxy.set(Direction::ToClient, Flow::Swallow);
    let id = client.submit(&json!({"vector_data": [1.0], "duration": 0}));
    let moved = || {
        let keys: Vec<String> = deployment.redis(&["KEYS", "v1:inflight:*"]);
        keys.iter().any(|key| deployment.redis::<Vec<String>>(&["LRANGE", key, "0", "-1"]).contains(&id))
    };
    // Redis moves it as soon as the worker asks; a worker that has given Redis up by then claims it from the table.
    until("the id has left the queue", QUIET, || (moved() || client.task(&id)["status"] == "SUCCESS").then_some(()));
    proxy.set(Direction::ToClient, Flow::Pass);
    proxy.reset();
    client.wait_status(&id, "SUCCESS", QUIET);
    let last = client.submit(&json!({"vector_data": [1.0], "duration": 0}));
    client.wait_status(&last, "SUCCESS", QUIET);
    until("its list is empty", QUIET, || {
        let lists: Vec<String> = deployment.redis(&["KEYS", "v1:[ri]*"]);
        lists.is_empty().then_some(())
    });
    work.stop();
}

/// PostgreSQL's connections break again and again while tasks run.
#[test]
fn broken_connections_to_postgresql_lose_and_repeat_nothing() {
    let proxy = Proxy::before(Services::shared().postgres.port());
    let deployment = Deployment::new();
    let url = deployment.database_url_by(&proxy);
    let direct = deployment.sql();
    let deployment = deployment.set("DATABASE_URL", url);
    let (mut serve, mut work) = (deployment.serve(), deployment.work());
    let client = serve.client();
    let ids: Vec<_> = (0..12).map(|n| client.submit(&json!({"vector_data": [1.0], "duration": 1 + n % 3}))).collect();
    for round in 1..=3 {
        client.wait(&ids[0], "some progress", QUIET, |task| {
            task["status"] == "SUCCESS" || task["progress"]["current"].as_i64() >= Some(round - 1)
        });
        if round == 2 { proxy.cut() } else { proxy.reset() }
    }
    for id in &ids {
        let task = client.wait_final(id, QUIET);
        assert_eq!((&task["status"], &task["retry_count"]), (&json!("SUCCESS"), &json!(0)), "{task:#}");
    }
    let finals: i64 = direct.value("SELECT count(*) FROM task_events WHERE status = 'SUCCESS'", &[]);
    assert_eq!(finals, 12);
    work.stop();
    serve.stop();
}
