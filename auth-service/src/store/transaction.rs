//! A transaction of changes together with the audit events of these changes: both are committed, or
//! neither is.

use super::{
    StoreError, audit,
    database::OpenTransaction,
    event::{Actor, Event, RecordedEvent},
    outbox::{self, Destination, NewMessage},
    outgoing::{self, OutgoingEvent},
};
use crate::ids::random_id;

/// A transaction that collects its audit events and appends them when it commits. Dropped without a
/// commit, it is rolled back.
pub(super) struct Transaction {
    pub(super) connection: OpenTransaction,
    events: Vec<RecordedEvent>,
    outgoing: Vec<OutgoingEvent>,
    actor: Actor,
    event_retention_secs: Option<i64>,
}

impl Transaction {
    /// Returns a transaction in the name of `actor`.
    pub(super) fn new(
        connection: OpenTransaction,
        actor: Actor,
        event_retention_secs: Option<i64>,
    ) -> Self {
        Self {
            connection,
            events: Vec::new(),
            outgoing: Vec::new(),
            actor,
            event_retention_secs,
        }
    }

    /// Records an event that becomes true with this transaction. [`Self::commit`] appends it to the
    /// audit log, after every other statement: see the order of locks in [`super::audit`].
    pub(super) fn record(&mut self, event: Event<'_>) {
        self.push(event, &self.actor.clone());
    }

    /// Records an event that the service itself decides on, whoever sent the request.
    pub(super) fn record_decision(&mut self, event: Event<'_>) {
        self.push(event, &Actor::Service);
    }

    fn push(&mut self, event: Event<'_>, actor: &Actor) {
        if self.event_retention_secs.is_some() {
            self.outgoing.extend(outgoing::of(&event, &actor.name()));
        }
        self.events.push(event.recorded(actor));
    }

    /// Writes the events that the operator's service is told. The audit chain is locked by now, so they
    /// are numbered in the order of the commits.
    async fn tell(&mut self) -> Result<(), StoreError> {
        let Some(retention_secs) = self.event_retention_secs else {
            return Ok(());
        };
        let mut ids = Vec::with_capacity(self.outgoing.len());
        for _ in &self.outgoing {
            ids.push(random_id().map_err(|error| sqlx::Error::Protocol(error.to_string()))?);
        }
        let mut messages = Vec::with_capacity(ids.len());
        for (id, event) in ids.iter().zip(&self.outgoing) {
            messages.push(NewMessage {
                id,
                destination: Destination::Events,
                user_id: Some(&event.user_id),
                payload: &event.payload,
                expires_at: event.at.saturating_add(retention_secs),
                due_at: event.at,
            });
        }
        outbox::put_all(&mut self.connection, &messages).await
    }

    /// Appends the audit events and commits. When this returns `Ok`, the changes are on the disk.
    /// After an error it is not known whether they are.
    pub(super) async fn commit(mut self) -> Result<(), StoreError> {
        audit::append(&mut self.connection, &self.events).await?;
        self.tell().await?;
        self.connection.commit().await
    }

    /// Rolls back, without the events. When this returns `Ok`, the changes that the transaction has seen are on
    /// the disk, so that an answer may rest on them.
    pub(super) async fn roll_back(self) -> Result<(), StoreError> {
        self.connection.roll_back().await
    }
}

impl AsMut<OpenTransaction> for Transaction {
    fn as_mut(&mut self) -> &mut OpenTransaction {
        &mut self.connection
    }
}
