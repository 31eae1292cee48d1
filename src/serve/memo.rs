//! Memo: what is read once for everybody who asks at about the same time.
//!
//! Each key is read by one of those who ask, while the others wait for the same answer. It is good for a second, or for
//! `REST` times as long as the reading took: what is expensive is asked for more rarely, and however many watch, a
//! key never takes more than that share of a connection.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How long an answer is good, at least.
const PERIOD: Duration = Duration::from_secs(1);
/// How much longer than its reading an answer is good, at least.
const REST: u32 = 5;
/// From so many keys on, those whose answers are no longer good are forgotten.
const MANY: usize = 100;

type Slot<V> = Arc<tokio::sync::Mutex<Option<(Instant, V)>>>;

/// Answers by key, each with the moment until which it is good.
pub struct Memo<K, V> {
    slots: Mutex<HashMap<K, Slot<V>>>,
}

impl<K, V> Default for Memo<K, V> {
    fn default() -> Self {
        Self { slots: Mutex::default() }
    }
}

impl<K: Eq + Hash, V: Clone> Memo<K, V> {
    /// The answer for a key, read now where there is no good one.
    pub async fn get<E>(&self, key: K, read: impl Future<Output = Result<V, E>>) -> Result<V, E> {
        let slot = self.slot(key);
        let mut kept = slot.lock().await;
        if let Some((until, value)) = &*kept
            && *until > Instant::now()
        {
            return Ok(value.clone());
        }
        let began = Instant::now();
        let value = read.await?;
        let good_for = PERIOD.max(began.elapsed() * REST);
        *kept = Some((Instant::now() + good_for, value.clone()));
        Ok(value)
    }

    /// What was read is no longer true.
    pub fn forget(&self) {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn slot(&self, key: K) -> Slot<V> {
        // A panic while this is held leaves a whole map behind.
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= MANY {
            let now = Instant::now();
            let is_good = |slot: &Slot<V>| match slot.try_lock() {
                Ok(kept) => kept.as_ref().is_some_and(|(until, _)| *until > now),
                // Somebody reads it just now.
                Err(_) => true,
            };
            slots.retain(|_, slot| is_good(slot));
        }
        slots.entry(key).or_default().clone()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[actix_web::test]
    async fn one_reading_serves_all_who_ask() {
        let memo: Memo<&str, u32> = Memo::default();
        let readings = Cell::new(0);
        let read = async || {
            readings.set(readings.get() + 1);
            tokio::task::yield_now().await;
            Ok::<_, ()>(readings.get())
        };
        let (one, two) = tokio::join!(memo.get("a", read()), memo.get("a", read()));
        assert_eq!((one, two, readings.get()), (Ok(1), Ok(1), 1));
        assert_eq!(memo.get("b", read()).await, Ok(2));
        memo.forget();
        assert_eq!(memo.get("a", read()).await, Ok(3));
    }

    #[actix_web::test]
    async fn a_failure_is_not_kept() {
        let memo: Memo<(), u32> = Memo::default();
        assert_eq!(memo.get((), async { Err("away") }).await, Err("away"));
        assert_eq!(memo.get((), async { Ok::<_, &str>(1) }).await, Ok(1));
    }
}
