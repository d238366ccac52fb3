//! An event as it came, and the way to answer it.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::body::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::value::{RawValue, to_raw_value};
use socketioxide::{
    SendError, SocketError,
    adapter::LocalAdapter,
    extract::AckSender,
    handler::message::{FromMessage, FromMessageParts},
    socket::Socket,
};

use super::Session;

/// How long an answer waits before it tries a full queue again.
const FULL_QUEUE_PAUSE: Duration = Duration::from_millis(5);

/// An event that a client sent. Its JSON is parsed by whoever handles it, not by the reader of the
/// transport.
pub struct Received {
    json: String,
    attachments: Vec<Bytes>,
    pub(crate) socket: Arc<Socket>,
    ack_id: Option<i64>,
}

/// The arguments of an event are not what its handler takes.
#[derive(Debug, thiserror::Error)]
#[error("the arguments do not have the shape that this event takes")]
pub struct InvalidArguments;

impl FromMessage<LocalAdapter> for Received {
    type Error = Infallible;

    fn from_message(
        socket: Arc<Socket>,
        value: socketioxide_core::Value,
        ack_id: Option<i64>,
    ) -> Result<Self, Infallible> {
        let (json, attachments) = match value {
            socketioxide_core::Value::Str(json, attachments) => (
                json.as_str().to_owned(),
                attachments.unwrap_or_default().into(),
            ),
            socketioxide_core::Value::Bytes(_) => (String::new(), Vec::new()),
        };
        Ok(Self {
            json,
            attachments,
            socket,
            ack_id,
        })
    }
}

impl Received {
    /// The arguments, however many there are, as their JSON text. In the place of binary data stands
    /// `{"_placeholder":true,"num":N}`, and the data itself in [`Self::attachments`].
    ///
    /// # Errors
    ///
    /// When the event is no array of JSON.
    pub fn arguments(&self) -> Result<Vec<&RawValue>, InvalidArguments> {
        let mut all: Vec<&RawValue> =
            serde_json::from_str(&self.json).map_err(|_| InvalidArguments)?;
        if all.is_empty() {
            return Err(InvalidArguments);
        }
        // The first is the event's name.
        all.remove(0);
        Ok(all)
    }

    /// The arguments as a tuple or an array, such as `(String, u32)`.
    ///
    /// # Errors
    ///
    /// When they are of another number or type.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, InvalidArguments> {
        let arguments = to_raw_value(&self.arguments()?).map_err(|_| InvalidArguments)?;
        serde_json::from_str(arguments.get()).map_err(|_| InvalidArguments)
    }

    /// The binary data of the event, by the number of its placeholder.
    #[must_use]
    pub fn attachments(&self) -> &[Bytes] {
        &self.attachments
    }

    /// Whether the client waits for an acknowledgement.
    #[must_use]
    pub fn wants_acknowledgement(&self) -> bool {
        self.ack_id.is_some()
    }

    /// How much it counts in a queue.
    pub(super) fn bytes(&self) -> usize {
        self.json.len() + self.attachments.iter().map(Bytes::len).sum::<usize>()
    }

    /// Acknowledges the event, if the client asked for it, with one argument.
    ///
    /// It waits for room in the client's queue: meanwhile the client's own events pile up in ours,
    /// which is bounded. A client that takes nothing ends by the write stall or the heartbeat, and
    /// with it the wait.
    pub async fn acknowledge(&self, session: &Session, answer: &impl Serialize) {
        if self.ack_id.is_none() {
            return;
        }
        let Ok(answer) = to_raw_value(answer) else {
            return;
        };
        let bytes = answer.get().len();
        while session.is_live() && self.try_acknowledge(session, &answer, bytes).is_err() {
            wait_for_room().await;
        }
    }

    /// The same at once, with an answer of about so many `bytes`, which may hold binary data.
    ///
    /// # Errors
    ///
    /// When there is no room in the client's queue.
    pub(crate) fn try_acknowledge(
        &self,
        session: &Session,
        answer: &impl Serialize,
        bytes: usize,
    ) -> Result<(), QueueFull> {
        if self.ack_id.is_none() {
            return Ok(());
        }
        if session.is_backlogged() {
            return Err(QueueFull);
        }
        // Counted before it is sent, or it could be written, and taken off, before it is counted.
        // There is one answer an event, so the queue of events bounds them.
        session.backlog().add(bytes);
        let mut unused = socketioxide_core::Value::Bytes(Default::default());
        let ack = AckSender::from_message_parts(&self.socket, &mut unused, &self.ack_id);
        match ack.map(|ack| ack.send(answer)) {
            Ok(Err(SendError::Socket(SocketError::InternalChannelFull))) => {
                session.backlog().remove(bytes);
                Err(QueueFull)
            }
            // What fails otherwise is on its way out.
            Ok(_) => Ok(()),
            Err(never) => match never {},
        }
    }
}

/// There is no room in a client's queue.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct QueueFull;

/// Waits before a full queue is tried again.
pub(crate) async fn wait_for_room() {
    tokio::time::sleep(FULL_QUEUE_PAUSE).await;
}
