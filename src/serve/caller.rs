//! The caller: who asks, and which task the path names.
//!
//! Until a sign-in is configured, every caller is an administrator without a name; [`Application::build`] accepts that
//! on loopback only.
//!
//! [`Application::build`]: super::Application::build

use std::future::{Ready, ready};

use actix_web::{FromRequest, HttpRequest, dev::Payload};

use super::problem::Problem;
use crate::core::model::{Scope, TaskId};

/// Who asks.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The name that its tasks carry.
    pub owner: Option<String>,
    /// The tasks that it may see.
    pub scope: Scope,
}

impl FromRequest for Caller {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(_: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Ok(Self { owner: None, scope: Scope::All }))
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
