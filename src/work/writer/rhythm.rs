//! Rhythm: when what attempts report is written.
//!
//! A report that few others would join is written soon, and what follows it gathers until the next round. Many that
//! come together are mostly of short tasks: they gather before the first round too, because what a task says shortly
//! before its end is written with its end. None waits longer than a tenth of a second.

use std::time::Duration;

use tokio::time::Instant;

/// No report waits longer.
const LONGEST: Duration = Duration::from_millis(100);
/// How long reports gather.
const GATHER: Duration = Duration::from_millis(90);
/// How long a report waits in any case: its task may end meanwhile.
const MOMENT: Duration = Duration::from_millis(10);
/// More deliveries than this with something to say are many.
const FEW: usize = 16;

/// The rounds in which one desk writes reports.
#[derive(Default)]
pub(super) struct Rhythm {
    last: Option<Instant>,
}

impl Rhythm {
    /// When the next round is, while so many deliveries have something to say, the first of them since `oldest`.
    pub(super) fn next_round(&self, number: usize, oldest: Instant) -> Instant {
        let pause = if number > FEW { MOMENT } else { GATHER };
        let ripe = oldest + age(number);
        self.last.map_or(ripe, |last| ripe.max(last + pause)).min(oldest + LONGEST)
    }

    /// Notes a round.
    pub(super) fn note(&mut self, now: Instant) {
        self.last = Some(now);
    }
}

/// How old a report is, among so many, when it is written.
pub(super) fn age(number: usize) -> Duration {
    if number > FEW { GATHER } else { MOMENT }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANY: usize = FEW + 1;

    #[test]
    fn the_first_after_a_rest_goes_soon_and_what_follows_gathers() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut rhythm = Rhythm::default();
        assert_eq!(rhythm.next_round(1, at(0)), at(10));
        rhythm.note(at(10));
        for (number, oldest, round) in
            [(1, 11, 100), (FEW, 99, 109), (1, 500, 510), (MANY, 11, 101), (MANY, 500, 590), (1, 5, 100)]
        {
            assert_eq!(rhythm.next_round(number, at(oldest)), at(round), "{number} since {oldest}");
        }
        // Many had a round just before they became few.
        rhythm.note(at(80));
        assert_eq!(rhythm.next_round(1, at(5)), at(105));
    }

    #[test]
    fn none_waits_longer_than_a_tenth_of_a_second_and_rounds_are_few() {
        let start = Instant::now();
        for number in [1, FEW, MANY] {
            let (mut rhythm, mut rounds) = (Rhythm::default(), 0);
            // Reports come every 3 ms for a second, so that each round leaves some that are too young.
            let mut waiting: Vec<Instant> = (0..333).map(|n| start + Duration::from_millis(3 * n)).collect();
            while let Some(oldest) = waiting.first().copied() {
                let now = rhythm.next_round(number, oldest);
                assert!(now <= oldest + LONGEST, "{number}: {:?}", now - oldest);
                waiting.retain(|since| *since + age(number) > now);
                rhythm.note(now);
                rounds += 1;
            }
            let most = if number == MANY { 110 } else { 13 };
            assert!(rounds <= most, "{number}: {rounds} rounds");
        }
    }
}
