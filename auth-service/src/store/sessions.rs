//! The table `sessions`: what a login writes, and what their owner reads. [`super::session_ends`] ends them.

use serde::Deserialize;
use sqlx::FromRow;

use super::{
    Store, StoreError,
    database::{OpenTransaction, on_pool, on_transaction},
    event::{Event, EventKind},
    login_proofs::LoginProof,
    mail_links::lock_account,
    session_ends::{self, Ending},
    transaction::Transaction,
};
use crate::vault::Hash;

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
    /// Maximum number of live sessions of the account, with this one. Those beyond it that were used longest
    /// ago end as `ending` says.
    pub most_sessions: u32,
    /// The end of the sessions that exceed the limit. Its lifetime of an access token is the one of the
    /// session's first.
    pub ending: Ending<'a>,
    /// Further data for the audit log.
    pub detail: serde_json::Value,
}

/// Outcome of a session that was to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionStarted {
    /// The session was written, and its proof was spent.
    Fine,
    /// The same, and sessions that exceeded the limit have ended.
    InPlaceOfOthers,
    /// The account was shut, its password changed, or a second factor confirmed, since it was looked at.
    AccountChanged,
    /// A part of the proof was spent before.
    ProofSpent,
}

impl Store {
    /// Writes a session with its refresh token, spends the proof of its login, and ends the sessions that
    /// exceed the limit; or does nothing.
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
        let Some(is_limit_exceeded) = insert_row(&mut transaction, new, proof).await? else {
            transaction.roll_back().await?;
            return Ok(SessionStarted::AccountChanged);
        };
        let token = (new.refresh_token, new.refresh_expires_at);
        insert_refresh_token(&mut transaction, &session.id, token, session.created_at).await?;
        let spending = proof.spend(&mut transaction, &session.user_id, session.created_at);
        if !spending.await? {
            transaction.roll_back().await?;
            return Ok(SessionStarted::ProofSpent);
        }
        if is_limit_exceeded {
            let (most, ending) = (new.most_sessions, new.ending);
            let (owner, id) = (&session.user_id, &session.id);
            session_ends::end_excess(&mut transaction, owner, id, most, ending).await?;
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
        Ok(match is_limit_exceeded {
            true => SessionStarted::InPlaceOfOthers,
            false => SessionStarted::Fine,
        })
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
}

/// Writes the row of a session, and returns whether the live sessions exceed the limit with it; `None` when
/// the account has changed since it was looked at.
async fn insert_row(
    transaction: &mut Transaction,
    new: &NewSession<'_>,
    proof: LoginProof<'_>,
) -> Result<Option<bool>, StoreError> {
    let session = new.session;
    Ok(on_transaction!(transaction, |connection| {
        sqlx::query_scalar(
            "insert into sessions (id, user_id, client_id, created_at, used_at, expires_at, \
                                   device, address, token_expires_at) \
             select $1, id, $3, $4, $5, $6, $7, $8, $9 from users \
             where id = $2 and password_version = $10 and disabled_at is null \
               and ($11 or not exists (select 1 from totp_secrets \
                                       where user_id = $2 and confirmed_at is not null)) \
             returning exists (select 1 from sessions \
                               where user_id = $2 and ended_at is null and expires_at > $4 and id <> $1 \
                               limit 1 offset $12)",
        )
        .bind(&session.id)
        .bind(&session.user_id)
        .bind(&session.client_id)
        .bind(session.created_at)
        .bind(session.used_at)
        .bind(session.expires_at)
        .bind(&session.device)
        .bind(&session.address)
        .bind(
            session
                .created_at
                .saturating_add(new.ending.token_lifetime_secs),
        )
        .bind(new.password_version)
        .bind(proof.is_beyond_password())
        .bind(i64::from(new.most_sessions).saturating_sub(1))
        .fetch_optional(connection)
        .await?
    }))
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
