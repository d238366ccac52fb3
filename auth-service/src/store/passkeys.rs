//! The tables of passkeys: `passkeys` and `passkey_challenges`.

use serde_json::json;
use sqlx::FromRow;

use super::{
    Store, StoreError,
    administration::lock_account,
    database::{on_pool, on_transaction},
    event::{Event, EventKind},
    login_proofs::{SpentChallenge, spend_challenge},
    mails::{self, MailKind},
    passwords::{LoginRequirements, find_requirements},
    transaction::Transaction,
};

/// A passkey of an account.
#[derive(Clone, Debug, FromRow)]
pub struct Passkey {
    /// Identifier here.
    pub id: String,
    /// Identifier at the authenticator, 16 to 1023 bytes.
    pub credential_id: Vec<u8>,
    /// The account.
    pub user_id: String,
    /// The name that its owner gave it.
    pub name: String,
    /// The ways in which browsers reach the authenticator, as a set of bits.
    pub transports: i64,
    /// The public key, and the extensions of the enrolment.
    pub public_key: Vec<u8>,
    /// Changes with a login: the signature counter, and whether the credential is backed up.
    pub state: Vec<u8>,
    /// In seconds since the epoch.
    pub created_at: i64,
    /// The time of the last login with it, in seconds since the epoch.
    pub used_at: Option<i64>,
}

/// A passkey to be written.
#[derive(Debug)]
pub struct NewPasskey<'a> {
    /// Identifier here.
    pub id: &'a str,
    /// Identifier at the authenticator.
    pub credential_id: &'a [u8],
    /// The account.
    pub user_id: &'a str,
    /// Proofs that a login to the account needed when the enrolment was verified. The passkey is not written
    /// when they are others by now.
    pub requirements: LoginRequirements,
    /// The name that its owner gives it.
    pub name: &'a str,
    /// The ways in which browsers reach the authenticator, as a set of bits.
    pub transports: i64,
    /// The public key, and the extensions of the enrolment.
    pub public_key: &'a [u8],
    /// The signature counter, and whether the credential is backed up.
    pub state: &'a [u8],
}

/// Outcome of a passkey that was to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PasskeyAdded {
    /// The passkey was written.
    Fine,
    /// The challenge was answered before, or the account was deleted, or its password or second factor has
    /// changed.
    Refused,
    /// An account has this credential.
    Taken,
    /// The account has as many as it may have.
    TooMany,
}

impl Store {
    /// Writes a passkey, unless its account has `most`.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn insert_passkey(
        &self,
        new: &NewPasskey<'_>,
        challenge: SpentChallenge,
        most: i64,
        now: i64,
    ) -> Result<PasskeyAdded, StoreError> {
        let share = self.notice_share().await?;
        let mut transaction = self.begin().await?;
        // The row of the account keeps a second enrolment out until this one is counted, and a change of the
        // password or the second factor.
        if !lock_account(&mut transaction, new.user_id).await?
            || find_requirements(&mut transaction, new.user_id).await? != new.requirements
        {
            return Ok(PasskeyAdded::Refused);
        }
        let count: i64 = on_transaction!(&mut transaction, |connection| {
            sqlx::query_scalar("select count(*) from passkeys where user_id = $1")
                .bind(new.user_id)
                .fetch_one(connection)
                .await?
        });
        if count >= most {
            return Ok(PasskeyAdded::TooMany);
        }
        if !insert(&mut transaction, new, now).await? {
            return Ok(PasskeyAdded::Taken);
        }
        if !spend_challenge(&mut transaction, challenge).await? {
            return Ok(PasskeyAdded::Refused);
        }
        record(
            &mut transaction,
            EventKind::PasskeyAdded,
            new.user_id,
            new.id,
            now,
        );
        mails::put_notice(
            &mut transaction,
            MailKind::PasskeyAdded,
            new.user_id,
            now,
            share,
        )
        .await?;
        transaction.commit().await?;
        Ok(PasskeyAdded::Fine)
    }

    /// Returns the passkeys of an account, the oldest first.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn list_passkeys(&self, user_id: &str) -> Result<Vec<Passkey>, StoreError> {
        Ok(on_pool!(&self.readers, |pool| sqlx::query_as(
            "select id, credential_id, user_id, name, transports, public_key, state, created_at, \
                    used_at \
             from passkeys where user_id = $1 order by created_at, id",
        )
        .bind(user_id)
        .fetch_all(pool)
        .await?))
    }

    /// Returns the passkey with an authenticator's identifier.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn find_passkey(&self, credential_id: &[u8]) -> Result<Option<Passkey>, StoreError> {
        Ok(on_pool!(&self.readers, |pool| sqlx::query_as(
            "select id, credential_id, user_id, name, transports, public_key, state, created_at, \
                    used_at \
             from passkeys where credential_id = $1",
        )
        .bind(credential_id)
        .fetch_optional(pool)
        .await?))
    }

    /// Returns whether the challenge of a ceremony was answered before.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn is_challenge_spent(&self, challenge: SpentChallenge) -> Result<bool, StoreError> {
        let found: Option<(i64,)> = on_pool!(&self.readers, |pool| sqlx::query_as(
            "select expires_at from passkey_challenges where hash = $1",
        )
        .bind(challenge.hash.as_bytes())
        .fetch_optional(pool)
        .await?);
        Ok(found.is_some())
    }

    /// Gives a passkey of an account another name; `false` when the account has no such passkey.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn rename_passkey(
        &self,
        user_id: &str,
        id: &str,
        name: &str,
    ) -> Result<bool, StoreError> {
        let renamed = on_pool!(&self.writer, |pool| sqlx::query(
            "update passkeys set name = $3 where id = $2 and user_id = $1",
        )
        .bind(user_id)
        .bind(id)
        .bind(name)
        .execute(pool)
        .await?
        .rows_affected());
        Ok(renamed == 1)
    }

    /// Removes a passkey of an account; `false` when the account has no such passkey.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn delete_passkey(
        &self,
        user_id: &str,
        id: &str,
        now: i64,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.begin().await?;
        let removed = on_transaction!(&mut transaction, |connection| {
            sqlx::query("delete from passkeys where id = $2 and user_id = $1")
                .bind(user_id)
                .bind(id)
                .execute(connection)
                .await?
                .rows_affected()
        });
        if removed == 0 {
            return Ok(false);
        }
        record(
            &mut transaction,
            EventKind::PasskeyRemoved,
            user_id,
            id,
            now,
        );
        transaction.commit().await?;
        Ok(true)
    }

    /// Removes all passkeys of an account; `false` when it has none.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn delete_passkeys(&self, user_id: &str, now: i64) -> Result<bool, StoreError> {
        let mut transaction = self.begin().await?;
        // An enrolment ends first, and its passkey goes too, or begins after this.
        lock_account(&mut transaction, user_id).await?;
        let removed: Vec<String> = on_transaction!(&mut transaction, |connection| {
            sqlx::query_scalar("delete from passkeys where user_id = $1 returning id")
                .bind(user_id)
                .fetch_all(connection)
                .await?
        });
        if removed.is_empty() {
            return Ok(false);
        }
        for id in &removed {
            record(
                &mut transaction,
                EventKind::PasskeyRemoved,
                user_id,
                id,
                now,
            );
        }
        transaction.commit().await?;
        Ok(true)
    }
}

/// Writes the row of a passkey; `false` when an account has the credential.
async fn insert(
    transaction: &mut Transaction,
    new: &NewPasskey<'_>,
    now: i64,
) -> Result<bool, StoreError> {
    let inserted = on_transaction!(transaction, |connection| {
        sqlx::query(
            "insert into passkeys \
                 (id, credential_id, user_id, name, transports, public_key, state, created_at) \
             values ($1, $2, $3, $4, $5, $6, $7, $8) on conflict (credential_id) do nothing",
        )
        .bind(new.id)
        .bind(new.credential_id)
        .bind(new.user_id)
        .bind(new.name)
        .bind(new.transports)
        .bind(new.public_key)
        .bind(new.state)
        .bind(now)
        .execute(connection)
        .await?
        .rows_affected()
    });
    Ok(inserted == 1)
}

fn record(transaction: &mut Transaction, kind: EventKind, user_id: &str, id: &str, now: i64) {
    transaction.record(Event {
        kind,
        at: now,
        user_id: Some(user_id),
        session_id: None,
        detail: json!({ "passkey": id }),
    });
}
