//! Health: whether this process lives, whether it is of use just now, and what it counts.

use std::time::Duration;

use actix_web::{HttpResponse, http::header::CONTENT_TYPE, web::Data};
use serde_json::json;

use super::{
    Api,
    caller::Caller,
    problem::{Code, Problem},
};
use crate::metrics;

/// PostgreSQL must answer within this.
const PATIENCE: Duration = Duration::from_secs(2);
/// The hub turns at least every few seconds; this long without is a process that hangs.
const HUNG: Duration = Duration::from_secs(60);

/// `GET /livez`: the process's own loops turn. Never a dependency: a restart would not bring PostgreSQL back.
pub async fn livez(api: Data<Api>) -> Result<HttpResponse, Problem> {
    live(&api)?;
    Ok(HttpResponse::Ok().json(json!({"status": "ok"})))
}

/// Whether the loops turn.
pub(super) fn live(api: &Api) -> Result<(), Problem> {
    if api.hub.last_turn() > HUNG {
        return Err(Problem::new(Code::Unavailable, "The hub of this process has stopped turning."));
    }
    Ok(())
}

/// `GET /readyz`: PostgreSQL answers and has our schema. Without Redis tasks start later, and nothing else.
pub async fn readyz(api: Data<Api>) -> Result<HttpResponse, Problem> {
    ready(&api).await?;
    let redis = if api.core.redis_answers().await { "ok" } else { "degraded" };
    Ok(HttpResponse::Ok().json(json!({"status": "ok", "postgres": "ok", "redis": redis})))
}

/// Whether the process is of use now.
pub(super) async fn ready(api: &Api) -> Result<(), Problem> {
    if api.closing.is_cancelled() {
        return Err(Problem::new(Code::Unavailable, "This process is shutting down."));
    }
    match tokio::time::timeout(PATIENCE, api.core.ready()).await {
        Ok(Ok(())) => Ok(()),
        // Also a schema that is behind or not there yet: not a failure of this program, but not ready either.
        Ok(Err(error)) => {
            tracing::warn!("not ready: {error}");
            let detail = match error.is_behind() {
                true => "The schema of the database is behind this program: run app migrate.",
                false => "PostgreSQL cannot be reached: the log has the reason.",
            };
            Err(Problem::new(Code::Unavailable, detail))
        }
        Err(_) => Err(Problem::new(Code::Unavailable, "PostgreSQL did not answer within 2 s.")),
    }
}

/// `GET /metrics`: what this process counts, for Prometheus; where `APP_ADMIN_BIND` is set, it is there and not here.
pub async fn metrics(api: Data<Api>, _caller: Caller) -> Result<HttpResponse, Problem> {
    if api.has_admin {
        return Err(Problem::new(Code::PathNotFound, "The metrics of this server are at its admin address."));
    }
    Ok(HttpResponse::Ok().insert_header((CONTENT_TYPE, metrics::CONTENT_TYPE)).body(api.core.scrape().await))
}
