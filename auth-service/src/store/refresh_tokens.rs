//! The table `refresh_tokens`: each token can be used once, and its successor is all that follows.

use serde_json::json;

use super::{
    Store, StoreError,
    audit::{Event, EventKind},
    database::{Transaction, on_pool, on_transaction},
    sessions::{Ending, Session, Which, end},
};
use crate::vault::Hash;

/// How long after its use a refresh token may come again, in seconds: the answer to the first use
/// may have been lost on the way.
pub const RETRY_WINDOW_SECS: i64 = 10;

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
        let mut transaction = self.begin().await?;
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
        transaction.record_decision(event);
        transaction.commit().await?;
        Ok(Refreshed::Reused(session))
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
