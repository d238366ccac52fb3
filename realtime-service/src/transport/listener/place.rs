//! The permit of a session that ends with the session or with its stream.

use std::sync::{Arc, Mutex, PoisonError};

use crate::limits::{AddressKey, Permit};

/// Permit for one Engine.IO session. Released when the session or its stream ends, whichever comes
/// first: socketioxide keeps what belongs to a session for longer than that.
#[derive(Clone, Default)]
pub struct Place(Arc<Mutex<Option<Permit<AddressKey>>>>);

impl Place {
    /// Keeps `permit` until it is released.
    pub fn keep(&self, permit: Permit<AddressKey>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(permit);
    }

    /// Releases the permit.
    pub fn release(&self) {
        let _permit = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}
