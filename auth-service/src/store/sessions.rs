//! The table `sessions`, and the revocations that the end of a session causes.

use serde::Deserialize;
use serde_json::json;
use shared_claims::claims::MAXIMUM_LIFETIME_SECS;
use sqlx::FromRow;

use super::{
    Store, StoreError,
    database::{OpenTransaction, on_pool, on_transaction},
    event::{Event, EventKind},
    login_proofs::LoginProof,
    mail_links::lock_account,
    outbox::{self, Destination, NewMessage},
    transaction::Transaction,
};
use crate::{config::Settings, ids::random_id, vault::Hash};

/// Somebody's stay between a login and a logout.
#[derive(Clone, Debug, Deserialize, FromRow)]
pub struct Session {
    /// The token's `sid`.
    pub id: String,
    /// Identifier of the owner.
    pub user_id: String,
    /// The client that signed in.
    pub client_id: String,
    /// In seconds since the epoch.
    pub created_at: i64,
    /// The last login or refresh, in seconds since the epoch.
    pub used_at: i64,
    /// The end that no refresh moves, in seconds since the epoch.
    pub expires_at: i64,
    /// Name that the device gives itself.
    pub device: String,
    /// The address of the last login or refresh.
    pub address: String,
}

/// A session to be written, with its first refresh token.
#[derive(Debug)]
pub struct NewSession<'a> {
    /// The session. `created_at` is now.
    pub session: &'a Session,
    /// The number of the password that was right. The session is not written when the password has
    /// been changed since.
    pub password_version: i64,
    /// The hash of the refresh token.
    pub refresh_token: &'a Hash,
    /// When the refresh token ends, in seconds since the epoch.
    pub refresh_expires_at: i64,
    /// Lifetime of the session's first access token, in seconds.
    pub token_lifetime_secs: i64,
    /// Further data for the audit log.
    pub detail: serde_json::Value,
}

/// Outcome of a session that was to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionStarted {
    /// The session was written, and its proof was spent.
    Fine,
    /// The account was shut, its password changed, or a second factor confirmed, since it was looked at.
    AccountChanged,
    /// A part of the proof was spent before.
    ProofSpent,
}

/// Reason that a session ended before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// The owner ended it.
    LoggedOut,
    /// A spent refresh token came again: somebody has a copy.
    RefreshTokenReused,
    /// The account was shut.
    AccountDisabled,
    /// The password was changed.
    PasswordChanged,
    /// An operator ended it.
    OperatorEnded,
    /// The account was deleted.
    AccountDeleted,
}

impl EndReason {
    /// The name in the table.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::LoggedOut => "logged_out",
            Self::RefreshTokenReused => "refresh_token_reused",
            Self::AccountDisabled => "account_disabled",
            Self::PasswordChanged => "password_changed",
            Self::OperatorEnded => "operator_ended",
            Self::AccountDeleted => "account_deleted",
        }
    }
}

/// Selection of a user's sessions.
#[derive(Clone, Copy, Debug)]
pub enum SessionFilter<'a> {
    /// One session.
    One(&'a str),
    /// All but this one.
    AllBut(&'a str),
    /// All.
    All,
}

/// End of sessions.
#[derive(Clone, Copy, Debug)]
pub struct Ending<'a> {
    /// Reason of the end.
    pub reason: EndReason,
    /// When, in seconds since the epoch.
    pub now: i64,
    /// Gateways to be told, by their URLs.
    pub gateways: &'a [String],
    /// Lifetime of an access token that is signed now, in seconds.
    pub token_lifetime_secs: i64,
}

impl<'a> Ending<'a> {
    /// Returns how sessions end for `reason`, as the settings have it.
    ///
    /// # Errors
    ///
    /// When a lifetime is no number of seconds.
    pub(crate) fn new(settings: &'a Settings, reason: EndReason, now: i64) -> anyhow::Result<Self> {
        Ok(Self {
            reason,
            now,
            gateways: &settings.revocation.gateways,
            token_lifetime_secs: i64::try_from(settings.token.lifetime_secs)?,
        })
    }
}

impl Ending<'_> {
    /// The second until which gateways have to know of the revocation: no access token of the session is
    /// accepted after it. `token_expires_at` is the latest `exp` of those that were signed, which an
    /// earlier setting of the lifetime may have put far off. Sessions from before that was recorded
    /// have `None`; their tokens had the longest lifetime at most.
    fn useful_until(&self, token_expires_at: Option<i64>) -> i64 {
        let signed_now = self.now.saturating_add(self.token_lifetime_secs);
        let latest = token_expires_at.unwrap_or_else(|| {
            let longest = i64::try_from(MAXIMUM_LIFETIME_SECS).unwrap_or(i64::MAX);
            self.now.saturating_add(longest)
        });
        signed_now.max(latest)
    }
}

impl Store {
    /// Writes a session with its refresh token, and spends the proof of its login, or does nothing.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn insert_session(
        &self,
        new: &NewSession<'_>,
        proof: LoginProof<'_>,
    ) -> Result<SessionStarted, StoreError> {
        let session = new.session;
        let mut transaction = self.begin().await?;
        // Changes of the account end first, or wait for this. On SQLite a transaction writes alone.
        if matches!(transaction.connection, OpenTransaction::Postgres(_))
            && !lock_account(&mut transaction, &session.user_id, new.password_version).await?
        {
            return Ok(SessionStarted::AccountChanged);
        }
        let inserted = on_transaction!(&mut transaction, |connection| {
            sqlx::query(
                "insert into sessions (id, user_id, client_id, created_at, used_at, expires_at, \
                                       device, address, token_expires_at) \
                 select $1, id, $3, $4, $5, $6, $7, $8, $9 from users \
                 where id = $2 and password_version = $10 and disabled_at is null \
                   and ($11 or not exists (select 1 from totp_secrets \
                                           where user_id = $2 and confirmed_at is not null))",
            )
            .bind(&session.id)
            .bind(&session.user_id)
            .bind(&session.client_id)
            .bind(session.created_at)
            .bind(session.used_at)
            .bind(session.expires_at)
            .bind(&session.device)
            .bind(&session.address)
            .bind(session.created_at.saturating_add(new.token_lifetime_secs))
            .bind(new.password_version)
            .bind(proof.is_beyond_password())
            .execute(connection)
            .await?
            .rows_affected()
        });
        if inserted == 0 {
            transaction.roll_back().await?;
            return Ok(SessionStarted::AccountChanged);
        }
        let token = (new.refresh_token, new.refresh_expires_at);
        insert_refresh_token(&mut transaction, &session.id, token, session.created_at).await?;
        let spending = proof.spend(&mut transaction, &session.user_id, session.created_at);
        if !spending.await? {
            transaction.roll_back().await?;
            return Ok(SessionStarted::ProofSpent);
        }
        let event = Event {
            kind: EventKind::LoggedIn,
            at: session.created_at,
            user_id: Some(&session.user_id),
            session_id: Some(&session.id),
            detail: new.detail.clone(),
        };
        transaction.record(event);
        transaction.commit().await?;
        Ok(SessionStarted::Fine)
    }

    /// Whether a session of this user has neither ended nor expired.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn is_session_live(
        &self,
        id: &str,
        user_id: &str,
        now: i64,
    ) -> Result<bool, StoreError> {
        let found: Option<(String,)> = on_pool!(&self.readers, |pool| sqlx::query_as(
            "select id from sessions \
             where id = $1 and user_id = $2 and ended_at is null and expires_at > $3",
        )
        .bind(id)
        .bind(user_id)
        .bind(now)
        .fetch_optional(pool)
        .await?);
        Ok(found.is_some())
    }

    /// Returns the live sessions of a user, the last used first: those that have neither ended nor
    /// expired, and whose refresh token can still be used.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn list_live_sessions(
        &self,
        user_id: &str,
        now: i64,
    ) -> Result<Vec<Session>, StoreError> {
        Ok(on_pool!(&self.readers, |pool| sqlx::query_as(
            "select id, user_id, client_id, created_at, used_at, expires_at, device, address \
             from sessions where user_id = $1 and ended_at is null and expires_at > $2 \
                   and exists (select 1 from refresh_tokens \
                               where session_id = sessions.id and refresh_tokens.used_at is null \
                                     and refresh_tokens.expires_at > $2) \
             order by used_at desc, id",
        )
        .bind(user_id)
        .bind(now)
        .fetch_all(pool)
        .await?))
    }

    /// Ends sessions of a user, and says which were still alive.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn end_sessions(
        &self,
        user_id: &str,
        which: SessionFilter<'_>,
        ending: Ending<'_>,
    ) -> Result<Vec<String>, StoreError> {
        let mut transaction = self.begin().await?;
        let ended = end(&mut transaction, user_id, which, ending).await?;
        transaction.commit().await?;
        Ok(ended)
    }
}

/// Locks the row of an account until the transaction ends.
///
/// Transactions that lock more than one session of a user call it first: then no two of them lock the
/// same sessions in different orders.
async fn lock_owner(transaction: &mut Transaction, user_id: &str) -> Result<(), StoreError> {
    on_transaction!(transaction, |connection| {
        sqlx::query("update users set id = id where id = $1")
            .bind(user_id)
            .execute(connection)
            .await?;
    });
    Ok(())
}

/// Ends sessions of a user, and writes in the same transaction who has to be told and what
/// happened.
pub(super) async fn end(
    transaction: &mut Transaction,
    user_id: &str,
    which: SessionFilter<'_>,
    ending: Ending<'_>,
) -> Result<Vec<String>, StoreError> {
    let (only, but) = match which {
        SessionFilter::One(id) => (Some(id), None),
        SessionFilter::AllBut(id) => (None, Some(id)),
        SessionFilter::All => (None, None),
    };
    if only.is_none() {
        lock_owner(transaction, user_id).await?;
    }
    let ended: Vec<(String, Option<i64>)> = on_transaction!(transaction, |connection| {
        sqlx::query_as(
            "update sessions set ended_at = $2, end_reason = $3 \
             where user_id = $1 and ended_at is null and expires_at > $2 \
                   and ($4 is null or id = $4) and ($5 is null or id <> $5) \
             returning id, token_expires_at",
        )
        .bind(user_id)
        .bind(ending.now)
        .bind(ending.reason.name())
        .bind(only)
        .bind(but)
        .fetch_all(connection)
        .await?
    });
    for (session_id, token_expires_at) in &ended {
        let useful_until = ending.useful_until(*token_expires_at);
        revoke(transaction, user_id, (session_id, useful_until), ending).await?;
        let event = Event {
            kind: EventKind::SessionEnded,
            at: ending.now,
            user_id: Some(user_id),
            session_id: Some(session_id),
            detail: json!({"reason": ending.reason.name()}),
        };
        if ending.reason == EndReason::RefreshTokenReused {
            let reuse = Event {
                kind: EventKind::RefreshTokenReused,
                detail: json!({}),
                ..event.clone()
            };
            transaction.record_decision(event);
            transaction.record_decision(reuse);
        } else {
            transaction.record(event);
        }
    }
    Ok(ended.into_iter().map(|(id, _)| id).collect())
}

/// Writes for each gateway that the session has ended.
async fn revoke(
    transaction: &mut Transaction,
    user_id: &str,
    (session_id, useful_until): (&str, i64),
    ending: Ending<'_>,
) -> Result<(), StoreError> {
    let id = random_id().map_err(|error| sqlx::Error::Protocol(error.to_string()))?;
    for gateway in ending.gateways {
        let message = NewMessage {
            id: &id,
            destination: Destination::Gateway(gateway),
            user_id: Some(user_id),
            payload: session_id,
            expires_at: useful_until,
            due_at: ending.now,
        };
        outbox::put(transaction, message).await?;
    }
    Ok(())
}

/// Writes a refresh token of a session.
pub(super) async fn insert_refresh_token(
    transaction: &mut Transaction,
    session_id: &str,
    (hash, expires_at): (&Hash, i64),
    now: i64,
) -> Result<(), StoreError> {
    on_transaction!(transaction, |connection| {
        sqlx::query(
            "insert into refresh_tokens (hash, session_id, issued_at, expires_at) \
             values ($1, $2, $3, $4)",
        )
        .bind(hash.as_bytes())
        .bind(session_id)
        .bind(now)
        .bind(expires_at)
        .execute(connection)
        .await?;
    });
    Ok(())
}
