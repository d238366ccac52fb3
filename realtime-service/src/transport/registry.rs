//! The polling sessions by their `sid`, for the requests that name one.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use super::engine_session::EngineSession;

/// The polling sessions by their `sid`.
#[derive(Default)]
pub(super) struct Registry(Mutex<HashMap<String, Weak<EngineSession>>>);

/// What a session needs that has no stream of its own.
pub(super) struct Polling {
    sid: String,
    registry: Arc<Registry>,
    /// Ends the session inside of socketioxide, where no stream's end would do it.
    close: Box<dyn Fn() + Send + Sync>,
}

impl Polling {
    pub(super) fn close(&self) {
        (self.close)();
    }
}

impl Registry {
    /// Registers `session` under `sid` until it is dropped; `close` ends it inside of socketioxide.
    pub(super) fn insert(
        self: &Arc<Self>,
        session: &Arc<EngineSession>,
        sid: String,
        close: impl Fn() + Send + Sync + 'static,
    ) {
        self.lock().insert(sid.clone(), Arc::downgrade(session));
        // A session is opened, and so registered, once.
        if let Some(carrier) = session.socketioxide() {
            let _ = carrier.polling.set(Polling {
                sid,
                registry: self.clone(),
                close: Box::new(close),
            });
        }
    }

    /// Returns the session with this `sid`.
    pub(super) fn get(&self, sid: &str) -> Option<Arc<EngineSession>> {
        self.lock().get(sid)?.upgrade()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Weak<EngineSession>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Polling {
    fn drop(&mut self) {
        self.registry.lock().remove(&self.sid);
    }
}
