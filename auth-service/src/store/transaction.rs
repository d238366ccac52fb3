//! A transaction of changes together with the audit events of these changes: both are committed, or
//! neither is.

use super::{
    StoreError, audit,
    database::{OpenTransaction, Pool},
    event::{Actor, Event, RecordedEvent},
};

/// A transaction that collects its audit events and appends them when it commits. Dropped without a
/// commit, it is rolled back.
pub(super) struct Transaction {
    pub(super) connection: OpenTransaction,
    events: Vec<RecordedEvent>,
    actor: Actor,
}

impl Transaction {
    /// Starts a transaction in the name of `actor`.
    pub(super) async fn begin(pool: &Pool, actor: Actor) -> Result<Self, StoreError> {
        Ok(Self {
            connection: pool.begin().await?,
            events: Vec::new(),
            actor,
        })
    }

    /// Records an event that becomes true with this transaction. [`Self::commit`] appends it to the
    /// audit log, after every other statement: see the order of locks in [`super::audit`].
    pub(super) fn record(&mut self, event: Event<'_>) {
        self.events.push(event.recorded(&self.actor));
    }

    /// Records an event that the service itself decides on, whoever sent the request.
    pub(super) fn record_decision(&mut self, event: Event<'_>) {
        self.events.push(event.recorded(&Actor::Service));
    }

    /// Appends the audit events and commits. When this returns `Ok`, the changes are on the disk.
    /// After an error it is not known whether they are.
    pub(super) async fn commit(mut self) -> Result<(), StoreError> {
        audit::append(&mut self.connection, &self.events).await?;
        self.connection.commit().await
    }
}

impl AsMut<OpenTransaction> for Transaction {
    fn as_mut(&mut self) -> &mut OpenTransaction {
        &mut self.connection
    }
}
