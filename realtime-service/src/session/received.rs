//! An event as it came, and the way to answer it.

use std::{borrow::Cow, convert::Infallible, sync::Arc};

use axum::body::Bytes;
use serde::{
    Serialize,
    de::{DeserializeOwned, IgnoredAny},
    ser::SerializeTuple,
};
use serde_json::value::RawValue;
use shared_claims::json::Object;
use socketioxide::{
    adapter::LocalAdapter,
    handler::{FromMessage, Value},
    socket::Socket,
};
use socketioxide_core::parser::Parse as _;
use socketioxide_parser_common::CommonParser;

use super::Session;
use crate::{outbox, transport::Placed};

/// An event that a client sent. Its JSON is parsed by whoever handles it, not by the reader of the
/// transport.
pub struct Received {
    json: String,
    attachments: Vec<Bytes>,
    ack_id: Option<u64>,
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

/// An argument of an event. When it is sent, its binary data is in its places.
#[derive(Clone, Copy)]
pub struct Argument<'a> {
    json: &'a RawValue,
    attachments: &'a [Bytes],
}

impl<'a> Argument<'a> {
    /// The JSON text; in the place of binary data stands `{"_placeholder":true,"num":N}`.
    #[must_use]
    pub fn get(&self) -> &'a str {
        self.json.get()
    }

    /// The same, as JSON.
    #[must_use]
    pub(crate) fn raw(&self) -> &'a RawValue {
        self.json
    }
}

impl Serialize for Argument<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.attachments.is_empty() {
            return self.json.serialize(serializer);
        }
        let value: serde_json::Value =
            serde_json::from_str(self.json.get()).map_err(serde::ser::Error::custom)?;
        Placed::new(&value, self.attachments).serialize(serializer)
    }
}

/// The arguments of an event are not what its handler takes.
#[derive(Debug, thiserror::Error)]
#[error("the arguments do not have the shape that this event takes")]
pub struct InvalidArguments;

impl FromMessage<LocalAdapter> for Received {
    type Error = Infallible;

    fn from_message(_: Arc<Socket>, value: Value, ack_id: Option<i64>) -> Result<Self, Infallible> {
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
            ack_id: ack_id.and_then(|id| u64::try_from(id).ok()),
        })
    }
}

impl Received {
    /// An event: a JSON array of its name and its arguments, with placeholders for `attachments`.
    pub(crate) fn new(json: String, attachments: Vec<Bytes>, ack_id: Option<u64>) -> Self {
        Self {
            json,
            attachments,
            ack_id,
        }
    }

    /// The name of the event; `None` when it has none.
    pub(crate) fn name(&self) -> Option<Cow<'_, str>> {
        let text = self.json.strip_prefix('[')?.trim_start();
        let end = text.strip_prefix('"')?.find(['"', '\\'])? + 1;
        match text.as_bytes()[end] {
            b'"' => Some(Cow::Borrowed(&text[1..end])),
            // A name with escapes is rare.
            _ => {
                let mut texts = serde_json::Deserializer::from_str(text).into_iter::<String>();
                texts.next()?.ok().map(Cow::Owned)
            }
        }
    }

    /// The arguments, however many there are.
    ///
    /// # Errors
    ///
    /// When the event is no array of JSON.
    pub fn arguments(&self) -> Result<Vec<Argument<'_>>, InvalidArguments> {
        let all: Vec<&RawValue> = serde_json::from_str(&self.json).map_err(|_| InvalidArguments)?;
        // The first is the event's name.
        let (_, arguments) = all.split_first().ok_or(InvalidArguments)?;
        let arguments = arguments.iter().map(|json| Argument {
            json,
            attachments: &self.attachments,
        });
        Ok(arguments.collect())
    }

    /// The one argument, as an object of the given shape; `None` when the arguments are others.
    pub(crate) fn object<T: DeserializeOwned>(&self) -> Option<T> {
        let (IgnoredAny, Object(argument)) = serde_json::from_str(&self.json).ok()?;
        Some(argument)
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
        CommonParser
            .decode_value(&mut value, true)
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

    /// The id under which the client waits for an acknowledgement.
    pub(crate) fn ack_id(&self) -> Option<u64> {
        self.ack_id
    }

    /// How much it counts in a queue.
    pub(crate) fn bytes(&self) -> usize {
        self.json.len() + self.attachments.iter().map(Bytes::len).sum::<usize>()
    }

    /// Acknowledges the event, if the client asked for it, with one argument.
    ///
    /// It waits for room in the client's queue: meanwhile the client's own events pile up in ours,
    /// which is bounded. A client that takes nothing ends by the write stall or the heartbeat, and
    /// with it the wait.
    pub async fn acknowledge(&self, session: &Session, answer: &(impl Serialize + Sync)) {
        let Some(id) = self.ack_id else { return };
        session.outbox().wait_for_room().await;
        let namespace = session.outbox().namespace();
        // What is no JSON is not sent, and neither is what comes after the end.
        if let Ok(packet) = outbox::acknowledgement_of(namespace, id, &[answer], &[]) {
            let _ = session.outbox().send(packet);
        }
    }

    /// Acknowledges the event as [`Self::acknowledge`] does, with the JSON array of arguments that `write` appends.
    pub(crate) async fn acknowledge_by(&self, session: &Session, write: impl FnOnce(&mut Vec<u8>)) {
        let Some(id) = self.ack_id else { return };
        session.outbox().wait_for_room().await;
        let packet = outbox::acknowledgement_by(session.outbox().namespace(), id, write);
        // After the end of the session nothing is sent.
        let _ = session.outbox().send(packet);
    }

    /// Does as [`Self::acknowledge`] with other than one argument: a tuple is as many as it has
    /// members, [`Arguments`] are as many as they are, and `Bytes` are binary data.
    pub async fn acknowledge_with(&self, session: &Session, answers: &(impl Serialize + Sync)) {
        let Some(id) = self.ack_id else { return };
        session.outbox().wait_for_room().await;
        // What is no JSON is not sent, and neither is what comes after the end.
        if let Ok(packet) = outbox::acknowledgement(session.outbox().namespace(), id, answers) {
            let _ = session.outbox().send(packet);
        }
    }
}
