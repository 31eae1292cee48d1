//! Queueing: how long tasks wait for a slot, from the rate, the duration and the number of slots.
//!
//! Tasks arrive independently of each other (a Poisson process). Units are the caller's: a duration and every wait are
//! in the same one, and a rate is in tasks per one of it. Sources: Erlang (1917) for the probability of waiting;
//! Kimura, "A two-moment approximation for the mean waiting time in the GI/G/s queue" (1986), with the correction of
//! Cosmetatos (1976) for fixed durations, for the mean. With exponential durations the mean is exact.

/// What waits for what.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Line {
    /// Tasks per unit of time.
    pub rate: f64,
    /// Mean time that a task holds its slot.
    pub duration: f64,
    /// Standard deviation of the duration over its mean: 0 for tasks that are all alike, 1 for exponential ones.
    pub variation: f64,
    /// Tasks that run at a time.
    pub slots: u64,
}

impl Line {
    /// Tasks that run at a time on average: Little's law, L = λ·W, applied to the slots. In Erlangs.
    pub fn offered(&self) -> f64 {
        self.rate * self.duration
    }

    /// The share of the slots that is busy on average. At 1 and above the line grows without end.
    pub fn utilisation(&self) -> f64 {
        self.offered() / self.slots as f64
    }

    /// The share of the tasks that find no free slot: Erlang's C formula.
    pub fn waits(&self) -> f64 {
        let busy = self.utilisation();
        if busy >= 1.0 {
            return 1.0;
        }
        // Erlang's B by its recursion, which neither overflows nor cancels out, and C from it.
        let offered = self.offered();
        let blocked = (1..=self.slots).fold(1.0, |blocked, slot| offered * blocked / (slot as f64 + offered * blocked));
        blocked / (1.0 - busy * (1.0 - blocked))
    }

    /// The mean wait of all tasks, those that do not wait included.
    pub fn mean_wait(&self) -> f64 {
        let busy = self.utilisation();
        if busy >= 1.0 {
            return f64::INFINITY;
        }
        if busy <= 0.0 {
            return 0.0;
        }
        let slots = self.slots as f64;
        let exponential = self.waits() * self.duration / (slots * (1.0 - busy));
        let correction = (1.0 - busy) * (slots - 1.0) * ((4.0 + 5.0 * slots).sqrt() - 2.0) / (16.0 * busy * slots);
        let fixed = 0.5 * (1.0 + correction.min(1.0)) * exponential;
        let square = self.variation * self.variation;
        // A wait so short that it is zero to the last digit has no reciprocal.
        if exponential < f64::MIN_POSITIVE {
            return 0.0;
        }
        (1.0 + square) / (2.0 * square / exponential + (1.0 - square) / fixed)
    }

    /// The wait that this share of the tasks does not exceed. Who waits is taken to wait exponentially long.
    pub fn wait_of(&self, share: f64) -> f64 {
        let (waits, mean) = (self.waits(), self.mean_wait());
        if !mean.is_finite() {
            return f64::INFINITY;
        }
        if waits <= 1.0 - share {
            return 0.0;
        }
        mean / waits * (waits / (1.0 - share)).ln()
    }

    /// The smallest number of slots that is busy for at most `utilisation` of the time and lets `share` of the tasks
    /// start within `wait`.
    pub fn with_enough_slots(mut self, utilisation: f64, share: f64, wait: f64) -> Self {
        self.slots = ((self.offered() / utilisation).ceil() as u64).max(1);
        // Doubled until it suffices, then halved towards the smallest: more slots never make anybody wait longer.
        let mut too_few = self.slots - 1;
        while self.wait_of(share) > wait {
            too_few = self.slots;
            self.slots *= 2;
        }
        while self.slots - too_few > 1 {
            let middle = too_few + (self.slots - too_few) / 2;
            let tried = Self { slots: middle, ..self };
            if tried.utilisation() <= utilisation && tried.wait_of(share) <= wait {
                self.slots = middle;
            } else {
                too_few = middle;
            }
        }
        self
    }
}

/// The smallest number of machines of which, each being up for `up` of the time and apart from the others, `needed`
/// are up for `availability` of the time: the tail of the binomial distribution.
pub fn with_spares(needed: u64, up: f64, availability: f64) -> u64 {
    let mut machines = needed;
    while at_least(needed, machines, up) < availability {
        machines += 1;
    }
    machines
}

/// The probability that at least `needed` of `machines` are up.
fn at_least(needed: u64, machines: u64, up: f64) -> f64 {
    // The terms for 0, 1, 2 … machines down, each from the one before. In logarithms: up^machines underflows.
    let odds = ((1.0 - up) / up).ln();
    let mut term = machines as f64 * up.ln();
    let mut sum = 0.0;
    for down in 0..=machines - needed {
        sum += term.exp();
        term += odds + ((machines - down) as f64 / (down + 1) as f64).ln();
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(utilisation: f64, slots: u64, variation: f64) -> Line {
        Line { rate: utilisation * slots as f64, duration: 1.0, variation, slots }
    }

    #[track_caller]
    fn close(found: f64, wanted: f64) {
        assert!((found / wanted - 1.0).abs() < 0.005, "{found} is not {wanted}");
    }

    #[test]
    fn the_known_values_come_out() {
        // One slot: the share that waits is the utilisation, the mean wait ρ/(1-ρ) exponential, half of it fixed.
        close(line(0.8, 1, 1.0).waits(), 0.8);
        close(line(0.8, 1, 1.0).mean_wait(), 4.0);
        close(line(0.8, 1, 0.0).mean_wait(), 2.0);
        // From printed tables of Erlang C: 10 Erlangs on 12 slots, 2 on 3.
        close(line(10.0 / 12.0, 12, 1.0).waits(), 0.4494);
        close(line(2.0 / 3.0, 3, 1.0).waits(), 0.4444);
        assert_eq!(line(1.0, 4, 1.0).mean_wait(), f64::INFINITY);
        assert_eq!(line(0.0, 4, 1.0).mean_wait(), 0.0);
        assert_eq!(line(0.01, 4000, 1.0).mean_wait(), 0.0);
    }

    #[test]
    fn enough_slots_are_enough_and_one_less_is_not() {
        for rate in [0.1, 3.0, 40.0, 3_000.0] {
            for wait in [0.0, 0.05, 2.0] {
                let asked = Line { rate, duration: 1.0, variation: 1.0, slots: 0 };
                let enough = asked.with_enough_slots(0.85, 0.95, wait);
                let holds = |line: Line| line.utilisation() <= 0.85 && line.wait_of(0.95) <= wait;
                assert!(holds(enough), "{enough:?}");
                if enough.slots > 1 {
                    assert!(!holds(Line { slots: enough.slots - 1, ..enough }), "{enough:?} has one too many");
                }
            }
        }
    }

    #[test]
    fn spares_keep_the_needed_ones_up() {
        close(at_least(1, 2, 0.99), 0.9999);
        close(at_least(2, 3, 0.9), 0.972);
        assert_eq!(with_spares(1, 0.99, 0.9), 1);
        assert_eq!(with_spares(1, 0.99, 0.999), 2);
        assert_eq!(with_spares(10, 0.995, 0.999), 12);
        assert!((1_000..1_030).contains(&with_spares(1_000, 0.995, 0.999)));
    }
}
