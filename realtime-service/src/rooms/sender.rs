//! The sender of a message, and a user as others see them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The sender of a message. Clones share the texts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sender {
    /// The issuer, when it is another than our own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iss: Option<Arc<str>>,
    /// The subject of the token; a guest has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sub: Option<Arc<str>>,
    /// The name to show, when the token has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Arc<str>>,
    /// A random id of this connection. It is not Socket.IO's `socket.id`, which is the Engine.IO
    /// `sid`, and whoever knows that one can take the connection over. A back end has none.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub connection: Arc<str>,
}

fn is_empty(text: &str) -> bool {
    text.is_empty()
}

/// A user, as others see them: a subject is nobody without its issuer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, ToSchema)]
pub struct User {
    /// The issuer, when it is another than our own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub iss: Option<Arc<str>>,
    /// The subject.
    #[schema(value_type = String)]
    pub sub: Arc<str>,
}

impl User {
    /// The user that a connection belongs to; none for a guest's.
    #[must_use]
    pub fn of(sender: &Sender) -> Option<Self> {
        Some(Self {
            iss: sender.iss.clone(),
            sub: sender.sub.clone()?,
        })
    }
}
