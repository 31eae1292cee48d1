//! Step: everything that can happen in a world, and which of it can happen next.

use super::world::{Condition, MAX_ATTEMPTS, Phase, World};
use crate::core::model::{
    Status,
    lifecycle::{Ending, Lease, Moment},
};

/// Everything that can happen next. `p` is a process, `t` a task, `w` an incarnation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Step {
    Fetch(usize, usize),
    Claim(usize, usize),
    ClaimFromTable(usize, usize),
    Save(usize, usize),
    End(usize, usize, Ending),
    Stop(usize, usize),
    Confirm(usize, usize),
    Compare(usize, usize),
    Renew(usize),
    Restart(usize),
    Resume(usize),
    LeaseRunsOut(usize),
    DueComes(usize),
    ExpiryComes(usize),
    DeclareDead(usize, usize),
    Steal(usize),
    ConfirmOfTheDead(usize),
    DrainList(usize, usize),
    TakeDue(usize),
    Expire(usize),
    RingLost(usize),
    Execute(usize),
    Drop(usize),
    Fault(Fault),
}

/// What the world does to the protocol, and what people do at the worst moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Fault {
    Kill(usize),
    /// Killed while its claim of this task was on its way.
    KillInClaim(usize, usize),
    /// Killed while its attempt's end was on its way.
    KillInFinish(usize, usize, Ending),
    Pause(usize),
    /// It leaves in good order, and gives back what it has.
    Leave(usize),
    LoseClaimReply(usize, usize),
    LoseFinishReply(usize, usize, Ending),
    LoseConfirm(usize, usize),
    LoseBells(usize),
    DuplicateBell(usize),
    Cancel(usize),
    Retry(usize),
    HandBack(usize, usize),
    Undecodable(usize, usize),
    UnknownType(usize, usize),
}

/// How many kinds of fault there are.
pub(super) const FAULT_KINDS: usize = 15;

impl<const P: usize, const T: usize, const W: usize> World<P, T, W> {
    /// What may happen now. Steps that would change nothing may be among them.
    pub(super) fn steps(&self, out: &mut Vec<Step>) {
        out.clear();
        let up = |p: usize| self.processes[p].condition == Condition::Up;
        let any_up = (0..P).any(up);
        for p in 0..P {
            match self.processes[p].condition {
                Condition::Up if self.lease_of(p) == Lease::Dead => out.extend([Step::Renew(p), Step::Restart(p)]),
                Condition::Up => out.push(Step::Renew(p)),
                Condition::Paused => out.push(Step::Resume(p)),
                Condition::Gone => out.push(Step::Restart(p)),
            }
        }
        for w in 0..W {
            match self.leases[w] {
                Lease::Live if !(0..P).any(|p| up(p) && usize::from(self.processes[p].id) == w) => {
                    out.push(Step::LeaseRunsOut(w));
                }
                Lease::Overdue => out.extend((0..P).filter(|p| up(*p)).map(|p| Step::DeclareDead(p, w))),
                _ => {}
            }
        }
        for (t, task) in self.tasks.iter().enumerate() {
            (0..P).filter(|p| up(*p)).for_each(|p| self.steps_of_worker(p, t, out));
            if task.wire.is_some() {
                out.extend([Step::Execute(t), Step::Drop(t)]);
            }
            if task.row.due == Some(Moment::Ahead) {
                out.push(Step::DueComes(t));
            }
            if task.row.expires == Some(Moment::Ahead) {
                out.push(Step::ExpiryComes(t));
            }
            if any_up {
                self.steps_of_sweeps(t, out);
            }
        }
        if self.faults > 0 {
            self.possible_faults(out);
        }
    }

    fn steps_of_worker(&self, p: usize, t: usize, out: &mut Vec<Step>) {
        let task = &self.tasks[t];
        let in_flight = task.inflight[usize::from(self.processes[p].id)];
        if task.ready {
            out.push(Step::Fetch(p, t));
        }
        if self.lease_of(p) != Lease::Dead {
            out.push(Step::Compare(p, t));
        }
        let Some(hold) = task.holds[p] else {
            if in_flight {
                out.push(Step::Claim(p, t));
            } else if !task.ready && task.row.status == Status::Pending {
                out.push(Step::ClaimFromTable(p, t));
            }
            return;
        };
        match hold.phase {
            Phase::Started => {
                out.push(Step::Save(p, t));
                out.extend(self.endings(t).map(|ending| Step::End(p, t, ending)));
            }
            // A result is always offered; everything else is taken as the answer to the request.
            Phase::Stopping => out.extend([Step::End(p, t, Ending::Success(0)), Step::Stop(p, t)]),
            Phase::Doubtful(ending) => out.push(Step::End(p, t, ending)),
            Phase::NotOurs => out.push(Step::Confirm(p, t)),
        }
    }

    /// How an attempt may end of itself. The worker decides by the failures that its claim told it; as long as it is
    /// not fenced off they stand.
    fn endings(&self, t: usize) -> impl Iterator<Item = Ending> + use<P, T, W> {
        let again = self.tasks[t].row.failures + 1 < MAX_ATTEMPTS;
        [Ending::Success(0), if again { Ending::RetryLater } else { Ending::Fail }, Ending::Fail].into_iter()
    }

    fn steps_of_sweeps(&self, t: usize, out: &mut Vec<Step>) {
        let task = &self.tasks[t];
        match task.row.status {
            Status::Running => out.push(Step::Steal(t)),
            Status::Cancelled => out.push(Step::ConfirmOfTheDead(t)),
            Status::Pending => {
                out.extend([Step::TakeDue(t), Step::Expire(t)]);
                if task.row.due.is_none() && !task.ready && task.inflight == [false; W] {
                    out.push(Step::RingLost(t));
                }
            }
            Status::Success | Status::Failed => {}
        }
        let dead = |w: &usize| task.inflight[*w] && self.leases[*w] == Lease::Dead;
        out.extend((0..W).filter(dead).map(|w| Step::DrainList(w, t)));
    }

    fn possible_faults(&self, out: &mut Vec<Step>) {
        let mut faults = Vec::new();
        for p in (0..P).filter(|p| self.processes[*p].condition == Condition::Up) {
            faults.extend([Fault::Kill(p), Fault::Pause(p), Fault::Leave(p)]);
            for (t, task) in self.tasks.iter().enumerate() {
                let free = task.wire.is_none();
                match task.holds[p].map(|hold| hold.phase) {
                    None if task.inflight[usize::from(self.processes[p].id)] => {
                        faults.push(Fault::UnknownType(p, t));
                        faults.extend(
                            free.then_some([Fault::LoseClaimReply(p, t), Fault::KillInClaim(p, t)])
                                .into_iter()
                                .flatten(),
                        );
                    }
                    Some(Phase::Started) => {
                        faults.extend([Fault::HandBack(p, t), Fault::Undecodable(p, t)]);
                        for ending in self.endings(t).chain([Ending::HandBack]).filter(|_| free) {
                            faults.extend([Fault::LoseFinishReply(p, t, ending), Fault::KillInFinish(p, t, ending)]);
                        }
                    }
                    Some(Phase::NotOurs) => faults.push(Fault::LoseConfirm(p, t)),
                    _ => {}
                }
            }
        }
        for (t, task) in self.tasks.iter().enumerate() {
            if task.ready {
                faults.push(Fault::DuplicateBell(t));
            }
            if task.ready || task.inflight != [false; W] {
                faults.push(Fault::LoseBells(t));
            }
            faults.extend([Fault::Cancel(t), Fault::Retry(t)]);
        }
        out.extend(faults.into_iter().map(Step::Fault));
    }
}
