//! The table `signing_keys`, and everything else that is encrypted under the secrets.

use serde_json::json;
use sqlx::FromRow;

use super::{
    Store, StoreError,
    database::{on_pool, on_transaction},
    event::{Event, EventKind},
    transaction::Transaction,
};

/// A key that signs, will sign, or has signed.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct SigningKey {
    /// The `kid`.
    pub id: String,
    /// `pending`, `active` or `retiring`.
    pub state: String,
    /// The private key, encrypted.
    pub sealed: Vec<u8>,
    /// The public key as a JWK.
    pub public_key: String,
    /// When it came into its state, in seconds since the epoch.
    pub since: i64,
}

/// A key that is new.
#[derive(Clone, Debug)]
pub struct NewSigningKey {
    /// The `kid`.
    pub id: String,
    /// The private key, encrypted.
    pub sealed: Vec<u8>,
    /// The public key as a JWK.
    pub public_key: String,
}

impl Store {
    /// All keys, the active one first.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn list_signing_keys(&self) -> Result<Vec<SigningKey>, StoreError> {
        Ok(on_pool!(&self.readers, |pool| sqlx::query_as(
            "select id, state, sealed, public_key, since from signing_keys \
             order by state, since desc, id",
        )
        .fetch_all(pool)
        .await?))
    }

    /// Makes an active key and a pending key where there are none. A key that is pending already becomes
    /// the active one in place of `active`, since it is published already.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn insert_missing_keys(
        &self,
        active: &NewSigningKey,
        pending: &NewSigningKey,
        now: i64,
    ) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        let has_active: Option<i32> = on_transaction!(&mut transaction, |connection| {
            sqlx::query_scalar("select 1 from signing_keys where state = 'active'")
                .fetch_optional(connection)
                .await?
        });
        if has_active.is_none() {
            promote_pending(&mut transaction, now).await?;
        }
        insert(&mut transaction, active, "active", now).await?;
        insert(&mut transaction, pending, "pending", now).await?;
        transaction.commit().await
    }

    /// Makes the pending key the active one in place of `active`, and `next` the pending one. Returns
    /// `false`, and changes nothing, when `active` is not the active key any more or no key is pending:
    /// another process changes the keys at the same time. In an `emergency` the old key is deleted, and
    /// nothing that it signed is accepted any more; else it retires.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn rotate_signing_key(
        &self,
        active: &str,
        next: &NewSigningKey,
        is_emergency: bool,
        now: i64,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.begin().await?;
        let retired = on_transaction!(&mut transaction, |connection| {
            sqlx::query(
                "update signing_keys set state = 'retiring', since = $2 \
                 where id = $1 and state = 'active'",
            )
            .bind(active)
            .bind(now)
            .execute(connection)
            .await?
            .rows_affected()
        });
        if retired == 0 {
            transaction.roll_back().await?;
            return Ok(false);
        }
        if is_emergency {
            on_transaction!(&mut transaction, |connection| {
                sqlx::query("delete from signing_keys where id = $1")
                    .bind(active)
                    .execute(connection)
                    .await?
                    .rows_affected()
            });
        }
        // On PostgreSQL the row may be gone although this transaction has seen it: another one has
        // deleted the row, and this statement does not see the row that was inserted in its place.
        if promote_pending(&mut transaction, now).await? != 1 {
            transaction.roll_back().await?;
            return Ok(false);
        }
        insert(&mut transaction, next, "pending", now).await?;
        let event = Event {
            kind: EventKind::KeyRotated,
            at: now,
            user_id: None,
            session_id: None,
            detail: json!({"old": active, "emergency": is_emergency}),
        };
        transaction.record(event);
        transaction.commit().await?;
        Ok(true)
    }

    /// Puts `next` in place of the key `pending`, unless that one is not pending any more.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn replace_pending_key(
        &self,
        pending: &str,
        next: &NewSigningKey,
        now: i64,
    ) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        replace_pending(&mut transaction, pending, next, now).await?;
        transaction.commit().await
    }

    /// Throws away the keys that have been retiring since `before` or longer.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn delete_retired_keys(&self, before: i64) -> Result<(), StoreError> {
        on_pool!(&self.writer, |pool| sqlx::query(
            "delete from signing_keys where state = 'retiring' and since <= $1",
        )
        .bind(before)
        .execute(pool)
        .await?
        .rows_affected());
        Ok(())
    }

    /// Puts the same key, encrypted under another secret, in place of what was encrypted before.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn reseal_signing_key(
        &self,
        id: &str,
        old: &[u8],
        new: &[u8],
    ) -> Result<(), StoreError> {
        on_pool!(&self.writer, |pool| sqlx::query(
            "update signing_keys set sealed = $3 where id = $1 and sealed = $2",
        )
        .bind(id)
        .bind(old)
        .bind(new)
        .execute(pool)
        .await?
        .rows_affected());
        Ok(())
    }
}

/// Makes the pending key the active one. Returns the number of keys that it has changed.
async fn promote_pending(transaction: &mut Transaction, now: i64) -> Result<u64, StoreError> {
    Ok(on_transaction!(transaction, |connection| {
        sqlx::query("update signing_keys set state = 'active', since = $1 where state = 'pending'")
            .bind(now)
            .execute(connection)
            .await?
            .rows_affected()
    }))
}

/// Puts `next` in place of the key `pending`, unless that one is not pending any more.
pub(super) async fn replace_pending(
    transaction: &mut Transaction,
    pending: &str,
    next: &NewSigningKey,
    now: i64,
) -> Result<(), StoreError> {
    on_transaction!(transaction, |connection| {
        sqlx::query("delete from signing_keys where id = $1 and state = 'pending'")
            .bind(pending)
            .execute(connection)
            .await?
            .rows_affected()
    });
    insert(transaction, next, "pending", now).await
}

/// Writes a key, unless one is in this state already.
async fn insert(
    transaction: &mut Transaction,
    key: &NewSigningKey,
    state: &str,
    now: i64,
) -> Result<(), StoreError> {
    on_transaction!(transaction, |connection| {
        sqlx::query(
            "insert into signing_keys (id, state, sealed, public_key, created_at, since) \
             values ($1, $2, $3, $4, $5, $5) on conflict do nothing",
        )
        .bind(&key.id)
        .bind(state)
        .bind(&key.sealed)
        .bind(&key.public_key)
        .bind(now)
        .execute(connection)
        .await?
        .rows_affected()
    });
    Ok(())
}
