//! Gauges of the queues in the database, for the operator.

use super::{Destination, Store, StoreError, database::on_pool};

/// Numbers of messages that wait in the outbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pending {
    /// Revocations that a gateway has not acknowledged.
    pub revocations: i64,
    /// Mails that the mail server has not taken, and requests for one.
    pub mails: i64,
    /// Events that the operator's service has not taken.
    pub events: i64,
}

impl Store {
    /// Returns how many messages wait in the outbox, by kind of destination.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn count_pending(&self) -> Result<Pending, StoreError> {
        let counts: Vec<(String, i64)> = on_pool!(&self.readers, |pool| sqlx::query_as(
            "select destination, count(*) from outbox group by destination",
        )
        .fetch_all(pool)
        .await?);
        let mut pending = Pending::default();
        for (destination, count) in counts {
            if [Destination::Mail.name(), Destination::PasswordResets.name()]
                .contains(&destination.as_str())
            {
                pending.mails += count;
            } else if destination == Destination::Events.name() {
                pending.events += count;
            } else {
                pending.revocations += count;
            }
        }
        Ok(pending)
    }
}
