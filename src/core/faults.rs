//! Faults: what tests make go wrong between this program and its two stores.
//!
//! Only in builds with the feature `faults`, which no image has; otherwise every call here is empty and free. The
//! variable `APP_FAULTS` lists what is to happen, `POINT:ACTION[:TIMES]` joined by commas. A point is the name of a
//! statement of the store, or `redis.` and the name of a step of the queue. The actions are
//!
//! | action | what happens |
//! |---|---|
//! | `error` | the step fails before anything was sent |
//! | `lose-reply` | the step is carried out, and its answer is lost |
//! | `stall=TIME` | the step waits this long before it is sent |
//! | `abort` | the process ends before the step |
//! | `abort-after` | the process ends when the step has been carried out and before anybody hears of it |
//!
//! `APP_MUTANT` names a defect that the build is to have, to see that the tests would notice it: each is one of the
//! rules of reliability left out, at the place where `mutant` stands.

/// A step that was made to fail, or whose answer was made to be lost.
#[derive(Debug, thiserror::Error)]
#[error("injected at {0}")]
pub(in crate::core) struct Injected(String);

#[cfg(feature = "faults")]
mod injected {
    use super::Injected;

    use std::{
        collections::HashMap,
        sync::{LazyLock, Mutex, PoisonError},
        time::Duration,
    };

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Action {
        Error,
        LoseReply,
        Stall(Duration),
        Abort,
        AbortAfter,
    }

    /// What is left to happen: by point, an action and how often.
    static PLAN: LazyLock<Mutex<HashMap<String, (Action, u32)>>> =
        LazyLock::new(|| Mutex::new(parse(&std::env::var("APP_FAULTS").unwrap_or_default())));

    fn parse(text: &str) -> HashMap<String, (Action, u32)> {
        let plan = text.split(',').filter(|part| !part.is_empty()).map(|part| {
            let mut fields = part.split(':');
            let (point, action) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
            let times = fields.next().map_or(1, |times| times.parse().unwrap_or_else(|_| panic!("APP_FAULTS: {part}")));
            let action = match action.split_once('=') {
                Some(("stall", time)) => Action::Stall(crate::config::duration(time).unwrap_or_else(|e| panic!("{e}"))),
                _ => match action {
                    "error" => Action::Error,
                    "lose-reply" => Action::LoseReply,
                    "abort" => Action::Abort,
                    "abort-after" => Action::AbortAfter,
                    _ => panic!("APP_FAULTS: {part:?} names no action"),
                },
            };
            (point.to_owned(), (action, times))
        });
        plan.collect()
    }

    fn next(point: &str) -> Option<Action> {
        let mut plan = PLAN.lock().unwrap_or_else(PoisonError::into_inner);
        let (action, times) = plan.get_mut(point)?;
        let action = *action;
        *times -= 1;
        if *times == 0 {
            plan.remove(point);
        }
        tracing::warn!(point, ?action, "injected a fault");
        Some(action)
    }

    /// What is to happen after the step.
    #[must_use]
    pub(in crate::core) struct Fault(Option<Action>);

    /// Stands before a step. An error means that the step is not to be made.
    pub(in crate::core) async fn meet(point: &str) -> Result<Fault, Injected> {
        match next(point) {
            Some(Action::Error) => Err(Injected(point.to_owned())),
            Some(Action::Abort) => std::process::abort(),
            Some(Action::Stall(time)) => {
                tokio::time::sleep(time).await;
                Ok(Fault(None))
            }
            after => Ok(Fault(after)),
        }
    }

    impl Fault {
        /// Stands behind a step that was carried out. An error means that its answer is lost.
        pub(in crate::core) async fn after(self) -> Result<(), Injected> {
            match self.0 {
                Some(Action::AbortAfter) => std::process::abort(),
                Some(Action::LoseReply) => Err(Injected("the reply".to_owned())),
                _ => Ok(()),
            }
        }
    }

    /// Whether this build is to have the named defect: a check of the tests, `APP_MUTANT`.
    pub(crate) fn mutant(name: &str) -> bool {
        static MUTANT: LazyLock<String> = LazyLock::new(|| std::env::var("APP_MUTANT").unwrap_or_default());
        *MUTANT == name
    }
}

#[cfg(not(feature = "faults"))]
mod injected {
    use super::Injected;

    pub(in crate::core) struct Fault;

    #[inline(always)]
    pub(in crate::core) async fn meet(_point: &str) -> Result<Fault, Injected> {
        Ok(Fault)
    }

    impl Fault {
        #[inline(always)]
        pub(in crate::core) async fn after(self) -> Result<(), Injected> {
            Ok(())
        }
    }

    #[inline(always)]
    pub(crate) fn mutant(_name: &str) -> bool {
        false
    }
}

pub(in crate::core) use injected::meet;
pub(crate) use injected::mutant;
