//! Expected: how a task must end, worked out from what was submitted and from nothing else.

use serde_json::Value;

use super::history::{Kind, Submission};

/// How a task may end when nobody cancels it.
#[derive(Debug, PartialEq)]
pub enum Ending {
    /// SUCCESS; the result is for [`result_is_right`].
    Success,
    /// FAILED with this code, after this many failed attempts.
    Failed(&'static str, i64),
}

/// How this one must end.
pub fn ending(kind: &Kind) -> Ending {
    match kind {
        Kind::Vector { .. }
        | Kind::Sleep { .. }
        | Kind::Command { .. }
        | Kind::Leased { .. }
        | Kind::IgnoreStop { .. } => Ending::Success,
        Kind::Fail { times, max_attempts } if times < max_attempts => Ending::Success,
        Kind::Fail { max_attempts, .. } => Ending::Failed("asked_to_fail", *max_attempts),
        Kind::Poison { .. } => Ending::Failed("worker_lost", 0),
    }
}

/// Whether this is the result of that submission.
pub fn result_is_right(submission: &Submission, result: &Value) -> bool {
    match &submission.kind {
        Kind::Vector { vectors } => {
            let norms: Vec<f64> =
                vectors.iter().map(|vector| vector.iter().map(|x| x * x).sum::<f64>().sqrt()).collect();
            let close = |field: &str, expected: f64| {
                result[field].as_f64().is_some_and(|found| (found - expected).abs() <= 1e-9 * expected.abs().max(1.0))
            };
            let dimensions = vectors[0].len();
            let chunks = vectors.len().div_ceil((65_536 / dimensions).clamp(1, 256));
            result["processed_vectors"] == vectors.len()
                && result["dimensions"] == dimensions
                && result["chunks"] == chunks
                && result["skipped_chunks"] == 0
                && result["status"] == "indexed"
                && result["metadata"] == submission.body["metadata"]
                && close("norm_min", norms.iter().copied().fold(f64::INFINITY, f64::min))
                && close("norm_max", norms.iter().copied().fold(0.0, f64::max))
                && close("norm_mean", norms.iter().sum::<f64>() / norms.len() as f64)
        }
        // Each step once, however often the task was taken up again.
        Kind::Sleep { steps } => *result == serde_json::json!({"steps": steps, "sum": steps * (steps + 1) / 2}),
        Kind::Command { n } => *result == serde_json::json!({"sum": n * (n + 1) / 2}),
        Kind::Leased { steps, .. } => result["steps"] == *steps && result["sum"] == steps * (steps + 1) / 2,
        Kind::Fail { times, .. } => *result == serde_json::json!({"attempt": times + 1}),
        Kind::IgnoreStop { ms } => *result == serde_json::json!({"ms": ms}),
        Kind::Poison { .. } => false,
    }
}
