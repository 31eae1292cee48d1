//! Soak: many tasks, many clients, and everything that can go wrong going wrong; then the history is checked.
//!
//! [`load`] has the clients, [`faults`] what befalls them, [`fleet`] the processes. All of them write down what they do
//! and see in a [`history`]; an [`audit`] in the database writes down every change of a row with the process that made
//! it. When all is quiet the [`checker`] holds the one against the other. [`mutants`] checks the checker: with a defect
//! built in, it must notice.
//!
//! `SOAK=short|long` is the size, `SOAK_SEED` asks for the choices of an earlier run again. A run in which the faults
//! had nothing to bite on is no proof and fails.

mod audit;
mod checker;
mod client;
mod clock;
mod expected;
mod faults;
mod fleet;
mod history;
mod load;
mod logs;
mod mutants;
mod outsider;
mod place;
mod plan;
mod random;
mod report;

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use audit::Tables;
use checker::Evidence;
use clock::{Moment, SECOND, now};
use faults::Stage;
use fleet::{Fleet, Left};
use history::{History, Id, Window};
use load::Load;
use outsider::{OUTSIDERS, Outsider};
use place::Place;
use plan::Plan;
use random::Random;

use crate::harness::{Services, Stopwatch};
use longrun::core::store::CONNECTIONS_BESIDE_THE_POOL;

/// How long the rest may take when nothing befalls it any more. The last poison needs four leases and sweeps, and a
/// lost doorbell half a minute.
const QUIET: Duration = Duration::from_secs(90);
/// How long processes of attempts may outlive the last worker.
const ALONE: Duration = Duration::from_secs(2);
/// Two servers with a pool of four, and with their connections for lists, dashboards and keys; up to five workers with
/// such a pool and a connection for the heartbeat.
const MOST_CONNECTIONS: i64 = 2 * (4 + CONNECTIONS_BESIDE_THE_POOL) + 5 * (4 + 1);
/// Where the choices of the threads begin: users, followers, faults, HTTP workers.
const FOLLOWER_STREAM: u64 = 100;
const FAULT_STREAM: u64 = 200;
const OUTSIDER_STREAM: u64 = 300;

#[test]
fn soak() {
    let plan = Plan::from_environment();
    eprintln!("soak: {}, SOAK_SEED={}", plan.name, plan.seed);
    let began = Instant::now();
    let services = Services::private();
    let place = Place::new(&services);
    let history = History::default();
    let fleet = Fleet::new(&place, plan.workers);
    let load = Load::new(&plan, fleet.ports(), &history);
    let (left, mut leftovers) = std::thread::scope(|scope| {
        scope.spawn(|| fleet.keep_up());
        for number in 0..OUTSIDERS {
            let random = Random::new(plan.seed, OUTSIDER_STREAM + number);
            let mut outsider = Outsider::new(number, random, fleet.ports(), &history, &load.closing);
            outsider.declare();
            scope.spawn(move || outsider.work());
        }
        scope.spawn(|| note_stalls(&history, &load.closing));
        let users: Vec<_> = (0..load::USERS)
            .map(|user| {
                scope.spawn({
                    let load = &load;
                    move || load.use_it(user)
                })
            })
            .collect();
        for follower in 0..load::FOLLOWERS {
            let load = &load;
            scope.spawn(move || load.follow(FOLLOWER_STREAM + follower));
        }
        let stage = Stage { place: &place, fleet: &fleet, history: &history };
        let plan = &plan;
        std::thread::scope(|faults| {
            faults.spawn(|| stage.bring_about_all(&plan.worker_faults, plan, FAULT_STREAM));
            faults.spawn(|| stage.bring_about_all(&plan.server_faults, plan, FAULT_STREAM + 1));
        });
        load.last_orders.store(true, Ordering::Relaxed);
        users.into_iter().for_each(|user| user.join().unwrap());
        eprintln!("soak: the faults are over after {:?}", began.elapsed());
        let leftovers = wait_for_quiet(&place);
        load.closing.store(true, Ordering::Relaxed);
        (fleet.stop(), leftovers)
    });
    let Left { executions, mut seen, workers, out_of_order } = left;
    leftovers.extend(out_of_order);
    let tables = Tables::read(&place.sql());
    leftovers.extend(wait_until_alone(&place, &tables));
    let evidence = Evidence { record: history.take(), tables, executions, leftovers };
    add_what_was_seen(&evidence, &mut seen);
    let violations = checker::check(&evidence);
    let vacuous = not_seen(&plan, &seen, evidence.tables.rows.len() >= plan.at_least);
    let took = began.elapsed().as_secs_f64();
    let report = report::Report {
        plan: &plan,
        evidence: &evidence,
        seen: &seen,
        workers,
        violations: &violations,
        vacuous: &vacuous,
        took,
    };
    report.publish();
    assert!(violations.is_empty(), "{} violations, see above; SOAK_SEED={}", violations.len(), plan.seed);
    assert!(vacuous.is_empty(), "this run proves nothing: no {}; SOAK_SEED={}", vacuous.join(", no "), plan.seed);
}

/// A machine that stands still for longer than this stops every worker as SIGSTOP does.
const STALL: Moment = SECOND;

/// Notes when this process, and so the machine, stood still: a pause that nobody brought about is a pause all the same.
fn note_stalls(history: &History, closing: &AtomicBool) {
    let mut last = now();
    while !closing.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(100));
        let (from, to) = (std::mem::replace(&mut last, now()), now());
        if to - from > STALL {
            history.lock().windows.push(Window { slot: None, from, to, why: "stall of the machine" });
            history.count("the machine stood still for over a second");
        }
    }
}

/// Waits until every task has its end and nothing is left behind. Returns what is left when the time is up.
fn wait_for_quiet(place: &Place<'_>) -> Vec<String> {
    let began = Stopwatch::start();
    loop {
        let leftovers = leftovers(place);
        if leftovers.is_empty() || began.is_over(QUIET) {
            eprintln!("soak: quiet after {:?}", began.on_the_wall());
            return leftovers;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Waits until no process of an attempt is left, now that no worker is. Returns those that are when the time is up.
fn wait_until_alone(place: &Place<'_>, tables: &Tables) -> Vec<String> {
    let ours: std::collections::HashSet<String> = tables.rows.keys().map(|id| client::ulid_of(*id)).collect();
    let began = Stopwatch::start();
    loop {
        // A look takes its time: what it finds counts when the time was up before it.
        let is_over = began.is_over(ALONE);
        let left = place.processes_of_attempts(|id| ours.contains(id));
        if left.is_empty() || is_over {
            return left;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn leftovers(place: &Place<'_>) -> Vec<String> {
    let sql = place.sql();
    let mut leftovers = Vec::new();
    const UNFINISHED: &str =
        "SELECT status, count(*) FROM tasks WHERE status IN ('PENDING', 'RUNNING') GROUP BY status";
    for row in sql.rows(UNFINISHED, &[]) {
        leftovers.push(format!("{} tasks are {}", row.get::<_, i64>(1), row.get::<_, &str>(0)));
    }
    const UNCONFIRMED: &str = "SELECT count(*) FROM tasks WHERE status = 'CANCELLED' AND worker_id IS NOT NULL";
    let unconfirmed: i64 = sql.value(UNCONFIRMED, &[]);
    if unconfirmed > 0 {
        leftovers.push(format!("{unconfirmed} cancelled tasks have not confirmed that they stopped"));
    }
    const OPEN: &str = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
        AND state LIKE 'idle in transaction%' AND xact_start < clock_timestamp() - interval '1 second'";
    let open: i64 = sql.value(OPEN, &[]);
    if open > 0 {
        leftovers.push(format!("{open} transactions are left open"));
    }
    const CONNECTIONS: &str = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
        AND (application_name LIKE 'work%' OR application_name LIKE 'serve%')";
    let connections: i64 = sql.value(CONNECTIONS, &[]);
    if connections > MOST_CONNECTIONS {
        leftovers.push(format!("{connections} connections are open"));
    }
    for pattern in ["v1:ready:*", "v1:inflight:*"] {
        for key in place.redis::<Vec<String>>(&["KEYS", pattern]) {
            let length: i64 = place.redis(&["LLEN", &key]);
            if length > 0 {
                leftovers.push(format!("{key} has {length} elements"));
            }
        }
    }
    leftovers
}

/// Adds to the signs in the logs what the tables and the clients show.
fn add_what_was_seen(evidence: &Evidence, seen: &mut logs::Seen) {
    let mut add = |name: &'static str, count: usize| {
        seen.insert(name, count as u64);
    };
    let changes = || evidence.tables.changes.values().flatten();
    let lost = |event: &&audit::Event| event.message.as_deref() == Some("worker lost");
    add("deliveries lost with their worker", evidence.tables.events.values().flatten().filter(lost).count());
    let re_executed = changes()
        .filter(|change| change.to == "RUNNING" && change.delivery > 1 && change.from.as_deref() == Some("PENDING"));
    add("re-executions", re_executed.count());
    // A handler returned its result after somebody else had ended its delivery.
    let mut taken: std::collections::HashMap<(Id, i32), i64> = std::collections::HashMap::new();
    for change in changes().filter(|change| change.from.as_deref() == Some("RUNNING") && change.to != "RUNNING") {
        taken.insert((change.id, change.delivery), change.at);
    }
    let stale = |execution: &&logs::Execution| {
        let end = taken.get(&(execution.id, execution.delivery));
        execution.returned && end.is_some_and(|at| *at < execution.to)
    };
    add("results that were fenced off", evidence.executions.iter().filter(stale).count());
    add("streams resumed", evidence.record.followed.iter().map(|followed| followed.resumed).sum());
    add("streams followed to the end", evidence.record.followed.iter().filter(|followed| followed.complete).count());
    let of_kind = |id: &Id, is: fn(&history::Submission) -> bool| {
        let number = evidence.tables.rows.get(id).and_then(|row| row.number);
        number.and_then(|number| evidence.record.submissions.get(&number)).is_some_and(is)
    };
    let apart = |submission: &history::Submission| {
        submission.body["task_type"] == "test_sleep_apart" || submission.body["task_type"] == "sum_shell"
    };
    add("attempts in processes", evidence.executions.iter().filter(|execution| of_kind(&execution.id, apart)).count());
    let leased = |submission: &history::Submission| matches!(submission.kind, history::Kind::Leased { .. });
    let lost_leases =
        evidence.tables.events.iter().filter(|(id, _)| of_kind(id, leased)).flat_map(|(_, events)| events);
    add("leases that ran out", lost_leases.filter(lost).count());
    add("deliveries completed by HTTP workers", evidence.record.completed.len());
    for (name, count) in &evidence.record.outside {
        add(name, *count as usize);
    }
    let unknown = |entry: &&history::Entry| matches!(entry.outcome, history::Outcome::Unknown(_));
    add("requests with an unknown outcome", evidence.record.entries.iter().filter(unknown).count());
}

/// What a run must have seen to prove something.
fn not_seen(plan: &Plan, seen: &logs::Seen, enough_tasks: bool) -> Vec<String> {
    const NEEDED: [&str; 9] = [
        "re-executions",
        "results that were fenced off",
        "deliveries lost with their worker",
        "endings that were fenced off or cancelled",
        "doorbells rung again after a loss of Redis",
        "streams resumed",
        "attempts in processes",
        "deliveries completed by HTTP workers",
        "leases that ran out",
    ];
    // A few times in a short run, and perhaps never: a worker whose Redis went silent often claims such an id from the
    // table before it looks at its list. `rules` and `network` show it for certain.
    const IN_A_LONG_RUN: &str = "ids found in an own list";
    let needed = NEEDED.into_iter().chain((plan.name == "long").then_some(IN_A_LONG_RUN));
    let unseen = needed.filter(|name| seen.get(*name).is_none_or(|count| *count == 0));
    unseen.chain((!enough_tasks).then_some("as many tasks as planned")).map(str::to_owned).collect()
}
