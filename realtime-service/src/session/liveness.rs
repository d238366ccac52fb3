//! How a session learns that its client has gone.
//!
//! socketioxide has one disconnect handler for each socket, and the application may put its own in
//! the place of ours. Ours notices when it is dropped without having been called: from then on the
//! session checks from time to time. It checks once after admission too, since a socket whose CONNECT
//! could not be acknowledged goes without a word, and one whose transport ended while it was
//! connecting does not go at all. A polling transport shows only by its silence that it has gone, so
//! its sessions go on checking.

use std::{
    future::ready,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use socketioxide::extract::SocketRef;

use super::Session;

/// How long it takes at most until a session sees for itself that its client has gone.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Our disconnect handler, as long as socketioxide has it.
struct Listener {
    session: Weak<Session>,
    is_called: AtomicBool,
}

impl Listener {
    fn call(&self) {
        self.is_called.store(true, Ordering::Release);
        if let Some(session) = self.session.upgrade() {
            session.disconnected();
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if self.is_called.load(Ordering::Acquire) {
            return;
        }
        if let Some(session) = self.session.upgrade() {
            session.is_unheard.store(true, Ordering::Release);
            // Before the admission there is nothing to check, and after it comes a check anyway.
            if session.is_admitted.load(Ordering::Acquire) {
                session.check_liveness_soon();
            }
        }
    }
}

impl Session {
    /// Runs `handler` once, when this session has ended: because its socket or its transport has
    /// gone, its token has ended or was revoked, or it was refused after all.
    ///
    /// Nothing else of this session runs at that time or later: the handler of the event that was
    /// under way has ended, or was dropped 10 seconds after the session. `handler` has 10 seconds
    /// itself; at a shutdown, all handlers together have `limits.drain_ms`.
    pub fn on_disconnect<F, Done>(self: &Arc<Self>, handler: F)
    where
        F: FnOnce(Arc<Self>) -> Done + Send + 'static,
        Done: Future<Output = ()> + Send + 'static,
    {
        let session = self.clone();
        self.intake
            .at_end(Box::pin(async move { handler(session).await }));
    }

    /// Listens for the end of the socket.
    pub(crate) fn listen(self: &Arc<Self>, socket: &SocketRef) {
        let listener = Arc::new(Listener {
            session: Arc::downgrade(self),
            is_called: AtomicBool::new(false),
        });
        socket.on_disconnect(move || {
            listener.call();
            ready(())
        });
    }

    /// Checks before long whether the client is still there.
    pub(super) fn check_liveness_soon(self: &Arc<Self>) {
        self.check_liveness_in(CHECK_INTERVAL);
    }

    /// Checks whether the client is still there.
    pub(super) fn check_liveness(self: &Arc<Self>) {
        // The engine tells when a client has gone.
        let Some(carrier) = self.engine().socketioxide() else {
            return;
        };
        let namespace = self.outbox.namespace();
        if carrier.has_lost(namespace) {
            self.disconnected();
        } else if self.engine().is_gone() {
            let socket = self.engine().remove_socket(namespace);
            self.disconnected();
            // Nobody hears it, but socketioxide lets go of the socket.
            if let Some(socket) = socket {
                let _ = socket.disconnect();
            }
        } else if self.is_unheard.load(Ordering::Acquire) {
            self.check_liveness_soon();
        } else if carrier.began_by_polling() {
            self.check_liveness_in(self.context.idle_timeout);
        }
    }

    /// Ends the session when its transport or its socket has gone.
    pub(crate) fn disconnected(&self) {
        tracing::info!(connection = %self.connection, "disconnected");
        self.terminate(self.engine().cause());
        self.engine().remove_socket(self.outbox.namespace());
        if self.is_admitted.swap(false, Ordering::AcqRel) {
            self.engine().leave();
        }
    }
}
