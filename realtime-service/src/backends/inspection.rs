//! The queue as its operators see and change it, while it is in use.

use super::{
    BackEnds, NotStored,
    queue::{
        Queue, now,
        store::{SLICE, Store, StoredEvent},
    },
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
    /// When the file cannot be written. Some of all dead letters may be replayed by then.
    pub async fn replay_events(&self, id: Option<String>) -> Result<usize, NotStored> {
        let Some(queue) = &self.queue else {
            return Ok(0);
        };
        in_slices(queue, move |store| store.replay(id.as_deref(), now())).await
    }

    /// Removes the event with this id, or all dead letters. Returns how many.
    ///
    /// # Errors
    ///
    /// When the file cannot be written. Some of all dead letters may be gone by then.
    pub async fn drop_events(&self, id: Option<String>) -> Result<usize, NotStored> {
        let Some(queue) = &self.queue else {
            return Ok(0);
        };
        in_slices(queue, move |store| store.drop_events(id.as_deref())).await
    }
}

/// Runs `change` in transactions of their own until less than a slice is left, and has the deliveries look at
/// the file. Returns the number of events.
async fn in_slices(
    queue: &Queue,
    change: impl Fn(&Store) -> rusqlite::Result<usize> + Clone + Send + 'static,
) -> Result<usize, NotStored> {
    let mut events = 0;
    loop {
        let changed = queue.run(change.clone()).await;
        queue.wake();
        let changed = changed?;
        events += changed;
        if changed < SLICE {
            return Ok(events);
        }
    }
}
