//! Access: who may use a route. Every method of the table of routes names one of these words, so none can forget it.

use actix_web::{
    Error, HttpMessage, HttpResponse,
    body::{EitherBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::{
        Method,
        header::{CONTENT_LENGTH, TRANSFER_ENCODING},
    },
    middleware::Next,
    web::Data,
};

use super::{
    Api, auth, body,
    caller::Ends,
    problem::{Code, Problem},
    same_site, stream,
};
use crate::core::model::Role;

/// Who may use a route. An administrator may use all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everybody, without a word.
    Public,
    /// Whoever is known, whatever the role.
    Known,
    /// These roles.
    Only(&'static [Role]),
}

/// Everybody.
pub const PUBLIC: Access = Access::Public;
/// Every caller that is known.
pub const KNOWN: Access = Access::Known;
/// Tasks: their owners'.
pub const USER: Access = Access::Only(&[Role::User]);
/// How much there is to do: for those who submit, and for Prometheus and the like.
pub const LOOK: Access = Access::Only(&[Role::User, Role::Monitor]);
/// For autoscalers and Prometheus.
pub const MONITOR: Access = Access::Only(&[Role::Monitor]);
/// For workers that speak HTTP.
pub const WORKER: Access = Access::Only(&[Role::Worker]);
/// What changes other people's tasks, or stops a queue.
pub const ADMIN: Access = Access::Only(&[]);

impl Access {
    /// Whether a known caller of this role may come in.
    pub fn admits(self, role: Role) -> bool {
        match self {
            Access::Public | Access::Known => true,
            Access::Only(roles) => role == Role::Admin || roles.contains(&role),
        }
    }

    /// What the description of an operation says of it.
    pub fn in_words(self) -> String {
        match self {
            Access::Public => String::new(),
            Access::Known => " For every role.".to_owned(),
            Access::Only(roles) => {
                let roles: Vec<&str> = roles.iter().map(|role| role.as_str()).chain(["admin"]).collect();
                format!(" For: {}.", roles.join(", "))
            }
        }
    }
}

/// Finds out who asks, before anything else of the request is looked at, and leaves the [`Caller`](super::caller::Caller)
/// for the handler. No answer is held for longer than its caller may be here: neither a long poll nor a worker's wait for
/// tasks. What goes on after the head of an answer, a stream, looks after that itself.
pub async fn check<B: MessageBody + 'static>(
    access: Access,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    let ends = match judge(access, &request).await {
        Ok(None) => return Ok(next.call(request).await?.map_into_left_body()),
        Ok(Some(ends)) => ends,
        Err(problem) => return refuse(request, problem).await,
    };
    let asked = request.request().clone();
    tokio::select! {
        // Most answers are there before anything else is looked at.
        biased;
        answer = next.call(request) => Ok(answer?.map_into_left_body()),
        // The handler is dropped, as when its client has gone.
        () = ends.come() => {
            let refused = HttpResponse::from_error(auth::no_longer());
            Ok(ServiceResponse::new(asked, refused).map_into_right_body())
        }
    }
}

/// Until when the caller may be here; `None` for whoever need not say who it is.
async fn judge(access: Access, request: &ServiceRequest) -> Result<Option<Ends>, Problem> {
    if access == Access::Public {
        // Signing in and out is public, and changes something all the same.
        return same_site::check(request.request()).map(|()| None);
    }
    let Some(api) = request.app_data::<Data<Api>>() else {
        return Err(Problem::new(Code::Internal, "The server is not put together."));
    };
    let caller = api.auth.identify(request.request()).await?;
    if !access.admits(caller.role) {
        let detail = format!("This needs another role than {:?}.", caller.role.as_str());
        return Err(Problem::new(Code::Forbidden, detail));
    }
    let ends = caller.ends.clone();
    request.extensions_mut().insert(caller);
    Ok(Some(ends))
}

/// The answer for somebody who may not come in.
async fn refuse<B>(mut request: ServiceRequest, problem: Problem) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    let has_body = [CONTENT_LENGTH, TRANSFER_ENCODING].iter().any(|name| request.headers().contains_key(name));
    if has_body && *request.method() != Method::GET {
        // A client that sends first and reads second is to see this answer, and not a broken connection.
        body::let_it_pass(request.take_payload()).await;
    }
    let later = problem.code() == Code::Unavailable && stream::accepts_events(request.request());
    let response = if later { stream::retry_later() } else { HttpResponse::from_error(problem) };
    Ok(request.into_response(response).map_into_right_body())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_administrator_may_do_whatever_others_may() {
        for access in [PUBLIC, KNOWN, USER, LOOK, MONITOR, WORKER, ADMIN] {
            assert!(access.admits(Role::Admin), "{access:?}");
        }
        assert!(USER.admits(Role::User) && LOOK.admits(Role::User) && LOOK.admits(Role::Monitor));
        assert!(!ADMIN.admits(Role::User) && !USER.admits(Role::Monitor) && !USER.admits(Role::Worker));
        assert!(!MONITOR.admits(Role::User) && MONITOR.admits(Role::Monitor) && !LOOK.admits(Role::Worker));
        assert!(WORKER.admits(Role::Worker) && !WORKER.admits(Role::User));
    }
}
