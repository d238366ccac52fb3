//! Messages, and the back ends that are told of them.

use super::SessionContext;
use crate::rooms::{Appended, Draft, MessageKey, PublishError};

impl SessionContext {
    /// Publishes a message as [`Rooms::publish`](crate::rooms::Rooms::publish) does, and tells back ends of
    /// it. When this returns, their event is durable, unless the queue is full or cannot be written.
    ///
    /// # Errors
    ///
    /// See [`PublishError`].
    pub async fn publish(
        &self,
        draft: &Draft,
        key: Option<&MessageKey>,
    ) -> Result<Appended, PublishError> {
        // Before the message is there, so that nothing comes between it and its event.
        let Some(memory) = self.back_ends.reserve_message(draft).await else {
            return self.rooms.publish(draft, key).await;
        };
        let turn = self.turns.take(&draft.room).await;
        let appended = self.rooms.publish(draft, key).await?;
        // A log that outlives its gateways may have a message that nobody was told of.
        let is_told = appended.is_duplicate && !appended.is_of_shared_log();
        let tell = || {
            let position = &appended.position;
            self.back_ends.message_published(draft, position, memory)
        };
        let stored = (!is_told).then(tell);
        drop(turn);
        if let Some(stored) = stored {
            stored.await;
        }
        Ok(appended)
    }
}
