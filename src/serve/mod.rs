//! Serve: the HTTP role. Handlers extract, call [`Core`] and convert; there is no SQL and no Redis in this room, and
//! no handler runs a task.
//!
//! In reading order: [`routes`] is the whole table; [`frame`] and [`compress`] stand around every request, [`access`],
//! [`auth`] and [`same_site`] find out who asks and who may; [`session`] lets browsers sign in; [`body`],
//! [`json`], [`admission`] and [`submit`] let a task in; [`read`], [`list`], [`logs`], [`timeline`] and [`task_view`]
//! show it; [`hub`], [`stream`] and [`wait`] follow it; [`types`] and [`declare`] are the kinds of tasks, [`lease`]
//! gives them to HTTP workers; [`bulk`] acts on many; [`outlook`], [`panorama`], [`queues`] and [`workers`] show the
//! whole, and [`events`] tells it as it changes; [`problem`] is every error; [`openapi`] describes all of it to programs,
//! [`docs`] shows that to people, and [`dashboard`] shows them everything.

pub mod access;
pub mod admission;
pub mod auth;
pub mod body;
pub mod bulk;
pub mod caller;
pub mod compress;
pub mod cursor;
pub mod dashboard;
pub mod declare;
pub mod docs;
mod doorbells;
pub mod events;
pub mod frame;
pub mod health;
#[cfg(test)]
mod hostile;
pub mod hub;
pub mod idempotency;
pub mod json;
pub mod lease;
mod line;
pub mod list;
pub mod logs;
pub mod look;
pub mod memo;
pub mod openapi;
pub mod options;
pub mod outlook;
pub mod panorama;
pub mod problem;
pub mod query;
pub mod queues;
pub mod read;
pub mod routes;
pub mod same_site;
pub mod session;
pub mod sse;
pub mod stream;
pub mod streams;
pub mod submit;
pub mod task_view;
pub mod timeline;
pub mod types;
pub mod wait;
pub mod workers;

use std::{any::Any, collections::BTreeSet, net::SocketAddr, sync::Arc, time::Duration};

use actix_web::{
    App, HttpServer,
    dev::{Extensions, Server},
    middleware::from_fn,
    web,
};
use anyhow::Context;
use rustls::ServerConfig;
use tokio::{net::TcpStream, runtime::Handle};
use tokio_util::sync::CancellationToken;

use crate::{
    admin::Probes,
    config::{self, SettingError},
    core::{Core, Counting, model::Task},
    shutdown::Shutdown,
    tasks::Registry,
    tls,
};
use auth::{Auth, tokens::Tokens};
use hub::Hub;
use lease::{bench::Bench, turns::Turns};
use outlook::Outlook;
use panorama::Panorama;
use streams::Streams;
use types::Types;

/// Connections that the kernel keeps for us while we are busy accepting others.
const BACKLOG: u32 = 4096;
/// A client must have sent its headers this long after connecting.
const SLOWEST_HEADERS: Duration = Duration::from_secs(10);
/// An idle connection is kept this long: longer than the usual proxy's, so that the proxy closes first and never
/// sends a request into a connection that is just being closed.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// Requests in flight may take this long after the first signal.
const LAST_REQUESTS: Duration = Duration::from_secs(20);
/// What was sent must be taken by the client within this, or the connection is cut: a stream whose reader has stalled
/// can be resumed, and must not be held for ever.
const STALLED: Duration = Duration::from_secs(30);

/// What all handlers of a process share.
pub struct Api {
    /// Where every verb goes.
    pub core: Core,
    /// Who may come in.
    pub auth: Arc<Auth>,
    /// The task types, and the description of the API that goes with them.
    pub types: Arc<Types>,
    /// Where HTTP workers wait for work.
    pub bench: Arc<Bench>,
    /// Who waits for what.
    pub hub: Arc<Hub>,
    /// How deep the queues are, and what waiting tasks are told.
    pub outlook: Arc<Outlook>,
    /// What all dashboards see.
    pub panorama: Panorama,
    /// Outlives the server's own threads, and what they serve.
    pub runtime: Handle,
    /// A place for each stream.
    pub streams: Arc<Streams>,
    /// Largest request body in bytes.
    pub max_body: usize,
    /// Largest result of an HTTP worker in bytes.
    pub max_result: usize,
    /// Whose turn it is to write lines for HTTP workers.
    pub log_turns: Turns,
    /// Tasks that may wait in one queue.
    pub max_queue_depth: u64,
    /// What one caller may submit.
    pub rate_limit: Option<config::RateLimit>,
    /// Probes and metrics have an address of their own.
    pub has_admin: bool,
    /// Set when the process leaves: streams end, long polls answer.
    pub closing: CancellationToken,
}

impl Api {
    /// HTTP workers that wait for tasks like these are looked after at once.
    fn look_for_workers(&self, tasks: &[Task]) {
        let queues: BTreeSet<&str> = tasks.iter().map(|task| task.queue.as_str()).collect();
        queues.into_iter().for_each(|queue| self.bench.rung(queue));
    }
}

/// Lets the kernel close the connection when the client takes nothing for [`STALLED`] (`TCP_USER_TIMEOUT`, tcp(7),
/// which also covers a window that stays closed). Where the system has no such option, stalled readers stay until they
/// leave.
fn cut_off_when_stalled(connection: &dyn Any, _: &mut Extensions) {
    let plain = connection.downcast_ref::<TcpStream>();
    let encrypted = connection.downcast_ref::<tokio_rustls::server::TlsStream<TcpStream>>();
    #[cfg(target_os = "linux")]
    if let Some(stream) = plain.or_else(|| encrypted.map(|stream| stream.get_ref().0))
        && let Err(error) = socket2::SockRef::from(stream).set_tcp_user_timeout(Some(STALLED))
    {
        tracing::debug!(%error, "a connection goes without a limit for stalled readers");
    }
}

/// Who comes in and how, as far as the settings alone say it: what is wrong with them is told before anything is waited for.
pub struct Entrance {
    http: config::Http,
    tls: Option<ServerConfig>,
    tokens: Option<Arc<Tokens>>,
}

impl Entrance {
    /// Reads the certificate and the keys of the identity provider, where there are any.
    pub async fn prepare(http: config::Http) -> anyhow::Result<Self> {
        let tls = match (&http.tls_cert, &http.tls_key) {
            (Some(certificate), Some(key)) => Some(
                tls::server(certificate, key)
                    .map_err(|why| SettingError::new(format!("APP_TLS_CERT, APP_TLS_KEY: {why:#}")))?,
            ),
            _ => None,
        };
        let tokens = Tokens::new(&http.tokens).await?;
        Ok(Self { http, tls, tokens })
    }
}

/// A server that is bound and does not answer yet.
pub struct Application {
    server: Server,
    address: SocketAddr,
    api: web::Data<Api>,
    core: Core,
    auth: Arc<Auth>,
    hub: Arc<Hub>,
    types: Arc<Types>,
    closing: CancellationToken,
}

impl Application {
    /// Reads the keys and binds. Must be called on the runtime that outlives the server, since the hub reads there.
    pub async fn build(
        core: Core,
        registry: Arc<Registry>,
        entrance: Entrance,
        admin: &config::Admin,
        tasks: &config::Tasks,
    ) -> anyhow::Result<Self> {
        let Entrance { http, tls, tokens } = entrance;
        let auth = Arc::new(Auth::new(&core.store, &http, tokens).await?);
        let runtime = Handle::try_current().context("serve needs a tokio runtime")?;
        let hub = Hub::new(core.clone(), runtime.clone());
        let outlook = Outlook::new(core.clone(), runtime.clone());
        let types = Arc::new(Types::new(core.clone(), Registry::clone(&registry)));
        let closing = CancellationToken::new();
        core.count_queues(Counting::Always);
        core.metrics.http.expect(registry.names(), http.max_streams);
        let api = web::Data::new(Api {
            core: core.clone(),
            auth: auth.clone(),
            types: types.clone(),
            bench: Bench::new(core.clone(), runtime.clone()),
            hub: hub.clone(),
            outlook,
            panorama: Panorama::new(&core.store)?,
            runtime,
            streams: Streams::new(http.max_streams, http.max_streams_per_caller, http.max_dashboards_per_caller),
            max_body: http.max_body,
            max_result: tasks.max_result,
            log_turns: Turns::default(),
            max_queue_depth: http.max_queue_depth,
            rate_limit: http.rate_limit,
            has_admin: admin.admin_bind.is_some(),
            closing: closing.clone(),
        });
        let shared = api.clone();
        let workers = std::thread::available_parallelism().map_or(2, usize::from);
        let server = HttpServer::new(move || {
            App::new()
                .app_data(api.clone())
                .wrap(from_fn(compress::compress))
                .wrap(from_fn(frame::frame))
                .configure(routes::all)
        })
        .backlog(BACKLOG)
        .max_connections(http.max_connections.div_ceil(workers))
        .workers(workers)
        .keep_alive(KEEP_ALIVE)
        .client_request_timeout(SLOWEST_HEADERS)
        // A client that has left ends its stream at once, and not with the next thing that is written to it.
        .h1_allow_half_closed(false)
        .on_connect(cut_off_when_stalled)
        .shutdown_timeout(LAST_REQUESTS.as_secs())
        .disable_signals();
        let server = match tls {
            Some(settings) => server.bind_rustls_0_23(http.bind, settings),
            None => server.bind(http.bind),
        };
        let server = server.with_context(|| {
            format!("cannot listen on {}: choose another APP_BIND or stop what listens there", http.bind)
        })?;
        let address = *server.addrs().first().context("the server has no address")?;
        Ok(Self { server: server.run(), address, api: shared, core, auth, hub, types, closing })
    }

    /// Where it listens: the port that the system chose when port 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What the admin listener asks.
    pub fn probes(&self) -> Probes {
        let (live, ready) = (self.api.clone(), self.api.clone());
        Probes {
            live: Arc::new(move || {
                let live = health::live(&live).map_err(|problem| problem.to_string());
                Box::pin(std::future::ready(live))
            }),
            ready: Arc::new(move || {
                let api = ready.clone();
                Box::pin(async move { health::ready(&api).await.map_err(|problem| problem.to_string()) })
            }),
        }
    }

    /// Answers until the first signal; then accepts nothing new, ends streams and long polls at once, and finishes the
    /// requests in flight, for at most 20 s or until the second signal.
    pub async fn run_until_stopped(self, shutdown: Shutdown) -> anyhow::Result<()> {
        self.types.begin().await;
        let handle = self.server.handle();
        let closing = self.closing.clone();
        let hub = tokio::spawn(self.hub.run(closing.clone()));
        let types = tokio::spawn(self.types.run(closing.clone()));
        let doorbells = tokio::spawn(doorbells::run(self.core.clone(), closing.clone()));
        let leave = shutdown.leave.clone();
        let keys = tokio::spawn(self.auth.keep_fresh());
        let stopper = tokio::spawn(async move {
            tokio::select! {
                () = shutdown.drain.cancelled() => {}
                () = shutdown.leave.cancelled() => {}
            }
            closing.cancel();
            tokio::select! {
                () = handle.stop(true) => {}
                () = shutdown.leave.cancelled() => handle.stop(false).await,
            }
        });
        let served = self.server.await;
        // Also when the server ended by itself: nothing of it goes on.
        self.closing.cancel();
        stopper.abort();
        doorbells.abort();
        types.abort();
        keys.abort();
        hub.await.context("the hub panicked")?;
        tokio::select! {
            () = self.core.flushed() => {}
            () = leave.cancelled() => {}
        }
        served.context("the server failed")
    }
}
