//! An event as it came, and the way to answer it.

use std::{
    convert::Infallible,
    io::{self, Write},
    sync::Arc,
    time::Duration,
};

use axum::body::Bytes;
use serde::{Serialize, de::DeserializeOwned, ser::SerializeTuple};
use serde_json::{
    ser::{Formatter, Serializer},
    value::{RawValue, to_raw_value},
};
use socketioxide::{
    SendError, SocketError,
    adapter::LocalAdapter,
    extract::{AckSender, Data},
    handler::{FromMessage, FromMessageParts, Value},
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

/// Arguments whose number is known at run time only, to be sent as so many: a list of its own would
/// be a single one.
pub struct Arguments<T>(pub Vec<T>);

impl<T: Serialize> Serialize for Arguments<T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut arguments = serializer.serialize_tuple(self.0.len())?;
        for argument in &self.0 {
            arguments.serialize_element(argument)?;
        }
        arguments.end()
    }
}

/// The arguments of an event are not what its handler takes.
#[derive(Debug, thiserror::Error)]
#[error("the arguments do not have the shape that this event takes")]
pub struct InvalidArguments;

impl FromMessage<LocalAdapter> for Received {
    type Error = Infallible;

    fn from_message(
        socket: Arc<Socket>,
        value: Value,
        ack_id: Option<i64>,
    ) -> Result<Self, Infallible> {
        let (json, attachments) = match value {
            Value::Str(json, attachments) => (
                json.as_str().to_owned(),
                attachments.unwrap_or_default().into(),
            ),
            Value::Bytes(_) => (String::new(), Vec::new()),
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

    /// The arguments: a tuple such as `(String, u32)` takes exactly as many as it has members, and
    /// anything else takes the first. `Bytes` take binary data.
    ///
    /// # Errors
    ///
    /// When they are of another number or type.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, InvalidArguments> {
        let attachments = self.attachments.iter().cloned().collect();
        let mut value = Value::Str(self.json.clone().into(), Some(attachments));
        Data::from_message_parts(&self.socket, &mut value, &self.ack_id)
            .map(|Data(arguments)| arguments)
            .map_err(|_| InvalidArguments)
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
        if let Ok(answer) = to_raw_value(answer) {
            self.send(session, &answer, answer.get().len()).await;
        }
    }

    /// Does as [`Self::acknowledge`] with other than one argument: a tuple is as many as it has
    /// members, [`Arguments`] are as many as they are, and `Bytes` are binary data.
    pub async fn acknowledge_with(&self, session: &Session, answers: &(impl Serialize + Sync)) {
        if let Ok(size) = size_of(answers) {
            self.send(session, answers, size).await;
        }
    }

    /// Does as [`Self::acknowledge_with`] at once.
    ///
    /// # Errors
    ///
    /// When there is no room in the client's queue.
    pub(crate) fn try_acknowledge(
        &self,
        session: &Session,
        answers: &impl Serialize,
    ) -> Result<(), QueueFull> {
        match size_of(answers) {
            Ok(size) => self.try_send(session, answers, size),
            // What is no JSON is not sent.
            Err(_) => Ok(()),
        }
    }

    async fn send(&self, session: &Session, answer: &(impl Serialize + Sync), size: usize) {
        while session.is_live() && self.try_send(session, answer, size).is_err() {
            wait_for_room().await;
        }
    }

    fn try_send(
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
        let mut unused = Value::Bytes(Bytes::new());
        let Ok(ack) = AckSender::from_message_parts(&self.socket, &mut unused, &self.ack_id);
        let sent = ack.send(answer);
        if sent.is_err() {
            session.backlog().remove(bytes);
        }
        match sent {
            Err(SendError::Socket(SocketError::InternalChannelFull)) => Err(QueueFull),
            // What fails otherwise is on its way out.
            _ => Ok(()),
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

/// How many bytes go out for `answers`: their JSON, and binary data as it is.
fn size_of(answers: &impl Serialize) -> serde_json::Result<usize> {
    let mut size = Size(0);
    answers.serialize(&mut Serializer::with_formatter(&mut size, AsItIs))?;
    Ok(size.0)
}

/// Counts what is written to it.
struct Size(usize);

impl Write for Size {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes binary data without turning it into JSON.
struct AsItIs;

impl Formatter for AsItIs {
    fn write_byte_array<W: Write + ?Sized>(&mut self, to: &mut W, bytes: &[u8]) -> io::Result<()> {
        to.write_all(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binary_data_counts_as_it_is() {
        let size = |answers: (&str, Bytes)| size_of(&answers).expect("a size");
        let empty = size(("x", Bytes::new()));
        assert_eq!(empty, r#"["x",]"#.len());
        assert_eq!(size(("x", Bytes::from(vec![200; 1_000]))), empty + 1_000);
    }
}
