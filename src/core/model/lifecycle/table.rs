//! Table: the rows and events that tests take the [lifecycle](super) through, every row with every event.
//!
//! Small domains, chosen so that each condition and each effect of each statement is met by rows that differ in that
//! one column. Two workers, 0 and 1; rows that were claimed have delivery 2, so that 1 is an earlier delivery.

use super::{Cause, Ending, Event, Kind, Lease, LeaseEvent, Moment, Queue, Row, Server, Sight};
use crate::core::model::Status;

const MOMENTS: [Option<Moment>; 3] = [None, Some(Moment::Passed), Some(Moment::Ahead)];

/// Every sound row of the small domains.
pub fn rows() -> Vec<Row> {
    let mut rows = vec![Row::new(1)];
    // Each column multiplies what is there already; what does not fit the status is left out at the end.
    vary(&mut rows, Status::ALL, |row, status| row.status = status);
    vary(&mut rows, [0, 2], |row, delivery| row.delivery = delivery);
    vary(&mut rows, [None, Some(Cause::Attempt)], |row, error| {
        row.failures = i32::from(error.is_some());
        row.attempt = 1 + row.failures;
        row.last_error = error.filter(|_| !row.status.is_final());
    });
    vary(&mut rows, [None, Some(1)], |row, checkpoint| {
        row.lost = i32::from(checkpoint.is_some());
        row.checkpoint = checkpoint;
    });
    vary(&mut rows, [None, Some(0), Some(1)], |row, worker| row.worker = worker);
    vary(&mut rows, MOMENTS, |row, lease| row.lease = lease);
    vary(&mut rows, [Moment::Passed, Moment::Ahead], |row, ready| row.ready = ready);
    vary(&mut rows, MOMENTS, |row, due| row.due = due);
    vary(&mut rows, MOMENTS, |row, expires| row.expires = expires);
    vary(&mut rows, MOMENTS, |row, undecodable| row.undecodable = undecodable);
    rows.iter_mut().for_each(|row| {
        row.result = (row.status == Status::Success).then_some(1);
        row.error = match row.status {
            Status::Failed if row.delivery == 0 => Some(Cause::Expired),
            Status::Failed => Some(Cause::Attempt),
            Status::Cancelled => Some(Cause::Cancelled),
            _ => None,
        };
    });
    rows.retain(|row| row.is_sound() && is_telling(row));
    rows
}

fn vary<T: Copy>(rows: &mut Vec<Row>, values: impl IntoIterator<Item = T> + Clone, set: impl Fn(&mut Row, T)) {
    let varied = rows.iter().flat_map(|row| {
        values.clone().into_iter().map(|value| {
            let mut row = *row;
            set(&mut row, value);
            row
        })
    });
    *rows = varied.collect();
}

/// Leaves out combinations that cannot come about, and columns that nothing asks for in this status.
fn is_telling(row: &Row) -> bool {
    let untouched = row.failures == 0 && row.lost == 0 && row.worker.is_none() && row.undecodable != MOMENTS[1];
    let claimed = row.delivery > 0;
    let waits = row.status == Status::Pending;
    let plain = row.expires.is_none() && row.undecodable.is_none();
    (claimed || (untouched && row.status != Status::Running))
        && (row.lease.is_none() || (!row.status.is_final() && row.due.is_none() && claimed && plain))
        && (waits || row.expires != Some(Moment::Ahead))
        && (!row.status.is_final() || plain)
        && !(row.status == Status::Failed && row.delivery == 0 && row.checkpoint.is_some())
}

/// Every event, with everything that it may find besides the row.
pub fn events() -> Vec<Event> {
    const LEASES: [Lease; 4] = [Lease::Live, Lease::Overdue, Lease::Dead, Lease::NoRow];
    let mut events =
        vec![Event::Cancel, Event::Retry, Event::Expire, Event::TakeDue, Event::HandBack { worker: 0, delivery: 2 }];
    for claimer in LEASES {
        for (queue, kind) in [
            (Queue::Open, Kind::Known),
            (Queue::Open, Kind::Unknown),
            (Queue::Paused, Kind::Known),
            (Queue::Paused, Kind::Unknown),
        ] {
            let worker = 1;
            events.push(Event::Claim { worker, claimer, queue, kind });
            events.push(Event::ClaimFromTable { worker, claimer, queue, kind });
        }
    }
    for delivery in [1, 2] {
        for checkpoint in [None, Some(7)] {
            let sights = [Sight::Fresh, Sight::Stale];
            events.extend(sights.map(|sight| Event::Record { delivery, sight, checkpoint }));
            let endings = [Ending::Success(9), Ending::Fail, Ending::RetryLater, Ending::HandBack, Ending::Undecodable];
            events.extend(endings.map(|ending| Event::Finish { delivery, ending, checkpoint }));
        }
        events.push(Event::HandBack { worker: 1, delivery });
        events.extend([0, 1].map(|worker| Event::ConfirmStopped { worker, delivery }));
        events.push(Event::PutOffUnknown { delivery });
    }
    events.extend([0, 1].map(|worker| Event::HandBackAll { worker }));
    for holder in LEASES {
        events.push(Event::ConfirmStoppedOfTheDead { holder });
        events.extend([Server::Settled, Server::JustStarted].map(|server| Event::Steal { holder, server }));
    }
    events.push(Event::PutOffUnknown { delivery: 0 });
    events
}

/// Every standing of a worker with everything that may happen to it.
pub fn lease_pairs() -> Vec<(Lease, LeaseEvent)> {
    let mut pairs = Vec::new();
    for lease in [Lease::Live, Lease::Overdue, Lease::Dead, Lease::NoRow] {
        pairs.extend([LeaseEvent::Renew, LeaseEvent::Leave].map(|event| (lease, event)));
        for declarer in [Lease::Live, Lease::Overdue, Lease::Dead, Lease::NoRow] {
            for server in [Server::Settled, Server::JustStarted] {
                for sight in [Sight::Fresh, Sight::Stale] {
                    pairs.push((lease, LeaseEvent::DeclareDead { declarer, server, sight }));
                }
            }
        }
    }
    pairs
}
