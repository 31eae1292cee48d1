//! Connections to PostgreSQL: how they are opened, how long anybody waits for one, and what their errors become.

use std::time::Duration;

use anyhow::Context as _;
use deadpool::managed::PoolError;
use diesel::{ConnectionError, ConnectionResult, result::Error as DieselError};
use diesel_async::{
    AsyncPgConnection,
    pooled_connection::{
        AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod,
        deadpool::{Object, Pool},
    },
};
use futures_util::FutureExt;
use tokio_postgres::Config;

use super::{
    STATEMENT_TIMEOUT, StoreError,
    secure::{self, Secure},
};
use crate::{
    config::{self, SettingError},
    telemetry::calls::Server,
};

/// A dead server is noticed within this time: at connect, and by unanswered packets on an open connection.
const NETWORK_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a caller waits for a free connection of the pool before it hears that the store is busy.
const POOL_TIMEOUT: Duration = Duration::from_secs(5);

/// The other side of the same: PostgreSQL lets go of a client that has vanished. A submit with keys takes several round
/// trips, and one whose machine lost its power in between would hold the locks of its keys until the kernel's own
/// keepalive, hours later. No transaction of this project waits between two statements. A migration's session is idle or
/// at work while it holds its advisory lock, never idle in a transaction, so the first of these does not touch it.
const LET_GO: &str = "-c idle_in_transaction_session_timeout=10s -c tcp_keepalives_idle=10 \
                      -c tcp_keepalives_interval=3 -c tcp_keepalives_count=3 -c tcp_user_timeout=10s";

/// To compile a plan takes longer than a statement of this project should.
const NOT_COMPILED: &str = "-c jit=off";

/// Where to connect, and how securely.
#[derive(Clone)]
pub(super) struct Target {
    config: Config,
    secure: Secure,
}

/// Whether the settings lead to a PostgreSQL, there or not.
pub fn check(postgres: &config::Postgres) -> Result<(), SettingError> {
    parse(postgres).map(drop)
}

/// Reads the URL and adds what every connection of this project has.
pub(super) fn parse(postgres: &config::Postgres) -> Result<Target, SettingError> {
    let (mut config, secure) = secure::parse(postgres.database_url.expose())?;
    if config.get_hosts().is_empty() {
        return Err(SettingError::new(
            "DATABASE_URL names no host: write postgresql://user:password@host:port/database",
        ));
    }
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(NETWORK_TIMEOUT);
    }
    config
        .keepalives(true)
        .keepalives_idle(Duration::from_secs(10))
        .keepalives_interval(Duration::from_secs(3))
        .keepalives_retries(3)
        .tcp_user_timeout(2 * NETWORK_TIMEOUT);
    if config.get_application_name().is_none() {
        config.application_name("longrun");
    }
    // In front of what the URL says, which so has the last word.
    let options = config.get_options().unwrap_or_default().to_owned();
    config.options(format!("{LET_GO} {NOT_COMPILED} {options}").trim_end());
    Ok(Target { config, secure })
}

/// The same, for connections whose statements PostgreSQL itself gives up after `time`.
pub(super) fn limited(target: &Target, time: Duration) -> Target {
    with_option(target, &format!("statement_timeout={}", time.as_millis()))
}

/// The same, for connections on which PostgreSQL keeps plans: by an index, even of a table that is so small that to read
/// it whole costs less. Which index, it still decides by the tables as they are then
/// ([`with_kept_plan`](super::statement::Statement::with_kept_plan)). And by one process: a count that started two more
/// took three times the processor for it.
pub(super) fn by_index(target: &Target) -> Target {
    with_option(target, "enable_seqscan=off -c max_parallel_workers_per_gather=0")
}

fn with_option(target: &Target, option: &str) -> Target {
    let mut target = target.clone();
    let options = target.config.get_options().unwrap_or_default().to_owned();
    target.config.options(format!("{options} -c {option}").trim_start());
    target
}

/// Host, port and database, for messages: never the password.
pub(super) fn describe(target: &Target) -> String {
    let (host, port, database) = place(&target.config);
    format!("PostgreSQL at {host}:{port}, database {database:?}")
}

/// The same, for traces.
pub(super) fn server(target: &Target) -> Server {
    let (host, port, database) = place(&target.config);
    Server::new("postgresql", &host, port, database)
}

fn place(config: &Config) -> (String, u16, &str) {
    let host = match config.get_hosts().first() {
        Some(tokio_postgres::config::Host::Tcp(name)) => name.clone(),
        Some(tokio_postgres::config::Host::Unix(path)) => path.display().to_string(),
        None => "?".to_owned(),
    };
    let port = config.get_ports().first().copied().unwrap_or(5432);
    (host, port, config.get_dbname().unwrap_or("(default)"))
}

/// Opens one connection.
pub(super) async fn connect(target: &Target) -> ConnectionResult<AsyncPgConnection> {
    let opened = target.config.connect(target.secure.clone()).await;
    let (client, connection) = opened.map_err(|error| ConnectionError::BadConnection(explain(&error)))?;
    AsyncPgConnection::try_from_client_and_connection(client, connection).await
}

/// The error with its causes: tokio-postgres says only "db error" or "error connecting to server" by itself.
fn explain(error: &tokio_postgres::Error) -> String {
    if let Some(from_server) = error.as_db_error() {
        return from_server.message().to_owned();
    }
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

/// A pool whose connections live on this runtime and not on the one of whoever asks first: an HTTP worker's runtime
/// ends and stalls with that worker.
pub(super) fn pool(target: &Target, size: usize) -> anyhow::Result<Pool<AsyncPgConnection>> {
    let runtime = tokio::runtime::Handle::current();
    let target = target.clone();
    let mut manager = ManagerConfig::default();
    manager.recycling_method = RecyclingMethod::Fast;
    manager.custom_setup = Box::new(move |_url| {
        let (target, runtime) = (target.clone(), runtime.clone());
        async move {
            // It goes on when whoever asked for it has gone, and connect_timeout is about TCP alone: a server that
            // accepts and says nothing would collect them.
            let connecting = async move { tokio::time::timeout(2 * NETWORK_TIMEOUT, connect(&target)).await };
            match runtime.spawn(connecting).await {
                Ok(Ok(connected)) => connected,
                Ok(Err(_)) => {
                    Err(ConnectionError::BadConnection("it accepts connections and does not answer".to_owned()))
                }
                Err(error) => Err(ConnectionError::BadConnection(error.to_string())),
            }
        }
        .boxed()
    });
    let manager = AsyncDieselConnectionManager::new_with_config("", manager);
    Pool::builder(manager)
        .max_size(size)
        .wait_timeout(Some(POOL_TIMEOUT))
        .create_timeout(Some(2 * NETWORK_TIMEOUT))
        .runtime(deadpool::Runtime::Tokio1)
        .build()
        .context("cannot make the connection pool")
}

/// A connection of the pool. Dropped in the middle of a statement, with its caller or by a time-out, it is thrown away:
/// whoever got it next would wait for what nobody wants any more.
pub(super) struct Borrowed(Option<Object<AsyncPgConnection>>);

impl Borrowed {
    /// Runs one statement, for at most [`STATEMENT_TIMEOUT`].
    pub(super) async fn run<T, E: Into<StoreError>>(
        self,
        statement: impl AsyncFnOnce(&mut AsyncPgConnection) -> Result<T, E>,
    ) -> Result<T, StoreError> {
        self.run_within(STATEMENT_TIMEOUT, statement).await
    }

    /// Runs one statement, or one transaction, for at most `time`.
    pub(super) async fn run_within<T, E: Into<StoreError>>(
        mut self,
        time: Duration,
        statement: impl AsyncFnOnce(&mut AsyncPgConnection) -> Result<T, E>,
    ) -> Result<T, StoreError> {
        let gone = || StoreError::Unavailable("the connection is gone".to_owned());
        let conn = self.0.as_mut().ok_or_else(gone)?;
        match tokio::time::timeout(time, statement(conn)).await {
            Ok(outcome) => {
                // At rest again: back into the pool.
                drop(self.0.take());
                outcome.map_err(E::into)
            }
            Err(_) => Err(StoreError::Unavailable(format!("no answer within {time:?}"))),
        }
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        if let Some(conn) = self.0.take() {
            drop(Object::take(conn));
        }
    }
}

/// Takes a connection out of the pool.
pub(super) async fn acquire(pool: &Pool<AsyncPgConnection>) -> Result<Borrowed, StoreError> {
    pool.get().await.map(|conn| Borrowed(Some(conn))).map_err(|error| match error {
        PoolError::Backend(cause) => StoreError::Unavailable(cause.to_string()),
        PoolError::Timeout(_) => StoreError::Unavailable(format!("no connection was free within {POOL_TIMEOUT:?}")),
        other => StoreError::Unavailable(other.to_string()),
    })
}

/// The same, with less patience: `None` when none was free in time.
pub(super) async fn acquire_within(
    pool: &Pool<AsyncPgConnection>,
    time: Duration,
) -> Result<Option<Borrowed>, StoreError> {
    let mut timeouts = pool.timeouts();
    timeouts.wait = Some(time);
    timeouts.create = Some(time);
    match pool.timeout_get(&timeouts).await {
        Ok(conn) => Ok(Some(Borrowed(Some(conn)))),
        Err(PoolError::Timeout(_)) => Ok(None),
        Err(PoolError::Backend(cause)) => Err(StoreError::Unavailable(cause.to_string())),
        Err(other) => Err(StoreError::Unavailable(other.to_string())),
    }
}

impl From<DieselError> for StoreError {
    fn from(error: DieselError) -> Self {
        use diesel::result::DatabaseErrorKind::{
            CheckViolation, ForeignKeyViolation, NotNullViolation, RestrictViolation, UniqueViolation,
        };
        match error {
            DieselError::DatabaseError(
                CheckViolation | ForeignKeyViolation | NotNullViolation | RestrictViolation | UniqueViolation,
                info,
            ) => StoreError::Refused(info.message().to_owned()),
            DieselError::DatabaseError(_, info) if is_about_content(info.message()) => {
                StoreError::Refused(info.message().to_owned())
            }
            // A table or column that this program knows and the database does not: it passes with the migration.
            DieselError::DatabaseError(_, info) if info.message().ends_with("does not exist") => {
                StoreError::behind(info.message())
            }
            DieselError::DatabaseError(_, info) => StoreError::Unavailable(info.message().to_owned()),
            DieselError::BrokenTransactionManager => StoreError::Unavailable("the connection is broken".to_owned()),
            other => StoreError::Refused(other.to_string()),
        }
    }
}

impl From<ConnectionError> for StoreError {
    fn from(error: ConnectionError) -> Self {
        StoreError::Unavailable(error.to_string())
    }
}

/// Diesel passes on the text of an error but not its SQLSTATE: diesel-async has it and keeps it to itself, in a type that
/// nobody can look into, and a session may not choose the language of its server (`lc_messages` is for superusers). So
/// the texts must be safe to misread: what is not recognized, in another language or not, is repeated, and whatever is
/// refused for ever costs time and no result. These texts, of the classes 22 (data) and 54 (limits),
/// and of syntax errors, say that the same statement would be refused again. Everything else passes, or is mended by an
/// operator, and the statement is worth repeating: a result must not be thrown away because a disk was full.
fn is_about_content(message: &str) -> bool {
    const TEXTS: [&str; 9] = [
        "invalid byte sequence",
        "invalid input syntax",
        "unsupported Unicode escape",
        "out of range",
        "stack depth limit",
        "exceeds the maximum",
        "too long for",
        "cannot be converted",
        "syntax error",
    ];
    TEXTS.iter().any(|text| message.contains(text))
}

/// How long a role waits for its servers at start: containers start in any order.
const START_PATIENCE: Duration = Duration::from_secs(30);

/// Opens the first connection of a process, waiting for a server that is still starting. An answer that no waiting
/// mends (a wrong password, an unknown database) ends it at once.
pub(super) async fn patiently(postgres: &config::Postgres) -> anyhow::Result<AsyncPgConnection> {
    let target = parse(postgres)?;
    let deadline = tokio::time::Instant::now() + START_PATIENCE;
    let mut wait = Duration::from_millis(100);
    loop {
        // connect_timeout is about TCP alone: a server that accepts and says nothing must not be waited for either.
        let (why, hopeless) =
            match tokio::time::timeout(2 * NETWORK_TIMEOUT, target.config.connect(target.secure.clone())).await {
                Ok(Ok((client, connection))) => {
                    return Ok(AsyncPgConnection::try_from_client_and_connection(client, connection).await?);
                }
                Ok(Err(error)) => {
                    let hopeless =
                        error.code().is_some_and(|code| code.code().starts_with("28") || code.code() == "3D000");
                    (explain(&error), hopeless)
                }
                Err(_) => ("it accepts connections and does not answer: is it PostgreSQL?".to_owned(), false),
            };
        if hopeless || tokio::time::Instant::now() + wait > deadline {
            anyhow::bail!("cannot connect to {}: {why}", describe(&target));
        }
        tracing::warn!("waiting for {}: {why}", describe(&target));
        tokio::time::sleep(wait.mul_f64(rand::random_range(0.75..1.25))).await;
        wait = (wait * 2).min(Duration::from_secs(3));
    }
}
