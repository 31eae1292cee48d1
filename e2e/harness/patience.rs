//! Patience: waiting for something to become true, up to a deadline.

use std::time::{Duration, Instant};

/// For what normally takes a second or two: the machine may be busy, so the deadline is far off. It costs time only
/// when the test fails.
pub const LONG: Duration = Duration::from_secs(30);
/// Between two looks.
const STEP: Duration = Duration::from_millis(20);

/// Looks again and again until `look` finds something; fails the test at the deadline.
#[track_caller]
pub fn until<T>(what: &str, within: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < within, "waited {within:?} for this in vain: {what}");
        std::thread::sleep(STEP);
    }
}
