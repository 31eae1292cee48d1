//! World: rows, worker processes, doorbells and statements on their way, and what each step makes of them.
//!
//! A step is one commit, one message or one moment of time. A process that is killed or paused can stand between any
//! two of them, and a statement whose sender no longer waits stays on the wire until it is executed or dropped. The
//! comparison with PostgreSQL that takes two readings is one step here: what the second reading saw still holds, or
//! the fence refuses it.

use super::{
    Rules, Strangers,
    invariant::{Broken, Run, Truth, check_edge, check_row},
    step::{Fault, Step},
};
use crate::core::model::{
    Status,
    lifecycle::{Ending, Event, Holder, Kind, Lease, LeaseEvent, Moment, Queue, Row, Server, Sight},
};

/// Attempts in all of every task here.
pub(super) const MAX_ATTEMPTS: i32 = 2;
/// `P` processes, `T` tasks, `W` incarnations that can be told apart at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct World<const P: usize, const T: usize, const W: usize> {
    pub(super) processes: [Process; P],
    pub(super) tasks: [Task<P, W>; T],
    /// What PostgreSQL says of each incarnation. Slots that nobody uses are dead.
    pub(super) leases: [Lease; W],
    /// How many faults may still happen.
    pub(super) faults: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Process {
    pub(super) condition: Condition,
    /// Its present incarnation.
    pub(super) id: Holder,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Condition {
    Up,
    /// Stopped, or cut off from PostgreSQL: it comes back and does not know.
    Paused,
    /// Killed: somebody starts it again, under a new id.
    Gone,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Task<const P: usize, const W: usize> {
    pub(super) row: Row,
    /// A doorbell is in the list of those to be taken. Two of them in one list are as good as one.
    pub(super) ready: bool,
    /// A doorbell is in the in-flight list of this incarnation.
    pub(super) inflight: [bool; W],
    /// What each process has of it.
    pub(super) holds: [Option<Hold>; P],
    /// A statement that nobody waits for.
    pub(super) wire: Option<Sent>,
    /// What really happened, apart from what the row says.
    pub(super) run: Run,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Hold {
    /// Which execution this is: unlike the delivery, never given out twice even by a broken rule.
    pub(super) token: u8,
    pub(super) delivery: i32,
    pub(super) phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Phase {
    Started,
    /// Asked to stop, since the row is no longer its own.
    Stopping,
    /// Its end may be written or not; it is written again.
    Doubtful(Ending),
    /// The handler has returned and the row is no longer its own: that it has stopped is to be confirmed.
    NotOurs,
}

impl Phase {
    fn runs(self) -> bool {
        matches!(self, Phase::Started | Phase::Stopping)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Sent {
    pub(super) event: Event,
    pub(super) token: Option<u8>,
}

impl<const P: usize, const T: usize, const W: usize> World<P, T, W> {
    pub(super) fn new(row: Row, faults: u8) -> Self {
        let task = Task {
            row,
            ready: row.due.is_none(),
            inflight: [false; W],
            holds: [None; P],
            wire: None,
            run: Run::default(),
        };
        let process = |p| Process { condition: Condition::Up, id: p as Holder };
        let lease = |w| if w < P { Lease::Live } else { Lease::Dead };
        Self { processes: std::array::from_fn(process), tasks: [task; T], leases: std::array::from_fn(lease), faults }
    }

    pub(super) fn no_more_faults(&mut self) {
        self.faults = 0;
    }

    pub(super) fn statuses(&self) -> impl Iterator<Item = Status> {
        self.tasks.iter().map(|task| task.row.status)
    }

    /// Every task has ended and can be retried, and nothing of it is left anywhere.
    pub(super) fn is_quiet(&self) -> bool {
        self.tasks.iter().all(|task| {
            task.row.status.is_final()
                && !(task.row.status == Status::Cancelled && task.row.worker.is_some())
                && !task.ready
                && task.inflight == [false; W]
                && task.holds == [None; P]
                && task.wire.is_none()
        })
    }

    /// Lets executions that are over write whatever they might, as a statement would that was long on its way: it may
    /// change nothing but that a cancelled one has stopped.
    pub(super) fn probe(&self, rules: &Rules) -> Result<(), Broken> {
        for (t, task) in self.tasks.iter().enumerate() {
            for token in 1..=task.run.claims {
                if task.row.status == Status::Running && token == task.run.owner {
                    continue;
                }
                let delivery = token.into();
                let worker = task.row.worker.unwrap_or_default();
                let finish = |ending| Event::Finish { delivery, ending, checkpoint: None };
                let events = [
                    Event::Record { delivery, sight: Sight::Fresh, checkpoint: None },
                    finish(Ending::Success(0)),
                    finish(Ending::RetryLater),
                    finish(Ending::HandBack),
                    Event::HandBack { worker, delivery },
                    Event::ConfirmStopped { worker, delivery },
                ];
                for event in events {
                    if (rules.apply)(&task.row, &event).is_some() {
                        self.clone().write(t, event, Some(token), rules)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes a step. An error names the promise that it breaks.
    pub(super) fn take(&mut self, step: Step, rules: &Rules) -> Result<(), Broken> {
        let before = *self;
        self.go(step, rules)?;
        if *self != before {
            self.tidy();
        }
        Ok(())
    }

    fn go(&mut self, step: Step, rules: &Rules) -> Result<(), Broken> {
        match step {
            Step::Fetch(p, t) => {
                let id = usize::from(self.processes[p].id);
                let task = &mut self.tasks[t];
                task.ready = false;
                // A second doorbell of a task that this worker has already is acknowledged.
                task.inflight[id] |= task.holds[p].is_none();
            }
            Step::Claim(p, t) => self.claim(p, t, self.claim_event(p), rules)?,
            Step::ClaimFromTable(p, t) => {
                let Event::Claim { worker, claimer, queue, kind } = self.claim_event(p) else { return Ok(()) };
                self.claim(p, t, Event::ClaimFromTable { worker, claimer, queue, kind }, rules)?;
            }
            Step::Save(p, t) => {
                let Some(hold) = self.tasks[t].holds[p] else { return Ok(()) };
                let event = Event::Record { delivery: hold.delivery, sight: Sight::Fresh, checkpoint: Some(0) };
                if !self.write(t, event, Some(hold.token), rules)? {
                    self.set_phase(p, t, Phase::Stopping);
                }
            }
            Step::End(p, t, ending) => self.end(p, t, ending, rules)?,
            Step::Stop(p, t) => self.set_phase(p, t, Phase::NotOurs),
            Step::Confirm(p, t) => {
                let Some(hold) = self.tasks[t].holds[p] else { return Ok(()) };
                let event = Event::ConfirmStopped { worker: self.processes[p].id, delivery: hold.delivery };
                self.write(t, event, Some(hold.token), rules)?;
                self.tasks[t].holds[p] = None;
            }
            Step::Compare(p, t) => self.compare(p, t, rules)?,
            Step::Renew(p) => self.lease_event(usize::from(self.processes[p].id), LeaseEvent::Renew, rules)?,
            Step::Restart(p) => self.restart(p),
            Step::Resume(p) => self.processes[p].condition = Condition::Up,
            Step::LeaseRunsOut(w) => self.leases[w] = Lease::Overdue,
            Step::DueComes(t) => {
                let row = &mut self.tasks[t].row;
                (row.due, row.ready) = (Some(Moment::Passed), Moment::Passed);
            }
            Step::ExpiryComes(t) => self.tasks[t].row.expires = Some(Moment::Passed),
            Step::DeclareDead(p, w) => {
                let event = LeaseEvent::DeclareDead {
                    declarer: self.lease_of(p),
                    server: Server::Settled,
                    sight: Sight::Fresh,
                };
                self.lease_event(w, event, rules)?;
            }
            Step::Steal(t) => {
                let event = Event::Steal { holder: self.holder(t), server: Server::Settled };
                if self.write(t, event, None, rules)? && self.tasks[t].row.status == Status::Pending {
                    self.tasks[t].ring();
                }
            }
            Step::ConfirmOfTheDead(t) => {
                let event = Event::ConfirmStoppedOfTheDead { holder: self.holder(t) };
                self.write(t, event, None, rules)?;
            }
            Step::DrainList(w, t) => {
                let task = &mut self.tasks[t];
                task.inflight[w] = false;
                task.ring();
            }
            Step::TakeDue(t) => {
                if self.write(t, Event::TakeDue, None, rules)? {
                    self.tasks[t].ring();
                }
            }
            Step::Expire(t) => drop(self.write(t, Event::Expire, None, rules)?),
            Step::RingLost(t) => self.tasks[t].ring(),
            Step::Execute(t) => {
                if let Some(sent) = self.tasks[t].wire.take() {
                    // Executed now: what it finds besides the row is what is there now.
                    let event = match sent.event {
                        Event::Claim { worker, queue, kind, .. } => {
                            Event::Claim { worker, claimer: self.leases[usize::from(worker)], queue, kind }
                        }
                        event => event,
                    };
                    self.write(t, event, sent.token, rules)?;
                }
            }
            Step::Drop(t) => self.tasks[t].wire = None,
            Step::Fault(fault) => self.suffer(fault, rules)?,
        }
        Ok(())
    }

    fn suffer(&mut self, fault: Fault, rules: &Rules) -> Result<(), Broken> {
        self.faults = self.faults.saturating_sub(1);
        match fault {
            Fault::Kill(p) => self.kill(p),
            Fault::KillInClaim(p, t) => {
                self.tasks[t].wire = Some(Sent { event: self.claim_event(p), token: None });
                self.kill(p);
            }
            Fault::KillInFinish(p, t, ending) => {
                self.tasks[t].wire = self.finish(p, t, ending);
                self.kill(p);
            }
            Fault::Leave(p) => {
                let worker = self.processes[p].id;
                for t in 0..T {
                    let token = Some(self.tasks[t].run.owner);
                    if self.write(t, Event::HandBackAll { worker }, token, rules)? {
                        self.tasks[t].ring();
                    }
                }
                self.lease_event(worker.into(), LeaseEvent::Leave, rules)?;
                self.kill(p);
            }
            Fault::Pause(p) => self.processes[p].condition = Condition::Paused,
            Fault::LoseClaimReply(p, t) => {
                self.tasks[t].wire = Some(Sent { event: self.claim_event(p), token: None });
            }
            Fault::LoseFinishReply(p, t, ending) => {
                self.tasks[t].wire = self.finish(p, t, ending);
                self.set_phase(p, t, Phase::Doubtful(ending));
            }
            // A confirmation is not repeated: the next comparison finds what it left.
            Fault::LoseConfirm(p, t) => self.tasks[t].holds[p] = None,
            Fault::LoseBells(t) => (self.tasks[t].ready, self.tasks[t].inflight) = (false, [false; W]),
            Fault::DuplicateBell(t) => self.tasks[t].ring(),
            Fault::Cancel(t) => drop(self.write(t, Event::Cancel, None, rules)?),
            Fault::Retry(t) => {
                if self.write(t, Event::Retry, None, rules)? {
                    self.tasks[t].ring();
                }
            }
            Fault::HandBack(p, t) => self.end(p, t, Ending::HandBack, rules)?,
            Fault::Undecodable(p, t) => self.end(p, t, Ending::Undecodable, rules)?,
            Fault::UnknownType(p, t) => {
                let id = usize::from(self.processes[p].id);
                let delivery = self.tasks[t].row.delivery;
                self.write(t, Event::PutOffUnknown { delivery }, None, rules)?;
                self.tasks[t].inflight[id] = false;
            }
        }
        Ok(())
    }

    fn kill(&mut self, p: usize) {
        self.processes[p].condition = Condition::Gone;
        self.tasks.iter_mut().for_each(|task| task.holds[p] = None);
    }

    /// Begins anew under an id that nothing remembers.
    fn restart(&mut self, p: usize) {
        let free = (0..W).find(|w| self.leases[*w] == Lease::Dead && !self.is_remembered(*w));
        if let Some(free) = free {
            self.kill(p);
            self.processes[p] = Process { condition: Condition::Up, id: free as Holder };
            self.leases[free] = Lease::Live;
        }
    }

    fn lease_event(&mut self, w: usize, event: LeaseEvent, rules: &Rules) -> Result<(), Broken> {
        match (rules.lease)(self.leases[w], &event) {
            Some(_) if self.leases[w].is_gone() => Err(Broken::DeathIsFinal),
            Some(after) => {
                self.leases[w] = after;
                Ok(())
            }
            None => Ok(()),
        }
    }

    pub(super) fn lease_of(&self, p: usize) -> Lease {
        self.leases[usize::from(self.processes[p].id)]
    }

    fn holder(&self, t: usize) -> Lease {
        self.tasks[t].row.worker.map_or(Lease::NoRow, |w| self.leases[usize::from(w)])
    }

    fn claim_event(&self, p: usize) -> Event {
        let worker = self.processes[p].id;
        Event::Claim { worker, claimer: self.lease_of(p), queue: Queue::Open, kind: Kind::Known }
    }

    fn set_phase(&mut self, p: usize, t: usize, phase: Phase) {
        if let Some(hold) = &mut self.tasks[t].holds[p] {
            hold.phase = phase;
        }
    }

    /// A claim and its answer.
    fn claim(&mut self, p: usize, t: usize, event: Event, rules: &Rules) -> Result<(), Broken> {
        let id = usize::from(self.processes[p].id);
        if self.write(t, event, None, rules)? {
            let task = &mut self.tasks[t];
            let token = task.run.claims;
            task.holds[p] = Some(Hold { token, delivery: task.row.delivery, phase: Phase::Started });
        } else if self.tasks[t].inflight[id] {
            let task = &mut self.tasks[t];
            task.inflight[id] = false;
            // Refused because of the worker, not of the row: the doorbell goes back.
            let waits = task.row.status == Status::Pending && task.row.ready == Moment::Passed;
            if waits && (task.row.expires != Some(Moment::Passed) || task.row.delivery > 0) {
                task.ring();
            }
        }
        Ok(())
    }

    fn finish(&self, p: usize, t: usize, ending: Ending) -> Option<Sent> {
        let hold = self.tasks[t].holds[p]?;
        let event = Event::Finish { delivery: hold.delivery, ending, checkpoint: None };
        Some(Sent { event, token: Some(hold.token) })
    }

    /// The handler has returned, and its worker writes so. The doorbell stays in the in-flight list: that it is taken
    /// out after the commit, or found there later and worth nothing, comes to the same.
    fn end(&mut self, p: usize, t: usize, ending: Ending, rules: &Rules) -> Result<(), Broken> {
        let Some(sent) = self.finish(p, t, ending) else { return Ok(()) };
        if self.write(t, sent.event, sent.token, rules)? {
            self.tasks[t].holds[p] = None;
            if ending == Ending::HandBack {
                self.tasks[t].ring();
            }
        } else {
            self.set_phase(p, t, Phase::NotOurs);
        }
        Ok(())
    }

    /// What PostgreSQL has in this worker's name, against what it holds.
    fn compare(&mut self, p: usize, t: usize, rules: &Rules) -> Result<(), Broken> {
        let task = self.tasks[t];
        let worker = self.processes[p].id;
        let mine = task.row.worker == Some(worker);
        let delivery = task.row.delivery;
        let held = task.holds[p].is_some_and(|hold| hold.delivery == delivery);
        if let Some(hold) = task.holds[p]
            && hold.phase == Phase::Started
            && !(mine && held && task.row.status == Status::Running)
        {
            self.set_phase(p, t, Phase::Stopping);
        }
        let token = Some(task.run.owner);
        if !mine || held {
            return Ok(());
        }
        let cancelled = task.row.status == Status::Cancelled && rules.strangers == Strangers::AllOfThem;
        if task.row.status == Status::Running && self.write(t, Event::HandBack { worker, delivery }, token, rules)? {
            self.tasks[t].ring();
        } else if cancelled {
            self.write(t, Event::ConfirmStopped { worker, delivery }, token, rules)?;
        }
        Ok(())
    }

    /// One statement reaches PostgreSQL. Returns whether it changed the row.
    fn write(&mut self, t: usize, event: Event, token: Option<u8>, rules: &Rules) -> Result<bool, Broken> {
        let task = &self.tasks[t];
        let Some(after) = (rules.apply)(&task.row, &event) else { return Ok(false) };
        let runs_elsewhere = (0..P).any(|p| {
            self.processes[p].condition == Condition::Up
                && self.lease_of(p) != Lease::Dead
                && task.holds[p].is_some_and(|hold| hold.phase.runs())
        });
        let truth = Truth { holder: self.holder(t), runs_elsewhere, token };
        check_row(&after)?;
        let run = check_edge(&task.row, &after, &event, &truth, &task.run)?;
        let task = &mut self.tasks[t];
        (task.row, task.run) = (after, run);
        Ok(true)
    }
}

impl<const P: usize, const W: usize> Task<P, W> {
    fn ring(&mut self) {
        self.ready = true;
    }
}
