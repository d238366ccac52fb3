//! The table `audit_events`: one row for each change, chained by hash to the row before it.
//!
//! **Order of locks.** Every transaction takes row locks in one order: `users`, `sessions`,
//! `refresh_tokens`, `totp_secrets`, `recovery_codes`, `login_challenges`, `passkeys`,
//! `passkey_challenges`, `mail_links`, `outbox`, `grants`, `audit_events`, and the audit chain last. The chain has one lock for the whole
//! database. If a transaction held that lock and then waited for a row, a second transaction that
//! holds the row and waits for the chain would be a deadlock. Therefore no statement appends to the
//! chain: `Transaction::record` only keeps the event, and `Transaction::commit` appends all of
//! them after the last statement. A transaction that locks several sessions locks the row of their
//! owner first (see [`super::session_ends`]), so two of them never wait for each other. Clean-up and the
//! slices of a deletion ([`super::erasure`]) lock sessions without their owner: both by id, and a deletion
//! locks those that it ends by id too. Of the other tables clean-up removes
//! rows that nobody else has locked, so it never waits there (see [`super::expired`]).

use aws_lc_rs::digest::{Context, SHA256, SHA256_OUTPUT_LEN, digest};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};
use sqlx::{FromRow, QueryBuilder};

use super::{
    Store, StoreError,
    database::{OpenTransaction, in_time, on_pool, on_transaction},
    event::RecordedEvent,
};
use crate::ids::random_token;

/// Hash in place of the one before the first event.
pub(super) const BEGINNING: [u8; SHA256_OUTPUT_LEN] = [0; SHA256_OUTPUT_LEN];

/// The lock under which PostgreSQL appends, so that no two events follow the same one. Any number
/// does that nothing else in the database uses; these bytes spell "audit".
const POSTGRES_LOCK: i64 = 0x61_75_64_69_74;

/// The member of a detail with the hash of the text in the column `personal`.
pub(super) const PERSONAL: &str = "personal";

/// The random member of the text in the column `personal`.
const SALT: &str = "salt";

/// The most events that one statement inserts.
const ROWS: usize = 100;

/// Appends events in the transaction that makes them true. Only `Transaction::commit` calls it:
/// until the commit no other transaction appends.
pub(super) async fn append(
    transaction: &mut OpenTransaction,
    events: &[RecordedEvent],
) -> Result<(), StoreError> {
    if events.is_empty() {
        return Ok(());
    }
    if let OpenTransaction::Postgres(transaction) = transaction {
        in_time(async {
            sqlx::query("select pg_advisory_xact_lock($1)")
                .bind(POSTGRES_LOCK)
                .execute(&mut **transaction)
                .await?;
            Ok(())
        })
        .await?;
    }
    let last: Option<(i64, Vec<u8>)> = on_transaction!(transaction, |connection| {
        sqlx::query_as("select number, hash from audit_events order by number desc limit 1")
            .fetch_optional(connection)
            .await?
    });
    let (mut number, mut previous) = last.unwrap_or((0, BEGINNING.to_vec()));
    for chunk in events.chunks(ROWS) {
        let mut rows = Vec::with_capacity(chunk.len());
        for event in chunk {
            number += 1;
            let row = Row::after(&previous, number, event)?;
            previous.clone_from(&row.hash);
            rows.push(row);
        }
        insert(transaction, &rows).await?;
    }
    Ok(())
}

/// An event with its place in the chain.
struct Row<'a> {
    number: i64,
    event: &'a RecordedEvent,
    detail: String,
    personal: Option<String>,
    previous: Vec<u8>,
    hash: Vec<u8>,
}

impl<'a> Row<'a> {
    /// The event as the one with this number, after the one with the hash `previous`.
    fn after(previous: &[u8], number: i64, event: &'a RecordedEvent) -> Result<Self, StoreError> {
        let (detail, personal) = texts(event)?;
        let hash = chain(
            previous,
            number,
            (event.at, event.name),
            (event.user_id.as_deref(), event.session_id.as_deref()),
            &detail,
        );
        Ok(Self {
            number,
            event,
            detail,
            personal,
            previous: previous.to_vec(),
            hash,
        })
    }
}

/// Inserts events by one statement.
async fn insert(transaction: &mut OpenTransaction, rows: &[Row<'_>]) -> Result<(), StoreError> {
    on_transaction!(transaction, |connection| {
        let mut query = QueryBuilder::new(
            "insert into audit_events (number, at, event, user_id, session_id, detail, previous, \
                                       hash, personal) ",
        );
        query.push_values(rows, |mut values, row| {
            values
                .push_bind(row.number)
                .push_bind(row.event.at)
                .push_bind(row.event.name)
                .push_bind(&row.event.user_id)
                .push_bind(&row.event.session_id)
                .push_bind(&row.detail)
                .push_bind(&row.previous)
                .push_bind(&row.hash)
                .push_bind(&row.personal);
        });
        query.build().execute(connection).await?;
    });
    Ok(())
}

/// Returns the texts of the columns `detail` and `personal`. The detail has the hash of the other text,
/// in which a salt of 256 bits keeps an address from being guessed once the text is erased.
fn texts(event: &RecordedEvent) -> Result<(String, Option<String>), StoreError> {
    let mut detail = event.detail.clone();
    if event.personal.is_empty() {
        return Ok((Value::Object(detail).to_string(), None));
    }
    let salt = random_token().map_err(|error| sqlx::Error::Protocol(error.to_string()))?;
    let mut personal = event.personal.clone();
    personal.insert(SALT.to_owned(), salt.as_str().into());
    let personal = Value::Object(personal).to_string();
    detail.insert(PERSONAL.to_owned(), hash_of(&personal).into());
    Ok((Value::Object(detail).to_string(), Some(personal)))
}

/// The SHA-256 of a text, in base64url.
fn hash_of(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, text.as_bytes()))
}

/// An event as it stands in the table.
#[derive(Clone, Debug, FromRow)]
pub struct StoredEvent {
    /// Place of the event, counted from 1.
    pub number: i64,
    /// When it happened, in seconds since the epoch.
    pub at: i64,
    /// Kind of the event, by its name.
    pub event: String,
    /// To whom.
    pub user_id: Option<String>,
    /// To which session.
    pub session_id: Option<String>,
    /// Further data, as JSON.
    pub detail: String,
    pub(super) previous: Vec<u8>,
    pub(super) hash: Vec<u8>,
    /// Part that names a person, as JSON, until that person is erased.
    pub(super) personal: Option<String>,
}

impl StoredEvent {
    /// Returns the further data, with the part that names a person.
    #[must_use]
    pub fn full_detail(&self) -> Value {
        let read =
            |text: &str| serde_json::from_str::<Map<String, Value>>(text).unwrap_or_default();
        let mut detail = read(&self.detail);
        if let Some(personal) = &self.personal {
            detail.extend(read(personal));
            detail.remove(PERSONAL);
            detail.remove(SALT);
        }
        Value::Object(detail)
    }

    /// Returns a member of the detail that is a text.
    pub(super) fn member(&self, name: &str) -> Option<String> {
        let detail: Map<String, Value> = serde_json::from_str(&self.detail).ok()?;
        detail.get(name)?.as_str().map(str::to_owned)
    }

    /// Returns the hash that an event with these fields has after `previous`.
    pub(super) fn hash_after(&self, previous: &[u8]) -> Vec<u8> {
        chain(
            previous,
            self.number,
            (self.at, &self.event),
            (self.user_id.as_deref(), self.session_id.as_deref()),
            &self.detail,
        )
    }

    /// Returns whether the text in the column `personal` is the one that was hashed.
    pub(super) fn is_personal_unchanged(&self) -> bool {
        let own = self.personal.as_deref().map(hash_of);
        own.is_none() || own == self.member(PERSONAL)
    }

    /// The hash that the next event is chained to, in base64url: kept elsewhere, it shows whether
    /// the chain was cut off or written anew.
    #[must_use]
    pub fn hash_text(&self) -> String {
        URL_SAFE_NO_PAD.encode(&self.hash)
    }
}

impl Store {
    /// The last events, of one user or of all, the newest first.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn list_events(
        &self,
        user_id: Option<&str>,
        limit: i64,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        Ok(on_pool!(&self.readers, |pool| sqlx::query_as(
            "select number, at, event, user_id, session_id, detail, previous, hash, personal \
             from audit_events where $1 is null or user_id = $1 \
             order by number desc limit $2",
        )
        .bind(user_id)
        .bind(limit)
        .fetch_all(pool)
        .await?))
    }
}

/// The hash of an event.
fn chain(
    previous: &[u8],
    number: i64,
    (at, name): (i64, &str),
    (user_id, session_id): (Option<&str>, Option<&str>),
    detail: &str,
) -> Vec<u8> {
    let mut digest = Context::new(&SHA256);
    add_fields(
        &mut digest,
        &[
            Some(previous),
            Some(&number.to_be_bytes()),
            Some(&at.to_be_bytes()),
            Some(name.as_bytes()),
            user_id.map(str::as_bytes),
            session_id.map(str::as_bytes),
            Some(detail.as_bytes()),
        ],
    );
    digest.finish().as_ref().to_vec()
}

/// Adds each field after its length, so that no two lists of fields have the same bytes.
pub(super) fn add_fields(digest: &mut Context, fields: &[Option<&[u8]>]) {
    for field in fields {
        let length = field.map_or(u64::MAX, |field| field.len() as u64);
        digest.update(&length.to_be_bytes());
        digest.update(field.unwrap_or_default());
    }
}
