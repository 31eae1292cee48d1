//! Admin: a small listener for those who watch the process: `/livez`, `/readyz` and `/metrics` on `APP_ADMIN_BIND`.
//!
//! It knows no callers: bind it where only the orchestrator and Prometheus can reach it. It is there for as long as the
//! process leaves, and says then that it is not ready.

use std::{future::Future, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use actix_web::{App, HttpResponse, HttpServer, dev::ServerHandle, http::header::CONTENT_TYPE, web};
use anyhow::Context;
use tokio::task::JoinHandle;

use crate::{config, core::Core, metrics};

/// Answers that are on their way when the process ends may take this long.
const LAST_ANSWERS: Duration = Duration::from_secs(1);
/// A client must have sent its headers this long after connecting.
const SLOWEST_HEADERS: Duration = Duration::from_secs(5);

/// A question with yes, or what is wrong, for an answer.
pub type Probe = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Result<(), String>>>> + Send + Sync>;

/// What a role says of itself.
#[derive(Clone)]
pub struct Probes {
    /// Its loops turn: a restart would change nothing for the better otherwise.
    pub live: Probe,
    /// It is of use now.
    pub ready: Probe,
}

impl Probes {
    /// Both roles of one process.
    #[must_use]
    pub fn and(self, other: Probes) -> Self {
        fn both(one: Probe, other: Probe) -> Probe {
            Arc::new(move || {
                let (one, other) = (one(), other());
                Box::pin(async { one.await.and(other.await) })
            })
        }
        Self { live: both(self.live, other.live), ready: both(self.ready, other.ready) }
    }
}

/// A listener that answers.
pub struct Admin {
    handle: ServerHandle,
    served: JoinHandle<std::io::Result<()>>,
}

impl Admin {
    /// Binds and answers, where the settings say so.
    pub fn open(settings: &config::Admin, core: &Core, probes: Probes) -> anyhow::Result<Option<Self>> {
        let Some(bind) = settings.admin_bind else { return Ok(None) };
        let core = core.clone();
        let server = HttpServer::new(move || {
            App::new()
                .app_data(web::Data::new((core.clone(), probes.clone())))
                .route("/livez", web::get().to(livez))
                .route("/readyz", web::get().to(readyz))
                .route("/metrics", web::get().to(scrape))
                .default_service(web::to(nothing_here))
        })
        .workers(1)
        .client_request_timeout(SLOWEST_HEADERS)
        .shutdown_timeout(LAST_ANSWERS.as_secs())
        .disable_signals()
        .bind(bind)
        .with_context(|| {
            format!("cannot listen on {bind}: choose another APP_ADMIN_BIND or stop what listens there")
        })?;
        let address: SocketAddr = *server.addrs().first().context("the admin listener has no address")?;
        let server = server.run();
        let handle = server.handle();
        let served = tokio::spawn(server);
        tracing::info!(admin = %address, "probes and metrics are at the admin address");
        Ok(Some(Self { handle, served }))
    }

    /// Stops answering.
    pub async fn close(self) {
        self.handle.stop(true).await;
        if let Ok(Err(error)) = self.served.await {
            tracing::warn!(%error, "the admin listener failed");
        }
    }
}

type Shared = web::Data<(Core, Probes)>;

async fn livez(shared: Shared) -> HttpResponse {
    told((shared.1.live)().await)
}

async fn readyz(shared: Shared) -> HttpResponse {
    told((shared.1.ready)().await)
}

fn told(outcome: Result<(), String>) -> HttpResponse {
    match outcome {
        Ok(()) => HttpResponse::Ok().json(serde_json::json!({"status": "ok"})),
        Err(why) => {
            HttpResponse::ServiceUnavailable().json(serde_json::json!({"status": "unavailable", "reason": why}))
        }
    }
}

async fn scrape(shared: Shared) -> HttpResponse {
    HttpResponse::Ok().insert_header((CONTENT_TYPE, metrics::CONTENT_TYPE)).body(shared.0.scrape().await)
}

async fn nothing_here() -> HttpResponse {
    HttpResponse::NotFound().body("here are /livez, /readyz and /metrics\n")
}
