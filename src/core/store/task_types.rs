//! Task types that were declared over HTTP: the same for all replicas.

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::{
    QueryableByName,
    sql_types::{BigInt, Integer, Nullable, Text, Timestamptz},
};

use super::{Store, StoreError, rows, statement::sql};
use crate::core::model::{Declaration, RetryPolicy};

/// Declarations of a program. A type is a kind of work and not a piece of it.
const MOST: i64 = 1_000;

/// Changes when a declaration does.
#[derive(Debug, Clone, PartialEq, QueryableByName)]
pub struct DeclarationsStamp {
    #[diesel(sql_type = BigInt)]
    count: i64,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    latest: Option<DateTime<Utc>>,
}

#[derive(QueryableByName)]
struct DeclarationRow {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    description: String,
    #[diesel(sql_type = Text)]
    input_schema: String,
    #[diesel(sql_type = Text)]
    queue: String,
    #[diesel(sql_type = Integer)]
    max_attempts: i32,
    #[diesel(sql_type = BigInt)]
    retry_initial_ms: i64,
    #[diesel(sql_type = BigInt)]
    retry_longest_ms: i64,
    #[diesel(sql_type = Nullable<BigInt>)]
    timeout_ms: Option<i64>,
}

impl TryFrom<DeclarationRow> for Declaration {
    type Error = StoreError;

    fn try_from(row: DeclarationRow) -> Result<Self, StoreError> {
        let time = |ms: i64| Duration::from_millis(ms.max(0) as u64);
        Ok(Declaration {
            input_schema: serde_json::from_str(&row.input_schema).map_err(|error| rows::unreadable("schema", error))?,
            retry: RetryPolicy {
                max_attempts: row.max_attempts,
                initial: time(row.retry_initial_ms),
                longest: time(row.retry_longest_ms),
            },
            timeout: row.timeout_ms.map(time),
            name: row.name,
            description: row.description,
            queue: row.queue,
        })
    }
}

impl Store {
    /// Declares a type, or declares it anew. False when there are too many of them.
    pub async fn declare(&self, declaration: &Declaration) -> Result<bool, StoreError> {
        const DECLARE: &str = "
            INSERT INTO task_types (name, description, input_schema, queue, max_attempts, retry_initial_ms,
                                    retry_longest_ms, timeout_ms)
            SELECT $1, $2, $3::json, $4, $5, $6, $7, $8
            WHERE EXISTS (SELECT FROM task_types WHERE name = $1) OR (SELECT count(*) FROM task_types) < $9
            ON CONFLICT (name) DO UPDATE SET
                description = excluded.description, input_schema = excluded.input_schema, queue = excluded.queue,
                max_attempts = excluded.max_attempts, retry_initial_ms = excluded.retry_initial_ms,
                retry_longest_ms = excluded.retry_longest_ms, timeout_ms = excluded.timeout_ms,
                updated_at = clock_timestamp()";
        let ms = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        let statement = sql("declare", DECLARE)
            .bind::<Text, _>(declaration.name.clone())
            .bind::<Text, _>(declaration.description.clone())
            .bind::<Text, _>(declaration.input_schema.to_string())
            .bind::<Text, _>(declaration.queue.clone())
            .bind::<Integer, _>(declaration.retry.max_attempts)
            .bind::<BigInt, _>(ms(declaration.retry.initial))
            .bind::<BigInt, _>(ms(declaration.retry.longest))
            .bind::<Nullable<BigInt>, _>(declaration.timeout.map(ms))
            .bind::<BigInt, _>(MOST);
        Ok(self.run(statement).await? == 1)
    }

    /// What tells whether the declarations have changed.
    pub async fn declarations_stamp(&self) -> Result<DeclarationsStamp, StoreError> {
        const STAMP: &str = "SELECT count(*) AS count, max(updated_at) AS latest FROM task_types";
        let rows: Vec<DeclarationsStamp> = self.rows(sql("declarations_stamp", STAMP)).await?;
        rows.into_iter().next().ok_or_else(|| StoreError::Refused("no answer".to_owned()))
    }

    /// All declarations, by name.
    pub async fn declarations(&self) -> Result<Vec<Declaration>, StoreError> {
        const ALL: &str = "
            SELECT name, description, input_schema::text AS input_schema, queue, max_attempts, retry_initial_ms,
                   retry_longest_ms, timeout_ms FROM task_types ORDER BY name LIMIT $1";
        let rows: Vec<DeclarationRow> = self.rows(sql("declarations", ALL).bind::<BigInt, _>(MOST)).await?;
        rows.into_iter().map(TryInto::try_into).collect()
    }
}
