//! The sender of a message, and a user as others see them.

use serde::Serialize;
use utoipa::ToSchema;

/// The sender of a message.
#[derive(Clone, Debug, Serialize)]
pub struct Sender {
    /// The issuer, when it is another than our own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iss: Option<String>,
    /// The subject of the token; a guest has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sub: Option<String>,
    /// The name to show, when the token has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A random id of this connection. It is not Socket.IO's `socket.id`, which is the Engine.IO
    /// `sid`, and whoever knows that one can take the connection over. A back end has none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub connection: String,
}

/// A user, as others see them: a subject is nobody without its issuer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, ToSchema)]
pub struct User {
    /// The issuer, when it is another than our own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iss: Option<String>,
    /// The subject.
    pub sub: String,
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
