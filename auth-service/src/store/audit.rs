//! The table `audit_events`: one row for each change, chained by hash to the row before it.
//!
//! **Order of locks.** Every transaction takes row locks in one order: `users`, `sessions`,
//! `refresh_tokens`, the other tables, and the audit chain last. The chain has one lock for the whole
//! database. If a transaction held that lock and then waited for a row, a second transaction that
//! holds the row and waits for the chain would be a deadlock. Therefore no statement appends to the
//! chain: `Transaction::record` only keeps the event, and `Transaction::commit` appends all of
//! them after the last statement. A transaction that locks several sessions locks the row of their
//! owner first (see [`super::sessions`]), so two of them never wait for each other. Clean-up locks the
//! sessions that ended long ago, which nothing else changes, by id.

use aws_lc_rs::digest::{Context, SHA256, SHA256_OUTPUT_LEN};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sqlx::FromRow;

use super::{
    Store, StoreError,
    database::{OpenTransaction, in_time, on_pool, on_transaction},
    event::RecordedEvent,
};

/// What the first event is chained to.
const BEGINNING: [u8; SHA256_OUTPUT_LEN] = [0; SHA256_OUTPUT_LEN];

/// The lock under which PostgreSQL appends, so that no two events follow the same one. Any number
/// does that nothing else in the database uses; these bytes spell "audit".
const POSTGRES_LOCK: i64 = 0x61_75_64_69_74;

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
    for event in events {
        number += 1;
        previous = insert(transaction, event, number, previous).await?;
    }
    Ok(())
}

/// Inserts one event after `previous`, and returns its hash.
async fn insert(
    transaction: &mut OpenTransaction,
    event: &RecordedEvent,
    number: i64,
    previous: Vec<u8>,
) -> Result<Vec<u8>, StoreError> {
    let hash = chain(
        &previous,
        number,
        (event.at, event.name),
        (event.user_id.as_deref(), event.session_id.as_deref()),
        &event.detail,
    );
    on_transaction!(transaction, |connection| {
        sqlx::query(
            "insert into audit_events (number, at, event, user_id, session_id, detail, previous, hash) \
             values ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(number)
        .bind(event.at)
        .bind(event.name)
        .bind(&event.user_id)
        .bind(&event.session_id)
        .bind(&event.detail)
        .bind(&previous)
        .bind(&hash)
        .execute(connection)
        .await?;
    });
    Ok(hash)
}

/// An event as it stands in the table.
#[derive(Clone, Debug, FromRow)]
pub struct StoredEvent {
    /// Its place, counted from 1.
    pub number: i64,
    /// When it happened, in seconds since the epoch.
    pub at: i64,
    /// What happened, by the name of its kind.
    pub event: String,
    /// To whom.
    pub user_id: Option<String>,
    /// To which session.
    pub session_id: Option<String>,
    /// What else was worth keeping, as JSON.
    pub detail: String,
    previous: Vec<u8>,
    hash: Vec<u8>,
}

impl StoredEvent {
    /// The hash that the next event is chained to, in base64url: kept elsewhere, it shows whether
    /// the chain was cut off or written anew.
    #[must_use]
    pub fn hash_text(&self) -> String {
        URL_SAFE_NO_PAD.encode(&self.hash)
    }
}

/// How many events are read at a time when all are.
const PAGE: i64 = 1_000;

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
            "select number, at, event, user_id, session_id, detail, previous, hash \
             from audit_events where $1 is null or user_id = $1 \
             order by number desc limit $2",
        )
        .bind(user_id)
        .bind(limit)
        .fetch_all(pool)
        .await?))
    }

    /// Walks the whole chain: how many events there are, or the number of the first that was
    /// changed, or that follows one which was removed.
    ///
    /// Whoever can write the table can also write a new chain, or cut the last events off: compare
    /// the newest event with one that was kept elsewhere.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn check_events(&self) -> Result<Result<i64, i64>, StoreError> {
        let (mut count, mut last) = (0, BEGINNING.to_vec());
        loop {
            let page: Vec<StoredEvent> = on_pool!(&self.readers, |pool| sqlx::query_as(
                "select number, at, event, user_id, session_id, detail, previous, hash \
                 from audit_events where number > $1 order by number limit $2",
            )
            .bind(count)
            .bind(PAGE)
            .fetch_all(pool)
            .await?);
            if page.is_empty() {
                return Ok(Ok(count));
            }
            for event in page {
                let hash = chain(
                    &last,
                    event.number,
                    (event.at, &event.event),
                    (event.user_id.as_deref(), event.session_id.as_deref()),
                    &event.detail,
                );
                let follows = event.number == count + 1 && event.previous == last;
                if !follows || event.hash != hash {
                    return Ok(Err(event.number));
                }
                (count, last) = (event.number, hash);
            }
        }
    }
}

/// The hash of an event: each field after its length, so that no two events have the same bytes.
fn chain(
    previous: &[u8],
    number: i64,
    (at, name): (i64, &str),
    (user_id, session_id): (Option<&str>, Option<&str>),
    detail: &str,
) -> Vec<u8> {
    let mut digest = Context::new(&SHA256);
    let mut add = |field: Option<&[u8]>| {
        let length = field.map_or(u64::MAX, |field| field.len() as u64);
        digest.update(&length.to_be_bytes());
        digest.update(field.unwrap_or_default());
    };
    add(Some(previous));
    add(Some(&number.to_be_bytes()));
    add(Some(&at.to_be_bytes()));
    add(Some(name.as_bytes()));
    add(user_id.map(str::as_bytes));
    add(session_id.map(str::as_bytes));
    add(Some(detail.as_bytes()));
    digest.finish().as_ref().to_vec()
}
