//! The queue through which each socket's events pass in order.
//!
//! socketioxide spawns the body of every handler, which reorders a socket's events. So handlers
//! only put what came into the socket's one bounded queue, in the part that runs in order, and one
//! worker finishes each event before the next.

use std::{
    convert::Infallible,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde::de::DeserializeOwned;
use serde_json::{
    Value, json,
    value::{RawValue, to_raw_value},
};
use socketioxide::{
    SendError, SocketError,
    adapter::LocalAdapter,
    extract::AckSender,
    handler::message::{FromMessage, FromMessageParts},
    socket::Socket,
};
use tokio::{sync::mpsc, time::Instant};

use super::{Event, EventError, handle};
use crate::{
    gateway::Gateway,
    limits::{Pace, Verdict},
    messages::is_shallow,
    metrics::{Cause, Limit},
    session::Session,
};

/// How often, and after which pause, a socket is asked whether it is connected by now. It is within
/// microseconds, or never: when the acknowledgement of CONNECT did not fit into its queue.
const CONNECT_ATTEMPTS: u32 = 500;
const CONNECT_PAUSE: Duration = Duration::from_millis(1);

/// How long an answer waits before it tries a full queue again.
const FULL_QUEUE_PAUSE: Duration = Duration::from_millis(5);

/// The way into a socket's queue.
#[derive(Clone)]
pub(super) struct Queue {
    sender: mpsc::Sender<(Event, Received)>,
    bytes: Arc<AtomicUsize>,
    pace: Arc<Mutex<Pace>>,
    session: Arc<Session>,
    gateway: Arc<Gateway>,
}

impl Queue {
    /// A queue for one socket, and the worker that empties it. The worker ends with the last clone
    /// of the queue, and that is dropped with the socket.
    pub(super) fn start(session: &Arc<Session>, gateway: &Arc<Gateway>) -> Self {
        let (sender, receiver) = mpsc::channel(gateway.limits.inbound_events);
        let bytes = Arc::default();
        tokio::spawn(work(
            receiver,
            Arc::clone(&bytes),
            session.clone(),
            gateway.clone(),
        ));
        Self {
            sender,
            bytes,
            pace: Arc::new(Mutex::new(Pace::new(&gateway.limits, Instant::now()))),
            session: session.clone(),
            gateway: gateway.clone(),
        }
    }

    /// Takes an event in, or closes the socket when its queue is full. It must not panic or wait:
    /// it runs on the task that reads the transport.
    pub(super) fn push(&self, mut event: Event, mut received: Received) {
        if !self.session.is_live() {
            return;
        }
        let verdict = self
            .pace
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .count(Instant::now());
        if verdict != Verdict::Pass {
            self.gateway.metrics.limited(Limit::EventsPerSec);
        }
        match verdict {
            Verdict::Pass => {}
            Verdict::Wait(wait) => {
                event = Event::TooFast(wait);
                received.json = String::new();
            }
            Verdict::Close => return self.session.end(&self.gateway, Cause::Flooded),
        }
        let size = received.json.len();
        let waiting = self.bytes.fetch_add(size, Ordering::AcqRel);
        let is_too_much = waiting > 0 && waiting + size > self.gateway.limits.inbound_bytes;
        if is_too_much || self.sender.try_send((event, received)).is_err() {
            tracing::warn!(connection = %self.session.sender.connection, "closed: it sends events too fast");
            self.session.end(&self.gateway, Cause::Flooded);
        }
    }
}

/// Finishes each event of a socket before the next.
async fn work(
    mut queue: mpsc::Receiver<(Event, Received)>,
    bytes: Arc<AtomicUsize>,
    session: Arc<Session>,
    gateway: Arc<Gateway>,
) {
    while let Some((event, received)) = queue.recv().await {
        bytes.fetch_sub(received.json.len(), Ordering::AcqRel);
        if !is_connected(&received.socket, &session).await {
            session.end(&gateway, Cause::Overflowed);
        }
        if !session.is_live() {
            continue;
        }
        let handled = AssertUnwindSafe(|| handle(event, &received, &session, &gateway));
        let result = catch_unwind(handled).unwrap_or_else(|_| {
            tracing::error!("a handler panicked");
            let error = EventError::new("internal", "the gateway failed");
            Err(EventError {
                retryable: true,
                ..error
            })
        });
        let outcome = result.as_ref().err().map_or("ok", |error| error.code);
        gateway.metrics.event(event.name(), outcome);
        let answer = match result {
            Ok(mut answer) => {
                answer["ok"] = json!(true);
                answer
            }
            Err(error) => json!({ "ok": false, "error": error }),
        };
        received.acknowledge(&answer, &session).await;
        // Whoever gets what was just sent has a chance to take it before the next is sent.
        tokio::task::yield_now().await;
    }
}

/// Waits for the moment between the acknowledgement of CONNECT and the first event that can be sent.
async fn is_connected(socket: &Socket, session: &Session) -> bool {
    for _ in 0..CONNECT_ATTEMPTS {
        if socket.connected() || !session.is_live() {
            return true;
        }
        tokio::time::sleep(CONNECT_PAUSE).await;
    }
    false
}

/// An event as it came: its JSON is parsed by the worker, not by the reader of the transport.
pub(super) struct Received {
    json: String,
    has_attachments: bool,
    pub(super) socket: Arc<Socket>,
    ack_id: Option<i64>,
}

impl FromMessage<LocalAdapter> for Received {
    type Error = Infallible;

    fn from_message(
        socket: Arc<Socket>,
        value: socketioxide_core::Value,
        ack_id: Option<i64>,
    ) -> Result<Self, Infallible> {
        let (json, has_attachments) = match value {
            socketioxide_core::Value::Str(json, attachments) => (
                json.as_str().to_owned(),
                attachments.is_some_and(|attachments| !attachments.is_empty()),
            ),
            socketioxide_core::Value::Bytes(_) => (String::new(), true),
        };
        Ok(Self {
            json,
            has_attachments,
            socket,
            ack_id,
        })
    }
}

impl Received {
    /// Sends the answer, and waits for room in the client's queue: meanwhile the client's own
    /// events pile up in ours, which is bounded. A client that takes nothing ends by the write
    /// stall or the heartbeat, and with it the wait.
    async fn acknowledge(&self, answer: &Value, session: &Session) {
        if self.ack_id.is_none() {
            return;
        }
        let Ok(answer) = to_raw_value(answer) else {
            return;
        };
        // Counted before it is sent, or it could be written, and taken off, before it is counted.
        // There is one answer an event, so the queue of events bounds them.
        session.backlog().add(answer.get().len());
        while session.is_live() {
            let mut unused = socketioxide_core::Value::Bytes(Default::default());
            let ack = AckSender::from_message_parts(&self.socket, &mut unused, &self.ack_id);
            match ack.map(|ack| ack.send(&answer)) {
                Ok(Err(SendError::Socket(SocketError::InternalChannelFull))) => {
                    tokio::time::sleep(FULL_QUEUE_PAUSE).await;
                }
                Ok(_) => return,
                Err(never) => match never {},
            }
        }
    }

    /// The one argument of an event, as an object of the given shape.
    pub(super) fn argument<T: DeserializeOwned>(&self) -> Result<T, EventError> {
        if self.has_attachments {
            return Err(EventError::new(
                "not_supported",
                "binary payloads are not supported yet",
            ));
        }
        let arguments: Vec<&RawValue> = serde_json::from_str(&self.json)
            .map_err(|_| EventError::invalid("the arguments are no JSON"))?;
        let [_event, argument] = arguments[..] else {
            return Err(EventError::invalid("exactly one argument is expected"));
        };
        if !is_shallow(argument.get()) {
            return Err(EventError::invalid("the payload is nested too deeply"));
        }
        serde_json::from_str(argument.get()).map_err(|_| {
            EventError::invalid("the payload does not have the shape that this event takes")
        })
    }
}
