//! Doorbells, as PostgreSQL knows them: which tasks wait for a ring, and who looks after them.

use std::time::Duration;

use diesel::{
    QueryableByName,
    sql_types::{Array, BigInt, Bool, Bytea, Nullable, SmallInt, Text, Uuid as SqlUuid},
};
use uuid::Uuid;

use super::{
    Store, StoreError,
    read::TextRow,
    rows::{priority_number, priority_of, uuids},
    statement::sql,
};
use crate::core::{
    model::{Priority, TaskId, WorkerId},
    queue::{Bell, Side},
};

/// Ids per page.
const BATCH: i64 = 10_000;

/// Ready tasks of one queue and priority: a part of what waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Their queue.
    pub queue: String,
    /// Their priority.
    pub priority: Priority,
    /// Whether they were started before: those go first.
    pub once_taken: bool,
    /// The tasks, oldest first. Never empty.
    pub ids: Vec<TaskId>,
}

/// A page of what is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadyPage {
    /// In their order.
    pub parts: Vec<Waiting>,
    /// It was not full. What has become ready since is not waited for: where tasks come all the time, there would be no
    /// end.
    pub is_last: bool,
}

/// What PostgreSQL knows of the doorbells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DoorbellState {
    /// The epoch that Redis must show; `None` before the first one.
    pub epoch: Option<String>,
    /// Whether it is time to look for lost ones.
    pub look_due: bool,
}

#[derive(QueryableByName)]
struct StateRow {
    #[diesel(sql_type = Nullable<Text>)]
    epoch: Option<String>,
    #[diesel(sql_type = Bool)]
    look_due: bool,
}

#[derive(QueryableByName)]
struct WaitingRow {
    #[diesel(sql_type = Text)]
    queue: String,
    #[diesel(sql_type = SmallInt)]
    priority: i16,
    #[diesel(sql_type = Bool)]
    fresh: bool,
    #[diesel(sql_type = Bytea)]
    ids: Vec<u8>,
}

#[derive(QueryableByName)]
struct LostRow {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Text)]
    queue: String,
    #[diesel(sql_type = SmallInt)]
    priority: i16,
    #[diesel(sql_type = Bool)]
    once_taken: bool,
}

impl From<WaitingRow> for Waiting {
    fn from(row: WaitingRow) -> Self {
        let bytes = row.ids.as_chunks::<16>().0;
        let mut ids: Vec<TaskId> = bytes.iter().copied().map(TaskId::from_bytes).collect();
        ids.sort_unstable();
        Waiting { queue: row.queue, priority: priority_of(row.priority), once_taken: !row.fresh, ids }
    }
}

impl Store {
    /// Wins or keeps a named lease by compare-and-set on the database's clock. No session-level lock: it would be held
    /// for ever by a process that is stopped.
    pub async fn hold_lease(&self, name: &'static str, holder: WorkerId, time: Duration) -> Result<bool, StoreError> {
        const HOLD: &str = "
            UPDATE leases SET holder = $2, lease_until = clock_timestamp() + $3 * interval '1 ms'
            WHERE name = $1 AND (holder = $2 OR lease_until < clock_timestamp())";
        let statement = sql("hold_lease", HOLD)
            .bind::<Text, _>(name)
            .bind::<SqlUuid, _>(Uuid::from(holder))
            .bind::<BigInt, _>(time.as_millis() as i64);
        Ok(self.run(statement).await? == 1)
    }

    /// Who this database is: a value that its migration made, read once. A copy of the database has the same.
    pub async fn identity(&self) -> Result<&str, StoreError> {
        const IDENTITY: &str = "SELECT value AS text FROM leases WHERE name = 'database'";
        let read = async || {
            let rows: Vec<TextRow> = self.rows(sql("identity", IDENTITY)).await?;
            let row = rows.into_iter().next().map(|row| row.text);
            row.ok_or_else(|| StoreError::behind(""))
        };
        self.identity.get_or_try_init(read).await.map(String::as_str)
    }

    /// What to compare Redis with, and whether to look for lost doorbells: all that a turn on a healthy queue asks.
    pub async fn doorbell_state(&self) -> Result<DoorbellState, StoreError> {
        const STATE: &str = "
            SELECT value AS epoch,
                   NOT EXISTS (SELECT FROM leases WHERE name = 'lost_doorbells' AND lease_until > clock_timestamp())
                       AS look_due
            FROM leases WHERE name = 'doorbells'";
        let rows: Vec<StateRow> = self.rows(sql("doorbell_state", STATE)).await?;
        let row = rows.into_iter().next().ok_or_else(|| StoreError::Refused("no lease 'doorbells'".to_owned()))?;
        Ok(DoorbellState { epoch: row.epoch, look_due: row.look_due })
    }

    /// Stores the epoch and gives the lease back, as long as the holder still holds it.
    pub async fn set_epoch(&self, holder: WorkerId, epoch: &str) -> Result<bool, StoreError> {
        const SET: &str =
            "UPDATE leases SET value = $2, lease_until = '-infinity' WHERE name = 'doorbells' AND holder = $1";
        let statement = sql("set_epoch", SET).bind::<SqlUuid, _>(Uuid::from(holder)).bind::<Text, _>(epoch.to_owned());
        Ok(self.run(statement).await? == 1)
    }

    /// Wins the next look for lost doorbells: nobody else does for this long, unless it is given back.
    pub async fn begin_look(&self, looker: WorkerId, pause: Duration) -> Result<bool, StoreError> {
        const BEGIN: &str = "
            INSERT INTO leases AS l (name, holder, lease_until)
            VALUES ('lost_doorbells', $1, clock_timestamp() + $2 * interval '1 ms')
            ON CONFLICT (name) DO UPDATE SET holder = $1, lease_until = clock_timestamp() + $2 * interval '1 ms'
            WHERE l.lease_until < clock_timestamp()";
        let statement =
            sql("begin_look", BEGIN).bind::<SqlUuid, _>(Uuid::from(looker)).bind::<BigInt, _>(pause.as_millis() as i64);
        Ok(self.run(statement).await? == 1)
    }

    /// Gives a look back that came to no end: whoever turns first after this pause makes it again.
    pub async fn give_look_back(&self, looker: WorkerId, pause: Duration) -> Result<(), StoreError> {
        const GIVE_BACK: &str = "
            UPDATE leases SET lease_until = clock_timestamp() + $2 * interval '1 ms'
            WHERE name = 'lost_doorbells' AND holder = $1";
        let statement = sql("give_look_back", GIVE_BACK)
            .bind::<SqlUuid, _>(Uuid::from(looker))
            .bind::<BigInt, _>(pause.as_millis() as i64);
        self.run(statement).await.map(drop)
    }

    /// The next few thousand tasks that wait for a slot: by queue and priority, those once taken before the others, then
    /// by id. `after` is the last part of the page before.
    ///
    /// Walks along the index of what is ready, whatever else the table holds, reads nothing but that index where vacuum
    /// has been, and returns the ids of a part as one value: a row for each would cost several times as much on both
    /// sides, and this is read all the time. The page is not materialized, so that its order is known and nothing is
    /// sorted for the grouping: half of the time.
    pub async fn ready(&self, after: Option<&Waiting>) -> Result<ReadyPage, StoreError> {
        const READY: &str = "
            SELECT queue, priority, fresh, string_agg(uuid_send(id), ''::bytea) AS ids
            FROM (SELECT queue, priority, (delivery = 0) AS fresh, id FROM tasks
                  WHERE status = 'PENDING' AND due_at IS NULL
                    AND (queue, priority, (delivery = 0), id) > ($1, $2, $3, $4)
                  ORDER BY queue, priority, (delivery = 0), id LIMIT $5) AS page
            GROUP BY queue, priority, fresh ORDER BY queue, priority, fresh";
        let last = after.and_then(|part| part.ids.last().map(|id| (part, *id)));
        // Before the first: no queue has an empty name.
        let (queue, priority, fresh, id) = last.map_or((String::new(), 0, false, Uuid::nil()), |(part, id)| {
            (part.queue.clone(), priority_number(part.priority), !part.once_taken, Uuid::from(id))
        });
        let statement = sql("ready", READY)
            .bind::<Text, _>(queue)
            .bind::<SmallInt, _>(priority)
            .bind::<Bool, _>(fresh)
            .bind::<SqlUuid, _>(id)
            .bind::<BigInt, _>(BATCH);
        let rows: Vec<WaitingRow> = self.rows(statement).await?;
        let parts: Vec<Waiting> = rows.into_iter().map(Waiting::from).collect();
        let ids: usize = parts.iter().map(|part| part.ids.len()).sum();
        Ok(ReadyPage { is_last: (ids as i64) < BATCH, parts })
    }

    /// Of these tasks, those that still wait for a slot and have been ready for at least `for_at_least`, each with the
    /// end of the list where it belongs. Those of types that HTTP workers run need no doorbell.
    pub async fn still_ready(&self, ids: &[TaskId], for_at_least: Duration) -> Result<Vec<(Bell, Side)>, StoreError> {
        const STILL: &str = "
            SELECT id, queue, priority, delivery > 0 AS once_taken FROM tasks
            WHERE id = ANY($1) AND status = 'PENDING' AND due_at IS NULL
              AND ready_at <= (SELECT clock_timestamp()) - $2 * interval '1 ms'
              AND NOT EXISTS (SELECT FROM task_types d WHERE d.name = task_type) ORDER BY id";
        let statement = sql("still_ready", STILL)
            .bind::<Array<SqlUuid>, _>(uuids(ids))
            .bind::<BigInt, _>(for_at_least.as_millis() as i64);
        let rows: Vec<LostRow> = self.rows(statement).await?;
        let bell = |row: LostRow| {
            let side = Side::of(row.once_taken);
            (Bell { id: row.id.into(), queue: row.queue, priority: priority_of(row.priority) }, side)
        };
        Ok(rows.into_iter().map(bell).collect())
    }
}
