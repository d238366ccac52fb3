//! The table `refresh_tokens`. Of the tokens of a session one at most is unspent, so a copy shows as
//! soon as its owner and its thief have both used what they hold.

use super::{
    Store, StoreError,
    database::{on_pool, on_transaction},
    session_ends::{Ending, SessionFilter, end},
    sessions::{Session, insert_refresh_token},
    successors::{SpentToken, find_successor},
    transaction::Transaction,
};
use crate::vault::Hash;

/// The use of a refresh token.
#[derive(Clone, Copy, Debug)]
pub struct Rotation<'a> {
    /// The hash of the token.
    pub presented: &'a Hash,
    /// The client that presents the token.
    pub client_id: &'a str,
    /// The generation of the token's successor, as [`Store::find_successor_generation`] returned it.
    pub generation: i64,
    /// The hashes of the successor of that generation, derived from each of our keys, the current key
    /// first.
    pub successors: &'a [Hash],
    /// The hash of the successor of the next generation.
    pub replacement: &'a Hash,
    /// Idle timeout of a session, in seconds.
    pub idle_secs: i64,
    /// Time after a use in which the same successor is given again, in seconds.
    pub retry_secs: i64,
    /// The address that the token comes from.
    pub address: &'a str,
}

/// The outcome of a [`Rotation`].
#[derive(Debug)]
pub enum Refreshed {
    /// The token was exchanged for the successor with this index, now or before.
    Rotated {
        /// The session.
        session: Session,
        /// The index of the successor in [`Rotation::successors`].
        successor: usize,
    },
    /// The token was exchanged before, and its successor was never used. The replacement has taken the
    /// successor's place.
    Reissued(Session),
    /// The token was exchanged before, and its successor was used. The session has been ended.
    Reused(Session),
    /// Nobody has the token, it has expired, or its session has ended.
    Refused,
    /// Another request has replaced the successor meanwhile. Nothing has changed: look the generation
    /// up again.
    Outdated,
}

/// State of a refresh token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenState {
    /// It can be used now.
    Usable,
    /// It was never used, and cannot be any more.
    Expired,
    /// It was used; its successor has this generation.
    Spent(i64),
}

impl Store {
    /// Returns the generation of the successor of a refresh token, or `None` when the token cannot be
    /// used by this client. It only reads, so that a token that nobody has costs no write.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn find_successor_generation(
        &self,
        hash: &Hash,
        client_id: &str,
        now: i64,
    ) -> Result<Option<i64>, StoreError> {
        Ok(on_pool!(&self.readers, |pool| sqlx::query_scalar(
            "select reissues \
             from refresh_tokens join sessions on sessions.id = session_id \
                  join users on users.id = user_id \
             where hash = $1 and client_id = $3 and ended_at is null and sessions.expires_at > $2 \
                   and disabled_at is null \
                   and (refresh_tokens.used_at is not null or refresh_tokens.expires_at > $2)",
        )
        .bind(hash.as_bytes())
        .bind(now)
        .bind(client_id)
        .fetch_optional(pool)
        .await?))
    }

    /// Exchanges a refresh token for its successor.
    ///
    /// A spent token whose successor was not used yet is accepted: its answer may have been lost. Until
    /// `retry_secs` after the use it gets the same successor, and later a replacement, which takes the
    /// successor's place. If the secret that the successor was derived from has been removed, it gets the
    /// replacement at once. Whoever then presents the first successor is found out.
    ///
    /// Any other use of a spent token ends the session, as `ending` says.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn rotate_refresh_token(
        &self,
        rotation: Rotation<'_>,
        ending: Ending<'_>,
    ) -> Result<Refreshed, StoreError> {
        let now = ending.now;
        let mut transaction = self.begin().await?;
        // First the session, whose row locks all of its tokens.
        let Some(session) = touch_session(&mut transaction, &rotation, ending).await? else {
            transaction.roll_back().await?;
            return Ok(Refreshed::Refused);
        };
        if let (true, Some(successor)) = (
            spend(&mut transaction, rotation.presented, now).await?,
            rotation.successors.first(),
        ) {
            let token = (successor, rotation.expiry(&session, now));
            insert_refresh_token(&mut transaction, &session.id, token, now).await?;
            transaction.commit().await?;
            return Ok(Refreshed::Rotated {
                session,
                successor: 0,
            });
        }
        let Some((used_at, generation)) = find_use(&mut transaction, rotation.presented).await?
        else {
            transaction.roll_back().await?;
            return Ok(Refreshed::Refused);
        };
        if generation != rotation.generation {
            transaction.roll_back().await?;
            return Ok(Refreshed::Outdated);
        }
        let spent = SpentToken {
            hash: rotation.presented,
            session_id: &session.id,
            used_at,
        };
        match find_successor(&mut transaction, &spent, rotation.successors).await? {
            // The answer was lost, and whoever lost it was away for too long.
            Some(found) if found.expires_at <= now => {
                transaction.roll_back().await?;
                Ok(Refreshed::Refused)
            }
            Some(found) => {
                let is_retry = now <= used_at.saturating_add(rotation.retry_secs);
                let outcome = match found.index {
                    Some(successor) if is_retry => Refreshed::Rotated { session, successor },
                    _ => {
                        let replaced = (&session, &found.hash);
                        replace_successor(&mut transaction, &rotation, replaced, now).await?;
                        Refreshed::Reissued(session)
                    }
                };
                transaction.commit().await?;
                Ok(outcome)
            }
            None => {
                let which = SessionFilter::One(&session.id);
                end(&mut transaction, &session.user_id, which, ending).await?;
                transaction.commit().await?;
                Ok(Refreshed::Reused(session))
            }
        }
    }

    /// Returns the live session of a refresh token that could be used now.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn find_refresh_token(
        &self,
        hash: &Hash,
        now: i64,
    ) -> Result<Option<Session>, StoreError> {
        let found = self.find_session_of_token(hash, now).await?;
        Ok(found.and_then(|(session, state)| (state == TokenState::Usable).then_some(session)))
    }

    /// Returns the session of a refresh token, unless the session has ended, and the state of the token.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn find_session_of_token(
        &self,
        hash: &Hash,
        now: i64,
    ) -> Result<Option<(Session, TokenState)>, StoreError> {
        let found: Option<SessionOfToken> = on_pool!(&self.readers, |pool| sqlx::query_as(
            "select sessions.id, user_id, client_id, created_at, sessions.used_at, \
                    sessions.expires_at, device, address, \
                    refresh_tokens.used_at is not null as is_spent, \
                    refresh_tokens.expires_at <= $2 as is_expired, reissues \
             from sessions join refresh_tokens on session_id = sessions.id \
             where hash = $1 and sessions.expires_at > $2 and ended_at is null",
        )
        .bind(hash.as_bytes())
        .bind(now)
        .fetch_optional(pool)
        .await?);
        Ok(found.map(|found| {
            let state = match (found.is_spent, found.is_expired) {
                (true, _) => TokenState::Spent(found.reissues),
                (false, true) => TokenState::Expired,
                (false, false) => TokenState::Usable,
            };
            (found.session, state)
        }))
    }
}

#[derive(sqlx::FromRow)]
struct SessionOfToken {
    #[sqlx(flatten)]
    session: Session,
    is_spent: bool,
    is_expired: bool,
    reissues: i64,
}

impl Rotation<'_> {
    /// The second at which a token that is issued now expires.
    fn expiry(&self, session: &Session, now: i64) -> i64 {
        session.expires_at.min(now.saturating_add(self.idle_secs))
    }
}

/// Returns the live session of a refresh token, which is locked by this until the transaction ends.
async fn touch_session(
    transaction: &mut Transaction,
    rotation: &Rotation<'_>,
    ending: Ending<'_>,
) -> Result<Option<Session>, StoreError> {
    Ok(on_transaction!(transaction, |connection| {
        sqlx::query_as(
            "update sessions set used_at = $2, address = $4, \
                    token_expires_at = case when token_expires_at > $5 then token_expires_at else $5 end \
             where id = (select session_id from refresh_tokens where hash = $1) \
                   and client_id = $3 and ended_at is null and expires_at > $2 \
                   and exists (select 1 from users \
                               where users.id = sessions.user_id and users.disabled_at is null) \
             returning id, user_id, client_id, created_at, used_at, expires_at, device, address",
        )
        .bind(rotation.presented.as_bytes())
        .bind(ending.now)
        .bind(rotation.client_id)
        .bind(rotation.address)
        .bind(ending.now.saturating_add(ending.token_lifetime_secs))
        .fetch_optional(connection)
        .await?
    }))
}

/// Spends a refresh token; `false` when it was spent before, or has expired.
async fn spend(transaction: &mut Transaction, hash: &Hash, now: i64) -> Result<bool, StoreError> {
    let spent = on_transaction!(transaction, |connection| {
        sqlx::query(
            "update refresh_tokens set used_at = $2 \
             where hash = $1 and used_at is null and expires_at > $2",
        )
        .bind(hash.as_bytes())
        .bind(now)
        .execute(connection)
        .await?
        .rows_affected()
    });
    Ok(spent == 1)
}

/// Spends the `successor` of a token whose answer was lost, and issues the replacement.
async fn replace_successor(
    transaction: &mut Transaction,
    rotation: &Rotation<'_>,
    (session, successor): (&Session, &Hash),
    now: i64,
) -> Result<(), StoreError> {
    spend(transaction, successor, now).await?;
    on_transaction!(transaction, |connection| {
        sqlx::query(
            "update refresh_tokens set used_at = $2, reissues = reissues + 1 where hash = $1",
        )
        .bind(rotation.presented.as_bytes())
        .bind(now)
        .execute(connection)
        .await?;
    });
    let token = (rotation.replacement, rotation.expiry(session, now));
    insert_refresh_token(transaction, &session.id, token, now).await
}

/// Returns when a refresh token was used last, and the generation of its successor; `None` when it was
/// not used.
async fn find_use(
    transaction: &mut Transaction,
    hash: &Hash,
) -> Result<Option<(i64, i64)>, StoreError> {
    Ok(on_transaction!(transaction, |connection| {
        sqlx::query_as(
            "select used_at, reissues from refresh_tokens where hash = $1 and used_at is not null",
        )
        .bind(hash.as_bytes())
        .fetch_optional(connection)
        .await?
    }))
}
