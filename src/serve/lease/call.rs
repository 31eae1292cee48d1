//! Call: the frame of all that a worker says of a task that it holds. The path names the task, the body shows the
//! token, and before anything is done it is asked how the token stands.

use std::time::Duration;

use actix_web::{
    FromRequest, HttpRequest, HttpResponse,
    dev::Payload,
    web::{self, Data},
};
use futures_util::future::{FutureExt, LocalBoxFuture};
use serde::de::DeserializeOwned;

use super::{
    super::{
        Api,
        caller::{Caller, Named},
        problem::{Code, Problem},
    },
    body::{CheckpointBody, CompleteBody, FailBody, HeartbeatBody, LogBody, ProgressBody, read, wrong},
};
use crate::core::{
    Held,
    model::{
        LeaseToken, RetryPolicy, TaskError, TaskId,
        allowance::{MAX_CHECKPOINT_BYTES, TooLarge},
    },
    store::{Ending, Finish, LeaseStanding, Report},
};

/// A body that shows a token.
pub trait Shows {
    /// The token, as it was sent.
    fn lease_token(&self) -> &str;

    /// How many bytes it may need where that is more than bodies usually may have.
    fn room(_: &Api) -> usize {
        0
    }
}

macro_rules! shows {
    ($($body:ty $(, $room:expr)?);+) => { $(impl Shows for $body {
        fn lease_token(&self) -> &str {
            &self.lease_token
        }
        $(fn room(api: &Api) -> usize {
            room_for($room(api))
        })?
    })+ };
}

shows!(HeartbeatBody; ProgressBody; LogBody; FailBody);
shows!(CheckpointBody, |_: &Api| MAX_CHECKPOINT_BYTES; CompleteBody, |api: &Api| api.max_result);

/// What may come in a body, so that something a little too large is judged and not merely refused.
fn room_for(bytes: usize) -> usize {
    2 * bytes + 64 * 1024
}

/// What a worker says of a task.
pub struct Call<T> {
    /// Who says it.
    pub holder: Holder,
    /// What it says.
    pub body: T,
}

/// A worker that shows a token for a task. Whether the token still stands is yet to be asked.
pub struct Holder {
    /// Where it calls.
    pub api: Data<Api>,
    /// The task of the path.
    pub id: TaskId,
    /// The token of the body.
    pub token: LeaseToken,
    /// The owner of the key that the worker has.
    pub owner: Option<String>,
}

impl<T: DeserializeOwned + Shows + 'static> FromRequest for Call<T> {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let (request, payload) = (request.clone(), web::Payload::from_request(request, payload));
        async move {
            let owner = Caller::extract(&request).await?.owner;
            let Named(id) = Named::extract(&request).await?;
            let api = request.app_data::<Data<Api>>().cloned();
            let api = api.ok_or_else(|| Problem::new(Code::Internal, "A call of a worker comes to no server."))?;
            // It takes what is there, and cannot fail.
            let mut payload = payload.await.map_err(|error| Problem::new(Code::Internal, error.to_string()))?;
            let body: T = read(&request, &mut payload, api.max_body.max(T::room(&api))).await?;
            let token = body.lease_token().parse();
            let token = token
                .map_err(|_| wrong("/lease_token", "is not a token of this server: send it as the lease gave it"))?;
            Ok(Self { holder: Holder { api, id, token, owner }, body })
        }
        .boxed_local()
    }
}

impl Holder {
    /// How the token stands.
    pub async fn standing(&self) -> Result<Held<LeaseStanding>, Problem> {
        Ok(self.api.core.lease_standing(self.id, &self.token).await?)
    }

    /// How the delivery stands that is still this worker's, or the answer that it is not.
    pub async fn held(&self) -> Result<LeaseStanding, Problem> {
        running(self.standing().await?)
    }

    /// A report that says nothing yet.
    pub fn nothing(&self) -> Report {
        Report { id: self.id, delivery: self.token.delivery, progress: None, checkpoint: None, lines: Vec::new() }
    }

    /// Writes a report: 204.
    pub async fn report(&self, report: Report) -> Result<HttpResponse, Problem> {
        match self.api.core.report(report).await? {
            Held::Yes(()) => Ok(HttpResponse::NoContent().finish()),
            _ => Err(lost("The task is not leased with this token any more: drop it.")),
        }
    }

    /// Ends the delivery.
    pub async fn end(&self, standing: &LeaseStanding, ending: Ending) -> Result<(), Problem> {
        let finish = Finish { report: self.nothing(), ending, trace_context: None };
        match self.api.core.end_lease(standing, finish).await? {
            Held::Yes(()) => Ok(()),
            _ => Err(lost("The task is not leased with this token any more: what was sent does not count.")),
        }
    }

    /// How long the type's own policy waits before the next attempt.
    pub async fn backoff(&self, standing: &LeaseStanding) -> Duration {
        let kind = self.api.types.find(&standing.task_type).await.ok().flatten();
        let policy = kind.map_or_else(RetryPolicy::default, |kind| kind.defaults().retry);
        policy.backoff(standing.failures + 1, rand::random())
    }
}

/// The end of a delivery that sent more than may be kept.
pub fn failed(too_large: TooLarge, standing: &LeaseStanding) -> Ending {
    let TooLarge { code, message } = too_large;
    Ending::Failed(TaskError { code: code.to_owned(), message, retryable: false, attempt: standing.attempt })
}

/// The delivery that runs, or why it is not this worker's to go on with.
pub fn running(standing: Held<LeaseStanding>) -> Result<LeaseStanding, Problem> {
    match standing {
        Held::Yes(standing) => Ok(standing),
        Held::Cancelled => Err(lost("The task was cancelled: stop working on it.")),
        Held::Already(status) => Err(lost(format!("The delivery has ended: the task is {status}."))),
        Held::No => Err(lost("The task is not leased with this token: drop it, and lease anew.")),
    }
}

/// 409 `lease_lost`.
pub fn lost(detail: impl Into<String>) -> Problem {
    Problem::new(Code::LeaseLost, detail)
}
