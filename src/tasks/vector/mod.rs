//! Vector processing: a built-in type that computes, at a pace.
//!
//! The vectors are cut into chunks, and each chunk is computed ([`math`] says what that is) and, where the operator
//! has set `APP_VECTOR_SINK_URL`, sent to a sink. The duration is cut into steps of at most a second, at
//! least one per chunk; a step may have no chunk, so one vector over 60 s still moves 60 times. Each step ends with
//! progress, a cancellation point and a checkpoint, so a killed or drained task goes on with the next step.
//!
//! The checkpoint holds the position and the running aggregates, never data: it is as small at the end as at the start.

mod input;
pub mod math;
mod sink;

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::time::Instant;

use self::{
    math::{Chunk, Vectors},
    sink::Delivery,
};
use super::{Context, Failure, Finding, TaskKind};
pub use input::{VectorData, VectorInput};

/// A chunk has at most this many vectors …
const CHUNK_VECTORS: usize = 256;
/// … and, unless a single vector is longer, at most this many numbers: some milliseconds of work.
const CHUNK_NUMBERS: usize = 65_536;
/// A chunk of fewer numbers is computed where it stands: it takes some ten microseconds, and to hand it to another
/// thread and wait for its answer would take as long and cost two context switches more.
const INLINE_NUMBERS: usize = 4096;
const LONGEST_STEP: f64 = 1.0;

/// The `vector_processing` type.
#[derive(Debug, Clone, Copy, Default)]
pub struct VectorProcessing;

/// What the task comes to.
#[derive(Debug, Serialize)]
pub struct VectorOutput {
    /// Vectors computed.
    pub processed_vectors: usize,
    /// Components of each.
    pub dimensions: usize,
    /// Chunks computed.
    pub chunks: usize,
    /// Chunks that the sink did not take.
    pub skipped_chunks: usize,
    /// The smallest L2 norm.
    pub norm_min: f64,
    /// The mean of the L2 norms.
    pub norm_mean: f64,
    /// The largest L2 norm.
    pub norm_max: f64,
    /// Always `indexed`.
    pub status: &'static str,
    /// The submitter's own notes.
    pub metadata: Box<RawValue>,
}

/// The checkpoint: steps done, and what came of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Position {
    /// Steps in all. A checkpoint of another plan (another version of this file) is of no use.
    steps: usize,
    done: usize,
    skipped_chunks: usize,
    /// `None` until the first chunk is computed.
    norms: Option<Norms>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Norms {
    min: f64,
    max: f64,
    sum: f64,
}

/// How the work is spread over the steps.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Plan {
    vectors: usize,
    per_chunk: usize,
    chunks: usize,
    steps: usize,
    step: Duration,
}

impl TaskKind for VectorProcessing {
    const NAME: &'static str = "vector_processing";
    const DESCRIPTION: &'static str = "Computes norms, statistics and 8-bit codes of vectors, paced over a duration";
    type Input = VectorInput;
    type Output = VectorOutput;

    fn check(&self, input: &VectorInput) -> Vec<Finding> {
        input.check()
    }

    async fn run(&self, input: VectorInput, ctx: Context) -> Result<VectorOutput, Failure> {
        let duration = input.duration;
        let vectors = Arc::new(input.into_vectors());
        let plan = Plan::new(&vectors, duration);
        let mut position = match ctx.resume::<Position>().filter(|saved| saved.fits(&plan)) {
            Some(saved) => {
                ctx.info(format!("going on after step {} of {}", saved.done, plan.steps));
                saved
            }
            None => Position { steps: plan.steps, done: 0, skipped_chunks: 0, norms: None },
        };
        ctx.step(position.done as u64, plan.steps as u64)?;
        let (began, done_before) = (Instant::now(), position.done);
        while position.done < plan.steps {
            if let Some(number) = plan.chunk_of(position.done) {
                let chunk = compute(&ctx, &vectors, plan.range(number)).await?;
                position.add(&chunk);
                if let Some(sink) = ctx.http().vector_sink()
                    && sink::deliver(&ctx, sink, number, &chunk).await? == Delivery::Skipped
                {
                    position.skipped_chunks += 1;
                }
            }
            // Against the clock and not from step to step, so that computing does not lengthen the whole.
            let step_ends = began + plan.step.mul_f64((position.done + 1 - done_before) as f64);
            if step_ends > Instant::now() {
                ctx.sleep(step_ends - Instant::now()).await?;
            }
            position.done += 1;
            if position.done < plan.steps {
                ctx.checkpoint(&position)?;
            }
            ctx.step(position.done as u64, plan.steps as u64)?;
        }
        let norms = position.norms.unwrap_or(Norms { min: 0.0, max: 0.0, sum: 0.0 });
        let output = VectorOutput {
            processed_vectors: plan.vectors,
            dimensions: vectors.dimensions(),
            chunks: plan.chunks,
            skipped_chunks: position.skipped_chunks,
            norm_min: norms.min,
            norm_mean: norms.sum / plan.vectors as f64,
            norm_max: norms.max,
            status: "indexed",
            metadata: ctx.metadata().to_owned(),
        };
        ctx.info(format!(
            "indexed {} of {} in {}, {} skipped",
            counted(plan.vectors, "vector"),
            counted(output.dimensions, "dimension"),
            counted(plan.chunks, "chunk"),
            output.skipped_chunks
        ));
        Ok(output)
    }
}

async fn compute(ctx: &Context, vectors: &Arc<Vectors>, (from, to): (usize, usize)) -> Result<Chunk, Failure> {
    let numbers = vectors.range(from, to);
    if numbers.len() <= INLINE_NUMBERS {
        return Ok(math::process(numbers, vectors.dimensions()));
    }
    let vectors = vectors.clone();
    ctx.compute(move |_| Ok(math::process(vectors.range(from, to), vectors.dimensions()))).await
}

impl Plan {
    fn new(vectors: &Vectors, seconds: f64) -> Self {
        let per_chunk = (CHUNK_NUMBERS / vectors.dimensions()).clamp(1, CHUNK_VECTORS);
        let chunks = vectors.count().div_ceil(per_chunk);
        let steps = ((seconds / LONGEST_STEP).ceil() as usize).max(chunks);
        let step = Duration::from_secs_f64(seconds).div_f64(steps as f64);
        Self { vectors: vectors.count(), per_chunk, chunks, steps, step }
    }

    /// The chunk that this step computes. Chunks are spread evenly, the first one in the first step.
    fn chunk_of(&self, step: usize) -> Option<usize> {
        let before = |step: usize| (step * self.chunks).div_ceil(self.steps);
        (before(step) < before(step + 1)).then(|| before(step))
    }

    fn range(&self, chunk: usize) -> (usize, usize) {
        (chunk * self.per_chunk, ((chunk + 1) * self.per_chunk).min(self.vectors))
    }
}

impl Position {
    fn fits(&self, plan: &Plan) -> bool {
        self.steps == plan.steps && self.done < plan.steps && (self.done == 0 || self.norms.is_some())
    }

    fn add(&mut self, chunk: &Chunk) {
        for norm in &chunk.norms {
            let so_far = self.norms.unwrap_or(Norms { min: *norm, max: *norm, sum: 0.0 });
            self.norms = Some(Norms { min: so_far.min.min(*norm), max: so_far.max.max(*norm), sum: so_far.sum + norm });
        }
    }
}

fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

#[cfg(test)]
mod tests;
