//! Sink: where the chunks of `vector_processing` go when `APP_VECTOR_SINK_URL` is set.
//!
//! A chunk is POSTed with retries, under the breaker that all tasks of the process share. A sink that is down must
//! not hold up the computation: what it does not take is skipped, with a WARNING and a count in the result.

use std::time::Duration;

use serde::Serialize;

use super::math::Chunk;
use crate::{
    core::model::RetryPolicy,
    tasks::{
        Context, Failure,
        outbound::{Abort, Endpoint, Limits, OutboundError, Request, Response, retry},
    },
};

/// One chunk more often than the breaker takes to open: a sink that is down opens it within its first chunk.
const RETRY: RetryPolicy =
    RetryPolicy { max_attempts: 6, initial: Duration::from_millis(200), longest: Duration::from_secs(5) };
/// No chunk waits longer than this for a sink that asks for patience.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
const LIMITS: Limits = Limits {
    total: Duration::from_secs(10),
    resolve: Duration::from_secs(3),
    connect: Duration::from_secs(3),
    silence: Duration::from_secs(10),
    max_bytes: 64 * 1024,
};

/// What became of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// The sink has it.
    Taken,
    /// The sink does not have it; the log says why.
    Skipped,
}

/// The body of the POST.
#[derive(Serialize)]
struct ChunkBody<'a> {
    task_id: String,
    /// From 0.
    chunk: usize,
    dimensions: usize,
    norms: &'a [f64],
    mean: Vec<f64>,
    min: Vec<f64>,
    max: Vec<f64>,
    /// One array of 0..255 per vector.
    codes: Vec<&'a [u8]>,
}

/// POSTs a chunk until the sink takes it, refuses it, or the breaker opens. Fails only when the attempt is asked to
/// stop.
pub async fn deliver(
    ctx: &Context,
    sink: &std::sync::Arc<Endpoint>,
    number: usize,
    chunk: &Chunk,
) -> Result<Delivery, Failure> {
    let body = encode(ctx, number, chunk)?;
    let mut failures = 0;
    let why = loop {
        let Some(pass) = sink.breaker.admit() else {
            break "the sink has failed too often just now, and is left alone for a minute".to_owned();
        };
        let answer = post(ctx, sink.clone(), number, body.clone()).await?;
        let (why, asked_for) = match judge(answer) {
            Verdict::Taken => {
                pass.succeeded();
                return Ok(Delivery::Taken);
            }
            Verdict::Refused(why) => {
                pass.succeeded();
                break why;
            }
            Verdict::Failed(why, asked_for) => {
                pass.failed();
                (why, asked_for)
            }
        };
        failures += 1;
        match retry::wait_before_next(&RETRY, failures, asked_for.map(|wait| wait.min(LONGEST_WAIT))) {
            Some(wait) => ctx.sleep(wait).await?,
            None => break why,
        }
    };
    ctx.warn(format!("chunk {} is skipped: {why}", number + 1));
    Ok(Delivery::Skipped)
}

enum Verdict {
    Taken,
    /// Another try would be refused alike, but the sink is alive.
    Refused(String),
    Failed(String, Option<Duration>),
}

fn judge(answer: Result<Response, OutboundError>) -> Verdict {
    match answer {
        Ok(response) => match response.status {
            200..=299 => Verdict::Taken,
            408 | 425 | 429 | 500..=599 => {
                Verdict::Failed(format!("the sink answered {}", response.status), response.retry_after())
            }
            status => Verdict::Refused(format!("the sink answered {status}")),
        },
        // An answer came, and a large one at that: what the sink says of a chunk that it took is not needed.
        Err(OutboundError::TooLarge { .. } | OutboundError::UnknownEncoding) => Verdict::Taken,
        Err(error) => Verdict::Failed(error.to_string(), None),
    }
}

/// The outer result tells that the attempt is to stop.
async fn post(
    ctx: &Context,
    sink: std::sync::Arc<Endpoint>,
    number: usize,
    body: Vec<u8>,
) -> Result<Result<Response, OutboundError>, Failure> {
    let abort = Abort::default();
    let _cut_off_with_this_future = abort.on_drop();
    let posted = ctx.blocking(move |ctx| {
        let request = Request::post_json(&sink.url, body)
            .step_of(ctx.task_id(), &format!("chunk-{number}"), ctx.delivery())
            .limits(LIMITS)
            .abort_with(&abort);
        Ok(sink.client.send(&request))
    });
    tokio::select! {
        () = ctx.stopped() => Err(Failure::Stopped),
        answer = posted => answer,
    }
}

fn encode(ctx: &Context, number: usize, chunk: &Chunk) -> Result<Vec<u8>, Failure> {
    let dimensions = chunk.dimensions.len();
    Ok(serde_json::to_vec(&ChunkBody {
        task_id: ctx.task_id().to_string(),
        chunk: number,
        dimensions,
        norms: &chunk.norms,
        mean: chunk.dimensions.iter().map(|dimension| dimension.mean).collect(),
        min: chunk.dimensions.iter().map(|dimension| dimension.min).collect(),
        max: chunk.dimensions.iter().map(|dimension| dimension.max).collect(),
        codes: chunk.codes.chunks_exact(dimensions).collect(),
    })?)
}
