//! Messages, and the back ends that are told of them.

use super::SessionContext;
use crate::{
    backends::Reservation,
    rooms::{Appended, Draft, MessageKey, PublishError},
};

impl SessionContext {
    /// Publishes a message as [`Rooms::publish`](crate::rooms::Rooms::publish) does, and tells back ends of
    /// it. When this returns, their event is durable, unless the queue is full or cannot be written. A future that
    /// is dropped may leave a message without its event.
    ///
    /// # Errors
    ///
    /// See [`PublishError`]. A log that answers too late may have the message: then no back end is told of it
    /// unless the message is published again under its key.
    pub async fn publish(
        &self,
        draft: &Draft,
        key: Option<&MessageKey>,
    ) -> Result<Appended, PublishError> {
        // Before the message is there, so that nothing comes between it and its event.
        match self.back_ends.reserve_message(draft).await {
            Some(memory) => Box::pin(self.publish_and_tell(draft, key, memory)).await,
            None => self.rooms.publish(draft, key).await,
        }
    }

    /// Publishes a message, and tells back ends of it, in `memory` that was reserved.
    async fn publish_and_tell(
        &self,
        draft: &Draft,
        key: Option<&MessageKey>,
        memory: Reservation,
    ) -> Result<Appended, PublishError> {
        let turn = self.turns.take(&draft.room).await;
        let appended = self.rooms.publish(draft, key).await?;
        // A log that outlives its gateways may have a message that nobody was told of. Subscribers have that
        // one, and not the draft with its id.
        let message = match appended.is_duplicate {
            true => appended.original.as_deref(),
            false => Some(draft),
        };
        let tell = |message| {
            let position = &appended.position;
            self.back_ends.message_published(message, position, memory)
        };
        let stored = message.map(tell);
        drop(turn);
        if let Some(stored) = stored {
            stored.await;
        }
        Ok(appended)
    }
}
