//! Mutants: the check of the checker. Each is a build with one rule left out, and must be caught by the invariant that
//! the rule is for.
//!
//! Every scenario is played twice: as the program is, when nothing may be wrong, and with the defect. The random soak
//! would meet most of these moments too; here they are certain.

use std::{collections::HashMap, time::Duration};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::{
    audit::Tables,
    checker::{self, Evidence, Violation},
    client::{Client, IsMisuse, is_final},
    clock::{Moment, now},
    history::{History, Kind, Outcome, Submission, Window, id_of_ulid},
    leftovers,
    logs::{self, Execution},
    place::Place,
    random::Random,
    report,
};
use crate::harness::{App, LONG, Services, Stopwatch, until};

/// How long a scene may take to come to rest. A defect that leaves something behind costs all of it.
const REST: Duration = Duration::from_secs(45);

/// A place with processes, and what is written down there.
struct Scene {
    place: Place<'static>,
    defect: Option<&'static str>,
    history: History,
    processes: Vec<(String, App)>,
    killed: HashMap<usize, Moment>,
    ports: Vec<u16>,
}

impl Scene {
    fn new(defect: Option<&'static str>) -> Self {
        let place = Place::new(Services::shared());
        Self {
            place,
            defect,
            history: History::default(),
            processes: Vec::new(),
            killed: HashMap::new(),
            ports: Vec::new(),
        }
    }

    /// Starts a process; its number among the processes.
    fn start(&mut self, role: &str, faults: &str) -> usize {
        let number = self.processes.len();
        let name = format!("{role}-{number}");
        let mut more = vec![("APP_FAULTS", faults.to_owned()), ("APP_BIND", "127.0.0.1:0".to_owned())];
        more.extend(self.defect.map(|defect| ("APP_MUTANT", defect.to_owned())));
        let servers = Services::shared();
        let settings = self.place.settings(&name, servers.postgres.port(), servers.redis.port(), &more);
        let mut app = App::start(&[role], &settings);
        match role {
            "serve" => self.ports.push(app.address().port()),
            _ => drop(app.wait_for_line("worker started")),
        }
        self.processes.push((name, app));
        number
    }

    fn client(&self) -> (Client<'_>, Random) {
        (Client::new(&self.ports, &self.history), Random::new(1, 1))
    }

    /// Submits a task and returns its id, where an answer came.
    fn try_to_submit(&self, kind: Kind, mut body: Value) -> Option<String> {
        let number = self.history.lock().submissions.len();
        body["metadata"] = json!({"n": number});
        let submission = Submission { key: None, kind, body: body.clone() };
        self.history.lock().submissions.insert(number, submission);
        let (client, mut random) = self.client();
        match client.submit(&mut random, number, None, &body, IsMisuse::No) {
            Outcome::Answered { view: Some(view), .. } => Some(super::client::ulid_of(view.id)),
            _ => None,
        }
    }

    fn submit(&self, kind: Kind, body: Value) -> String {
        self.try_to_submit(kind, body).expect("the submit is answered")
    }

    /// A task that succeeds at once.
    fn submit_quick(&self) -> String {
        self.submit(Kind::Fail { times: 0, max_attempts: 4 }, json!({"task_type": "test_fail", "times": 0}))
    }

    /// A task that runs for so long.
    fn submit_slow(&self, ms: u64) -> String {
        self.submit(Kind::Sleep { steps: 1 }, json!({"task_type": "test_sleep", "ms": ms, "steps": 1}))
    }

    fn wait_status(&self, id: &str, what: &str, wanted: impl Fn(&str, i32) -> bool) {
        let sql = self.place.sql();
        until(what, LONG, || {
            let rows = sql.rows("SELECT status, delivery FROM tasks WHERE id = from_ulid($1)", &[&id]);
            let row = rows.first().expect("the task has a row");
            wanted(row.get(0), row.get(1)).then_some(())
        });
    }

    fn app(&mut self, number: usize) -> &mut App {
        &mut self.processes[number].1
    }

    fn kill(&mut self, number: usize) {
        self.app(number).kill();
        self.killed.insert(number, now());
    }

    /// Waits until all is quiet, and lets the checker judge.
    fn judge(mut self) -> (Evidence, Vec<Violation>) {
        let began = Stopwatch::start();
        let mut left = leftovers(&self.place);
        while !left.is_empty() && began.elapsed() < REST {
            std::thread::sleep(Duration::from_millis(100));
            left = leftovers(&self.place);
        }
        let mut executions: Vec<Execution> = Vec::new();
        for (slot, (name, app)) in self.processes.iter_mut().enumerate() {
            if !app.has_ended() {
                app.kill();
            }
            let ended = self.killed.get(&slot).copied().unwrap_or_else(now);
            logs::read(&app.stderr(), name, slot, ended, &mut executions, &mut logs::Seen::new());
        }
        let tables = Tables::read(&self.place.sql());
        let evidence = Evidence { record: self.history.take(), tables, executions, leftovers: left };
        let violations = checker::check(&evidence);
        (evidence, violations)
    }
}

/// Plays a scenario without the defect and with it. The first must be in order, the second must be caught by one of
/// these invariants.
#[track_caller]
fn must_be_caught(defect: &'static str, by: &str, play: fn(&mut Scene)) {
    let played = |defect| {
        let mut scene = Scene::new(defect);
        play(&mut scene);
        scene.judge()
    };
    let (sound, broken) = std::thread::scope(|scope| {
        let sound = scope.spawn(|| played(None));
        let broken = played(Some(defect));
        (sound.join().expect("the scenario plays without the defect"), broken)
    });
    if !sound.1.is_empty() {
        report::tell(&sound.0, &sound.1);
    }
    assert!(sound.1.is_empty(), "{defect}: the checker objects to the program as it is");
    let mut caught: Vec<&str> = broken.1.iter().map(|violation| violation.invariant).collect();
    caught.dedup();
    println!("mutant {defect}: caught by {}", caught.join(", "));
    for violation in broken.1.iter().filter(|violation| violation.invariant == by) {
        println!("    {by}: {}", violation.text);
    }
    assert!(caught.contains(&by), "the mutant {defect} was not caught by {by:?}, only by {caught:?}");
}

/// An attempt returns its result, and its worker is paused before the result is written. Another worker has the task
/// by the time it goes on.
fn a_result_of_an_attempt_that_lost_its_task(scene: &mut Scene) {
    scene.start("serve", "");
    let first = scene.start("work", "finish:stall=6s");
    let id = scene.submit_slow(5_000);
    scene.app(first).wait_for_line("\"message\":\"succeeded\"");
    let from = now();
    scene.app(first).signal(Signal::SIGSTOP);
    scene.start("work", "");
    scene.wait_status(&id, "another worker has it", |status, delivery| status == "RUNNING" && delivery == 2);
    scene.app(first).signal(Signal::SIGCONT);
    scene.history.lock().windows.push(Window { slot: Some(first), from, to: now(), why: "pause" });
}

#[test]
fn finish_without_delivery() {
    must_be_caught("finish-without-delivery", "fence", a_result_of_an_attempt_that_lost_its_task);
}

#[test]
fn finish_by_id() {
    must_be_caught("finish-by-id", "legal", |scene| {
        scene.start("serve", "");
        let worker = scene.start("work", "finish:stall=6s");
        let id = scene.submit_quick();
        scene.app(worker).wait_for_line("\"message\":\"succeeded\"");
        let (client, mut random) = scene.client();
        client.cancel(&mut random, &id);
        // The finish is on its way: what it does is seen when its fault has passed and the worker is at rest.
        scene.wait_until_settled(&id);
    });
}

impl Scene {
    /// Waits until the worker of a cancelled task has said that it stopped, or wrote what it should not.
    fn wait_until_settled(&self, id: &str) {
        let sql = self.place.sql();
        until("the worker is done with the task", LONG, || {
            let rows = sql.rows("SELECT status, worker_id IS NULL FROM tasks WHERE id = from_ulid($1)", &[&id]);
            let (status, free): (String, bool) = (rows[0].get(0), rows[0].get(1));
            (status != "CANCELLED" || free).then_some(())
        });
    }
}

#[test]
fn delivery_reset() {
    must_be_caught("delivery-reset", "deliveries", |scene| {
        scene.start("serve", "");
        scene.start("work", "");
        let body = json!({"task_type": "test_fail", "times": 5, "options": {"max_attempts": 1}});
        let id = scene.submit(Kind::Fail { times: 5, max_attempts: 1 }, body);
        scene.wait_status(&id, "it has failed", |status, _| status == "FAILED");
        let (client, mut random) = scene.client();
        let retried = client.retry(&mut random, &id);
        assert!(matches!(retried, Outcome::Answered { status: 202, .. }), "{retried:?}");
        scene.wait_status(&id, "it has failed again", |status, _| status == "FAILED");
    });
}

#[test]
fn no_reconciliation() {
    must_be_caught("no-reconciliation", "no loss", |scene| {
        scene.start("serve", "");
        scene.start("work", "claim:lose-reply");
        scene.submit_quick();
    });
}

#[test]
fn no_sweep() {
    must_be_caught("no-sweep", "no loss", |scene| {
        scene.start("serve", "");
        let first = scene.start("work", "");
        let id = scene.submit_slow(5_000);
        scene.wait_status(&id, "it runs", |status, _| status == "RUNNING");
        scene.kill(first);
        scene.start("work", "");
    });
}

/// A worker takes a doorbell and is killed before its claim is sent; everything else is well, and another worker is
/// there already.
fn a_worker_dies_with_a_doorbell_in_its_hand(scene: &mut Scene) {
    scene.start("serve", "");
    let first = scene.start("work", "claim:stall=60s");
    let id = scene.submit_quick();
    scene.app(first).wait_for_line("injected a fault");
    // Whatever it does with its doorbell before the claim, it has done by now.
    let keys: Vec<String> = scene.place.redis(&["KEYS", "v1:inflight:*"]);
    for _ in 0..25 {
        if keys.iter().all(|key| scene.place.redis::<i64>(&["LLEN", key]) == 0) {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    scene.start("work", "");
    scene.kill(first);
    scene.history.lock().prompt.push((id_of_ulid(&id), now()));
}

#[test]
fn acknowledge_first() {
    must_be_caught("acknowledge-first", "recovery", a_worker_dies_with_a_doorbell_in_its_hand);
}

#[test]
fn plain_pop() {
    must_be_caught("plain-pop", "recovery", a_worker_dies_with_a_doorbell_in_its_hand);
}

#[test]
fn answer_first() {
    must_be_caught("answer-first", "no loss", |scene| {
        let serve = scene.start("serve", "submit:stall=5s");
        let answered = std::thread::scope(|scope| {
            let (client, mut random) = scene.client();
            let history = &scene.history;
            let body = json!({"task_type": "test_fail", "times": 0, "metadata": {"n": 0}});
            let kind = Kind::Fail { times: 0, max_attempts: 4 };
            history.lock().submissions.insert(0, Submission { key: None, kind, body: body.clone() });
            let asked = scope.spawn(move || client.submit(&mut random, 0, None, &body, IsMisuse::No));
            let log = || scene.processes[serve].1.stderr();
            until("the commit is on its way", LONG, || log().contains("injected a fault").then_some(()));
            // It is five seconds away: an answer before that is one too early.
            let began = Stopwatch::start();
            while !asked.is_finished() && began.on_the_wall() < Duration::from_secs(2) {
                std::thread::sleep(Duration::from_millis(5));
            }
            scene.processes[serve].1.signal(Signal::SIGKILL);
            asked.join().unwrap()
        });
        assert_eq!(matches!(answered, Outcome::Unknown(_)), scene.defect.is_none(), "{answered:?}");
    });
}

#[test]
fn cancel_unconditional() {
    must_be_caught("cancel-unconditional", "legal", |scene| {
        scene.start("serve", "");
        scene.start("work", "");
        let id = scene.submit_quick();
        scene.wait_status(&id, "it has ended", |status, _| is_final(status));
        let (client, mut random) = scene.client();
        client.cancel(&mut random, &id);
    });
}
