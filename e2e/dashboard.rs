//! Dashboard: the page under `/ui/` in a real browser, and the stream that feeds it.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};

use crate::harness::{
    App, Browser, Client, Deployment, Direction, EventStream, Flow, LONG, Proxy, Services, Site, free_port,
    run_module_tests, until,
};
use crate::http_workers::tell;

fn vector(duration: u32) -> Value {
    json!({"vector_data": [1.0, 2.0], "duration": duration})
}

/// Waits in steps of a fifth of a second, each with a log line: fewer in all than the page holds.
#[cfg(feature = "faults")]
fn talkative() -> Value {
    json!({"task_type": "test_sleep", "ms": 300_000, "steps": 1_500})
}

#[cfg(feature = "faults")]
fn with_test_types() -> Deployment<'static> {
    Deployment::new().with_test_types().set("APP_TEST_TYPES", "1")
}

/// What people look at: a server, and a worker beside it where tasks are to run.
struct House {
    // In this order: processes end before their database goes.
    client: Client,
    address: SocketAddr,
    _work: Option<App>,
    _serve: App,
    deployment: Deployment<'static>,
}

impl House {
    fn new() -> Self {
        let deployment = Deployment::new();
        let work = deployment.work();
        Self::of(deployment, Some(work))
    }

    /// What is submitted here waits.
    fn without_workers() -> Self {
        Self::of(Deployment::new(), None)
    }

    fn of(deployment: Deployment<'static>, work: Option<App>) -> Self {
        let mut serve = deployment.serve();
        Self { client: serve.client(), address: serve.address(), _work: work, _serve: serve, deployment }
    }

    /// A task that runs for longer than anybody looks.
    fn running_task(&self) -> String {
        let id = self.client.submit(&vector(600));
        self.client.wait_status(&id, "RUNNING", LONG);
        id
    }
}

fn events(client: &Client, query: &str) -> EventStream {
    client.follow(&format!("/events?{query}"))
}

#[test]
fn the_first_frame_is_the_state_now_and_later_ones_are_what_changed() {
    let house = House::without_workers();
    let client = &house.client;
    let ids: Vec<String> = (0..3).map(|_| client.submit(&vector(0))).collect();
    let session = client.fetch("/session").expect(200).json();
    assert_eq!((&session["role"], &session["anonymous"]), (&json!("admin"), &json!(true)));
    assert!(session["server_time"].as_str().unwrap().ends_with('Z'));

    let listed = client.list("");
    let (first, last) = (listed[0]["task_id"].as_str().unwrap(), listed[2]["task_id"].as_str().unwrap());
    // What could not be read within two seconds, on a machine that stood still, comes with a later frame.
    let (mut stream, frame) = until("a first frame with everything in it", LONG, || {
        let mut stream = events(client, &format!("status=PENDING&first={first}&last={last}"));
        let frame = stream.next()?;
        (frame.data["rows"].is_array() && frame.data["counts"].is_object()).then_some((stream, frame))
    });
    assert_eq!(stream.headers["cache-control"], "no-store, no-transform");
    assert_eq!((frame.id, frame.name), (None, None));
    let frame = frame.data;
    assert_eq!(frame["rows"].as_array().unwrap().len(), 3);
    assert_eq!(frame["newer"], 0);
    assert_eq!(frame["counts"]["counts"]["PENDING"], 3);
    assert_eq!((&frame["postgres"], &frame["redis"]), (&json!("ok"), &json!("ok")));
    assert!(frame["queues"].is_array() && frame["workers"].is_array() && frame["samples"].is_object(), "{frame:#}");

    // A row that matches no longer is still told, and what came later is counted.
    client.cancel(&ids[1]).expect(204);
    stream.find_event("the cancelled row", |event| {
        let rows = event.data["rows"].as_array().into_iter().flatten();
        rows.into_iter().any(|row| row["task_id"] == ids[1].as_str() && row["status"] == "CANCELLED")
    });
    client.submit(&vector(0));
    stream.find_event("a newer one", |event| event.data["newer"] == 1);

    client.request("GET", "/events?first=x&last=y", &[("accept", "text/event-stream")]).expect(400);
    client.fetch("/events?sttaus=FAILED").expect(400);
}

#[test]
fn the_newest_lines_of_a_log_can_be_had_alone() {
    let house = House::without_workers();
    let id = house.client.submit(&vector(0));
    write_lines(&house.deployment, &id, (1..=30).map(|n| format!("line {n}")));
    let answer = house.client.fetch(&format!("/tasks/{id}/logs?last=5")).expect(200);
    assert_eq!(answer.header("link"), None);
    let messages: Vec<Value> = answer.json().as_array().unwrap().iter().map(|line| line["message"].clone()).collect();
    assert_eq!(messages, (26..=30).map(|n| json!(format!("line {n}"))).collect::<Vec<_>>());
    house.client.fetch(&format!("/tasks/{id}/logs?last=0")).expect(400);
}

fn write_lines(deployment: &Deployment, id: &str, lines: impl Iterator<Item = String>) {
    let sql = deployment.sql();
    for line in lines {
        sql.change(
            "WITH task AS (UPDATE tasks SET seq = seq + 1, version = version + 1
                           WHERE id = from_ulid($1) RETURNING id, seq)
             INSERT INTO task_events (task_id, seq, delivery, attempt, level, message)
             SELECT id, seq, 1, 1, 'INFO', $2 FROM task",
            &[&id, &line],
        );
    }
}

#[test]
fn the_modules_pass_their_own_tests() {
    run_module_tests();
}

#[test]
fn tasks_are_submitted_watched_cancelled_and_retried() {
    let deployment = Deployment::new().set("APP_OUTBOUND_ALLOW", "127.0.0.0/8");
    let site = Site::start();
    let (mut serve, _work) = (deployment.serve(), deployment.work());
    Browser::take().run("submits", serve.address(), &[&site.url("/hostile")]);
}

#[test]
fn a_storm_of_updates_disturbs_nobody() {
    let house = House::new();
    let browser = Browser::take();
    let ids: Vec<String> = (0..12).map(|_| house.client.submit(&vector(3_600))).collect();
    ids.iter().for_each(|id| drop(house.client.wait_status(id, "RUNNING", LONG)));
    let calm = Arc::new(AtomicBool::new(false));
    browser.run_with("keeps_its_calm", house.address, &[], |what| match what {
        "storm" => {
            let (sql, calm, ids) = (house.deployment.sql(), calm.clone(), ids.clone());
            std::thread::spawn(move || {
                // Row by row: one statement over all would lock them in an order of its own, against the worker's.
                for id in ids.iter().cycle().take_while(|_| !calm.load(Ordering::Relaxed)) {
                    sql.change(
                        "UPDATE tasks SET version = version + 1, progress_current = (random() * 100)::bigint,
                                progress_total = 100, progress_at = clock_timestamp()
                         WHERE id = from_ulid($1) AND status = 'RUNNING'",
                        &[id],
                    );
                    std::thread::sleep(Duration::from_millis(2));
                }
            });
        }
        _ => calm.store(true, Ordering::Relaxed),
    });
}

#[cfg(feature = "faults")]
#[test]
fn many_are_retried_at_once() {
    let deployment = with_test_types();
    let (mut serve, mut work) = (deployment.serve(), deployment.work());
    let client = serve.client();
    let fail = || json!({"task_type": "test_fail", "times": 9, "options": {"max_attempts": 1}});
    let failed = |number: i64| {
        until("they have failed", LONG, || {
            (client.fetch("/tasks/counts?status=FAILED").json()["counts"]["FAILED"] == number).then_some(())
        });
    };
    (0..3).for_each(|_| drop(client.submit(&fail())));
    failed(3);
    Browser::take().run_with("acts_on_many", serve.address(), &[], |_| {
        client.post("/tasks/batch", Value::from(vec![fail(); 120]).to_string(), &[]).expect(202);
        failed(123);
        work.stop();
    });
}

#[test]
fn queues_are_paused_and_resumed() {
    let house = House::new();
    Browser::take().run("pauses", house.address, &[]);
}

#[test]
fn a_long_list_is_paged_to_its_end() {
    let house = House::without_workers();
    let batch = Value::from(vec![vector(0); 1_000]).to_string();
    for _ in 0..10 {
        house.client.post("/tasks/batch", batch.clone(), &[]).expect(202);
    }
    Browser::take().run("pages_to_the_end", house.address, &["10000"]);
}

#[test]
fn an_address_is_a_view() {
    let house = House::new();
    for tenant in ["acme", "globex", "acme"] {
        let id = house.client.submit(&json!({"vector_data": [1.0], "duration": 0, "metadata": {"tenant": tenant}}));
        house.client.wait_status(&id, "SUCCESS", LONG);
    }
    Browser::take().run("addresses_are_views", house.address, &[]);
}

#[test]
fn the_keyboard_is_enough() {
    let house = House::without_workers();
    (0..3).for_each(|_| drop(house.client.submit(&vector(0))));
    Browser::take().run("works_by_keyboard", house.address, &[]);
}

#[test]
fn hostile_texts_are_shown_and_nothing_else() {
    let house = House::without_workers();
    let hostile = "<img src=x onerror=alert(1)>";
    let id = house.client.submit(&json!({"vector_data": [1.0], "metadata": {"x": hostile}}));
    let lines = [
        "\u{1b}[31mred\u{1b}[0m and plain",
        "\u{1b}]0;title\u{7} \u{202e}gnp.exe <script>alert(1)</script>",
        "(.*[ is no pattern",
    ];
    write_lines(&house.deployment, &id, lines.iter().map(|line| (*line).to_owned()));
    Browser::take().run("shows_hostile_texts", house.address, &[&id]);
}

#[test]
fn a_wrong_clock_tells_no_wrong_ages() {
    let house = House::new();
    let browser = Browser::take();
    let id = house.running_task();
    browser.run("trusts_the_servers_clock", house.address, &[&id]);
}

#[test]
fn axe_finds_nothing_serious() {
    let house = House::new();
    let browser = Browser::take();
    let ids: Vec<String> = [600, 600, 0].into_iter().map(|duration| house.client.submit(&vector(duration))).collect();
    house.client.cancel(&ids[1]).expect(204);
    house.client.submit(&json!({"vector_data": [1.0], "options": {"delay": "1h"}}));
    house.client.submit(&json!({"vector_data": [1.0], "options": {"queue": "gpu"}}));
    house.client.wait_status(&ids[2], "SUCCESS", LONG);
    browser.run("is_accessible", house.address, &ids.iter().map(String::as_str).collect::<Vec<_>>());
}

#[cfg(feature = "faults")]
#[test]
fn a_server_that_is_killed_and_comes_back_costs_no_line() {
    // The same port after the restart.
    let deployment =
        with_test_types().set("APP_BIND", SocketAddr::from((Ipv4Addr::LOCALHOST, free_port(Ipv4Addr::LOCALHOST))));
    let (mut serve, _work) = (deployment.serve(), deployment.work());
    let address = serve.address();
    let client = serve.client();
    let browser = Browser::take();
    let id = client.submit(&talkative());
    browser.run_with("survives_a_restart", address, &[&id], |what| match what {
        "kill" => serve.kill(),
        "start" => {
            serve = deployment.serve();
            serve.address();
        }
        _ => drop(client.cancel(&id).expect(204)),
    });
}

#[cfg(feature = "faults")]
#[test]
fn a_connection_that_says_nothing_is_noticed() {
    let deployment = with_test_types();
    let (mut serve, _work) = (deployment.serve(), deployment.work());
    let browser = Browser::take();
    let id = serve.client().submit(&talkative());
    let proxy = Proxy::before(serve.address().port());
    browser.run_with("notices_a_dead_connection", proxy.address(), &[&id], |what| match what {
        "swallow" => proxy.set(Direction::ToClient, Flow::Swallow),
        _ => proxy.set(Direction::ToClient, Flow::Pass),
    });
}

#[test]
fn seven_tabs_leave_connections_to_the_buttons() {
    let house = House::new();
    let browser = Browser::take();
    let id = house.client.submit(&vector(600));
    browser.run("seven_tabs", house.address, &[&id]);
}

#[test]
fn another_version_is_met_without_a_blank_page() {
    let house = House::without_workers();
    Browser::take().run("meets_another_version", house.address, &[]);
}

#[test]
fn a_first_page_is_small_and_waits_for_the_list_alone() {
    let house = House::without_workers();
    house.client.post("/tasks/batch", Value::from(vec![vector(0); 50]).to_string(), &[]).expect(202);
    let browser = Browser::take();
    browser.run("loads_little", house.address, &["50"]);
    let loads = if std::env::var_os("BENCH").is_some() { "9" } else { "1" };
    browser.run("measures_first_rows", house.address, &[loads]);
}

/// `HOUR=1` lets it go on for an hour, with a turn about each second.
#[test]
fn a_long_list_and_a_long_log_fit_into_little_memory() {
    let browser = Browser::take();
    let house = House::new();
    let client = &house.client;
    client.post("/tasks/batch", Value::from(vec![vector(0); 220]).to_string(), &[]).expect(202);
    // Rows in sight whose progress moves.
    client.post("/tasks/batch", Value::from(vec![vector(7_200); 8]).to_string(), &[]).expect(202);
    let schema = json!({"queue": "elsewhere", "input_schema": {"type": "object"}});
    client.put("/task-types/thing", schema.to_string()).expect(200);
    let id = client.submit(&json!({"task_type": "thing"}));
    let ask = json!({"worker": "host-1", "task_types": ["thing"], "lease": "1h"});
    let leased = client.post("/queues/elsewhere/lease", ask.to_string(), &[]).expect(200).json();
    let log = |turn: usize, lines: usize| {
        let line = json!({"level": "INFO", "message": format!("turn {turn}: a page of the catalogue, in 127 ms")});
        tell(client, &leased[0], "log", json!({"lines": vec![line; lines]})).expect(204);
    };
    (0..2).for_each(|_| log(0, 1_000));
    let an_hour = std::env::var_os("HOUR").is_some();
    let seconds = if an_hour { "3600" } else { "0" };
    let mut turn = 0;
    browser.run_with("stays_small", house.address, &[seconds, "200", &id, "2000"], |what| match what {
        "fill" => log(0, 1_000),
        _ => {
            turn += 1;
            log(turn, 1);
            tell(client, &leased[0], "progress", json!({"current": turn, "total": 3_600})).expect(204);
            tell(client, &leased[0], "heartbeat", json!({})).expect(200);
            client.submit(&vector(0));
            if an_hour {
                std::thread::sleep(Duration::from_secs(1));
            }
        }
    });
}

#[test]
fn a_task_can_be_acted_on_before_its_log_is_there() {
    let house = House::new();
    let browser = Browser::take();
    let id = house.running_task();
    browser.run("answers_without_its_log", house.address, &[&id]);
}

#[test]
fn the_head_is_one_line_in_a_narrow_window() {
    let house = House::without_workers();
    Browser::take().run("keeps_its_head", house.address, &[]);
}

#[test]
fn workers_over_http_are_shown() {
    let house = House::without_workers();
    house
        .client
        .put("/task-types/thing", json!({"queue": "elsewhere", "input_schema": {"type": "object"}}).to_string())
        .expect(200);
    let browser = Browser::take();
    let id = house.client.submit(&json!({"task_type": "thing"}));
    let ask = json!({"worker": "<b>host-1</b>", "task_types": ["thing"], "lease": "5m"});
    house.client.post("/queues/elsewhere/lease", ask.to_string(), &[]).expect(200);
    browser.run("knows_http_workers", house.address, &[&id, "<b>host-1</b>"]);
}

#[test]
fn what_is_away_is_told() {
    let services = Services::private();
    let deployment = Deployment::on(&services);
    let mut serve = deployment.serve();
    Browser::take().run_with("tells_what_is_away", serve.address(), &[], |what| match what {
        "redis-away" => services.redis.stop(),
        _ => services.redis.start(),
    });
}

/// Not a test of anything: `make screenshots` asks for it.
#[test]
fn screenshots() {
    if std::env::var_os("SCREENSHOTS").is_none() {
        return;
    }
    let site = Site::start();
    let deployment = Deployment::new().set("APP_OUTBOUND_ALLOW", "127.0.0.0/8");
    let (mut serve, _work) = (deployment.serve(), deployment.work());
    let client = serve.client();
    let browser = Browser::take();
    let task = |body: Value| client.submit(&body);
    for n in 0..24 {
        let tenant = if n % 3 == 0 { "globex" } else { "acme" };
        let done = task(json!({"vector_data": [0.1, 0.2, 0.3], "duration": 0, "metadata": {"tenant": tenant}}));
        if n % 4 == 0 {
            task(json!({"task_type": "web_scrape", "url": site.url("/utf8"), "metadata": {"tenant": tenant}}));
            client.wait_status(&done, "SUCCESS", LONG);
        }
    }
    let broken = |attempts: u32| json!({"task_type": "web_scrape", "url": site.url("/500"), "options": {"max_attempts": attempts}});
    let failed = task(broken(2));
    task(broken(1));
    task(json!({"vector_data": [1.0], "options": {"delay": "2h"}}));
    task(json!({"vector_data": [1.0], "options": {"queue": "gpu"}}));
    let running: Vec<String> = [40, 60, 90].into_iter().map(|duration| task(vector(duration))).collect();
    let stopped = task(vector(600));
    task(broken(4));
    client.wait_status(&failed, "FAILED", LONG);
    client.cancel(&stopped).expect(204);
    until("they are under way", LONG, || {
        (client.task(&running[0])["progress"]["percent"].as_f64()? > 20.0).then_some(())
    });
    let folder = std::path::Path::new("docs/screenshots").canonicalize().expect("docs/screenshots is there");
    browser.run("screenshots", serve.address(), &[&folder.to_string_lossy(), &running[1], &failed]);
}
