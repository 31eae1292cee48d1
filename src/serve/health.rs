//! Health: whether this process lives, and whether it is of use just now.

use std::time::Duration;

use actix_web::{HttpResponse, web::Data};
use serde_json::json;

use super::{
    Api,
    problem::{Code, Problem},
};

/// PostgreSQL must answer within this.
const PATIENCE: Duration = Duration::from_secs(2);
/// The hub turns at least every few seconds; this long without is a process that hangs.
const HUNG: Duration = Duration::from_secs(60);

/// `GET /livez`: the process's own loops turn. Never a dependency: a restart would not bring PostgreSQL back.
pub async fn livez(api: Data<Api>) -> Result<HttpResponse, Problem> {
    if api.hub.last_turn() > HUNG {
        return Err(Problem::new(Code::Unavailable, "The hub of this process has stopped turning."));
    }
    Ok(HttpResponse::Ok().json(json!({"status": "ok"})))
}

/// `GET /readyz`: PostgreSQL answers and has our schema. Without Redis tasks start later, and nothing else.
pub async fn readyz(api: Data<Api>) -> Result<HttpResponse, Problem> {
    if api.closing.is_cancelled() {
        return Err(Problem::new(Code::Unavailable, "This process is shutting down."));
    }
    match tokio::time::timeout(PATIENCE, api.core.ready()).await {
        Ok(Ok(())) => {}
        // Also a schema that is behind or not there yet: not a failure of this program, but not ready either.
        Ok(Err(error)) => {
            tracing::warn!(%error, "not ready");
            let detail = "PostgreSQL cannot be reached, or its schema is behind this program: the log says which.";
            return Err(Problem::new(Code::Unavailable, detail));
        }
        Err(_) => return Err(Problem::new(Code::Unavailable, "PostgreSQL did not answer within 2 s.")),
    }
    let redis = if api.core.redis_answers().await { "ok" } else { "degraded" };
    Ok(HttpResponse::Ok().json(json!({"status": "ok", "postgres": "ok", "redis": redis})))
}
