//! Line: where the waiting tasks of a queue stand, as far as that is known without reading all of them all the time.
//!
//! The first thousand places are known exactly. Those behind them are told from a whole reading of the line, which may be
//! some seconds old: everybody in it has moved forward by as much as the thousandth has. Who came after it stands
//! between its last place and the end, which is counted, according to when it came.

use chrono::{DateTime, Utc};

use crate::core::{
    model::{Task, TaskId},
    store::Place,
};

/// Up to here every place of a line is known.
pub const EXACT: i64 = 1_000;

/// A line at one moment.
pub struct Line {
    places: Vec<Place>,
    /// How many stand in it.
    length: i64,
    at: DateTime<Utc>,
}

impl Line {
    /// A line of so many, read at that moment: with its first places, [`EXACT`] of them where there are as many, and
    /// the places of a reading that was made before.
    pub fn new(head: Vec<Place>, before: &[Place], length: i64, at: DateTime<Utc>) -> Self {
        let mut places = head;
        if let Some(last) = places.last().copied().filter(|last| last.rank >= EXACT) {
            let behind = before.partition_point(|place| key(place) <= key(&last));
            let then = rank_among(before, key(&last)).unwrap_or(EXACT);
            let moved = before[behind..].iter().map(|place| {
                let rank = (place.rank - then + last.rank).clamp(last.rank + 1, length.max(last.rank + 1));
                Place { rank, ..*place }
            });
            places.extend(moved);
        }
        Self { places, length, at }
    }

    /// The place of a task, from 1. `None` for a task that was not in the line when it was read: those around it have
    /// come after it or went before, and the next reading is about a second away.
    pub fn position(&self, task: &Task) -> Option<i64> {
        let own = Place::key(task.priority, task.delivery == 0, task.id);
        let at = self.places.partition_point(|place| key(place) < own);
        let was_there = || task.ready_at.max(task.created_at) < self.at;
        match self.places.get(at) {
            Some(place) if key(place) == own => Some(place.rank),
            Some(place) if place.rank > EXACT && was_there() => rank_among(&self.places, own),
            Some(_) => None,
            None => {
                let last = self.places.last().filter(|last| last.rank >= EXACT && last.rank < self.length)?;
                let end = self.at.timestamp_millis().max(0) as u64;
                let share = share(last.id.timestamp_ms(), end, task.id);
                was_there().then(|| last.rank + (((self.length - last.rank) as f64 * share) as i64).max(1))
            }
        }
    }
}

type Key = (i16, bool, TaskId);

fn key(place: &Place) -> Key {
    Place::key(place.priority, place.is_fresh, place.id)
}

/// The rank of a key among places that are not all known: between its neighbours by the time in its id, where they are
/// of one kind, and otherwise that of the next one behind it. `None` behind the last one.
fn rank_among(places: &[Place], own: Key) -> Option<i64> {
    let at = places.partition_point(|place| key(place) < own);
    let next = places.get(at)?;
    let previous = at.checked_sub(1).and_then(|at| places.get(at));
    let is_alike = |place: &&Place| (place.priority, place.is_fresh) == (next.priority, next.is_fresh);
    Some(match previous.filter(is_alike) {
        Some(previous) if key(next) != own => {
            let share = share(previous.id.timestamp_ms(), next.id.timestamp_ms(), own.2);
            previous.rank + (((next.rank - previous.rank) as f64 * share) as i64).clamp(0, next.rank - previous.rank)
        }
        _ => next.rank,
    })
}

/// How far between two times an id was made: 0 to 1, and 1 where there is no time between them.
fn share(from: u64, to: u64, id: TaskId) -> f64 {
    match to.checked_sub(from) {
        None | Some(0) => 1.0,
        Some(time) => (id.timestamp_ms().saturating_sub(from) as f64 / time as f64).min(1.0),
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;
    use crate::{
        core::model::{Priority, Status},
        serve::task_view::tests::sample,
    };

    fn waiting(ms: u64, priority: Priority, delivery: i32) -> Task {
        Task { id: TaskId::first_at(ms), priority, delivery, status: Status::Pending, ..sample() }
    }

    fn place(priority: Priority, is_fresh: bool, ms: u64, rank: i64) -> Place {
        Place { priority, is_fresh, id: TaskId::first_at(ms), rank }
    }

    fn normal(ms: u64, rank: i64) -> Place {
        place(Priority::Normal, true, ms, rank)
    }

    #[test]
    fn places_are_found_in_the_order_of_starts() {
        let head = vec![
            place(Priority::High, true, 50, 1),
            place(Priority::Normal, false, 90, 2),
            place(Priority::Normal, true, 10, 3),
            place(Priority::Normal, true, 20, 4),
            place(Priority::Low, true, 5, 5),
        ];
        let line = Line::new(head, &[], 5, Utc::now());
        let at = |ms, priority, delivery| line.position(&waiting(ms, priority, delivery));
        assert_eq!(at(50, Priority::High, 0), Some(1));
        assert_eq!(at(90, Priority::Normal, 2), Some(2));
        assert_eq!(at(20, Priority::Normal, 0), Some(4));
        assert_eq!(at(5, Priority::Low, 0), Some(5));
    }

    #[test]
    fn a_task_that_came_after_the_reading_is_told_no_place() {
        let head: Vec<Place> = (1..=1_000).map(|n| normal(n, n as i64)).collect();
        let before: Vec<Place> = head.iter().copied().chain([normal(1_010, 1_010)]).collect();
        let line = Line::new(head, &before, 1_010, Utc::now());
        let at = |ms, created_at| {
            line.position(&Task { created_at, ready_at: created_at, ..waiting(ms, Priority::Normal, 0) })
        };
        let (before, after) = (line.at - TimeDelta::seconds(9), line.at + TimeDelta::milliseconds(9));
        assert_eq!((at(7, before), at(7, after)), (Some(7), Some(7)));
        assert_eq!((at(1_005, before), at(1_005, after)), (Some(1_005), None));
        assert_eq!((at(1_011, after), at(1_011, before)), (None, None));
        let urgent = Task { created_at: after, ready_at: after, ..waiting(1_011, Priority::High, 0) };
        assert_eq!(line.position(&urgent), None);
    }

    #[test]
    fn everybody_moves_forward_with_the_thousandth() {
        // Every hundredth place of a line of 9,000, one task a millisecond; 3,000 of them have started since.
        let before: Vec<Place> = (1..=90).map(|n| normal(n * 100, n as i64 * 100)).collect();
        let head: Vec<Place> = (1..=1_000).map(|n| normal(3_000 + n, n as i64)).collect();
        let line = Line::new(head, &before, 6_000, Utc::now());
        let at = |ms| line.position(&waiting(ms, Priority::Normal, 0));
        assert_eq!([at(3_001), at(4_000), at(4_100), at(4_150), at(9_000)], [1, 1_000, 1_100, 1_150, 6_000].map(Some));
        assert_eq!(at(2_000), None, "it has started");
        // The reading before is older than all that wait, or there was none: only the end is known.
        for before in [&before[..9], &[]] {
            let head: Vec<Place> = (1..=1_000).map(|n| normal(3_000 + n, n as i64)).collect();
            let end = DateTime::from_timestamp_millis(9_000).unwrap();
            let line = Line::new(head, before, 6_000, end);
            let at = |ms| {
                let created_at = DateTime::from_timestamp_millis(ms as i64).unwrap();
                line.position(&Task { created_at, ready_at: created_at, ..waiting(ms, Priority::Normal, 0) })
            };
            assert_eq!([at(4_000), at(6_500), at(9_500)], [Some(1_000), Some(3_500), None]);
        }
    }

    #[test]
    fn who_came_since_stands_between_the_last_place_and_the_end() {
        let head: Vec<Place> = (1..=1_000).map(|n| normal(n, n as i64)).collect();
        let before = [normal(1_000, 1_000), normal(2_000, 2_000), place(Priority::Low, true, 500, 2_001)];
        let line = Line::new(head, &before, 4_001, DateTime::from_timestamp_millis(4_000).unwrap());
        let at = |ms: u64, priority| {
            let created_at = DateTime::from_timestamp_millis(ms as i64).unwrap();
            line.position(&Task { created_at, ready_at: created_at, ..waiting(ms, priority, 0) })
        };
        // Behind all of its kind: that of the next one, which is of another.
        assert_eq!(at(3_000, Priority::Normal), Some(2_001));
        let told = at(2_250, Priority::Low).unwrap();
        assert!((2_500..=4_001).contains(&told), "{told}");
    }
}
