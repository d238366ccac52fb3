//! Proofs that a login spends: a code of the second factor, the challenge that asked for it, the counter of a
//! passkey. The transaction that writes the session spends them, so that a login without a session has spent
//! nothing.

use serde_json::json;

use super::{
    Store, StoreError,
    database::{on_pool, on_transaction},
    event::{Event, EventKind},
    transaction::Transaction,
};
use crate::vault::Hash;

/// A code of the second factor, which can be used once.
#[derive(Clone, Copy, Debug)]
pub enum OneTimeCode {
    /// A code of the authenticator, by its time step.
    Totp(i64),
    /// A recovery code, by its hash.
    Recovery(Hash),
}

/// A challenge that is answered by a change, and by no other one.
#[derive(Clone, Copy, Debug)]
pub struct SpentChallenge {
    /// The hash of the challenge.
    pub hash: Hash,
    /// When the challenge expires by itself, in seconds since the epoch.
    pub expires_at: i64,
}

/// A passkey that has answered a challenge.
#[derive(Clone, Copy, Debug)]
pub struct UsedPasskey<'a> {
    /// Identifier of the passkey here.
    pub id: &'a str,
    /// The state that the answer was verified with.
    pub state: &'a [u8],
    /// Next state: the signature counter, and whether the credential is backed up.
    pub next_state: &'a [u8],
    /// The challenge of the ceremony.
    pub challenge: SpentChallenge,
}

/// Proof of a login besides its password.
#[derive(Clone, Copy, Debug)]
pub enum LoginProof<'a> {
    /// None, which nothing is spent for.
    PasswordAlone,
    /// A code, and the challenge of the login whose password was right.
    Code {
        /// The code.
        code: OneTimeCode,
        /// The hash of the challenge.
        challenge: &'a Hash,
    },
    /// A passkey, alone or with the challenge of a login whose password was right.
    Passkey {
        /// The passkey.
        used: UsedPasskey<'a>,
        /// The hash of the challenge.
        challenge: Option<&'a Hash>,
    },
}

impl LoginProof<'_> {
    /// Returns whether there is more than the password, as an account with a second factor asks for.
    pub(super) fn is_beyond_password(&self) -> bool {
        !matches!(self, Self::PasswordAlone)
    }

    /// Spends the proof of an account; `false` when a part of it was spent before. Rows are locked in the
    /// order of [`super::audit`].
    pub(super) async fn spend(
        &self,
        transaction: &mut Transaction,
        user_id: &str,
        now: i64,
    ) -> Result<bool, StoreError> {
        match self {
            Self::PasswordAlone => Ok(true),
            Self::Code { code, challenge } => Ok(spend_code(transaction, user_id, code, now)
                .await?
                && finish_challenge(transaction, challenge, now).await?),
            Self::Passkey { used, challenge } => {
                if let Some(challenge) = challenge
                    && !finish_challenge(transaction, challenge, now).await?
                {
                    return Ok(false);
                }
                spend_passkey(transaction, used, user_id, now).await
            }
        }
    }
}

impl Store {
    /// Returns whether a code is one of the account's that was not used. Only reads.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn is_code_unused(
        &self,
        user_id: &str,
        code: &OneTimeCode,
    ) -> Result<bool, StoreError> {
        let found: Option<(String,)> = match code {
            OneTimeCode::Totp(step) => on_pool!(&self.readers, |pool| sqlx::query_as(
                "select user_id from totp_secrets where user_id = $1 and last_step < $2",
            )
            .bind(user_id)
            .bind(step)
            .fetch_optional(pool)
            .await?),
            OneTimeCode::Recovery(hash) => on_pool!(&self.readers, |pool| sqlx::query_as(
                "select user_id from recovery_codes \
                 where user_id = $1 and hash = $2 and used_at is null",
            )
            .bind(user_id)
            .bind(hash.as_bytes())
            .fetch_optional(pool)
            .await?),
        };
        Ok(found.is_some())
    }

    /// Uses up a code; `false` when it is none of the account's, or it or a later one of the authenticator
    /// was used before.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn use_code(
        &self,
        user_id: &str,
        code: &OneTimeCode,
        now: i64,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.begin().await?;
        if !spend_code(&mut transaction, user_id, code, now).await? {
            return Ok(false);
        }
        transaction.commit().await?;
        Ok(true)
    }
}

async fn spend_code(
    transaction: &mut Transaction,
    user_id: &str,
    code: &OneTimeCode,
    now: i64,
) -> Result<bool, StoreError> {
    let spent = match code {
        OneTimeCode::Totp(step) => on_transaction!(transaction, |connection| {
            sqlx::query(
                "update totp_secrets set last_step = $2 where user_id = $1 and last_step < $2",
            )
            .bind(user_id)
            .bind(step)
            .execute(connection)
            .await?
            .rows_affected()
        }),
        OneTimeCode::Recovery(hash) => on_transaction!(transaction, |connection| {
            sqlx::query(
                "update recovery_codes set used_at = $3 \
                 where user_id = $1 and hash = $2 and used_at is null",
            )
            .bind(user_id)
            .bind(hash.as_bytes())
            .bind(now)
            .execute(connection)
            .await?
            .rows_affected()
        }),
    };
    if spent == 1 && matches!(code, OneTimeCode::Recovery(_)) {
        transaction.record(Event {
            kind: EventKind::RecoveryCodeUsed,
            at: now,
            user_id: Some(user_id),
            session_id: None,
            detail: json!({}),
        });
    }
    Ok(spent == 1)
}

/// Notes that the challenge of a login was met; `false` when it was met before.
async fn finish_challenge(
    transaction: &mut Transaction,
    challenge: &Hash,
    now: i64,
) -> Result<bool, StoreError> {
    let written = on_transaction!(transaction, |connection| {
        sqlx::query("update login_challenges set used_at = $2 where hash = $1 and used_at is null")
            .bind(challenge.as_bytes())
            .bind(now)
            .execute(connection)
            .await?
            .rows_affected()
    });
    Ok(written == 1)
}

/// Notes a login with a passkey: its next state, and the challenge that it answered; `false` when the
/// challenge was answered before, or the passkey was removed or used meanwhile.
async fn spend_passkey(
    transaction: &mut Transaction,
    used: &UsedPasskey<'_>,
    user_id: &str,
    now: i64,
) -> Result<bool, StoreError> {
    let updated = on_transaction!(transaction, |connection| {
        sqlx::query("update passkeys set state = $3, used_at = $4 where id = $1 and state = $2")
            .bind(used.id)
            .bind(used.state)
            .bind(used.next_state)
            .bind(now)
            .execute(connection)
            .await?
            .rows_affected()
    });
    if updated == 0 || !spend_challenge(transaction, used.challenge).await? {
        return Ok(false);
    }
    transaction.record(Event {
        kind: EventKind::PasskeyUsed,
        at: now,
        user_id: Some(user_id),
        session_id: None,
        detail: json!({"passkey": used.id}),
    });
    Ok(true)
}

/// Notes that the challenge of a ceremony was answered; `false` when it was answered before.
pub(super) async fn spend_challenge(
    transaction: &mut Transaction,
    challenge: SpentChallenge,
) -> Result<bool, StoreError> {
    let spent = on_transaction!(transaction, |connection| {
        sqlx::query(
            "insert into passkey_challenges (hash, expires_at) values ($1, $2) \
             on conflict (hash) do nothing",
        )
        .bind(challenge.hash.as_bytes())
        .bind(challenge.expires_at)
        .execute(connection)
        .await?
        .rows_affected()
    });
    Ok(spent == 1)
}
