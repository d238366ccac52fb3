//! A client that subscribes to a room, and the state of the room at that moment.

use std::sync::Arc;

use serde_json::value::RawValue;

use super::{MessageList, Position, Presence, PresenceMode, Sender, Since};
use crate::outbox::Outbox;

/// A connection that subscribes to rooms.
pub struct Subscriber {
    /// Its public id.
    pub connection: Arc<str>,
    /// The way to its client.
    pub outbox: Arc<Outbox>,
    /// The sender of its messages, as others see it.
    pub sender: Sender,
    /// Whether its grants let it know who is in the room.
    pub may_watch: bool,
    /// JSON that presence shows beside its user.
    pub presence: Option<Arc<RawValue>>,
}

impl Subscriber {
    /// The same connection, which may know who is in the room.
    #[must_use]
    pub fn that_may_watch(self) -> Self {
        Self {
            may_watch: true,
            ..self
        }
    }
}

/// Wishes of a client that subscribes to a room.
#[derive(Clone, Debug, Default)]
pub struct SubscribeOptions {
    /// The last message that it has, when it was there before.
    pub since: Option<Since>,
    /// Number of the last messages that it wants, when there is no coming back.
    pub history: Option<usize>,
    /// The part of presence that it wants, now and later.
    pub presence: PresenceMode,
}

impl SubscribeOptions {
    /// Whether the client asks for messages that only the log has. Without them, the place that the gateway
    /// has reached in the room will do.
    pub(super) fn needs_log(&self) -> bool {
        self.since.is_some() || self.history.is_some()
    }
}

/// The state of a room at the moment of a subscription: every later message follows it.
pub struct Subscription<'a> {
    /// The place of the room's newest message.
    pub position: &'a Position,
    /// Whether nothing is missing between the last message that the client had and `messages`;
    /// `None` when it named none.
    pub recovered: Option<bool>,
    /// The messages that it missed, or the last ones.
    pub messages: Option<&'a MessageList>,
    /// The users in the room, the client itself among them.
    pub presence: Option<Presence>,
}

/// Reason that a client is not in a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinError {
    /// Its session has ended.
    SessionEnded,
    /// The room's log cannot be reached now.
    Unavailable,
}
