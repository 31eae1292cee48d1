//! The caller: who asks, and which task the path names.
//!
//! [`access`](super::access) finds out who asks before a handler runs. Without a single key, and without tokens, every
//! caller is an administrator without a name; [`Application::build`](super::Application::build) accepts that on loopback
//! only.

use std::{
    future::{Ready, ready},
    time::Duration,
};

use actix_web::{FromRequest, HttpMessage, HttpRequest, dev::Payload};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::problem::{Code, Problem};
use crate::core::model::{Role, Scope, TaskId};

/// Who asks.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The name that its tasks carry; nobody has signed in without one.
    pub owner: Option<String>,
    /// What it may do.
    pub role: Role,
    /// The tasks that it may see.
    pub scope: Scope,
    /// How it was recognised.
    pub sign_in: SignIn,
    /// Until when.
    pub ends: Ends,
}

/// How a caller was recognised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignIn {
    /// Not at all: the server is open.
    Anonymous,
    /// By the key with this id.
    Key(String),
    /// By the session with this id.
    Session(String),
    /// By a token of the identity provider.
    Token,
}

/// The end of a caller's right to be here. Whatever outlives its request (a stream, a long poll) ends with it.
#[derive(Debug, Clone)]
pub struct Ends {
    revoked: CancellationToken,
    expires: Option<Instant>,
}

impl Ends {
    /// When this is cancelled.
    pub fn with(revoked: CancellationToken) -> Self {
        Self { revoked, expires: None }
    }

    /// At this moment.
    pub fn at(expires: Instant) -> Self {
        Self { revoked: CancellationToken::new(), expires: Some(expires) }
    }

    /// How long until then, where that is known.
    pub fn left(&self) -> Option<Duration> {
        self.expires.map(|expires| expires.saturating_duration_since(Instant::now()))
    }

    /// Whether it is there.
    pub fn have_come(&self) -> bool {
        self.revoked.is_cancelled() || self.expires.is_some_and(|expires| expires <= Instant::now())
    }

    /// Waits for it.
    pub async fn come(&self) {
        match self.expires {
            None => self.revoked.cancelled().await,
            Some(expires) => tokio::time::sleep_until(expires).await,
        }
    }
}

impl Caller {
    /// Somebody with a name: an administrator sees all tasks, everybody else their own.
    pub fn new(owner: String, role: Role, sign_in: SignIn, ends: Ends) -> Self {
        let scope = match role {
            Role::Admin => Scope::All,
            Role::User | Role::Monitor | Role::Worker => Scope::Owner(owner.clone()),
        };
        Self { owner: Some(owner), role, scope, sign_in, ends }
    }

    /// Anybody, where the server is open.
    pub fn anonymous(ends: Ends) -> Self {
        Self { owner: None, role: Role::Admin, scope: Scope::All, sign_in: SignIn::Anonymous, ends }
    }
}

impl FromRequest for Caller {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let caller = request.extensions().get::<Caller>().cloned();
        ready(caller.ok_or_else(|| Problem::new(Code::Internal, "A public route asks for its caller.")))
    }
}

/// The task that `{id}` in the path names. What is no id is answered like an id that nobody has.
#[derive(Debug, Clone, Copy)]
pub struct Named(pub TaskId);

impl FromRequest for Named {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let id = request.match_info().get("id").and_then(|text| text.parse().ok());
        ready(id.map(Named).ok_or_else(Problem::task_not_found))
    }
}
