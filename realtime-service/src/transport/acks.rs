//! Events that clients were asked to acknowledge.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde_json::Value;
use tokio::sync::oneshot;

/// The arguments of an acknowledgement are no JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidAcknowledgement;

/// The arguments of an acknowledgement.
pub type Acknowledgement = Result<Vec<Value>, InvalidAcknowledgement>;

/// The acknowledgements that are awaited from one client. It has memory once the client was asked.
#[derive(Default)]
pub struct PendingAcks(Mutex<Option<Box<State>>>);

#[derive(Default)]
struct State {
    next_id: u64,
    waiting: HashMap<u64, oneshot::Sender<Acknowledgement>>,
}

impl PendingAcks {
    /// Returns an id for an event, and its acknowledgement once there is one. The receiver fails
    /// when the session has ended.
    pub fn expect(&self) -> (u64, oneshot::Receiver<Acknowledgement>) {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.lock();
        let state = state.get_or_insert_default();
        // Whoever does not wait any more makes room for others.
        state.waiting.retain(|_, sender| !sender.is_closed());
        let id = state.next_id;
        state.next_id += 1;
        state.waiting.insert(id, sender);
        (id, receiver)
    }

    /// Whether somebody waits for the acknowledgement with this id.
    pub(crate) fn is_expected(&self, id: u64) -> bool {
        let state = self.lock();
        state
            .as_ref()
            .is_some_and(|state| state.waiting.contains_key(&id))
    }

    /// Passes an acknowledgement to whoever waits for it; one that nobody expects is ignored.
    pub(crate) fn resolve(&self, id: u64, acknowledgement: Acknowledgement) {
        let sender = self
            .lock()
            .as_mut()
            .and_then(|state| state.waiting.remove(&id));
        if let Some(sender) = sender {
            // Nobody waits any more.
            let _ = sender.send(acknowledgement);
        }
    }

    /// Gives up all that are awaited.
    pub(super) fn clear(&self) {
        if let Some(state) = &mut *self.lock() {
            state.waiting.clear();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Box<State>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
