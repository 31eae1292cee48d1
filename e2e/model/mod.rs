//! Model: the statements of the store do to real rows what the lifecycle's table says, every row with every event.
//!
//! One row per pair is put into its state by plain SQL, one call of the store runs the statement over all of them, and
//! every column that decides something is compared, those of rows that must stay as they are included.

mod bench;
mod rows;

use std::collections::BTreeSet;

use chrono::{TimeDelta, Utc};
use longrun::core::{
    model::{
        Status, TaskId,
        lifecycle::{self, Event, Kind, Lease, LeaseEvent, Moment, Queue, Row, Server, Sight, table},
    },
    store::Renewal,
};

use bench::{Bench, Told};
use rows::{Marks, hex};

/// Each row of the table, under an id of its own.
fn every_row() -> Vec<(TaskId, Row)> {
    table::rows().into_iter().map(|row| (TaskId::new(), row)).collect()
}

#[test]
fn every_statement_does_what_the_table_says() {
    let bench = Bench::new();
    let rows = every_row();
    let (mut pairs, mut changes) = (0, 0);
    for event in table::events() {
        bench.arrange(&rows, &event);
        let told = bench.run(&rows, &event);
        let after = bench.read();
        let mut changed = BTreeSet::new();
        for (id, before) in &rows {
            let expected = lifecycle::apply(before, &event);
            let (found, marks) = after[&hex(*id)];
            assert_eq!(found, expected.unwrap_or(*before), "{event:?} on {before:?}");
            assert_eq!(marks, Marks::expected(&event, expected.as_ref()), "{event:?} on {before:?}");
            pairs += 1;
            if expected.is_some() {
                changed.insert(*id);
            }
        }
        changes += changed.len();
        match told {
            Told::Ids(ids) => assert_eq!(ids, changed, "{event:?}"),
            Told::Count(count) => assert_eq!(count, changed.len(), "{event:?}"),
        }
    }
    println!("{pairs} pairs, {changes} of them changes");
    assert!(pairs > 5_000 && changes > 1_000, "only {pairs} pairs, {changes} changes");
}

#[test]
fn a_claim_hands_over_what_the_row_has() {
    let bench = Bench::new();
    let rows = every_row();
    let event = Event::Claim { worker: 1, claimer: Lease::Live, queue: Queue::Open, kind: Kind::Known };
    bench.arrange(&rows, &event);
    let ids: Vec<TaskId> = rows.iter().map(|(id, _)| *id).collect();
    let claimed = bench.runtime.block_on(bench.store.claim(bench.workers[1], &ids, &["model".to_owned()])).unwrap();
    assert!(claimed.len() > 20);
    for task in claimed {
        let (_, before) = rows.iter().find(|(id, _)| *id == task.id).unwrap();
        let after = lifecycle::apply(before, &event).unwrap();
        assert_eq!((task.delivery, task.attempt, task.failures), (after.delivery, after.attempt, after.failures));
        assert_eq!(task.checkpoint.map(|json| json.get().to_owned()), after.checkpoint.map(|mark| mark.to_string()));
        assert_eq!(task.undecodable_for_too_long, before.undecodable == Some(Moment::Passed));
    }
}

#[test]
fn leases_do_what_their_table_says() {
    let bench = Bench::new();
    let [worker, declarer] = bench.workers;
    for (before, event) in table::lease_pairs() {
        let (other, server) = match event {
            LeaseEvent::DeclareDead { declarer, server, .. } => (declarer, server),
            LeaseEvent::Renew | LeaseEvent::Leave => (Lease::Live, Server::Settled),
        };
        bench.arrange_workers([before, other], server);
        let expected = lifecycle::apply_to_lease(before, &event);
        bench.runtime.block_on(async {
            match event {
                LeaseEvent::Renew => {
                    let renewal = bench.store.lease_keeper(worker).await.unwrap().renew(0).await.unwrap();
                    assert_eq!(renewal != Renewal::Dead, expected.is_some(), "{before:?}");
                }
                LeaseEvent::Leave => bench.store.leave(worker).await.unwrap(),
                LeaseEvent::DeclareDead { sight, .. } => {
                    // A third of the lease is ten seconds.
                    let age = match sight {
                        Sight::Fresh => TimeDelta::zero(),
                        Sight::Stale => TimeDelta::seconds(11),
                    };
                    let declared = bench.store.declare_dead(declarer, Utc::now() - age).await.unwrap();
                    assert_eq!(declared.contains(&worker), expected.is_some(), "{before:?} {event:?}");
                }
            }
        });
        let found = bench.lease(worker);
        assert_eq!(found, expected.unwrap_or(before), "{event:?} on {before:?}");
    }
}

#[test]
fn a_renewal_tells_what_is_in_the_workers_name() {
    let bench = Bench::new();
    let rows = every_row();
    bench.arrange(&rows, &Event::Cancel);
    let mut keeper = bench.runtime.block_on(bench.store.lease_keeper(bench.workers[0])).unwrap();
    let Renewal::Alive(named) = bench.runtime.block_on(keeper.renew(0)).unwrap() else { panic!("it lives") };
    for (found, status) in [(named.running, Status::Running), (named.stopping, Status::Cancelled)] {
        let expected: BTreeSet<(TaskId, i32)> = rows
            .iter()
            .filter(|(_, row)| row.status == status && row.worker == Some(0))
            .map(|(id, row)| (*id, row.delivery))
            .collect();
        assert!(!expected.is_empty());
        assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), expected, "{status}");
    }
}
