//! Lifecycle: what every statement of the store does to one row, as a table of conditions and effects.
//!
//! Pure, and not what runs: the SQL of `core::store` runs. This is the same decision written a second time, small
//! enough to be explored completely. [`Status::after`] is its projection on the status, the exploration beside this
//! file looks for a schedule that breaks a promise, and an end-to-end test puts real rows into these states, runs the
//! real statements and compares. Columns that decide nothing (texts, progress, sequence numbers) are left out, and of
//! every time only whether it has passed by the database's clock.

mod lease;
pub mod table;

use super::{Change, Status};
pub use lease::{Lease, LeaseEvent, Server, Sight, apply_to_lease};

/// A worker incarnation, by a small number.
pub type Holder = u8;

/// The columns of one row that decide what may happen to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Row {
    /// Where it stands.
    pub status: Status,
    /// The fence: claims so far.
    pub delivery: i32,
    /// `failures` + 1 as of the last claim.
    pub attempt: i32,
    /// Attempts that the task itself used up in this run.
    pub failures: i32,
    /// Deliveries lost with their worker since the last new checkpoint.
    pub lost: i32,
    /// How many may be lost before one more ends the run.
    pub max_lost: i32,
    /// Who runs it; after a cancel, who has not stopped yet; after another end, who ended it.
    pub worker: Option<Holder>,
    /// The lease of an HTTP worker, which leases task by task.
    pub lease: Option<Moment>,
    /// The earliest moment of a claim.
    pub ready: Moment,
    /// The same moment while its doorbell is still to be rung.
    pub due: Option<Moment>,
    /// When it ends unless somebody has started it.
    pub expires: Option<Moment>,
    /// Until when an input that a worker could not decode is given back; `None` as long as nobody failed to, or since
    /// somebody may have.
    pub undecodable: Option<Moment>,
    /// The saved position, as the number that a test gave it.
    pub checkpoint: Option<i32>,
    /// The result, likewise.
    pub result: Option<i32>,
    /// Why it ended without one.
    pub error: Option<Cause>,
    /// Why its last attempt failed, while it goes on.
    pub last_error: Option<Cause>,
}

/// A time, seen from the database's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Moment {
    /// It has come.
    Passed,
    /// It is still to come.
    Ahead,
}

/// The codes of errors, as far as the server itself makes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The attempt's own error.
    Attempt,
    /// `cancelled`.
    Cancelled,
    /// `expired`.
    Expired,
    /// `worker_lost`.
    WorkerLost,
}

/// An operator's switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Queue {
    /// Its tasks may start.
    Open,
    /// Its tasks wait.
    Paused,
}

/// What the worker that claims knows of the task's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// It can run it.
    Known,
    /// It cannot.
    Unknown,
}

/// How an attempt ends in its finish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ending {
    /// With this result.
    Success(i32),
    /// For good.
    Fail,
    /// To be tried again later.
    RetryLater,
    /// Given back because its worker leaves.
    HandBack,
    /// Given back because its worker cannot decode the input.
    Undecodable,
}

/// A statement that reaches the row, with what it finds besides the row. Named as the verbs of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// `claim`: a worker takes the task by its id.
    Claim {
        /// Who.
        worker: Holder,
        /// How it stands.
        claimer: Lease,
        /// The task's queue.
        queue: Queue,
        /// The task's type, to this worker.
        kind: Kind,
    },
    /// `claim_from_table`: the same without a doorbell, so what is still to be rung is left to the due loop.
    ClaimFromTable {
        /// Who.
        worker: Holder,
        /// How it stands.
        claimer: Lease,
        /// The task's queue.
        queue: Queue,
        /// The task's type, to this worker.
        kind: Kind,
    },
    /// `record`: a running delivery reports.
    Record {
        /// The fence.
        delivery: i32,
        /// Whether the row is as the delivery saw it last: a report that was sent twice is written once.
        sight: Sight,
        /// A new checkpoint, where there is one.
        checkpoint: Option<i32>,
    },
    /// `finish`: a delivery ends.
    Finish {
        /// The fence.
        delivery: i32,
        /// How.
        ending: Ending,
        /// A last checkpoint.
        checkpoint: Option<i32>,
    },
    /// `hand_back`: a live worker gives back what it does not run.
    HandBack {
        /// Who.
        worker: Holder,
        /// The fence.
        delivery: i32,
    },
    /// `hand_back_all`: a worker that leaves gives back what is left in its name.
    HandBackAll {
        /// Who.
        worker: Holder,
    },
    /// `confirm_stopped`: a cancelled attempt has stopped.
    ConfirmStopped {
        /// Who ran it.
        worker: Holder,
        /// The fence.
        delivery: i32,
    },
    /// `confirm_stopped_of_the_dead`: the sweep says so for a worker that is gone.
    ConfirmStoppedOfTheDead {
        /// The row's worker.
        holder: Lease,
    },
    /// `steal`: the sweep takes it from a worker that is gone.
    Steal {
        /// The row's worker.
        holder: Lease,
        /// For rows with a lease of their own.
        server: Server,
    },
    /// `cancel`, on request.
    Cancel,
    /// `retry`, by an operator.
    Retry,
    /// `expire`: nobody started it in time.
    Expire,
    /// `take_due`: its time has come.
    TakeDue,
    /// `put_off_unknown`: the worker that got its doorbell does not know its type.
    PutOffUnknown {
        /// The fence.
        delivery: i32,
    },
}

/// What `event` makes of `row`; `None` where the statement leaves it alone.
pub fn apply(row: &Row, event: &Event) -> Option<Row> {
    applies(row, event).then(|| effect(*row, event))
}

/// The conditions: the WHERE of each statement.
fn applies(row: &Row, event: &Event) -> bool {
    use Moment::{Ahead, Passed};
    use Status::{Cancelled, Failed, Pending, Running};
    let runs = |delivery| row.status == Running && row.delivery == delivery;
    let claimable = |claimer, queue, kind| {
        row.status == Pending
            && row.ready == Passed
            && (row.expires != Some(Passed) || row.delivery > 0)
            && claimer == Lease::Live
            && queue == Queue::Open
            && kind == Kind::Known
    };
    match *event {
        Event::Claim { claimer, queue, kind, .. } => claimable(claimer, queue, kind),
        Event::ClaimFromTable { claimer, queue, kind, .. } => row.due.is_none() && claimable(claimer, queue, kind),
        Event::Record { delivery, sight, .. } => runs(delivery) && sight == Sight::Fresh,
        Event::Finish { delivery, .. } => runs(delivery),
        Event::HandBack { worker, delivery } => runs(delivery) && row.worker == Some(worker),
        Event::HandBackAll { worker } => row.status == Running && row.worker == Some(worker),
        Event::ConfirmStopped { worker, delivery } => {
            row.status == Cancelled && row.delivery == delivery && row.worker == Some(worker)
        }
        Event::ConfirmStoppedOfTheDead { holder } => {
            row.status == Cancelled && row.worker.is_some() && holder.is_gone()
        }
        Event::Steal { holder, server } => {
            row.status == Running
                && match row.lease {
                    None => holder.is_gone(),
                    Some(Passed) => server == Server::Settled,
                    Some(Ahead) => false,
                }
        }
        Event::Cancel => matches!(row.status, Pending | Running),
        Event::Retry => row.status == Failed || (row.status == Cancelled && row.worker.is_none()),
        Event::Expire => row.status == Pending && row.expires == Some(Passed) && row.delivery == 0,
        Event::TakeDue => row.status == Pending && row.due == Some(Passed),
        Event::PutOffUnknown { delivery } => row.status == Pending && row.delivery == delivery && row.due.is_none(),
    }
}

/// The effects: the SET of each statement.
fn effect(row: Row, event: &Event) -> Row {
    use Moment::{Ahead, Passed};
    use Status::{Cancelled, Failed, Pending, Running, Success};
    match *event {
        Event::Claim { worker, .. } | Event::ClaimFromTable { worker, .. } => Row {
            status: Running,
            delivery: row.delivery + 1,
            attempt: row.failures + 1,
            worker: Some(worker),
            lease: None,
            due: None,
            ..row
        },
        Event::Record { checkpoint, .. } => Row { undecodable: None, ..saved(row, checkpoint) },
        Event::Finish { ending, checkpoint, .. } => {
            let since = row.undecodable.or(Some(Ahead));
            let row = Row { undecodable: None, ..saved(row, checkpoint) };
            let waiting = Row { status: Pending, worker: None, ready: Passed, ..row };
            let later = Row { ready: Ahead, due: Some(Ahead), ..waiting };
            match ending {
                Ending::Success(result) => Row { status: Success, result: Some(result), last_error: None, ..row },
                Ending::Fail => Row {
                    status: Failed,
                    failures: row.failures + 1,
                    error: Some(Cause::Attempt),
                    last_error: None,
                    ..row
                },
                Ending::RetryLater => Row { failures: row.failures + 1, last_error: Some(Cause::Attempt), ..later },
                Ending::HandBack => waiting,
                Ending::Undecodable => Row { undecodable: since, ..later },
            }
        }
        Event::HandBack { .. } | Event::HandBackAll { .. } => {
            Row { status: Pending, worker: None, ready: Passed, due: None, undecodable: None, ..row }
        }
        Event::ConfirmStopped { .. } | Event::ConfirmStoppedOfTheDead { .. } => Row { worker: None, ..row },
        Event::Steal { .. } => {
            let (ready, due, undecodable) = (Passed, None, None);
            let taken = Row { lost: row.lost + 1, worker: None, lease: None, ready, due, undecodable, ..row };
            if row.lost < row.max_lost {
                Row { status: Pending, ..taken }
            } else {
                Row { status: Failed, error: Some(Cause::WorkerLost), last_error: None, ..taken }
            }
        }
        Event::Cancel => Row { status: Cancelled, error: Some(Cause::Cancelled), last_error: None, due: None, ..row },
        Event::Retry => Row {
            status: Pending,
            attempt: 1,
            failures: 0,
            lost: 0,
            worker: None,
            ready: Passed,
            due: None,
            expires: None,
            undecodable: None,
            error: None,
            last_error: None,
            ..row
        },
        Event::Expire => Row { status: Failed, error: Some(Cause::Expired), due: None, ..row },
        Event::TakeDue => Row { ready: Passed, due: None, ..row },
        Event::PutOffUnknown { .. } => Row { ready: Ahead, due: Some(Ahead), ..row },
    }
}

/// A new checkpoint is proof of progress: what was lost before it is forgiven.
fn saved(row: Row, checkpoint: Option<i32>) -> Row {
    match checkpoint {
        Some(_) => Row { checkpoint, lost: 0, ..row },
        None => row,
    }
}

impl Row {
    /// As a submit writes it.
    pub fn new(max_lost: i32) -> Self {
        Self {
            status: Status::Pending,
            delivery: 0,
            attempt: 1,
            failures: 0,
            lost: 0,
            max_lost,
            worker: None,
            lease: None,
            ready: Moment::Passed,
            due: None,
            expires: None,
            undecodable: None,
            checkpoint: None,
            result: None,
            error: None,
            last_error: None,
        }
    }

    /// What every row fulfils, whatever happened to it: the schema checks the first two, the statements keep the rest.
    pub fn is_sound(&self) -> bool {
        let result_or_error = match self.status {
            Status::Success => self.result.is_some() && self.error.is_none(),
            Status::Failed | Status::Cancelled => self.result.is_none() && self.error.is_some(),
            Status::Pending | Status::Running => self.result.is_none() && self.error.is_none(),
        };
        let holder = match self.status {
            Status::Pending => self.worker.is_none(),
            Status::Running => self.worker.is_some() || self.lease.is_some(),
            Status::Success | Status::Failed | Status::Cancelled => true,
        };
        // Whatever waits for a time has a doorbell to be rung, and nothing else has.
        let times = match (self.status, self.due) {
            (Status::Pending, Some(due)) => due == self.ready,
            (Status::Pending, None) | (Status::Running, None) => self.ready == Moment::Passed,
            (_, due) => due.is_none(),
        };
        let counters = self.failures >= 0 && (0..=self.max_lost + 1).contains(&self.lost) && self.delivery >= 0;
        let deliveries =
            self.delivery > 0 || matches!(self.status, Status::Pending | Status::Failed | Status::Cancelled);
        result_or_error && holder && times && counters && deliveries
    }
}

impl Event {
    /// The change of status that this event is to a row that it changed into `after`; `None` for those that leave the
    /// status alone.
    pub fn change(&self, after: &Row) -> Option<Change> {
        Some(match self {
            Event::Claim { .. } | Event::ClaimFromTable { .. } => Change::Claim,
            Event::Finish { ending: Ending::Success(_), .. } => Change::Succeed,
            Event::Finish { ending: Ending::Fail, .. } => Change::Fail,
            Event::Finish { ending: Ending::RetryLater, .. } => Change::RetryLater,
            Event::Finish { ending: Ending::HandBack | Ending::Undecodable, .. }
            | Event::HandBack { .. }
            | Event::HandBackAll { .. } => Change::HandBack,
            Event::Steal { .. } if after.status == Status::Failed => Change::LoseForGood,
            Event::Steal { .. } => Change::Lose,
            Event::Cancel => Change::Cancel,
            Event::Retry => Change::Retry,
            Event::Expire => Change::Expire,
            Event::Record { .. }
            | Event::ConfirmStopped { .. }
            | Event::ConfirmStoppedOfTheDead { .. }
            | Event::TakeDue
            | Event::PutOffUnknown { .. } => return None,
        })
    }
}

#[cfg(test)]
mod check;
