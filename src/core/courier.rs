//! Courier: brings the answers of a batch to the threads that wait for them.
//!
//! Each thread of the HTTP server is a runtime of its own. To wake a task there from outside is a system call for every
//! single answer, whether the thread sleeps or not. So the answers of a batch travel together: one call per thread,
//! where a task of its own hands them out.

use std::cell::RefCell;

use tokio::{
    runtime::{Handle, Id, RuntimeFlavor},
    sync::{mpsc, oneshot},
};

/// Answers, each with the way to whoever waits for it.
type Answers<T> = Vec<(oneshot::Sender<T>, T)>;
/// Hands out the answers of one batch.
type Parcel = Box<dyn FnOnce() + Send>;
/// Unbounded: no more parcels are on their way than there are callers who wait.
type Courier = mpsc::UnboundedSender<Parcel>;

thread_local! {
    /// The courier of the runtime that this thread is, with that runtime.
    static HERE: RefCell<Option<(Id, Courier)>> = const { RefCell::new(None) };
}

/// The way back to whoever waits for an answer.
#[derive(Debug)]
pub(super) struct Reply<T> {
    answer: oneshot::Sender<T>,
    courier: Option<Courier>,
}

impl<T: Send + 'static> Reply<T> {
    /// To be called in the runtime where the answer is awaited.
    pub(super) fn expected() -> (Self, oneshot::Receiver<T>) {
        let (answer, answered) = oneshot::channel();
        (Self { answer, courier: courier_here() }, answered)
    }

    /// Whether nobody waits any more.
    pub(super) fn is_closed(&self) -> bool {
        self.answer.is_closed()
    }
}

/// Answers all of them. Who waits no more is passed over.
pub(super) fn hand_out<T: Send + 'static>(answers: impl IntoIterator<Item = (Reply<T>, T)>) {
    let mut by_courier: Vec<(Courier, Answers<T>)> = Vec::new();
    for (Reply { answer, courier }, value) in answers {
        let Some(courier) = courier else {
            let _ = answer.send(value);
            continue;
        };
        match by_courier.iter_mut().find(|(other, _)| other.same_channel(&courier)) {
            Some((_, answers)) => answers.push((answer, value)),
            None => by_courier.push((courier, vec![(answer, value)])),
        }
    }
    for (courier, answers) in by_courier {
        let parcel = move || {
            for (answer, value) in answers {
                let _ = answer.send(value);
            }
        };
        // A runtime that has ended has nobody who waits.
        let _ = courier.send(Box::new(parcel));
    }
}

/// The courier of this runtime, where it has only this thread. The threads of a larger one wake each other for less.
fn courier_here() -> Option<Courier> {
    let runtime = Handle::current();
    if runtime.runtime_flavor() != RuntimeFlavor::CurrentThread {
        return None;
    }
    HERE.with_borrow_mut(|here| match here {
        Some((id, courier)) if *id == runtime.id() => Some(courier.clone()),
        _ => {
            let (courier, mut parcels) = mpsc::unbounded_channel::<Parcel>();
            runtime.spawn(async move {
                while let Some(hand_out) = parcels.recv().await {
                    hand_out();
                }
            });
            *here = Some((runtime.id(), courier.clone()));
            Some(courier)
        }
    })
}

#[cfg(test)]
mod tests {
    use tokio::runtime::{Builder, Runtime};

    use super::*;

    fn one_thread() -> Runtime {
        Builder::new_current_thread().build().unwrap()
    }

    fn many_threads() -> Runtime {
        Builder::new_multi_thread().worker_threads(2).build().unwrap()
    }

    /// Those of one runtime come by one way, which is its own.
    #[test]
    fn a_runtime_of_one_thread_has_one_courier() {
        let (first, second) = (one_thread(), one_thread());
        let couriers = [&first, &first, &second].map(|runtime| runtime.block_on(async { courier_here().unwrap() }));
        assert!(couriers[0].same_channel(&couriers[1]));
        assert!(!couriers[0].same_channel(&couriers[2]));
        assert!(many_threads().block_on(async { courier_here().is_none() }));
    }

    #[test]
    fn answers_from_another_thread_come_with_the_courier() {
        for runtime in [one_thread(), one_thread(), many_threads()] {
            runtime.block_on(async {
                let has_courier = courier_here().is_some();
                for round in 0..2 {
                    let (replies, mut answered): (Vec<_>, Vec<_>) = (0..3).map(|_| Reply::expected()).unzip();
                    let answers = replies.into_iter().zip(round..);
                    std::thread::spawn(move || hand_out(answers)).join().unwrap();
                    let first = answered.remove(0).try_recv();
                    // Until this thread waits, its courier has not run.
                    assert_eq!(first.ok(), (!has_courier).then_some(round));
                    for (number, answered) in (round + 1..).zip(answered) {
                        assert_eq!(answered.await, Ok(number));
                    }
                }
            });
        }
    }

    #[tokio::test]
    async fn who_waits_no_more_is_passed_over() {
        let (gone, nobody) = Reply::expected();
        let (there, answered) = Reply::expected();
        drop(nobody);
        assert!(gone.is_closed() && !there.is_closed());
        hand_out([(gone, 1), (there, 2)]);
        assert_eq!(answered.await, Ok(2));
    }

    #[test]
    fn a_runtime_that_has_ended_gets_no_answers() {
        let (reply, answered) = one_thread().block_on(async { Reply::expected() });
        hand_out([(reply, 1)]);
        assert!(answered.blocking_recv().is_err());
    }
}
