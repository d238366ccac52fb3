//! The queue as its operators see and change it, while it is in use.

use super::{
    BackEnds, NotStored,
    queue::{now, store::StoredEvent},
};

impl BackEnds {
    /// Lists at most `limit` events in their order: dead letters, or those that are to be delivered; those
    /// alone whose number is larger than `after`. Without a queue there are none.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub async fn list_events(
        &self,
        is_dead: bool,
        (limit, after): (u32, i64),
    ) -> Result<Vec<StoredEvent>, NotStored> {
        match &self.queue {
            Some(queue) => {
                queue
                    .run(move |store| store.list(is_dead, limit, after))
                    .await
            }
            None => Ok(Vec::new()),
        }
    }

    /// Returns an event and its body.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub async fn find_event(
        &self,
        id: String,
    ) -> Result<Option<(StoredEvent, Vec<u8>)>, NotStored> {
        match &self.queue {
            Some(queue) => queue.run(move |store| store.find(&id)).await,
            None => Ok(None),
        }
    }

    /// Has dead letters delivered after all: the one with this id, or all of them. Returns how many.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub async fn replay_events(&self, id: Option<String>) -> Result<usize, NotStored> {
        let Some(queue) = &self.queue else {
            return Ok(0);
        };
        let replayed = queue
            .run(move |store| store.replay(id.as_deref(), now()))
            .await?;
        queue.wake();
        Ok(replayed)
    }

    /// Removes the event with this id, or all dead letters. Returns how many.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub async fn drop_events(&self, id: Option<String>) -> Result<usize, NotStored> {
        let Some(queue) = &self.queue else {
            return Ok(0);
        };
        let dropped = queue
            .run(move |store| store.drop_events(id.as_deref()))
            .await?;
        queue.wake();
        Ok(dropped)
    }
}
