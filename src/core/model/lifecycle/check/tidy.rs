//! Tidy: worlds that differ only in names, or in what decides nothing any more, become one.

use super::world::{Hold, Phase, Process, Sent, Task, World};
use crate::core::model::{
    Status,
    lifecycle::{Cause, Ending, Event, Holder, Lease},
};

impl<const P: usize, const T: usize, const W: usize> World<P, T, W> {
    /// Forgets what decides nothing any more, so that worlds that differ only in it are one.
    pub(super) fn tidy(&mut self) {
        let forgotten: [bool; W] = std::array::from_fn(|w| !self.is_remembered(w));
        (0..W).filter(|w| forgotten[*w]).for_each(|w| self.leases[w] = Lease::Dead);
        self.tasks.iter_mut().for_each(Task::tidy);
        self.rename();
    }

    /// Puts the processes in an order that does not depend on their names, and names the incarnations by it.
    fn rename(&mut self) {
        let mut order: [usize; P] = std::array::from_fn(|p| p);
        order.sort_by_cached_key(|p| {
            let process = self.processes[*p];
            let holds = self.tasks.iter().map(|task| task.holds[*p].map_or(0, Hold::number));
            holds.fold(self.about(process.id.into()) << 2 | process.condition as u64, |all, hold| all << 6 | hold)
        });
        let mut others: Vec<usize> =
            (0..W).filter(|w| !self.processes.iter().any(|process| usize::from(process.id) == *w)).collect();
        others.sort_by_cached_key(|w| self.about(*w));
        let old: Vec<usize> = order.iter().map(|p| self.processes[*p].id.into()).chain(others).collect();
        let mut new = [0; W];
        old.iter().enumerate().for_each(|(name, w)| new[*w] = name as Holder);
        let renamed = |holder: Holder| new[usize::from(holder)];
        self.processes = order.map(|p| Process { id: renamed(self.processes[p].id), ..self.processes[p] });
        self.leases = std::array::from_fn(|name| self.leases[old[name]]);
        for task in &mut self.tasks {
            task.row.worker = task.row.worker.map(renamed);
            task.inflight = std::array::from_fn(|name| task.inflight[old[name]]);
            task.holds = order.map(|p| task.holds[p]);
            if let Some(Sent { event: Event::Claim { worker, .. }, .. }) = &mut task.wire {
                *worker = renamed(*worker);
            }
        }
    }

    /// All that is said of an incarnation, without its name, as a number to sort by.
    fn about(&self, w: usize) -> u64 {
        let named = |holder: Option<Holder>| u64::from(holder.map(usize::from) == Some(w));
        self.tasks.iter().fold(self.leases[w] as u64, |all, task| {
            let sent = task.wire.and_then(|sent| sent.worker());
            all << 3 | u64::from(task.inflight[w]) << 2 | named(task.row.worker) << 1 | named(sent)
        })
    }

    pub(super) fn is_remembered(&self, w: usize) -> bool {
        self.processes.iter().any(|process| usize::from(process.id) == w)
            || self.tasks.iter().any(|task| {
                task.row.worker.map(usize::from) == Some(w)
                    || task.inflight[w]
                    || task.wire.and_then(|sent| sent.worker()).map(usize::from) == Some(w)
            })
    }
}

impl Sent {
    fn worker(self) -> Option<Holder> {
        match self.event {
            Event::Claim { worker, .. } => Some(worker),
            _ => None,
        }
    }
}

impl Hold {
    /// A number to sort by, above 0.
    fn number(self) -> u64 {
        let phase = match self.phase {
            Phase::Started => 1,
            Phase::Stopping => 2,
            Phase::Doubtful(_) => 3,
            Phase::NotOurs => 4,
        };
        phase << 3 | u64::from(self.token)
    }
}

impl<const P: usize, const W: usize> Task<P, W> {
    fn tidy(&mut self) {
        let row = &mut self.row;
        // Texts and marks: no statement asks for them.
        (row.attempt, row.checkpoint, row.undecodable, row.last_error) = (1, None, None, None);
        row.result = row.result.map(|_| 0);
        if row.delivery > 0 {
            row.expires = None;
        }
        if row.status.is_final() {
            // The next run begins with new counters.
            (row.failures, row.lost) = (0, 0);
            row.error = row.error.map(|_| Cause::Attempt);
        }
        if matches!(row.status, Status::Success | Status::Failed) {
            row.worker = None;
        }
        // A statement of an execution that is over: every state is probed with all of them.
        let is_over = |token| token != self.run.owner || !matches!(row.status, Status::Running | Status::Cancelled);
        self.wire = self.wire.filter(|sent| !sent.token.is_some_and(is_over));
        for hold in self.holds.iter_mut().flatten() {
            if is_over(hold.token) && matches!(hold.phase, Phase::Doubtful(_)) {
                hold.phase = Phase::Doubtful(Ending::Success(0));
            }
        }
        // Deliveries are counted up and compared for equality: what matters is their order.
        let mut tokens = [0; 8];
        let held = self.holds.iter().flatten().map(|hold| hold.token);
        let sent = self.wire.iter().filter_map(|sent| sent.token);
        held.chain(sent).chain([self.run.owner]).for_each(|token| tokens[usize::from(token) % 8] = 1);
        // A broken rule may have given a number out twice; then they stay as they are.
        if row.delivery != i32::from(self.run.claims) || self.run.claims > 7 {
            return;
        }
        tokens[0] = 0;
        tokens[usize::from(self.run.claims)] = 1;
        let new = |token: u8| tokens[..=usize::from(token)].iter().sum::<u8>();
        (self.run.claims, self.run.owner) = (new(self.run.claims), new(self.run.owner));
        row.delivery = self.run.claims.into();
        for hold in self.holds.iter_mut().flatten() {
            hold.token = new(hold.token);
            hold.delivery = hold.token.into();
        }
        if let Some(sent) = &mut self.wire {
            sent.token = sent.token.map(new);
            if let (Some(token), Event::Record { delivery, .. } | Event::Finish { delivery, .. }) =
                (sent.token, &mut sent.event)
            {
                *delivery = token.into();
            }
        }
    }
}
