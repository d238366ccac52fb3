//! Places in a room's stream of messages.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize, Serializer};
use utoipa::ToSchema;

/// Which life of a room: it changes when the numbering begins anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Epoch(pub(super) Arc<str>);

impl Epoch {
    pub(super) fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl Serialize for Epoch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// A place in a room's stream of messages.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Position {
    /// Which life of the room.
    #[schema(value_type = String)]
    pub epoch: Epoch,
    /// The number of the message in that life, from 1; 0 is before the first.
    pub offset: u64,
}

/// The last message of a room that a client has.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Since {
    /// The life of the room that the offset belongs to.
    pub epoch: String,
    /// The number of the last message that the client has; 0 for none.
    pub offset: u64,
}

/// A place among all messages that this gateway delivers in a room, whatever their epochs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// Number of epochs before this one, as this gateway has seen them.
    pub(super) life: u64,
    /// The number of the message in its epoch.
    pub(super) offset: u64,
}
