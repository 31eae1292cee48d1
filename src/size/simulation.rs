//! Simulation: the line played task by task, to see what the formulas of [`queueing`](super::queueing) are worth.

use std::{cmp::Reverse, collections::BinaryHeap};

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::queueing::Line;

/// Tasks of a simulation whose waits do not count: it begins with an empty house.
const WARM_UP: u64 = 20_000;

/// The mean wait of so many tasks that arrive at random and start in the order of their arrival.
pub fn mean_wait(line: Line, tasks: u64, seed: u64) -> f64 {
    let mut random = StdRng::seed_from_u64(seed);
    // When each slot is free again, in whole millionths of a unit of time: numbers that can be ordered.
    let mut free: BinaryHeap<Reverse<u64>> = (0..line.slots).map(|_| Reverse(0)).collect();
    let (mut now, mut waited) = (0.0, 0.0);
    for task in 0..WARM_UP + tasks {
        now += exponential(&mut random) / line.rate;
        let arrives = (now * 1e6) as u64;
        let Reverse(soonest) = free.pop().expect("there is a slot");
        let starts = soonest.max(arrives);
        if task >= WARM_UP {
            waited += (starts - arrives) as f64 / 1e6;
        }
        free.push(Reverse(starts + (duration(&mut random, line) * 1e6) as u64));
    }
    waited / tasks as f64
}

/// Fixed, a mix of fixed and exponential, exponential, or a mix of two exponentials with equal shares of the work.
fn duration(random: &mut StdRng, line: Line) -> f64 {
    let square = line.variation * line.variation;
    let unit = if square <= 1.0 {
        (1.0 - line.variation) + line.variation * exponential(random)
    } else {
        let share = 0.5 * (1.0 + ((square - 1.0) / (square + 1.0)).sqrt());
        let short = random.random::<f64>() < share;
        exponential(random) / (2.0 * if short { share } else { 1.0 - share })
    };
    line.duration * unit
}

fn exponential(random: &mut StdRng) -> f64 {
    -(1.0 - random.random::<f64>()).ln()
}
