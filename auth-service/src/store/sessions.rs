//! The tables `sessions` and `refresh_tokens`, and the revocations that the end of a session
//! causes.

use serde_json::json;
use sqlx::FromRow;

use super::{
    Store, StoreError,
    audit::{self, Event, EventKind},
    database::{Transaction, on_pool, on_transaction},
};
use crate::{tokens::random_id, users::hash::StoredHash, vault::Hash};

/// How long after its use a refresh token may come again, in seconds: the answer to the first use
/// may have been lost on the way.
pub const RETRY_WINDOW_SECS: i64 = 10;

/// Somebody's stay between a login and a logout.
#[derive(Clone, Debug, FromRow)]
pub struct Session {
    /// The token's `sid`.
    pub id: String,
    /// Whose it is.
    pub user_id: String,
    /// The client that signed in.
    pub client_id: String,
    /// In seconds since the epoch.
    pub created_at: i64,
    /// The last login or refresh, in seconds since the epoch.
    pub used_at: i64,
    /// The end that no refresh moves, in seconds since the epoch.
    pub expires_at: i64,
    /// What the device calls itself.
    pub device: String,
    /// Where it came from.
    pub address: String,
}

/// A session to be written, with its first refresh token.
#[derive(Debug)]
pub struct NewSession<'a> {
    /// The session. `created_at` is now.
    pub session: &'a Session,
    /// The hash of the password that was right: the session is not made when it has been changed
    /// since.
    pub password_hash: &'a StoredHash,
    /// The hash of the refresh token.
    pub refresh_token: &'a Hash,
    /// When the refresh token ends, in seconds since the epoch.
    pub refresh_expires_at: i64,
    /// What else the audit log keeps of the login.
    pub detail: serde_json::Value,
}

/// Why a session ended before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// Its owner ended it.
    LoggedOut,
    /// A spent refresh token came again: somebody has a copy.
    RefreshTokenReused,
    /// The account was shut.
    AccountDisabled,
    /// The password was changed.
    PasswordChanged,
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
        }
    }
}

/// Which of a user's sessions.
#[derive(Clone, Copy, Debug)]
pub enum Which<'a> {
    /// This one.
    One(&'a str),
    /// All but this one.
    AllBut(&'a str),
    /// All.
    All,
}

/// How sessions end.
#[derive(Clone, Copy, Debug)]
pub struct Ending<'a> {
    /// Why.
    pub reason: EndReason,
    /// When, in seconds since the epoch.
    pub now: i64,
    /// Whom to tell: the gateways, by their URLs.
    pub gateways: &'a [String],
    /// How long a token of such a session may still be accepted, in seconds.
    pub token_lifetime_secs: i64,
}

/// What became of a refresh token that was presented.
#[derive(Debug)]
pub enum Refreshed {
    /// It was exchanged for the successor with this index, now or within the last seconds.
    Rotated {
        /// The session.
        session: Session,
        /// Which of the successors that were offered.
        successor: usize,
    },
    /// It was exchanged before; its session has been ended.
    Reused(Session),
    /// Nobody has it, it has expired, or its session has ended.
    Refused,
}

impl Store {
    /// Writes a session with its refresh token; `false` when the account was shut, or its password
    /// changed, since it was looked at.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn insert_session(&self, new: &NewSession<'_>) -> Result<bool, StoreError> {
        let session = new.session;
        let mut transaction = self.writer.begin().await?;
        // An update, so that it waits for a change of the row that is under way, and the change for us.
        let unchanged = on_transaction!(&mut transaction, |connection| {
            sqlx::query(
                "update users set id = id \
                 where id = $1 and password_hash = $2 and disabled_at is null",
            )
            .bind(&session.user_id)
            .bind(new.password_hash)
            .execute(connection)
            .await?
            .rows_affected()
        });
        if unchanged == 0 {
            return Ok(false);
        }
        on_transaction!(&mut transaction, |connection| {
            sqlx::query(
                "insert into sessions (id, user_id, client_id, created_at, used_at, expires_at, \
                                       device, address) \
                 values ($1, $2, $3, $4, $5, $6, $7, $8)",
            )
            .bind(&session.id)
            .bind(&session.user_id)
            .bind(&session.client_id)
            .bind(session.created_at)
            .bind(session.used_at)
            .bind(session.expires_at)
            .bind(&session.device)
            .bind(&session.address)
            .execute(connection)
            .await?;
        });
        let token = (new.refresh_token, new.refresh_expires_at);
        insert_refresh_token(&mut transaction, &session.id, token, session.created_at).await?;
        let event = Event {
            kind: EventKind::LoggedIn,
            at: session.created_at,
            user_id: Some(&session.user_id),
            session_id: Some(&session.id),
            detail: new.detail.clone(),
        };
        audit::append(&mut transaction, &event).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Exchanges the refresh token with the hash `presented` for one of `successors`: the first, or
    /// the one that it was exchanged for a moment ago, when the answer may have been lost.
    ///
    /// A second use at any other time ends the session, as `ending` says.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn rotate_refresh_token(
        &self,
        presented: &Hash,
        client_id: &str,
        successors: &[Hash],
        idle_secs: i64,
        ending: Ending<'_>,
    ) -> Result<Refreshed, StoreError> {
        let now = ending.now;
        let mut transaction = self.writer.begin().await?;
        // First the session, which whoever ends it changes too: one waits for the other.
        let session = touch_session(&mut transaction, presented, client_id, now).await?;
        let Some(session) = session else {
            return Ok(Refreshed::Refused);
        };
        let spent = on_transaction!(&mut transaction, |connection| {
            sqlx::query(
                "update refresh_tokens set used_at = $2 \
                 where hash = $1 and used_at is null and expires_at > $2",
            )
            .bind(presented.as_bytes())
            .bind(now)
            .execute(connection)
            .await?
            .rows_affected()
        });
        if let (1, Some(successor)) = (spent, successors.first()) {
            let expires_at = session.expires_at.min(now.saturating_add(idle_secs));
            let token = (successor, expires_at);
            insert_refresh_token(&mut transaction, &session.id, token, now).await?;
            transaction.commit().await?;
            return Ok(Refreshed::Rotated {
                session,
                successor: 0,
            });
        }
        let Some(used_at) = used_at(&mut transaction, presented).await? else {
            return Ok(Refreshed::Refused);
        };
        if now <= used_at.saturating_add(RETRY_WINDOW_SECS) {
            for (successor, hash) in successors.iter().enumerate() {
                if is_unused(&mut transaction, hash, now).await? {
                    return Ok(Refreshed::Rotated { session, successor });
                }
            }
        }
        end(
            &mut transaction,
            &session.user_id,
            Which::One(&session.id),
            ending,
        )
        .await?;
        let event = Event {
            kind: EventKind::RefreshTokenReused,
            at: now,
            user_id: Some(&session.user_id),
            session_id: Some(&session.id),
            detail: json!({}),
        };
        audit::append(&mut transaction, &event).await?;
        transaction.commit().await?;
        Ok(Refreshed::Reused(session))
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

    /// The live session of a refresh token that could be used now.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn find_refresh_token(
        &self,
        hash: &Hash,
        now: i64,
    ) -> Result<Option<Session>, StoreError> {
        Ok(on_pool!(&self.readers, |pool| sqlx::query_as(
            "select sessions.id, user_id, client_id, created_at, sessions.used_at, \
                    sessions.expires_at, device, address \
             from sessions join refresh_tokens on session_id = sessions.id \
             where hash = $1 and refresh_tokens.used_at is null \
                   and refresh_tokens.expires_at > $2 and sessions.expires_at > $2 \
                   and ended_at is null",
        )
        .bind(hash.as_bytes())
        .bind(now)
        .fetch_optional(pool)
        .await?))
    }

    /// The sessions of a user that have neither ended nor expired, the last used first.
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
        which: Which<'_>,
        ending: Ending<'_>,
    ) -> Result<Vec<String>, StoreError> {
        let mut transaction = self.writer.begin().await?;
        let ended = end(&mut transaction, user_id, which, ending).await?;
        transaction.commit().await?;
        Ok(ended)
    }
}

/// Ends sessions of a user, and writes in the same transaction who has to be told and what
/// happened.
pub(super) async fn end(
    transaction: &mut Transaction,
    user_id: &str,
    which: Which<'_>,
    ending: Ending<'_>,
) -> Result<Vec<String>, StoreError> {
    let (only, but) = match which {
        Which::One(id) => (Some(id), None),
        Which::AllBut(id) => (None, Some(id)),
        Which::All => (None, None),
    };
    let ended: Vec<String> = on_transaction!(transaction, |connection| {
        sqlx::query_scalar(
            "update sessions set ended_at = $2, end_reason = $3 \
             where user_id = $1 and ended_at is null and expires_at > $2 \
                   and ($4 is null or id = $4) and ($5 is null or id <> $5) \
             returning id",
        )
        .bind(user_id)
        .bind(ending.now)
        .bind(ending.reason.name())
        .bind(only)
        .bind(but)
        .fetch_all(connection)
        .await?
    });
    for session_id in &ended {
        revoke(transaction, user_id, session_id, ending).await?;
        let event = Event {
            kind: EventKind::SessionEnded,
            at: ending.now,
            user_id: Some(user_id),
            session_id: Some(session_id),
            detail: json!({"reason": ending.reason.name()}),
        };
        audit::append(transaction, &event).await?;
    }
    Ok(ended)
}

/// Writes a revocation, and for each gateway that it has to be told.
async fn revoke(
    transaction: &mut Transaction,
    user_id: &str,
    session_id: &str,
    ending: Ending<'_>,
) -> Result<(), StoreError> {
    let id = random_id().map_err(|error| sqlx::Error::Protocol(error.to_string()))?;
    on_transaction!(transaction, |connection| {
        sqlx::query(
            "insert into revocations (id, session_id, user_id, revoked_at, moot_at) \
             values ($1, $2, $3, $4, $5)",
        )
        .bind(&id)
        .bind(session_id)
        .bind(user_id)
        .bind(ending.now)
        .bind(ending.now.saturating_add(ending.token_lifetime_secs))
        .execute(connection)
        .await?;
    });
    for gateway in ending.gateways {
        on_transaction!(transaction, |connection| {
            sqlx::query(
                "insert into revocation_deliveries (revocation_id, gateway, next_attempt_at) \
                 values ($1, $2, $3)",
            )
            .bind(&id)
            .bind(gateway)
            .bind(ending.now)
            .execute(connection)
            .await?;
        });
    }
    Ok(())
}

/// The live session of a refresh token, which is locked by this until the transaction ends.
async fn touch_session(
    transaction: &mut Transaction,
    refresh_token: &Hash,
    client_id: &str,
    now: i64,
) -> Result<Option<Session>, StoreError> {
    Ok(on_transaction!(transaction, |connection| {
        sqlx::query_as(
            "update sessions set used_at = $2 \
             where id = (select session_id from refresh_tokens where hash = $1) \
                   and client_id = $3 and ended_at is null and expires_at > $2 \
                   and exists (select 1 from users \
                               where users.id = sessions.user_id and users.disabled_at is null) \
             returning id, user_id, client_id, created_at, used_at, expires_at, device, address",
        )
        .bind(refresh_token.as_bytes())
        .bind(now)
        .bind(client_id)
        .fetch_optional(connection)
        .await?
    }))
}

async fn insert_refresh_token(
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

/// When a refresh token was used, if it was.
async fn used_at(transaction: &mut Transaction, hash: &Hash) -> Result<Option<i64>, StoreError> {
    let row: Option<(Option<i64>,)> = on_transaction!(transaction, |connection| {
        sqlx::query_as("select used_at from refresh_tokens where hash = $1")
            .bind(hash.as_bytes())
            .fetch_optional(connection)
            .await?
    });
    Ok(row.and_then(|(used_at,)| used_at))
}

async fn is_unused(
    transaction: &mut Transaction,
    hash: &Hash,
    now: i64,
) -> Result<bool, StoreError> {
    let row: Option<(i64,)> = on_transaction!(transaction, |connection| {
        sqlx::query_as(
            "select expires_at from refresh_tokens \
             where hash = $1 and used_at is null and expires_at > $2",
        )
        .bind(hash.as_bytes())
        .bind(now)
        .fetch_optional(connection)
        .await?
    });
    Ok(row.is_some())
}
