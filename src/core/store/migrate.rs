//! Migrations: embedded in the binary, run by one process at a time.
//!
//! Expand and contract: a migration may add; what it takes away, the release before must no longer use, since the two
//! run side by side during a rollout.

use diesel::{
    migration::{Migration, MigrationSource},
    pg::Pg,
};
use diesel_async::{AsyncMigrationHarness, AsyncPgConnection};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::{
    connect,
    read::{TextRow, YesRow},
    statement::sql,
};
use crate::config;

const MIGRATIONS: EmbeddedMigrations = embed_migrations!();

/// Any number that nothing else in the database locks: "longrun" in hexadecimal.
const LOCK: &str = "SELECT pg_advisory_lock(30521821366957422)";
const UNLOCK: &str = "SELECT pg_advisory_unlock(30521821366957422)";
/// A migration that waits longer for a table gives up instead of making everybody queue behind it.
const LOCK_TIMEOUT: &str = "SET lock_timeout = '10s'";

/// A connection for migrations. Apart from [`run`](Self::run), so that waiting for a server can be broken off and a
/// migration that has begun cannot.
pub struct Migrator(AsyncPgConnection);

/// Connects, waiting a bounded time for a server that is still starting.
pub async fn connect(postgres: &config::Postgres) -> anyhow::Result<Migrator> {
    connect::patiently(postgres).await.map(Migrator)
}

impl Migrator {
    /// Runs what is pending and returns the names. Safe from many replicas at once: diesel's harness takes no lock, so an
    /// advisory lock of the session stands around it, waited for without a limit, since the others only look.
    pub async fn run(self) -> anyhow::Result<Vec<String>> {
        let Migrator(mut conn) = self;
        sql("lock_migrations", LOCK).run(&mut conn).await?;
        sql("lock_timeout", LOCK_TIMEOUT).run(&mut conn).await?;
        let (mut conn, result) = with_harness(conn, |harness| {
            harness
                .run_pending_migrations(MIGRATIONS)
                .map(|versions| versions.iter().map(ToString::to_string).collect())
        })
        .await?;
        // The lock would end with the session anyway; this lets the next replica go on at once.
        sql("unlock_migrations", UNLOCK).run(&mut conn).await?;
        result
    }
}

/// The names of the migrations that this binary has and the database has not. Changes nothing: diesel's own question
/// would create its table.
pub async fn check(postgres: &config::Postgres) -> anyhow::Result<Vec<String>> {
    const TABLE: &str = "SELECT to_regclass('__diesel_schema_migrations') IS NOT NULL AS yes";
    const APPLIED: &str = "SELECT version::text AS text FROM __diesel_schema_migrations";
    let mut conn = connect::patiently(postgres).await?;
    let table: Vec<YesRow> = sql("migrations_table", TABLE).rows(&mut conn).await?;
    let applied: Vec<TextRow> = match table.iter().any(|row| row.yes) {
        true => sql("applied_migrations", APPLIED).rows(&mut conn).await?,
        false => Vec::new(),
    };
    let pending = embedded().into_iter().filter(|migration| {
        let version = migration.name().version().to_string();
        applied.iter().all(|row| row.text != version)
    });
    Ok(pending.map(|migration| migration.name().to_string()).collect())
}

/// The version that this binary needs: that of its last migration.
pub(super) fn newest() -> Option<String> {
    embedded().iter().map(|migration| migration.name().version().to_string()).max()
}

fn embedded() -> Vec<Box<dyn Migration<Pg>>> {
    // They were read when the binary was built: nothing is left that could fail.
    MigrationSource::<Pg>::migrations(&MIGRATIONS).unwrap_or_default()
}

type Harness = AsyncMigrationHarness<AsyncPgConnection>;
type Outcome = diesel::migration::Result<Vec<String>>;

async fn with_harness(
    conn: AsyncPgConnection,
    work: impl FnOnce(&mut Harness) -> Outcome + Send + 'static,
) -> anyhow::Result<(AsyncPgConnection, anyhow::Result<Vec<String>>)> {
    let (conn, outcome) = tokio::task::spawn_blocking(move || {
        let mut harness = Harness::new(conn);
        let outcome = work(&mut harness).map_err(|error| anyhow::anyhow!("the migration failed: {error}"));
        (harness.into_inner(), outcome)
    })
    .await?;
    Ok((conn, outcome))
}
