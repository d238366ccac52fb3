//! The table `outbox`: what others are to be sent. A message is written in the transaction that makes
//! it true, and it stays until its destination has taken it or it has expired.

use sqlx::{FromRow, QueryBuilder};

use super::{
    Store, StoreError,
    database::{OpenTransaction, Pool, on_pool, on_transaction},
    event::Event,
};

/// The most messages that one statement inserts.
const ROWS: usize = 100;

/// The messages whose time of the next attempt is in a range, from one walk on an index.
macro_rules! messages_within {
    ($range:literal) => {
        concat!(
            "select * from (select number, id, user_id, payload, expires_at, attempts, \
                                   next_attempt_at \
             from outbox where destination = $1 and ",
            $range,
            " and expires_at > $2 \
              and (cast($4 as bigint) = 0 \
                   or not exists (select 1 from outbox as earlier \
                                  where earlier.destination = $1 \
                                        and earlier.user_id = outbox.user_id \
                                        and earlier.number < outbox.number \
                                        and earlier.expires_at > $2)) \
              order by next_attempt_at, number limit $3)"
        )
    };
}

/// The messages that are due. Those that another clock has dated are before all others.
const DUE: &str = concat!(
    "select * from (",
    messages_within!("next_attempt_at > $5"),
    " as misdated union all ",
    messages_within!("next_attempt_at <= $2"),
    " as dated) as due order by next_attempt_at <= $2, next_attempt_at, number limit $3"
);

/// The mails that are due, in the order of their ends. All of them are sorted: `mail.queue` bounds them.
const DUE_BY_END: &str = "select number, id, user_id, payload, expires_at, attempts, next_attempt_at \
                          from outbox where destination = $1 and expires_at > $2 \
                          and (next_attempt_at > $4 or next_attempt_at <= $2) \
                          order by expires_at, number limit $3";

/// Order in which the messages to a destination are delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryOrder {
    /// The message that waits longest comes first.
    LongestWaiting,
    /// The same, and a message waits for all earlier ones of its user.
    OneOfEachUser,
    /// The message that nobody needs soonest any more comes first.
    EndingSoonest,
}

/// A receiver of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination<'a> {
    /// A gateway, by its URL. It is told which sessions have ended.
    Gateway(&'a str),
    /// The mail server.
    Mail,
    /// The operator's service that is told what happened.
    Events,
    /// The service itself: requests for a new password, whose account is looked up after the answer.
    PasswordResets,
}

impl<'a> Destination<'a> {
    /// The name in the table.
    #[must_use]
    pub fn name(self) -> &'a str {
        match self {
            Self::Gateway(url) => url,
            Self::Mail => "mail",
            Self::Events => "events",
            Self::PasswordResets => "password_resets",
        }
    }
}

/// A message that waits for its delivery.
#[derive(Clone, Debug, FromRow)]
pub struct Message {
    number: i64,
    /// The identifier. It is the same at every attempt.
    pub id: String,
    /// The account that the message is about.
    pub user_id: Option<String>,
    /// The content: for a gateway the session that ended, for a request for a new password the address,
    /// and else JSON.
    pub payload: String,
    /// When nobody needs the message any more, in seconds since the epoch: for a gateway, when the last token of the
    /// session has expired.
    pub expires_at: i64,
    /// Number of failed attempts.
    pub attempts: i64,
    next_attempt_at: i64,
}

/// A message to be written.
#[derive(Clone, Copy, Debug)]
pub(super) struct NewMessage<'a> {
    pub(super) id: &'a str,
    pub(super) destination: Destination<'a>,
    pub(super) user_id: Option<&'a str>,
    pub(super) payload: &'a str,
    pub(super) expires_at: i64,
    /// When the first attempt is due, in seconds since the epoch.
    pub(super) due_at: i64,
}

/// Writes a message in the transaction that makes it true.
pub(super) async fn put(
    transaction: &mut impl AsMut<OpenTransaction>,
    message: NewMessage<'_>,
) -> Result<(), StoreError> {
    put_all(transaction, &[message]).await
}

/// Writes messages in their order, many by one statement.
pub(super) async fn put_all(
    transaction: &mut impl AsMut<OpenTransaction>,
    messages: &[NewMessage<'_>],
) -> Result<(), StoreError> {
    for rows in messages.chunks(ROWS) {
        on_transaction!(transaction, |connection| {
            let mut query = QueryBuilder::new(
                "insert into outbox (id, destination, user_id, payload, expires_at, \
                                     next_attempt_at) ",
            );
            query.push_values(rows, |mut values, message| {
                values
                    .push_bind(message.id)
                    .push_bind(message.destination.name())
                    .push_bind(message.user_id)
                    .push_bind(message.payload)
                    .push_bind(message.expires_at)
                    .push_bind(message.due_at);
            });
            query.build().execute(connection).await?;
        });
    }
    Ok(())
}

/// Removes a message in the transaction that does what it asks for. Returns `false` when it is gone.
pub(super) async fn take(
    transaction: &mut impl AsMut<OpenTransaction>,
    destination: Destination<'_>,
    id: &str,
) -> Result<bool, StoreError> {
    let taken = on_transaction!(transaction, |connection| {
        sqlx::query("delete from outbox where destination = $1 and id = $2")
            .bind(destination.name())
            .bind(id)
            .execute(connection)
            .await?
            .rows_affected()
    });
    Ok(taken == 1)
}

impl Store {
    /// Returns the messages to a destination that are due, in the order of their delivery.
    ///
    /// A message that is due more than `longest_hold_secs` after `now` was dated by a clock that was ahead and
    /// has been set back since. Such a message is due now.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn due_messages(
        &self,
        destination: Destination<'_>,
        order: DeliveryOrder,
        now: i64,
        longest_hold_secs: i64,
        limit: i64,
    ) -> Result<Vec<Message>, StoreError> {
        let horizon = now.saturating_add(longest_hold_secs);
        if order == DeliveryOrder::EndingSoonest {
            return Ok(on_pool!(&self.readers, |pool| sqlx::query_as(DUE_BY_END)
                .bind(destination.name())
                .bind(now)
                .bind(limit)
                .bind(horizon)
                .fetch_all(pool)
                .await?));
        }
        let is_ordered = order == DeliveryOrder::OneOfEachUser;
        Ok(on_pool!(&self.readers, |pool| sqlx::query_as(DUE)
            .bind(destination.name())
            .bind(now)
            .bind(limit)
            .bind(i64::from(is_ordered))
            .bind(horizon)
            .fetch_all(pool)
            .await?))
    }

    /// Keeps a due message from all other processes until `until`, in seconds since the epoch. Returns
    /// `false` when another process has it.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn claim_message(&self, message: &Message, until: i64) -> Result<bool, StoreError> {
        let claimed = on_pool!(&self.writer, |pool| sqlx::query(
            "update outbox set next_attempt_at = $3 where number = $1 and next_attempt_at = $2",
        )
        .bind(message.number)
        .bind(message.next_attempt_at)
        .bind(until)
        .execute(pool)
        .await?
        .rows_affected());
        Ok(claimed == 1)
    }

    /// Removes a message that its destination has taken, or that nobody needs, and records the event
    /// that its delivery is.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn finish_message(
        &self,
        message: &Message,
        event: Option<Event<'_>>,
    ) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        on_transaction!(&mut transaction, |connection| {
            sqlx::query("delete from outbox where number = $1")
                .bind(message.number)
                .execute(connection)
                .await?;
        });
        if let Some(event) = event {
            transaction.record_decision(event);
        }
        transaction.commit().await
    }

    /// Puts a message whose delivery failed off until `next_attempt_at`.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn postpone_message(
        &self,
        message: &Message,
        next_attempt_at: i64,
    ) -> Result<(), StoreError> {
        on_pool!(&self.writer, |pool| sqlx::query(
            "update outbox set attempts = attempts + 1, next_attempt_at = $2 where number = $1",
        )
        .bind(message.number)
        .bind(next_attempt_at)
        .execute(pool)
        .await?
        .rows_affected());
        Ok(())
    }

    /// Removes up to `most` messages that have expired, and returns the name of the destination and the
    /// payload of each.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn remove_expired_messages(
        &self,
        now: i64,
        most: u64,
    ) -> Result<Vec<(String, String)>, StoreError> {
        // PostgreSQL skips the rows that a deletion or another issuer has locked.
        let statement = match &self.writer {
            Pool::Sqlite(_) => {
                "delete from outbox where number in \
                 (select number from outbox where expires_at <= $1 order by number limit $2) \
                 returning destination, payload"
            }
            Pool::Postgres(_) => {
                "delete from outbox where number = any(array(\
                 select number from outbox where expires_at <= $1 order by number limit $2 \
                 for update skip locked)) returning destination, payload"
            }
        };
        Ok(on_pool!(&self.writer, |pool| sqlx::query_as(statement)
            .bind(now)
            .bind(i64::try_from(most).unwrap_or(i64::MAX))
            .fetch_all(pool)
            .await?))
    }

    /// Removes up to `most` of the oldest messages to a destination of which more than `keep` wait.
    /// Returns how many it has removed.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn remove_oldest_messages(
        &self,
        destination: Destination<'_>,
        keep: i64,
        most: u64,
    ) -> Result<u64, StoreError> {
        let statement = match &self.writer {
            Pool::Sqlite(_) => {
                "delete from outbox where number in \
                 (select number from outbox where destination = $1 and number <= \
                  (select number from outbox where destination = $1 \
                   order by number desc limit 1 offset $2) \
                  order by number limit $3)"
            }
            Pool::Postgres(_) => {
                "delete from outbox where number = any(array(\
                 select number from outbox where destination = $1 and number <= \
                 (select number from outbox where destination = $1 \
                  order by number desc limit 1 offset $2) \
                 order by number limit $3 for update skip locked))"
            }
        };
        Ok(on_pool!(&self.writer, |pool| sqlx::query(statement)
            .bind(destination.name())
            .bind(keep)
            .bind(i64::try_from(most).unwrap_or(i64::MAX))
            .execute(pool)
            .await?
            .rows_affected()))
    }

    /// Returns whether at least `count` mails and requests for one wait, however many more there are.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn is_mail_queue_full(&self, count: i64) -> Result<bool, StoreError> {
        let last: Option<(i64,)> = on_pool!(&self.readers, |pool| sqlx::query_as(
            "select number from outbox where destination in ($1, $2) limit 1 offset $3",
        )
        .bind(Destination::Mail.name())
        .bind(Destination::PasswordResets.name())
        .bind(count.saturating_sub(1))
        .fetch_optional(pool)
        .await?);
        Ok(last.is_some())
    }
}
