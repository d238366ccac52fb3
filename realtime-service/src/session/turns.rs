//! Turns in which rooms do something that has an order in each room.

use std::hash::{BuildHasher as _, RandomState};

use tokio::sync::{Mutex, MutexGuard};

use crate::rooms::RoomName;

/// Number of turns. Rooms with the same turn wait for each other.
const TURNS: usize = 256;

/// The turns in which messages are published that back ends are told of, so that they are told in the order
/// of the offsets of a room.
pub(super) struct Turns {
    turns: Box<[Mutex<()>]>,
    hasher: RandomState,
}

impl Default for Turns {
    fn default() -> Self {
        Self {
            turns: (0..TURNS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
        }
    }
}

impl Turns {
    /// Waits for the turn of a room, which lasts until the guard is dropped.
    pub(super) async fn take(&self, room: &RoomName) -> MutexGuard<'_, ()> {
        let hash = self.hasher.hash_one(room) % TURNS as u64;
        self.turns[usize::try_from(hash).unwrap_or_default()]
            .lock()
            .await
    }
}
