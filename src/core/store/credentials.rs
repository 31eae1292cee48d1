//! Credentials: the keys of callers and the sessions of browsers, as far as the database knows them.

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::{
    QueryableByName,
    sql_types::{BigInt, Bool, Bytea, Nullable, Text, Timestamptz},
};

use super::{Store, StoreError, rows, statement::sql};
use crate::core::{
    credential::{Credential, CredentialKind},
    model::Role,
};

/// Sessions of one owner; the oldest go when there are more.
const MOST_SESSIONS: i64 = 50;

/// What a credential grants.
#[derive(Clone)]
pub struct Grant {
    /// A key or a session.
    pub kind: CredentialKind,
    /// Its public part.
    pub id: String,
    /// Of its secret.
    pub hash: Vec<u8>,
    /// Whose tasks it submits and sees.
    pub owner: String,
    /// What it may do.
    pub role: Role,
    /// It is neither revoked nor expired.
    pub is_live: bool,
}

/// A key to be made.
pub struct NewKey<'a> {
    /// What its holder will show.
    pub credential: &'a Credential,
    /// The owner of its tasks. Several keys may have one name: to change a key, make the next before revoking the last.
    pub name: &'a str,
    /// What it may do.
    pub role: Role,
    /// How long it is good for; `None`: until it is revoked.
    pub expires_in: Option<Duration>,
}

/// A browser that has signed in.
pub struct NewSession<'a> {
    /// What its cookie holds.
    pub credential: &'a Credential,
    /// The key that it signed in with; it ends with it.
    pub key_id: Option<&'a str>,
    /// Whose tasks it submits and sees.
    pub owner: &'a str,
    /// What it may do.
    pub role: Role,
    /// How long it lasts.
    pub expires_in: Duration,
}

/// A key as an operator sees it.
#[derive(Debug, Clone)]
pub struct KeyState {
    /// Its public part.
    pub id: String,
    /// The owner of its tasks.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it ends by itself.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was revoked.
    pub revoked_at: Option<DateTime<Utc>>,
}

#[derive(QueryableByName)]
struct GrantRow {
    #[diesel(sql_type = Bool)]
    is_session: bool,
    #[diesel(sql_type = Text)]
    id: String,
    #[diesel(sql_type = Bytea)]
    hash: Vec<u8>,
    #[diesel(sql_type = Text)]
    owner: String,
    #[diesel(sql_type = Text)]
    role: String,
    #[diesel(sql_type = Bool)]
    is_live: bool,
}

impl TryFrom<GrantRow> for Grant {
    type Error = StoreError;

    fn try_from(row: GrantRow) -> Result<Self, StoreError> {
        Ok(Self {
            kind: if row.is_session { CredentialKind::Session } else { CredentialKind::Key },
            id: row.id,
            hash: row.hash,
            owner: row.owner,
            role: role_of(&row.role)?,
            is_live: row.is_live,
        })
    }
}

#[derive(QueryableByName)]
struct KeyRow {
    #[diesel(sql_type = Text)]
    id: String,
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    role: String,
    #[diesel(sql_type = Timestamptz)]
    created_at: DateTime<Utc>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    expires_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    revoked_at: Option<DateTime<Utc>>,
}

impl TryFrom<KeyRow> for KeyState {
    type Error = StoreError;

    fn try_from(row: KeyRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.id,
            name: row.name,
            role: role_of(&row.role)?,
            created_at: row.created_at,
            expires_at: row.expires_at,
            revoked_at: row.revoked_at,
        })
    }
}

fn role_of(text: &str) -> Result<Role, StoreError> {
    text.parse().map_err(|error| rows::unreadable("role", error))
}

impl Store {
    /// Every key, revoked ones too, and every session that lasts.
    pub async fn grants(&self) -> Result<Vec<Grant>, StoreError> {
        const GRANTS: &str = "
            SELECT false AS is_session, id, hash, name AS owner, role,
                   revoked_at IS NULL AND coalesce(expires_at > clock_timestamp(), true) AS is_live
            FROM api_keys
            UNION ALL
            SELECT true, s.id, s.hash, s.owner, s.role, true FROM sessions s LEFT JOIN api_keys k ON k.id = s.key_id
            WHERE s.expires_at > clock_timestamp() AND k.revoked_at IS NULL
              AND coalesce(k.expires_at > clock_timestamp(), true)";
        let rows: Vec<GrantRow> = self.rows(sql("grants", GRANTS)).await?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    /// Stores a new key.
    pub async fn create_key(&self, key: NewKey<'_>) -> Result<(), StoreError> {
        const CREATE: &str = "
            INSERT INTO api_keys (id, name, role, hash, expires_at)
            VALUES ($1, $2, $3, $4, clock_timestamp() + $5 * interval '1 ms')";
        let statement = sql("create_key", CREATE)
            .bind::<Text, _>(key.credential.id())
            .bind::<Text, _>(key.name.to_owned())
            .bind::<Text, _>(key.role.as_str())
            .bind::<Bytea, _>(key.credential.hash())
            .bind::<Nullable<BigInt>, _>(key.expires_in.map(milliseconds));
        self.run(statement).await.map(drop)
    }

    /// The keys, oldest first, revoked ones too.
    pub async fn keys(&self) -> Result<Vec<KeyState>, StoreError> {
        const KEYS: &str = "
            SELECT id, name, role, created_at, expires_at, revoked_at FROM api_keys ORDER BY created_at, id";
        let rows: Vec<KeyRow> = self.rows(sql("keys", KEYS)).await?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    /// Revokes the key with this id, or all keys with this name. Returns those that were not revoked before.
    pub async fn revoke_keys(&self, id_or_name: &str) -> Result<Vec<KeyState>, StoreError> {
        const REVOKE: &str = "
            UPDATE api_keys SET revoked_at = clock_timestamp() WHERE (id = $1 OR name = $1) AND revoked_at IS NULL
            RETURNING id, name, role, created_at, expires_at, revoked_at";
        let statement = sql("revoke_keys", REVOKE).bind::<Text, _>(id_or_name.to_owned());
        let rows: Vec<KeyRow> = self.rows(statement).await?;
        rows.into_iter().map(TryInto::try_into).collect()
    }

    /// Stores a new session, and forgets those that have ended and the owner's oldest where there are too many.
    pub async fn create_session(&self, session: NewSession<'_>) -> Result<(), StoreError> {
        const CREATE: &str = "
            WITH ended AS (DELETE FROM sessions WHERE expires_at <= clock_timestamp()
                           OR id IN (SELECT id FROM sessions WHERE owner = $4 ORDER BY created_at DESC OFFSET $7))
            INSERT INTO sessions (id, hash, key_id, owner, role, expires_at)
            VALUES ($1, $2, $3, $4, $5, clock_timestamp() + $6 * interval '1 ms')";
        let statement = sql("create_session", CREATE)
            .bind::<Text, _>(session.credential.id())
            .bind::<Bytea, _>(session.credential.hash())
            .bind::<Nullable<Text>, _>(session.key_id.map(str::to_owned))
            .bind::<Text, _>(session.owner.to_owned())
            .bind::<Text, _>(session.role.as_str())
            .bind::<BigInt, _>(milliseconds(session.expires_in))
            .bind::<BigInt, _>(MOST_SESSIONS - 1);
        self.run(statement).await.map(drop)
    }

    /// Ends a session.
    pub async fn end_session(&self, id: &str) -> Result<(), StoreError> {
        const END: &str = "DELETE FROM sessions WHERE id = $1";
        self.run(sql("end_session", END).bind::<Text, _>(id.to_owned())).await.map(drop)
    }
}

fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}
