//! Courier: brings the answers of a batch to the threads that wait for them.
//!
//! Each thread of the HTTP server is a runtime of its own. To wake a task there from outside is a system call for every
//! single answer, whether the thread sleeps or not. So the answers of a batch travel together: one call per thread,
//! where a task of its own hands them out.

use std::cell::RefCell;

use tokio::{
    runtime::{Handle, RuntimeFlavor},
    sync::{mpsc, oneshot},
};

type Parcel = Box<dyn FnOnce() + Send>;
type Courier = mpsc::UnboundedSender<Parcel>;

thread_local! {
    /// The courier of the runtime that this thread is.
    static HERE: RefCell<Option<Courier>> = const { RefCell::new(None) };
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
        (Self { answer, courier: courier() }, answered)
    }

    /// Whether nobody waits any more.
    pub(super) fn is_closed(&self) -> bool {
        self.answer.is_closed()
    }
}

/// Answers all of them. Who waits no more is passed over.
pub(super) fn hand_out<T: Send + 'static>(answers: impl IntoIterator<Item = (Reply<T>, T)>) {
    let mut parcels: Vec<(Courier, Vec<(oneshot::Sender<T>, T)>)> = Vec::new();
    for (Reply { answer, courier }, value) in answers {
        let Some(courier) = courier else {
            let _ = answer.send(value);
            continue;
        };
        match parcels.iter_mut().find(|(other, _)| other.same_channel(&courier)) {
            Some((_, parcel)) => parcel.push((answer, value)),
            None => parcels.push((courier, vec![(answer, value)])),
        }
    }
    for (courier, parcel) in parcels {
        let open = move || parcel.into_iter().for_each(|(answer, value)| drop(answer.send(value)));
        // A runtime that has ended has nobody who waits.
        let _ = courier.send(Box::new(open));
    }
}

/// The courier of this runtime, where it has only this thread. The threads of a larger one wake each other for less.
fn courier() -> Option<Courier> {
    if Handle::current().runtime_flavor() != RuntimeFlavor::CurrentThread {
        return None;
    }
    HERE.with_borrow_mut(|here| {
        if here.as_ref().is_none_or(mpsc::UnboundedSender::is_closed) {
            let (courier, mut parcels) = mpsc::unbounded_channel::<Parcel>();
            tokio::spawn(async move {
                while let Some(open) = parcels.recv().await {
                    open();
                }
            });
            *here = Some(courier);
        }
        here.clone()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers from outside, twice each for runtimes that come one after the other in this thread.
    #[test]
    fn answers_come_home_from_another_thread() {
        let one_thread = || tokio::runtime::Builder::new_current_thread().build().unwrap();
        let many_threads = || tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        for runtime in [one_thread(), one_thread(), many_threads()] {
            runtime.block_on(async {
                for round in 0..2 {
                    let (replies, answered): (Vec<_>, Vec<_>) = (0..3).map(|_| Reply::expected()).unzip();
                    let answers = replies.into_iter().zip(round..);
                    std::thread::spawn(move || hand_out(answers)).join().unwrap();
                    for (number, answered) in (round..).zip(answered) {
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
}
