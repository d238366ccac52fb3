//! The tables of the second factor: `totp_secrets`, `recovery_codes` and `login_challenges`.

use serde_json::json;
use sqlx::FromRow;

use super::{
    Store, StoreError,
    administration::lock_account,
    database::{on_pool, on_transaction},
    event::{Event, EventKind},
    transaction::Transaction,
};
use crate::vault::Hash;

/// A shared secret of somebody's authenticator.
#[derive(Clone, Debug, FromRow)]
pub struct TotpSecret {
    /// The secret, encrypted.
    pub sealed: Vec<u8>,
    /// When a first code proved that they have it, in seconds since the epoch.
    pub confirmed_at: Option<i64>,
}

/// Owner of a login that waits for its second factor.
#[derive(Clone, Debug, FromRow)]
pub struct Challenged {
    /// The account.
    pub user_id: String,
    /// The number of the password that was right.
    pub password_version: i64,
}

impl Store {
    /// Writes a secret that is yet to be confirmed, in place of another such one; `false` when a
    /// confirmed one is there, or no such account.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn put_totp_secret(
        &self,
        user_id: &str,
        sealed: &[u8],
        now: i64,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.begin().await?;
        // A deletion that runs meanwhile comes before or after this, and finds the secret in the latter
        // case.
        if !lock_account(&mut transaction, user_id).await? {
            return Ok(false);
        }
        let written = on_transaction!(&mut transaction, |connection| sqlx::query(
            "insert into totp_secrets (user_id, sealed, created_at) values ($1, $2, $3) \
             on conflict (user_id) do update \
             set sealed = excluded.sealed, created_at = excluded.created_at, last_step = 0 \
             where totp_secrets.confirmed_at is null",
        )
        .bind(user_id)
        .bind(sealed)
        .bind(now)
        .execute(connection)
        .await?
        .rows_affected());
        transaction.commit().await?;
        Ok(written == 1)
    }

    /// The secret of an account, confirmed or not.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn find_totp_secret(&self, user_id: &str) -> Result<Option<TotpSecret>, StoreError> {
        Ok(on_pool!(&self.readers, |pool| sqlx::query_as(
            "select sealed, confirmed_at from totp_secrets where user_id = $1",
        )
        .bind(user_id)
        .fetch_optional(pool)
        .await?))
    }

    /// Confirms the secret that was seen as `sealed`, by its code of `step`, and sets the recovery codes; `false`
    /// when another one has taken its place, there is none to be confirmed, or no such account.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn confirm_totp(
        &self,
        user_id: &str,
        (sealed, step): (&[u8], i64),
        recovery_codes: &[Hash],
        now: i64,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.begin().await?;
        // Each recovery code refers to the account, whose row comes first in the order of locks.
        if !lock_account(&mut transaction, user_id).await? {
            return Ok(false);
        }
        let confirmed = on_transaction!(&mut transaction, |connection| {
            sqlx::query(
                "update totp_secrets set confirmed_at = $3, last_step = $2 \
                 where user_id = $1 and confirmed_at is null and sealed = $4",
            )
            .bind(user_id)
            .bind(step)
            .bind(now)
            .bind(sealed)
            .execute(connection)
            .await?
            .rows_affected()
        });
        if confirmed == 0 {
            return Ok(false);
        }
        for hash in recovery_codes {
            on_transaction!(&mut transaction, |connection| {
                sqlx::query("insert into recovery_codes (user_id, hash) values ($1, $2)")
                    .bind(user_id)
                    .bind(hash.as_bytes())
                    .execute(connection)
                    .await?
                    .rows_affected()
            });
        }
        record(&mut transaction, EventKind::SecondFactorAdded, user_id, now);
        transaction.commit().await?;
        Ok(true)
    }

    /// Takes the second factor of an account away; `false` when it has none.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn delete_totp(&self, user_id: &str, now: i64) -> Result<bool, StoreError> {
        let mut transaction = self.begin().await?;
        // An enrolment of a passkey under way, which was asked for a code, ends first, or is refused.
        lock_account(&mut transaction, user_id).await?;
        let deleted = on_transaction!(&mut transaction, |connection| {
            sqlx::query("delete from totp_secrets where user_id = $1")
                .bind(user_id)
                .execute(connection)
                .await?
                .rows_affected()
        });
        if deleted == 0 {
            return Ok(false);
        }
        for statement in [
            "delete from recovery_codes where user_id = $1",
            "delete from login_challenges where user_id = $1",
        ] {
            on_transaction!(&mut transaction, |connection| {
                sqlx::query(statement)
                    .bind(user_id)
                    .execute(connection)
                    .await?
                    .rows_affected()
            });
        }
        record(
            &mut transaction,
            EventKind::SecondFactorRemoved,
            user_id,
            now,
        );
        transaction.commit().await?;
        Ok(true)
    }

    /// Returns every secret with the id of its account.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn list_totp_secrets(&self) -> Result<Vec<(String, TotpSecret)>, StoreError> {
        let rows: Vec<(String, Vec<u8>, Option<i64>)> =
            on_pool!(&self.readers, |pool| sqlx::query_as(
                "select user_id, sealed, confirmed_at from totp_secrets"
            )
            .fetch_all(pool)
            .await?);
        let secret = |(user_id, sealed, confirmed_at)| {
            let secret = TotpSecret {
                sealed,
                confirmed_at,
            };
            (user_id, secret)
        };
        Ok(rows.into_iter().map(secret).collect())
    }

    /// Deletes the secret that was read as `sealed`, unless it was confirmed meanwhile.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn delete_unconfirmed_totp_secret(
        &self,
        user_id: &str,
        sealed: &[u8],
    ) -> Result<(), StoreError> {
        on_pool!(&self.writer, |pool| sqlx::query(
            "delete from totp_secrets where user_id = $1 and sealed = $2 and confirmed_at is null",
        )
        .bind(user_id)
        .bind(sealed)
        .execute(pool)
        .await?
        .rows_affected());
        Ok(())
    }

    /// Puts the same secret, encrypted under another one of ours, in place of what was there.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn reseal_totp_secret(
        &self,
        user_id: &str,
        old: &[u8],
        new: &[u8],
    ) -> Result<(), StoreError> {
        on_pool!(&self.writer, |pool| sqlx::query(
            "update totp_secrets set sealed = $3 where user_id = $1 and sealed = $2",
        )
        .bind(user_id)
        .bind(old)
        .bind(new)
        .execute(pool)
        .await?
        .rows_affected());
        Ok(())
    }

    /// Lets a login wait for its second factor until `expires_at`; without an effect when the account was
    /// deleted, whose challenge nobody meets.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn insert_challenge(
        &self,
        challenge: &Hash,
        challenged: &Challenged,
        expires_at: i64,
    ) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        if !lock_account(&mut transaction, &challenged.user_id).await? {
            return Ok(());
        }
        on_transaction!(&mut transaction, |connection| sqlx::query(
            "insert into login_challenges (hash, user_id, password_version, expires_at) \
             values ($1, $2, $3, $4)",
        )
        .bind(challenge.as_bytes())
        .bind(&challenged.user_id)
        .bind(challenged.password_version)
        .bind(expires_at)
        .execute(connection)
        .await?
        .rows_affected());
        transaction.commit().await
    }

    /// Returns whether a challenge can be met now. It only reads, so that a challenge that nobody has
    /// costs no write.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn is_challenge_open(&self, challenge: &Hash, now: i64) -> Result<bool, StoreError> {
        let found: Option<(String,)> = on_pool!(&self.readers, |pool| sqlx::query_as(
            "select user_id from login_challenges \
             where hash = $1 and expires_at > $2 and used_at is null",
        )
        .bind(challenge.as_bytes())
        .bind(now)
        .fetch_optional(pool)
        .await?);
        Ok(found.is_some())
    }

    /// Counts an attempt to meet a challenge, and says whose it is; `None` when it is nobody's, has
    /// expired, was met, or was tried `most` times.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn try_challenge(
        &self,
        challenge: &Hash,
        most: i64,
        now: i64,
    ) -> Result<Option<Challenged>, StoreError> {
        Ok(on_pool!(&self.writer, |pool| sqlx::query_as(
            "update login_challenges set attempts = attempts + 1 \
             where hash = $1 and expires_at > $2 and used_at is null and attempts < $3 \
             returning user_id, password_version",
        )
        .bind(challenge.as_bytes())
        .bind(now)
        .bind(most)
        .fetch_optional(pool)
        .await?))
    }
}

fn record(transaction: &mut Transaction, kind: EventKind, user_id: &str, now: i64) {
    let event = Event {
        kind,
        at: now,
        user_id: Some(user_id),
        session_id: None,
        detail: json!({}),
    };
    transaction.record(event);
}
