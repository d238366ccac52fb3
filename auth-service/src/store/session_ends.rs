//! Ends of sessions before their time, and the revocations and events that an end causes.
//!
//! The number of statements grows with the number of sessions by a hundredth, so that nobody waits long for
//! SQLite's writer.

use serde_json::json;
use shared_claims::claims::MAXIMUM_LIFETIME_SECS;

use super::{
    Store, StoreError,
    database::on_transaction,
    event::{Event, EventKind},
    outbox::{self, Destination, NewMessage},
    transaction::Transaction,
};
use crate::{config::Settings, ids::random_id};

/// Identifier of a session that has ended, and the latest `exp` of its access tokens, if it was recorded.
type EndedSession = (String, Option<i64>);

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
    /// A login exceeded the limit of sessions of the account.
    SessionLimit,
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
            Self::SessionLimit => "session_limit",
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
    let ended: Vec<EndedSession> = on_transaction!(transaction, |connection| {
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
    announce(transaction, user_id, &ended, ending).await?;
    Ok(ended.into_iter().map(|(id, _)| id).collect())
}

/// Ends the sessions that [`end_excess`] chooses. One that ends at the same time without the lock has ended for that
/// reason alone.
pub(super) const END_EXCESS: &str = "update sessions set ended_at = $2, end_reason = $3 \
     where ended_at is null and \
           id in (select id from sessions \
                  where user_id = $1 and ended_at is null and expires_at > $2 and id <> $4 \
                  order by used_at desc, id limit $5 offset $6) \
     returning id, token_expires_at";

/// Ends the live sessions of a user that exceed `most`, those that were used longest ago, and never `started`.
/// The caller has locked the row of the user.
pub(super) async fn end_excess(
    transaction: &mut Transaction,
    user_id: &str,
    started: &str,
    most: u32,
    ending: Ending<'_>,
) -> Result<(), StoreError> {
    let ended: Vec<EndedSession> = on_transaction!(transaction, |connection| {
        sqlx::query_as(END_EXCESS)
            .bind(user_id)
            .bind(ending.now)
            .bind(ending.reason.name())
            .bind(started)
            // SQLite takes no offset without a limit.
            .bind(i64::from(u32::MAX))
            .bind(i64::from(most).saturating_sub(1))
            .fetch_all(connection)
            .await?
    });
    announce(transaction, user_id, &ended, ending).await
}

/// Writes the revocations of sessions that have ended, and records their events.
async fn announce(
    transaction: &mut Transaction,
    user_id: &str,
    ended: &[EndedSession],
    ending: Ending<'_>,
) -> Result<(), StoreError> {
    revoke(transaction, user_id, ended, ending).await?;
    for (session_id, _) in ended {
        let event = Event {
            kind: EventKind::SessionEnded,
            at: ending.now,
            user_id: Some(user_id),
            session_id: Some(session_id),
            detail: json!({"reason": ending.reason.name()}),
        };
        match ending.reason {
            EndReason::RefreshTokenReused => {
                let reuse = Event {
                    kind: EventKind::RefreshTokenReused,
                    detail: json!({}),
                    ..event.clone()
                };
                transaction.record_decision(event);
                transaction.record_decision(reuse);
            }
            EndReason::SessionLimit => transaction.record_decision(event),
            _ => transaction.record(event),
        }
    }
    Ok(())
}

/// Writes for each gateway that the sessions have ended.
async fn revoke(
    transaction: &mut Transaction,
    user_id: &str,
    ended: &[EndedSession],
    ending: Ending<'_>,
) -> Result<(), StoreError> {
    let mut ids = Vec::with_capacity(ended.len());
    for _ in ended {
        ids.push(random_id().map_err(|error| sqlx::Error::Protocol(error.to_string()))?);
    }
    for gateway in ending.gateways {
        let mut messages = Vec::with_capacity(ended.len());
        for (id, (session_id, token_expires_at)) in ids.iter().zip(ended) {
            messages.push(NewMessage {
                id,
                destination: Destination::Gateway(gateway),
                user_id: Some(user_id),
                payload: session_id,
                expires_at: ending.useful_until(*token_expires_at),
                due_at: ending.now,
            });
        }
        outbox::put_all(transaction, &messages).await?;
    }
    Ok(())
}
