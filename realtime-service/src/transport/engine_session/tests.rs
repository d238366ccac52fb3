//! The last packet of a session, over a connection that takes it or does not.

use std::sync::atomic::AtomicBool;

use super::*;
use crate::{
    config::Config,
    metrics::Metrics,
    timers::Timers,
    transport::{Packet, engine::CloseCode, testing},
};

/// A WebSocket over TLS, which encrypts every packet at once.
#[derive(Default)]
struct Encrypting {
    queue: OnceLock<Arc<SendQueue>>,
    takes_bytes: bool,
    is_blocked: AtomicBool,
}

impl EngineConnection for Encrypting {
    fn flush(self: Arc<Self>) {
        let queue = self.queue.get().expect("a queue");
        queue.take(usize::MAX);
        self.is_blocked.store(!self.takes_bytes, Ordering::Release);
    }

    fn disconnect(self: Arc<Self>, _: CloseCode) {}

    fn set_admitted(&self) {}

    fn is_open(&self) -> bool {
        true
    }

    fn is_websocket(&self) -> bool {
        true
    }

    fn is_polled(&self) -> bool {
        false
    }

    fn is_blocked(&self) -> bool {
        self.is_blocked.load(Ordering::Acquire)
    }
}

#[tokio::test(start_paused = true)]
async fn a_last_packet_that_lies_in_tls_is_undelivered_when_its_grace_is_over() {
    for takes_bytes in [true, false] {
        let timers = Arc::<Timers>::default();
        let metrics = Arc::new(Metrics::new());
        let context = TransportContext::new(&Config::default(), &metrics, &timers);
        tokio::spawn(async move { timers.run().await });
        let session = testing::session(&context);
        let encrypting = Arc::new(Encrypting {
            takes_bytes,
            ..Encrypting::default()
        });
        let _ = encrypting.queue.set(session.queue().clone());
        let connection: Arc<dyn EngineConnection> = encrypting.clone();
        if let CarriedBy::Engine(own) = &session.carried_by {
            let _ = own.set(Arc::downgrade(&connection));
        }
        let undelivered = Arc::new(AtomicBool::new(false));
        let note = undelivered.clone();
        session.finish(
            Queued::new(Packet::engine("41"), None),
            Cause::Disconnected,
            move || note.store(true, Ordering::Release),
        );
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(session.cause(), Cause::Disconnected);
        assert_eq!(undelivered.load(Ordering::Acquire), !takes_bytes);
    }
}
