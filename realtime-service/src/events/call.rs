//! One event on its way: what it asks for, and how it is answered.

use std::{borrow::Cow, sync::Arc, time::Duration};

use axum::body::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use shared_claims::json;

use crate::{
    outbox,
    rooms::{PublishError, RoomName},
    session::{Argument, NotJoined, Received, Session, SessionContext},
    transport::Packet,
};

/// How long a client should wait before it publishes again, in milliseconds.
const RETRY_AFTER_MS: u64 = 1000;

/// An event that a client has sent.
pub(crate) struct Call<'a> {
    /// The event.
    pub(crate) received: &'a Received,
    /// Who sent it.
    pub(crate) session: &'a Arc<Session>,
    /// What all sessions share.
    pub(crate) context: &'a SessionContext,
}

/// Why an event was not carried out: the `error` of its acknowledgement.
#[derive(Debug, Serialize)]
pub(crate) struct EventError {
    code: &'static str,
    message: Cow<'static, str>,
    retryable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    room: Option<RoomName>,
}

impl EventError {
    /// The code for an event that nothing handles.
    pub(crate) const UNKNOWN: &str = "unknown_event";

    pub(crate) fn new(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            message: message.into(),
            retryable: false,
            retry_after_ms: None,
            room: None,
        }
    }

    /// The code, for metrics.
    pub(crate) fn code(&self) -> &'static str {
        self.code
    }

    pub(crate) fn in_room(self, room: RoomName) -> Self {
        Self {
            room: Some(room),
            ..self
        }
    }

    /// The same may succeed after `pause`; without one, it would fail again.
    pub(crate) fn retryable_after(self, pause: Option<Duration>) -> Self {
        let millis = |pause: Duration| u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        Self {
            retryable: pause.is_some(),
            retry_after_ms: pause.map(millis),
            ..self
        }
    }

    pub(crate) fn invalid(message: &'static str) -> Self {
        Self::new("invalid_request", message)
    }

    pub(crate) fn forbidden(room: RoomName) -> Self {
        Self::new("forbidden", "the token grants no such action in this room").in_room(room)
    }

    /// The gateway cannot do it now, and may in a moment.
    pub(crate) fn unavailable(message: &'static str) -> Self {
        Self {
            retryable: true,
            retry_after_ms: Some(RETRY_AFTER_MS),
            ..Self::new("unavailable", message)
        }
    }

    pub(crate) fn session_ended() -> Self {
        Self::new(NotJoined::SessionEnded.code(), "the session has ended")
    }

    pub(crate) fn of_join(error: NotJoined, room: &RoomName) -> Self {
        match error {
            NotJoined::SessionEnded => Self::session_ended(),
            NotJoined::Unavailable => {
                Self::unavailable("the log of the room cannot be reached; try again")
            }
            NotJoined::TooManyRooms => {
                let message = "this socket is in as many rooms as it may be";
                Self::new(error.code(), message).in_room(room.clone())
            }
        }
    }

    /// No event has this name.
    pub(crate) fn unknown() -> Self {
        Self::new(Self::UNKNOWN, "the gateway has no event of this name")
    }

    pub(crate) fn internal() -> Self {
        Self {
            retryable: true,
            ..Self::new("internal", "the gateway failed; try again")
        }
    }
}

/// An answer that says yes.
#[derive(Serialize)]
struct Success<'a, T> {
    ok: bool,
    #[serde(flatten)]
    answer: &'a T,
}

impl Call<'_> {
    /// The one argument, as an object of the given shape.
    ///
    /// # Errors
    ///
    /// When there is another number of arguments, or it has another shape.
    pub(crate) fn argument<T: DeserializeOwned>(&self) -> Result<T, EventError> {
        if !self.received.attachments().is_empty() {
            return Err(EventError::invalid("this event does not take binary data"));
        }
        self.argument_with_attachments()
    }

    /// The same, where its attachments belong to it.
    pub(crate) fn argument_with_attachments<T: DeserializeOwned>(&self) -> Result<T, EventError> {
        if let Some(argument) = self.received.object() {
            return Ok(argument);
        }
        let arguments = self.received.arguments();
        let arguments = arguments.map_err(|_| EventError::invalid("the arguments are not JSON"))?;
        let [argument]: [Argument<'_>; 1] = arguments
            .try_into()
            .map_err(|_| EventError::invalid("the event takes exactly one argument"))?;
        json::from_object(argument.get().as_bytes()).ok_or_else(|| {
            EventError::invalid(
                "the payload must be an object with exactly the members that this event takes",
            )
        })
    }

    /// The room that a payload names, in the namespace of the session.
    ///
    /// # Errors
    ///
    /// When it is not the name of a room.
    pub(crate) fn room(&self, value: Value) -> Result<RoomName, EventError> {
        let invalid = || {
            EventError::new(
                "invalid_room",
                "the room must be a text of 1 to 255 bytes, in non-empty segments, without * { }",
            )
        };
        let Value::String(text) = value else {
            return Err(invalid());
        };
        let namespace = self.session.outbox().namespace();
        RoomName::parse_in(namespace, text).map_err(|_| invalid())
    }

    /// Acknowledges the event as carried out, with `answer`.
    pub(crate) async fn succeed(&self, answer: &(impl Serialize + Sync)) {
        let answer = Success { ok: true, answer };
        self.received.acknowledge(self.session, &answer).await;
    }

    /// Encodes the same with attachments, whose placeholders are in `answer`; `None` when the client
    /// waits for no acknowledgement.
    pub(crate) fn success(&self, answer: &impl Serialize, attachments: &[Bytes]) -> Option<Packet> {
        let ack_id = self.received.ack_id()?;
        let answer = [Success { ok: true, answer }];
        let namespace = self.session.outbox().namespace();
        // Names, numbers and JSON are always JSON.
        outbox::acknowledgement_of(namespace, ack_id, &answer, attachments).ok()
    }
}

impl From<PublishError> for EventError {
    fn from(error: PublishError) -> Self {
        Self::unavailable(match error {
            PublishError::Unavailable => "the log of the room cannot be reached; try again",
            PublishError::Overloaded => {
                "the gateway has too much to send to its clients; try again"
            }
        })
    }
}
