//! The outbox of one session in the orders that shuttle chooses: publishers, the last packet, and an
//! end from outside. `tests/interleavings` runs these tests.

use std::sync::Arc;

use axum::body::Bytes;
use shuttle::{
    future::block_on,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use super::{Outbox, OutboxContext, SendError};
use crate::{
    config::Config,
    metrics::{Cause, Metrics},
    transport::{
        EngineSession, Packet, TransportContext,
        engine::{
            CloseReason, EngineHandler, Session, TransportKind, Violation,
            interleavings::{Opened, Pipe, explore},
        },
        testing, turn,
    },
};

/// Tells the record of a session how its connection ended.
struct Recorder;

impl EngineHandler for Recorder {
    type Data = Arc<EngineSession>;

    fn opened(&self, _: &Arc<Session<Self::Data>>) {}

    fn text(&self, _: &Arc<Session<Self::Data>>, _: &str) -> Result<(), Violation> {
        Ok(())
    }

    fn binary(&self, _: &Arc<Session<Self::Data>>, _: Bytes) -> Result<(), Violation> {
        Ok(())
    }

    fn closed(&self, session: &Arc<Session<Self::Data>>, reason: CloseReason) {
        session.data().closed(reason);
    }
}

/// An admitted client over a pipe that takes everything.
struct Client {
    transport: Arc<TransportContext>,
    metrics: Arc<Metrics>,
    outbox: Arc<Outbox>,
    pipe: Pipe,
    task: thread::JoinHandle<()>,
}

impl Client {
    fn connect() -> Self {
        let metrics = Arc::new(Metrics::new());
        let transport = TransportContext::new(&Config::default(), &metrics, &Arc::default());
        let record = testing::session(&transport);
        let queue = record.queue().clone();
        let opened = Opened::new(TransportKind::WebSocket, queue, Recorder, record.clone());
        record.connect(&opened.session);
        let pipe = Pipe::default();
        pipe.make_room(1_000);
        let task = opened.task(&pipe, false);
        let outbox = Outbox::new(&OutboxContext::new(&transport), record, "/");
        outbox.set_deadline(None);
        Self {
            transport,
            metrics,
            outbox,
            pipe,
            task: thread::spawn(move || block_on(task)),
        }
    }

    /// Publishes three messages on a thread of its own: in one turn, as a room does, or one by one.
    fn publish(&self, name: &'static str, in_one_turn: bool) -> thread::JoinHandle<()> {
        let outbox = self.outbox.clone();
        thread::spawn(move || {
            let send = |number: usize| {
                let packet = Packet::engine(&format!("4{name}{number}"));
                let sent = outbox.send(packet);
                assert!(matches!(sent, Ok(()) | Err(SendError::Closed)), "{sent:?}");
            };
            match in_one_turn {
                true => turn::scope(|| (0..3).for_each(send)),
                false => (0..3).for_each(send),
            }
        })
    }

    /// Queues the last packet on a thread of its own; `undelivered` counts that it did not leave.
    fn finish(&self, undelivered: &Arc<AtomicUsize>) -> thread::JoinHandle<()> {
        let (outbox, undelivered) = (self.outbox.clone(), undelivered.clone());
        thread::spawn(move || {
            let count = move || {
                undelivered.fetch_add(1, Ordering::SeqCst);
            };
            outbox.finish(Packet::engine("41"), Cause::Disconnected, count);
            assert_eq!(outbox.send(Packet::engine("4late")), Err(SendError::Closed));
        })
    }

    /// Waits for the end of the connection, and returns what the client has received.
    fn closed(self) -> Vec<String> {
        let received = self.pipe.wait_for(|packets| {
            let last = packets.last();
            last.is_some_and(|last| last.starts_with("close"))
        });
        self.pipe.hang_up();
        self.task.join().expect("no panic");
        assert_eq!(self.pipe.wait_for(|_| true), received, "nothing behind it");
        drop(self.outbox);
        assert_eq!(self.transport.outbound.used(), 0, "bytes that nobody holds");
        let metrics = self.metrics.render(&self.transport.quotas).expect("text");
        let closed = metrics
            .lines()
            .filter(|line| line.starts_with("latchkey_realtime_sessions_closed_total{"));
        let closed: Vec<_> = closed.map(|line| line.ends_with("} 1")).collect();
        assert_eq!(closed, [true], "counted once");
        received
    }
}

/// Whether the messages of a thread are the first ones that it sent, in their order.
fn is_beginning(name: &str, received: &[String]) -> bool {
    let messages = received
        .iter()
        .filter_map(|packet| packet.strip_prefix('4'));
    let messages = messages.filter(|text| text.starts_with(name));
    messages
        .enumerate()
        .all(|(number, text)| text == format!("{name}{number}"))
}

#[test]
fn the_last_packet_leaves_behind_some_messages_and_in_front_of_the_close_frame_alone() {
    explore(|| {
        let client = Client::connect();
        let undelivered = Arc::new(AtomicUsize::new(0));
        let publishers = [client.publish("a", false), client.publish("b", true)];
        let finisher = client.finish(&undelivered);
        for thread in publishers.into_iter().chain([finisher]) {
            thread.join().expect("no panic");
        }
        let received = client.closed();
        assert!(
            received.ends_with(&["41".to_owned(), "close 1000".to_owned()]),
            "{received:?}"
        );
        assert!(
            is_beginning("a", &received) && is_beginning("b", &received),
            "{received:?}"
        );
        assert_eq!(undelivered.load(Ordering::SeqCst), 0);
    });
}

#[test]
fn a_client_whose_session_is_ended_meanwhile_has_its_last_packet_or_that_is_known() {
    explore(|| {
        let client = Client::connect();
        let undelivered = Arc::new(AtomicUsize::new(0));
        let publisher = client.publish("a", false);
        let finisher = client.finish(&undelivered);
        let ending = thread::spawn({
            let record = client.outbox.engine().clone();
            move || record.end(Cause::Revoked)
        });
        for thread in [publisher, finisher, ending] {
            thread.join().expect("no panic");
        }
        let received = client.closed();
        let is_told = received.iter().any(|packet| packet == "41");
        let undelivered = undelivered.load(Ordering::SeqCst);
        assert!(is_told || undelivered == 1, "{received:?}");
        assert!(undelivered <= 1);
        assert!(is_beginning("a", &received), "{received:?}");
    });
}
