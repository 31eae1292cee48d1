//! Invariants: the promises, each looked at on every edge of the exploration, against what really happened and not
//! against what the row says of itself.

use crate::core::model::{
    Status,
    lifecycle::{Cause, Ending, Event, Kind, Lease, Moment, Queue, Row},
};

use super::world::MAX_ATTEMPTS;

/// A promise that was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Broken {
    /// The fence only rises, by one at each claim and by nothing else.
    DeliveriesRise,
    /// Every change of status is an edge of the transition table.
    LegalChange,
    /// SUCCESS stays as it is, CANCELLED and FAILED until an operator's retry.
    FinalStays,
    /// A run ends once.
    OneEnd,
    /// After an acknowledged cancel the run is CANCELLED and nothing else.
    CancelHolds,
    /// A delivery writes only while it is the one that runs, and afterwards only that it has stopped.
    Fence,
    /// Claimed only when it may start, and by a live worker.
    ClaimIsChecked,
    /// Taken only from workers that are gone.
    OnlyTheDeadAreRobbed,
    /// No claim while another attempt runs in a worker that is up and was not declared dead.
    NoOverlap,
    /// `failures` counts failed attempts, `lost` lost deliveries since the last checkpoint, nothing else counts.
    Charges,
    /// Budgets hold: no attempt beyond the last one, no loss beyond one more than allowed.
    Budgets,
    /// A result or an error, and the other columns fit the status.
    SoundRow,
    /// Nobody who was declared dead comes back.
    DeathIsFinal,
    /// From everywhere the end can be reached when no more faults happen.
    Ends,
}

/// What really happened to a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Run {
    /// Executions so far: each is one token.
    pub(super) claims: u8,
    /// The execution that runs, or after a cancel the one that ran.
    pub(super) owner: u8,
    /// How this run ended.
    pub(super) end: Option<Status>,
    /// A cancel of this run was acknowledged.
    pub(super) cancelled: bool,
}

/// What is so at the moment of the write.
pub(super) struct Truth {
    /// The row's worker.
    pub(super) holder: Lease,
    /// An attempt runs in a process that is up and not declared dead.
    pub(super) runs_elsewhere: bool,
    /// The execution that writes, where one does.
    pub(super) token: Option<u8>,
}

/// What holds of every row.
pub(super) fn check_row(row: &Row) -> Result<(), Broken> {
    ensure(row.is_sound(), Broken::SoundRow)?;
    let lost_for_good = row.error == Some(Cause::WorkerLost);
    ensure(row.failures <= MAX_ATTEMPTS && lost_for_good == (row.lost > row.max_lost), Broken::Budgets)
}

/// What holds of every write. Returns what has really happened from here on.
pub(super) fn check_edge(before: &Row, after: &Row, event: &Event, truth: &Truth, run: &Run) -> Result<Run, Broken> {
    let claims = matches!(event, Event::Claim { .. } | Event::ClaimFromTable { .. });
    let confirms = matches!(event, Event::ConfirmStopped { .. } | Event::ConfirmStoppedOfTheDead { .. });

    let only_confirmed = confirms && *after == Row { worker: None, ..*before };
    ensure(
        match before.status {
            Status::Success => false,
            Status::Failed => *event == Event::Retry,
            Status::Cancelled => *event == Event::Retry || only_confirmed,
            Status::Pending | Status::Running => true,
        },
        Broken::FinalStays,
    )?;
    ensure(!run.cancelled || *event == Event::Retry || after.status == Status::Cancelled, Broken::CancelHolds)?;
    ensure(run.end.is_none() || *event == Event::Retry || !after.status.is_final() || only_confirmed, Broken::OneEnd)?;

    let own = truth.token == Some(run.owner);
    ensure(
        match event {
            Event::Record { .. } | Event::Finish { .. } | Event::HandBack { .. } | Event::HandBackAll { .. } => {
                own && before.status == Status::Running
            }
            Event::ConfirmStopped { .. } => own && only_confirmed,
            Event::ConfirmStoppedOfTheDead { .. } => truth.holder.is_gone() && only_confirmed,
            _ => true,
        },
        Broken::Fence,
    )?;

    let legal = match event.change(after) {
        Some(change) => before.status.after(change) == Some(after.status),
        None => before.status == after.status,
    };
    ensure(legal, Broken::LegalChange)?;
    ensure(after.delivery == before.delivery + i32::from(claims), Broken::DeliveriesRise)?;
    ensure(!claims || after.delivery == i32::from(run.claims) + 1, Broken::DeliveriesRise)?;

    if let Event::Claim { claimer, queue, kind, .. } | Event::ClaimFromTable { claimer, queue, kind, .. } = event {
        let may = *claimer == Lease::Live && *queue == Queue::Open && *kind == Kind::Known;
        let late = before.expires == Some(Moment::Passed) && before.delivery == 0;
        ensure(may && before.ready == Moment::Passed && !late, Broken::ClaimIsChecked)?;
        ensure(!truth.runs_elsewhere, Broken::NoOverlap)?;
    }
    if matches!(event, Event::Steal { .. }) {
        ensure(truth.holder.is_gone(), Broken::OnlyTheDeadAreRobbed)?;
    }
    ensure((after.failures, after.lost) == charged(before, event), Broken::Charges)?;

    let mut run = *run;
    if claims {
        run.claims += 1;
        run.owner = run.claims;
    }
    match event {
        Event::Retry => (run.end, run.cancelled) = (None, false),
        Event::Cancel => run.cancelled = true,
        _ => {}
    }
    run.end = after.status.is_final().then_some(after.status);
    Ok(run)
}

/// `failures` and `lost` after this event, told from the promise alone.
fn charged(before: &Row, event: &Event) -> (i32, i32) {
    let checkpoint = match event {
        Event::Record { checkpoint, .. } | Event::Finish { checkpoint, .. } => *checkpoint,
        _ => None,
    };
    let lost = if checkpoint.is_some() { 0 } else { before.lost };
    match event {
        Event::Retry => (0, 0),
        Event::Steal { .. } => (before.failures, lost + 1),
        Event::Finish { ending: Ending::Fail | Ending::RetryLater, .. } => (before.failures + 1, lost),
        _ => (before.failures, lost),
    }
}

fn ensure(holds: bool, otherwise: Broken) -> Result<(), Broken> {
    if holds { Ok(()) } else { Err(otherwise) }
}
