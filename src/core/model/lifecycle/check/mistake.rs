//! Mistakes: rules with one thing wrong, to see that the check would see it.

use crate::core::model::{
    Status,
    lifecycle::{Cause, Ending, Event, Lease, LeaseEvent, Moment, Row, apply, apply_to_lease},
};

/// The row as the real rules would leave it if the event bore its delivery.
fn as_its_own(row: &Row, event: &Event) -> Event {
    let mut event = *event;
    if let Event::Record { delivery, .. } | Event::Finish { delivery, .. } | Event::ConfirmStopped { delivery, .. } =
        &mut event
    {
        *delivery = row.delivery;
    }
    event
}

/// The row, taken for a running one.
fn as_running(row: &Row) -> Row {
    Row { status: Status::Running, result: None, error: None, due: None, ready: Moment::Passed, ..*row }
}

pub(super) fn finish_without_delivery(row: &Row, event: &Event) -> Option<Row> {
    match event {
        Event::Finish { .. } => apply(row, &as_its_own(row, event)),
        _ => apply(row, event),
    }
}

pub(super) fn finish_by_id(row: &Row, event: &Event) -> Option<Row> {
    match event {
        Event::Finish { .. } => apply(&as_running(row), &as_its_own(row, event)),
        _ => apply(row, event),
    }
}

pub(super) fn record_without_status(row: &Row, event: &Event) -> Option<Row> {
    match event {
        Event::Record { delivery, .. } => (row.delivery == *delivery).then_some(*row),
        _ => apply(row, event),
    }
}

pub(super) fn unconditional_cancel(row: &Row, event: &Event) -> Option<Row> {
    match event {
        Event::Cancel => apply(&as_running(row), event),
        _ => apply(row, event),
    }
}

pub(super) fn delivery_reset_on_retry(row: &Row, event: &Event) -> Option<Row> {
    let after = apply(row, event)?;
    Some(if *event == Event::Retry { Row { delivery: 0, ..after } } else { after })
}

pub(super) fn hand_back_lowers_delivery(row: &Row, event: &Event) -> Option<Row> {
    let after = apply(row, event)?;
    Some(match event {
        Event::HandBack { .. } => Row { delivery: row.delivery - 1, ..after },
        _ => after,
    })
}

pub(super) fn retry_does_not_wait(row: &Row, event: &Event) -> Option<Row> {
    match event {
        Event::Retry => apply(&Row { worker: None, ..*row }, event),
        _ => apply(row, event),
    }
}

pub(super) fn confirm_without_status(row: &Row, event: &Event) -> Option<Row> {
    match event {
        Event::ConfirmStopped { .. } if row.status == Status::Pending => Some(Row { worker: None, ..*row }),
        _ => apply(row, event),
    }
}

pub(super) fn steal_from_overdue(row: &Row, event: &Event) -> Option<Row> {
    match event {
        Event::Steal { holder: Lease::Overdue, server } => {
            apply(row, &Event::Steal { holder: Lease::Dead, server: *server })
        }
        _ => apply(row, event),
    }
}

pub(super) fn claim_by_the_dead(row: &Row, event: &Event) -> Option<Row> {
    match *event {
        Event::Claim { worker, queue, kind, .. } => {
            apply(row, &Event::Claim { worker, claimer: Lease::Live, queue, kind })
        }
        _ => apply(row, event),
    }
}

pub(super) fn hand_back_is_charged(row: &Row, event: &Event) -> Option<Row> {
    let after = apply(row, event)?;
    Some(match event {
        Event::HandBack { .. } | Event::Finish { ending: Ending::HandBack, .. } => {
            Row { failures: row.failures + 1, ..after }
        }
        _ => after,
    })
}

pub(super) fn checkpoint_forgives_nothing(row: &Row, event: &Event) -> Option<Row> {
    let after = apply(row, event)?;
    Some(match event {
        Event::Record { .. } => Row { lost: row.lost, ..after },
        _ => after,
    })
}

pub(super) fn losses_without_end(row: &Row, event: &Event) -> Option<Row> {
    let after = apply(row, event)?;
    Some(match after.error {
        Some(Cause::WorkerLost) => Row { status: Status::Pending, error: None, ..after },
        _ => after,
    })
}

pub(super) fn retry_is_never_due(row: &Row, event: &Event) -> Option<Row> {
    let after = apply(row, event)?;
    Some(match event {
        Event::Finish { ending: Ending::RetryLater, .. } => Row { due: None, ..after },
        _ => after,
    })
}

pub(super) fn no_steal(row: &Row, event: &Event) -> Option<Row> {
    if matches!(event, Event::Steal { .. }) { None } else { apply(row, event) }
}

pub(super) fn no_hand_back(row: &Row, event: &Event) -> Option<Row> {
    if matches!(event, Event::HandBack { .. }) { None } else { apply(row, event) }
}

pub(super) fn renewal_raises_the_dead(lease: Lease, event: &LeaseEvent) -> Option<Lease> {
    match event {
        LeaseEvent::Renew => Some(Lease::Live),
        _ => apply_to_lease(lease, event),
    }
}
