//! Rolling: a new release takes over from the one before, through a migration and under load, and back again; and a
//! worker that is scaled in in the middle of a long task.
//!
//! The release before is the same program with `E2E_BUILD=old`: it lacks a task type. The migration is made by the test
//! as `app migrate` makes one: a lock_timeout, an expansion that the release before does not know of, and its name in
//! the table of migrations.

use std::{
    sync::{
        Mutex, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use nix::sys::signal::Signal;
use serde_json::json;

use crate::{
    harness::{App, Client, Deployment, LONG, Stopwatch, until},
    ledger::{self, check_counted, entry, events, wait_status, wait_until_clean},
};

/// An expansion as a release would make it: a new column and a new index, which nobody has to know.
const EXPANSION: &str = "
    SET lock_timeout = '2s';
    ALTER TABLE tasks ADD COLUMN next_release text;
    CREATE INDEX tasks_next_release ON tasks (next_release) WHERE next_release IS NOT NULL;
    INSERT INTO __diesel_schema_migrations (version) VALUES ('29990101000000')";

/// Two servers and two workers of one release.
struct Release {
    serve: Vec<App>,
    work: Vec<App>,
}

/// What stands in for the load balancer.
#[derive(Default)]
struct Balancer {
    /// The servers that it sends requests to.
    servers: Mutex<Vec<Client>>,
    /// Read while a request is under way: a server that is taken off the list leaves when those sent to it have ended.
    under_way: RwLock<()>,
}

#[test]
fn a_new_release_takes_over_under_load_and_gives_back() {
    let deployment = Deployment::new()
        .with_test_types()
        .set("APP_CONCURRENCY", "16")
        .set("APP_POSTGRES_POOL", "4")
        // Shorter than the tasks, so that every worker that goes hands some back.
        .set("APP_GRACE", "1s");
    let sql = deployment.sql();
    let (balancer, over) = (&Balancer::default(), &AtomicBool::new(false));
    let before = Release { serve: servers(&deployment, "old", balancer), work: workers(&deployment, "old") };

    let ids = thread::scope(|scope| {
        let clients: Vec<_> = (0..4).map(|number| scope.spawn(move || load(number, balancer, over))).collect();
        // However this thread ends, the load ends too.
        let _over = SetAtTheEnd(over);
        busy(&deployment);

        // The migration first: the release before runs on with a schema that is newer than its own.
        migrate(&deployment);
        busy(&deployment);
        assert_eq!(deployment.run(&["migrate", "--check"]).code, Some(0));

        // A worker of the release before meets a type that it does not know, and gives it back.
        let old_workers = before.work;
        let mut serve = servers(&deployment, "new", balancer);
        let newer = serve[0].client().submit(&json!({"task_type": "newer"}));
        leave(before.serve, balancer, 2);
        busy(&deployment);
        assert_eq!(entry(&sql, &newer).status, "PENDING");
        let work = workers(&deployment, "new");
        old_workers.into_iter().for_each(|mut worker| worker.stop());
        let taken = wait_status(&sql, &newer, "SUCCESS");
        assert_eq!((taken.failures, taken.lost), (0, 0));
        busy(&deployment);

        // And back: the schema stays, the program is the one before.
        let back = servers(&deployment, "old", balancer);
        leave(serve, balancer, 2);
        let workers_back = workers(&deployment, "old");
        work.into_iter().for_each(|mut worker| worker.stop());
        busy(&deployment);
        over.store(true, Ordering::Relaxed);
        let ids: Vec<String> = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
        for id in &ids {
            wait_status(&sql, id, "SUCCESS");
        }
        drop((back, workers_back));
        ids
    });

    let mut handed_back = 0;
    for id in &ids {
        check_counted(&sql, id, 15);
        let entry = entry(&sql, id);
        assert_eq!((entry.failures, entry.lost), (0, 0), "a rollout charges nothing: {entry:?}");
        handed_back += entry.delivery - 1;
    }
    assert!(handed_back > 0, "no worker had anything to hand back");
    eprintln!("figure: {} tasks, {handed_back} handed back, no request refused, none lost", ids.len());
}

/// Submits, polls and lists until it is over, and insists on every answer. Returns what it has submitted.
fn load(number: usize, balancer: &Balancer, over: &AtomicBool) -> Vec<String> {
    let mut ids: Vec<String> = Vec::new();
    while !over.load(Ordering::Relaxed) {
        let body = json!({"task_type": "count", "steps": 15, "pace": 100, "metadata": {"client": number}});
        // Any refusal and any broken connection panics.
        ids.push(balancer.ask(|client| client.submit(&body)));
        balancer.ask(|client| client.task(&ids[ids.len() / 2]));
        balancer.ask(|client| client.list("?limit=5"));
        thread::sleep(Duration::from_millis(250));
    }
    ids
}

impl Balancer {
    /// Sends something to a server of the list, each in its turn.
    fn ask<T>(&self, request: impl FnOnce(&Client) -> T) -> T {
        let _under_way = self.under_way.read().unwrap();
        let client = {
            let mut servers = self.servers.lock().unwrap();
            servers.rotate_left(1);
            servers[0].clone()
        };
        request(&client)
    }
}

/// Starts two servers, and puts each on the list when it is ready.
fn servers(deployment: &Deployment, build: &str, balancer: &Balancer) -> Vec<App> {
    let mut apps: Vec<_> = (0..2).map(|_| deployment.serve_with(&[("E2E_BUILD", build)])).collect();
    for app in &mut apps {
        let client = app.client();
        client.wait_ready(LONG);
        balancer.servers.lock().unwrap().push(client);
    }
    apps
}

fn workers(deployment: &Deployment, build: &str) -> Vec<App> {
    let mut apps: Vec<_> = (0..2).map(|_| deployment.work_with(&[("E2E_BUILD", build)])).collect();
    apps.iter_mut().for_each(|app| drop(app.wait_for_line("worker started")));
    apps
}

/// Takes these servers off the list, all but the `kept` youngest, and lets them leave: what they have begun they end.
fn leave(servers: Vec<App>, balancer: &Balancer, kept: usize) {
    let mut going = servers;
    let stay: Vec<Client> = {
        let list = balancer.servers.lock().unwrap();
        let theirs: Vec<String> = going.iter_mut().map(|app| format!("http://{}", app.address())).collect();
        list.iter().filter(|client| !theirs.contains(&client.url(""))).cloned().collect()
    };
    assert_eq!(stay.len(), kept);
    *balancer.servers.lock().unwrap() = stay;
    drop(balancer.under_way.write().unwrap());
    going.iter_mut().for_each(App::stop);
}

/// Waits until a further second's worth of tasks has begun: the load goes on.
fn busy(deployment: &Deployment) {
    let sql = deployment.sql();
    let begun = || sql.value::<i64>("SELECT count(*) FROM task_events WHERE status = 'RUNNING'", &[]);
    let before = begun();
    until("the load goes on", LONG, || (begun() >= before + 20).then_some(()));
}

/// As `app migrate` does it: a lock that does not come soon is asked for again, and nobody queues up behind it.
fn migrate(deployment: &Deployment) {
    let sql = deployment.sql();
    until("the tables are expanded", LONG, || {
        let done = sql.run(&format!("BEGIN; {EXPANSION}; COMMIT"));
        if done.is_err() {
            sql.run("ROLLBACK").unwrap();
        }
        done.ok()
    });
}

struct SetAtTheEnd<'a>(&'a AtomicBool);

impl Drop for SetAtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A worker with a task of ten minutes is scaled in: the task goes on in another one, from its checkpoint. What is lost
/// is what was done since that checkpoint: less than one of its steps.
#[test]
fn a_long_task_of_a_worker_that_is_scaled_in_goes_on_elsewhere() {
    let deployment = Deployment::new().set("APP_GRACE", "2s").set("APP_CONCURRENCY", "8");
    let (mut serve, sql) = (deployment.serve(), deployment.sql());
    let client = serve.client();
    let mut leaving = deployment.work();
    let watch = Stopwatch::start();
    let id = client.submit(&json!({"vector_data": [1.0, 2.0], "duration": 600}));
    client.wait(&id, "some progress", LONG, |task| task["progress"]["current"].as_i64() >= Some(3));
    let mut staying = deployment.work();
    staying.wait_for_line("worker started");
    for _ in 0..20 {
        client.submit(&json!({"vector_data": [1.0], "duration": 0.5}));
    }
    leaving.signal(Signal::SIGTERM);
    assert_eq!(leaving.wait_exit(LONG).code(), Some(0));
    let entry = ledger::wait(&sql, &id, "running elsewhere", |entry| entry.delivery == 2);
    assert_eq!((entry.failures, entry.lost), (0, 0));
    // What the handler says that it goes on after.
    let resumed: i64 = until("the handler says where it goes on", LONG, || {
        let lines = events(&sql, &id).into_iter().filter_map(|event| event.message);
        let mut steps =
            lines.filter_map(|line| line.strip_prefix("going on after step ")?.split(' ').next()?.parse().ok());
        steps.next()
    });
    // SIGTERM came after the third step, and the grace is worth two more.
    assert!(resumed >= 4, "it goes on after step {resumed}: the grace was not used");
    let times = "SELECT extract(epoch FROM (SELECT max(at) FROM task_events WHERE task_id = from_ulid($1) AND status = 'PENDING')
                   - (SELECT min(at) FROM task_events WHERE task_id = from_ulid($1) AND status = 'RUNNING'))::float8";
    let ran: f64 = sql.value(times, &[&id]);
    let lost = ran - resumed as f64;
    eprintln!("figure: scaled in after {ran:.2} s, goes on after step {resumed} of 600: {lost:.2} s of work lost");
    // Its steps take a second; the clock also counts the moment until the row said RUNNING and then PENDING.
    assert!((-0.5..3.0 + watch.lost().as_secs_f64()).contains(&lost), "{lost} s of work were lost");
    client.wait(&id, "further steps", LONG, |task| task["progress"]["current"].as_i64() > Some(resumed + 1));
    client.cancel(&id).expect(204);
    wait_status(&sql, &id, "CANCELLED");
    wait_until_clean(&deployment, &sql);
    staying.stop();
}
