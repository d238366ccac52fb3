//! One event on its way: what it asks for, and how it is answered.

use std::sync::Arc;

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use shared_claims::{authorization::Action, json};

use crate::{
    gateway::Gateway,
    messages::is_shallow,
    rooms::RoomName,
    session::{Identity, QueueFull, Received, Session},
};

/// An event that a client has sent.
pub(crate) struct Call<'a> {
    /// The event.
    pub(crate) received: &'a Received,
    /// Who sent it.
    pub(crate) session: &'a Arc<Session>,
    /// Where.
    pub(crate) gateway: &'a Gateway,
}

/// Why an event was not carried out: the `error` of its acknowledgement.
#[derive(Debug, Serialize)]
pub(crate) struct EventError {
    code: &'static str,
    message: &'static str,
    retryable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    room: Option<RoomName>,
}

impl EventError {
    pub(crate) fn new(code: &'static str, message: &'static str) -> Self {
        Self {
            code,
            message,
            retryable: false,
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

    pub(crate) fn invalid(message: &'static str) -> Self {
        Self::new("invalid_request", message)
    }

    pub(crate) fn forbidden(room: RoomName) -> Self {
        Self::new("forbidden", "no grant allows this in this room").in_room(room)
    }

    pub(crate) fn internal() -> Self {
        Self {
            retryable: true,
            ..Self::new("internal", "the gateway failed")
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
            return Err(EventError::invalid("this event takes no binary data"));
        }
        self.argument_with_attachments()
    }

    /// The same, where its attachments belong to it.
    pub(crate) fn argument_with_attachments<T: DeserializeOwned>(&self) -> Result<T, EventError> {
        let arguments = self
            .received
            .arguments()
            .map_err(|_| EventError::invalid("the arguments are no JSON"))?;
        let [argument] = arguments[..] else {
            return Err(EventError::invalid("exactly one argument is expected"));
        };
        if !is_shallow(argument.get()) {
            return Err(EventError::invalid("the payload is nested too deeply"));
        }
        json::from_object(argument.get().as_bytes()).ok_or_else(|| {
            EventError::invalid("the payload does not have the shape that this event takes")
        })
    }

    /// Who sent it, if they may do `action` in `room`.
    ///
    /// # Errors
    ///
    /// When no grant allows it.
    pub(crate) fn require(
        &self,
        action: Action,
        room: &RoomName,
    ) -> Result<Arc<Identity>, EventError> {
        let identity = self.session.identity();
        match identity.grants.allow(action, room) {
            true => Ok(identity),
            false => Err(EventError::forbidden(room.clone())),
        }
    }

    /// Says yes with `answer`, which may hold binary data.
    pub(crate) async fn succeed(&self, answer: &(impl Serialize + Sync)) {
        let answer = Success { ok: true, answer };
        self.received.acknowledge_with(self.session, &answer).await;
    }

    /// The same at once.
    ///
    /// # Errors
    ///
    /// When there is no room in the client's queue.
    pub(crate) fn try_succeed(&self, answer: &impl Serialize) -> Result<(), QueueFull> {
        let answer = Success { ok: true, answer };
        self.received.try_acknowledge(self.session, &answer)
    }
}

/// The room that a payload names.
///
/// # Errors
///
/// When it is not the name of a room.
pub(crate) fn room(value: Value) -> Result<RoomName, EventError> {
    let invalid = || EventError::new("invalid_room", "this is not the name of a room");
    match value {
        Value::String(text) => RoomName::parse(text).map_err(|_| invalid()),
        _ => Err(invalid()),
    }
}
