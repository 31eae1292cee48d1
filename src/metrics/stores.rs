//! Stores: how the ways to PostgreSQL and Redis fare.

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};

use super::{Counters, Gauges, made};

/// A pool of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pool {
    /// For everything but lists.
    Postgres,
    /// For lists.
    PostgresLists,
    /// For single commands; pushes, pops and subscriptions have connections of their own.
    Redis,
}

/// A pool at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PoolNumbers {
    /// Connections that it may have.
    pub limit: usize,
    /// Connections that it has.
    pub open: usize,
    /// Of these, those that nobody uses.
    pub idle: usize,
    /// Callers that wait for one.
    pub waiting: usize,
}

/// The instruments.
pub struct Stores {
    connections: Gauges<2>,
    limit: Gauges<1>,
    waiting: Gauges<1>,
    postgres_failures: Counters<1>,
    /// The last reading of the queues came back.
    pub postgres_up: Gauge,
    /// Redis answered last.
    pub redis_up: Gauge,
    /// Doorbells that were rung.
    pub rings: Counter,
    /// Ids removed from in-flight lists.
    pub acknowledgements: Counter,
    /// Changes and cancels that were published.
    pub publications: Counter,
    /// Rounds of writing that Redis did not take.
    pub write_failures: Counter,
    /// Doorbells that wait for Redis to be back.
    pub rings_waiting: Gauge,
    /// Doorbells beyond what is kept.
    pub rings_forgotten: Counter,
    /// Subscriptions that were opened.
    pub subscriptions: Counter,
}

impl Stores {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let stores = Self {
            connections: made(registry, "pool_connections", "Connections of a pool that are in use or idle"),
            limit: made(registry, "pool_connections_limit", "Connections that a pool may have"),
            waiting: made(registry, "pool_waiting", "Callers that wait for a connection of a pool"),
            postgres_failures: made(
                registry,
                "postgres_failures",
                "Statements without an outcome (unavailable) and statements that PostgreSQL refused (refused)",
            ),
            postgres_up: made(registry, "postgres_up", "1 when PostgreSQL answered at the last look, else 0"),
            redis_up: made(registry, "redis_up", "1 when Redis answered last, 0 while starts are delayed"),
            rings: made(registry, "redis_rings", "Doorbells rung: ids pushed to a list"),
            acknowledgements: made(registry, "redis_acknowledgements", "Ids removed from in-flight lists"),
            publications: made(registry, "redis_publications", "Changes and cancels published"),
            write_failures: made(registry, "redis_write_failures", "Rounds of writing that Redis did not take"),
            rings_waiting: made(registry, "redis_rings_waiting", "Doorbells kept until Redis is back"),
            rings_forgotten: made(
                registry,
                "redis_rings_forgotten",
                "Doorbells beyond what is kept while Redis is away; they are found again",
            ),
            subscriptions: made(registry, "redis_subscriptions", "Subscriptions opened; more than a few: they break"),
        };
        for reason in ["unavailable", "refused"] {
            drop(stores.postgres_failures.get_or_create(&[("reason", reason.into())]));
        }
        stores.redis_up.set(1);
        stores.postgres_up.set(1);
        stores
    }

    /// PostgreSQL gave no answer, or is away.
    pub fn postgres_unavailable(&self) {
        self.postgres_failures.get_or_create(&[("reason", "unavailable".into())]).inc();
    }

    /// PostgreSQL refused a statement.
    pub fn postgres_refused(&self) {
        self.postgres_failures.get_or_create(&[("reason", "refused".into())]).inc();
    }

    /// A pool looks like this now.
    pub fn show_pool(&self, pool: Pool, numbers: PoolNumbers) {
        let name = match pool {
            Pool::Postgres => "postgres",
            Pool::PostgresLists => "postgres_lists",
            Pool::Redis => "redis",
        };
        let label = ("pool", name.into());
        let in_use = numbers.open.saturating_sub(numbers.idle);
        for (state, number) in [("in_use", in_use), ("idle", numbers.idle)] {
            self.connections.get_or_create(&[label.clone(), ("state", state.into())]).set(number as i64);
        }
        let label = [label];
        self.limit.get_or_create(&label).set(numbers.limit as i64);
        self.waiting.get_or_create(&label).set(numbers.waiting as i64);
    }
}
