//! Leases: who is alive, by the database's clock alone.
//!
//! A worker's row is renewed while it lives. Death is declared in one statement that looks at the lease again, and it
//! is absorbing: no renewal brings a dead row back. So "taken from a dead worker" can be decided by state, at any
//! later time, by anybody.

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, Utc};
use diesel::{
    QueryableByName,
    sql_types::{Array, BigInt, Bool, Integer, Jsonb, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::AsyncPgConnection;
use uuid::Uuid;

use super::{
    Store, StoreError, connect,
    statement::{Statement, sql},
};
use crate::core::{
    faults,
    model::{TaskId, WorkerId},
};

/// A worker as it introduces itself.
#[derive(Debug, Clone)]
pub struct Introduction {
    /// This incarnation.
    pub id: WorkerId,
    /// Where it runs.
    pub host: String,
    /// Its process.
    pub pid: u32,
    /// Slots by queue.
    pub queues: BTreeMap<String, usize>,
    /// What it can run.
    pub task_types: Vec<String>,
    /// How long it lives without a renewal.
    pub lease: Duration,
}

/// What a renewal found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Renewal {
    /// Renewed; this is in its name.
    Alive(InItsName),
    /// PostgreSQL says that it is dead: it must stop its attempts and begin again under a new id.
    Dead,
}

/// The rows that bear a worker's name and ask something of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InItsName {
    /// RUNNING deliveries.
    pub running: Vec<(TaskId, i32)>,
    /// CANCELLED deliveries of which nobody has confirmed yet that they have stopped.
    pub stopping: Vec<(TaskId, i32)>,
}

#[derive(QueryableByName)]
struct RenewedRow {
    #[diesel(sql_type = Bool)]
    alive: bool,
}

#[derive(QueryableByName)]
struct NamedRow {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Integer)]
    delivery: i32,
    #[diesel(sql_type = Bool)]
    running: bool,
}

#[derive(QueryableByName)]
struct WorkerRow {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
}

fn introduce(who: &Introduction) -> Statement {
    const INTRODUCE: &str = "
        INSERT INTO workers (id, host, pid, version, queues, task_types, lease_ms, lease_until)
        VALUES ($1, $2, $3, $4, $5, $6, $7, clock_timestamp() + $7 * interval '1 ms')
        ON CONFLICT (id) DO UPDATE SET lease_until = excluded.lease_until WHERE workers.state <> 'dead'";
    sql("introduce", INTRODUCE)
        .bind::<SqlUuid, _>(Uuid::from(who.id))
        .bind::<Text, _>(who.host.clone())
        .bind::<Integer, _>(who.pid as i32)
        .bind::<Text, _>(env!("CARGO_PKG_VERSION"))
        .bind::<Jsonb, _>(serde_json::json!(who.queues))
        .bind::<Array<Text>, _>(who.task_types.clone())
        .bind::<BigInt, _>(who.lease.as_millis() as i64)
}

/// The connection that only renews: its queries never wait behind anybody else's.
pub struct LeaseKeeper {
    conn: AsyncPgConnection,
    worker: WorkerId,
}

impl LeaseKeeper {
    /// Renews the lease, then reads what PostgreSQL has in this worker's name. In this order: a claim confirmed before
    /// the read was sent must be in its answer.
    pub async fn renew(&mut self, unstopped: usize) -> Result<Renewal, StoreError> {
        const RENEW: &str = "
            UPDATE workers SET lease_until = clock_timestamp() + lease_ms * interval '1 ms',
                               renewed_at = clock_timestamp(), unstopped = $2
            WHERE id = $1 AND state <> 'dead' RETURNING true AS alive";
        // Two readings joined and no IN: each has a partial index of its own.
        const NAMED: &str = "
            SELECT id, delivery, true AS running FROM tasks WHERE worker_id = $1 AND status = 'RUNNING'
            UNION ALL
            SELECT id, delivery, false FROM tasks WHERE worker_id = $1 AND status = 'CANCELLED'";
        let worker = Uuid::from(self.worker);
        let fault = faults::meet("renew").await?;
        let renewed: Vec<RenewedRow> = sql("renew", RENEW)
            .bind::<SqlUuid, _>(worker)
            .bind::<Integer, _>(unstopped as i32)
            .rows(&mut self.conn)
            .await?;
        if !renewed.iter().any(|row| row.alive) {
            return Ok(Renewal::Dead);
        }
        let named: Vec<NamedRow> = sql("named", NAMED).bind::<SqlUuid, _>(worker).rows(&mut self.conn).await?;
        fault.after().await?;
        let (running, stopping): (Vec<_>, Vec<_>) = named.into_iter().partition(|row| row.running);
        let delivery = |row: NamedRow| (row.id.into(), row.delivery);
        Ok(Renewal::Alive(InItsName {
            running: running.into_iter().map(delivery).collect(),
            stopping: stopping.into_iter().map(delivery).collect(),
        }))
    }
}

impl Store {
    /// Writes the row of a new incarnation. Repeating it is harmless: the answer to an earlier try may have been lost.
    pub async fn introduce(&self, who: &Introduction) -> Result<(), StoreError> {
        self.run(introduce(who)).await.map(drop)
    }

    /// A connection of its own for renewals, opened on the runtime that calls.
    pub async fn lease_keeper(&self, worker: WorkerId) -> Result<LeaseKeeper, StoreError> {
        Ok(LeaseKeeper { conn: connect::connect(&connect::by_index(&self.target)).await?, worker })
    }

    /// Says that this worker takes nothing new.
    pub async fn mark_draining(&self, worker: WorkerId) -> Result<(), StoreError> {
        const DRAINING: &str = "UPDATE workers SET state = 'draining' WHERE id = $1 AND state = 'alive'";
        self.run(sql("mark_draining", DRAINING).bind::<SqlUuid, _>(Uuid::from(worker))).await.map(drop)
    }

    /// The worker has left in good order.
    pub async fn leave(&self, worker: WorkerId) -> Result<(), StoreError> {
        const LEAVE: &str =
            "UPDATE workers SET state = 'dead', ended_at = clock_timestamp() WHERE id = $1 AND state <> 'dead'";
        self.run(sql("leave", LEAVE).bind::<SqlUuid, _>(Uuid::from(worker))).await.map(drop)
    }

    /// Declares dead whose lease is over, provided that PostgreSQL itself has been up for a lease, that the declarer is
    /// live, and that what it saw at `seen_at` is fresh: a judgement that was on its way while PostgreSQL stood still
    /// would find every lease over and nobody to blame. Returns whom this call declared.
    pub async fn declare_dead(&self, declarer: WorkerId, seen_at: DateTime<Utc>) -> Result<Vec<WorkerId>, StoreError> {
        const DECLARE: &str = "
            WITH expired AS MATERIALIZED (
                SELECT w.id FROM workers w
                WHERE w.state <> 'dead' AND w.lease_until < (SELECT clock_timestamp())
                  AND clock_timestamp() < $2 + w.lease_ms / 3 * interval '1 ms'
                  AND pg_postmaster_start_time() < clock_timestamp() - w.lease_ms * interval '1 ms'
                  AND EXISTS (SELECT FROM workers me
                              WHERE me.id = $1 AND me.state <> 'dead' AND me.lease_until > clock_timestamp())
                ORDER BY w.id FOR UPDATE OF w SKIP LOCKED)
            UPDATE workers w SET state = 'dead', ended_at = clock_timestamp()
            FROM expired WHERE w.id = expired.id AND w.lease_until < clock_timestamp() RETURNING w.id";
        let rows: Vec<WorkerRow> = self
            .rows(sql("declare_dead", DECLARE).bind::<SqlUuid, _>(Uuid::from(declarer)).bind::<Timestamptz, _>(seen_at))
            .await?;
        Ok(rows.into_iter().map(|row| row.id.into()).collect())
    }

    /// Of these workers, those whose lists may be emptied: dead, or without a row.
    pub async fn not_live(&self, workers: &[WorkerId]) -> Result<Vec<WorkerId>, StoreError> {
        const NOT_LIVE: &str = "
            SELECT asked.id FROM unnest($1) AS asked(id)
            WHERE NOT EXISTS (SELECT FROM workers w WHERE w.id = asked.id AND w.state <> 'dead')";
        let ids: Vec<Uuid> = workers.iter().copied().map(Uuid::from).collect();
        let rows: Vec<WorkerRow> = self.rows(sql("not_live", NOT_LIVE).bind::<Array<SqlUuid>, _>(ids)).await?;
        Ok(rows.into_iter().map(|row| row.id.into()).collect())
    }
}
