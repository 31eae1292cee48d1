//! Unseen: tasks that wait and have not been seen in any list of Redis yet.
//!
//! Both sides come nearly in the order of their ids: PostgreSQL walks along an index, and what was rung first was
//! mostly made first. So a sorted vector and a step to the next place do what a hash set would do in a tenth of the
//! time, and this is done for the whole backlog all the time. Any other order is found by a search.

use crate::core::model::TaskId;

/// Places to walk before searching: as many as lie between two neighbours of a list when most tasks are in others.
const STEPS: usize = 24;

/// The set.
#[derive(Debug, Default)]
pub(super) struct Unseen {
    /// Sorted, each once.
    ids: Vec<TaskId>,
    seen: Vec<bool>,
    left: usize,
    /// Where the last id was, or would have been.
    place: usize,
}

impl From<Vec<TaskId>> for Unseen {
    fn from(mut ids: Vec<TaskId>) -> Self {
        // The stable sort takes what comes in a few ordered runs, one for each queue and priority, as it is.
        ids.sort();
        ids.dedup();
        let (seen, left) = (vec![false; ids.len()], ids.len());
        Self { ids, seen, left, place: 0 }
    }
}

impl Unseen {
    /// This one has been seen. Any id may be named, and any number of times.
    pub(super) fn see(&mut self, id: TaskId) {
        let Some(place) = self.find(id) else { return };
        if !std::mem::replace(&mut self.seen[place], true) {
            self.left -= 1;
        }
    }

    /// Whether all have been seen.
    pub(super) fn is_empty(&self) -> bool {
        self.left == 0
    }

    /// Those that have not been seen, sorted.
    pub(super) fn left(&self) -> Vec<TaskId> {
        self.ids.iter().zip(&self.seen).filter(|(_, seen)| !**seen).map(|(id, _)| *id).collect()
    }

    fn find(&mut self, id: TaskId) -> Option<usize> {
        let last = self.ids.len().checked_sub(1)?;
        let mut place = self.place.min(last);
        for _ in 0..STEPS {
            match self.ids[place].cmp(&id) {
                std::cmp::Ordering::Equal => {
                    self.place = place;
                    return Some(place);
                }
                // Lists are read from the end that is pushed, so the next id is mostly an older one.
                std::cmp::Ordering::Greater if place > 0 && self.ids[place - 1] >= id => place -= 1,
                std::cmp::Ordering::Less if place < last && self.ids[place + 1] <= id => place += 1,
                // Between two neighbours, or beyond the last one: it is not here.
                _ => {
                    self.place = place;
                    return None;
                }
            }
        }
        let found = self.ids.binary_search(&id);
        self.place = found.unwrap_or_else(|place| place);
        found.ok()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn id(number: u128) -> TaskId {
        TaskId::from_bytes(number.to_be_bytes())
    }

    proptest! {
        /// A plain set is what it must agree with, whatever comes in whatever order.
        #[test]
        fn it_agrees_with_a_set(waiting in prop::collection::vec(0u128..400, 0..300),
                                listed in prop::collection::vec(0u128..420, 0..400)) {
            let mut unseen = Unseen::from(waiting.iter().copied().map(id).collect::<Vec<_>>());
            let mut set: BTreeSet<TaskId> = waiting.into_iter().map(id).collect();
            for number in listed {
                unseen.see(id(number));
                set.remove(&id(number));
                prop_assert_eq!(unseen.is_empty(), set.is_empty());
            }
            prop_assert_eq!(unseen.left(), set.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn lists_in_both_directions_and_far_jumps_are_seen() {
        let ids: Vec<TaskId> = (0..10_000).map(|number| id(3 * number)).collect();
        for order in [true, false] {
            let mut unseen = Unseen::from(ids.clone());
            // Three lists, one after the other, and neighbours of ids that are not there.
            for list in 0..3 {
                let mut list: Vec<TaskId> = ids.iter().copied().skip(list).step_by(3).collect();
                if order {
                    list.reverse();
                }
                for id in list {
                    unseen.see(id.above());
                    unseen.see(id);
                }
            }
            assert!(unseen.is_empty() && unseen.left().is_empty());
        }
        let mut unseen = Unseen::from(ids.clone());
        ids.iter().filter(|id| **id != ids[7]).for_each(|id| unseen.see(*id));
        assert_eq!(unseen.left(), [ids[7]]);
    }
}
