//! Admission: whether a submit may come in: the caller's rate first, then the depth of its queues.
//!
//! The rate is kept in Redis, so that all replicas agree, and is open while Redis is away. Depth is counted once a
//! second by the [outlook](super::outlook), with this process's own submits since then, so it may be passed by two
//! seconds of traffic; it is a guard against floods, not a promise of an exact number.

use std::collections::HashMap;

use actix_web::{
    HttpRequest,
    http::header::{HeaderMap, HeaderName, HeaderValue},
};

use super::{
    Api,
    caller::Caller,
    problem::{Code, Problem},
};
use crate::{
    config::RateLimit,
    core::{
        model::{NewTask, Submission},
        queue::RateVerdict,
    },
};

/// What is limited and how (IETF draft "RateLimit header fields for HTTP").
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
/// How much is left.
const STANDING: HeaderName = HeaderName::from_static("ratelimit");
/// After how many seconds it is worth trying a full queue again.
const FULL: u64 = 5;

/// A submit that may come in, with what its answer says of the rate.
#[derive(Debug)]
pub struct Admitted(Vec<(HeaderName, HeaderValue)>);

impl Admitted {
    /// Puts the headers into an answer.
    pub fn tell(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.0 {
            headers.insert(name.clone(), value.clone());
        }
    }
}

/// Lets a submission in, or says when to come back. The number of its tasks is what it costs. One whose key has come
/// before makes no tasks: it costs nothing and passes whatever is full, since its sender may know no other way to learn
/// what became of the first. The key is looked up only where something is charged or refused.
pub async fn admit(
    api: &Api,
    caller: &Caller,
    request: &HttpRequest,
    submission: &Submission,
) -> Result<Admitted, Problem> {
    if api.rate_limit.is_some() && is_repeat(api, submission).await {
        return Ok(Admitted(Vec::new()));
    }
    match within_limits(api, caller, request, &submission.tasks).await {
        Err(_) if api.rate_limit.is_none() && is_repeat(api, submission).await => Ok(Admitted(Vec::new())),
        outcome => outcome,
    }
}

/// Where PostgreSQL does not answer, the submit itself will say so.
async fn is_repeat(api: &Api, submission: &Submission) -> bool {
    match &submission.key {
        Some(key) => api.core.store.knows_key(key).await.unwrap_or(false),
        None => false,
    }
}

async fn within_limits(
    api: &Api,
    caller: &Caller,
    request: &HttpRequest,
    tasks: &[NewTask],
) -> Result<Admitted, Problem> {
    let told = match &api.rate_limit {
        None => Vec::new(),
        Some(limit) => within_rate(api, limit, caller, request, tasks.len()).await?,
    };
    let mut queues: HashMap<&str, u64> = HashMap::new();
    tasks.iter().for_each(|task| *queues.entry(&task.queue).or_default() += 1);
    for (queue, new) in &queues {
        let depth = api.outlook.depth(queue, api.max_queue_depth).await.unwrap_or(0);
        if depth + new > api.max_queue_depth {
            let detail = format!(
                "The queue {queue:?} holds {depth} tasks and may hold {}: try again after Retry-After seconds.",
                api.max_queue_depth
            );
            return Err(Problem::new(Code::QueueFull, detail).after(FULL));
        }
    }
    queues.into_iter().for_each(|(queue, new)| api.outlook.submitting(queue, new));
    Ok(Admitted(told))
}

async fn within_rate(
    api: &Api,
    limit: &RateLimit,
    caller: &Caller,
    request: &HttpRequest,
    cost: usize,
) -> Result<Vec<(HeaderName, HeaderValue)>, Problem> {
    // Callers without a name are told apart by their address.
    let who = match &caller.owner {
        Some(owner) => format!("owner {owner}"),
        None => format!("address {}", request.peer_addr().map(|peer| peer.ip().to_string()).unwrap_or_default()),
    };
    let Some(verdict) = api.core.queue.charge(&who, limit, cost as u64).await else { return Ok(Vec::new()) };
    let headers = headers(limit, &verdict);
    match verdict.retry_after {
        None => Ok(headers),
        Some(wait) => {
            let detail = format!("At most {limit} may be submitted: try again after Retry-After seconds.");
            let problem = Problem::new(Code::RateLimited, detail).after(wait.as_millis().div_ceil(1_000).max(1) as u64);
            Err(headers.into_iter().fold(problem, |problem, (name, value)| problem.with_header(name, value)))
        }
    }
}

fn headers(limit: &RateLimit, verdict: &RateVerdict) -> Vec<(HeaderName, HeaderValue)> {
    let policy = format!("\"submit\";q={};w={}", limit.tasks, limit.period.as_secs());
    let reset = verdict.full_in.as_millis().div_ceil(1_000);
    let standing = format!("\"submit\";r={};t={reset}", verdict.left);
    [(POLICY, policy), (STANDING, standing)]
        .into_iter()
        .filter_map(|(name, text)| Some((name, HeaderValue::from_str(&text).ok()?)))
        .collect()
}
