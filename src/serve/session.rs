//! `GET /session`: who the caller is to this server, and what time it is here.

use actix_web::{HttpResponse, http::header::CACHE_CONTROL};
use chrono::Utc;
use schemars::JsonSchema;
use serde::Serialize;

use super::{caller::Caller, problem::Problem, task_view::Time};

/// The caller's session.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Session")]
pub struct SessionView {
    /// What the caller may do.
    role: &'static str,
    /// The version of the server.
    version: &'static str,
    /// By the server's clock.
    server_time: Time,
    /// Nobody has to sign in here.
    anonymous: bool,
}

/// The handler.
pub async fn session(_caller: Caller) -> Result<HttpResponse, Problem> {
    let view = SessionView {
        role: "admin",
        version: env!("CARGO_PKG_VERSION"),
        server_time: Time(Utc::now()),
        anonymous: true,
    };
    Ok(HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(view))
}
