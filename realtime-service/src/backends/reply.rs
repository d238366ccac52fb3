//! The answer of a back end: the acknowledgement, and actions that are done before it.

use axum::body::Bytes;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::value::RawValue;
use shared_claims::{ids::is_identifier, json};
use utoipa::ToSchema;

use super::CallError;
use crate::rooms::{Data, RoomName, is_publishable, null};

/// Maximum number of actions of one answer.
const MAXIMUM_ACTIONS: usize = 64;

/// Maximum number of attachments of one packet, as in the parser of the stock client.
const MAXIMUM_ATTACHMENTS: usize = 10;

/// The answer to a call.
pub struct Reply {
    /// The arguments of the acknowledgement, a JSON array.
    pub ack: Data,
    /// Actions in their order.
    pub actions: Vec<Action>,
}

/// Something that a back end has the gateway do.
pub enum Action {
    /// Publishes a message in a room.
    Publish {
        /// The room.
        room: RoomName,
        /// The name of the event.
        event: String,
        /// The content.
        data: Data,
        /// An id under which the message is published once.
        id: Option<String>,
    },
    /// Takes the caller's socket into a room, whatever its grants.
    Join(RoomName),
    /// Takes the caller's socket out of a room.
    Leave(RoomName),
    /// Sends an event to the caller's socket.
    Emit {
        /// The name of the event.
        event: String,
        /// The arguments, a JSON array.
        args: Data,
    },
    /// Disconnects the caller's socket for good.
    Disconnect,
}

/// An answer as it is written. An empty body is an acknowledgement without arguments.
#[derive(Deserialize, ToSchema)]
#[schema(as = CallAnswer)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    /// The arguments of the acknowledgement.
    #[serde(default = "no_arguments")]
    #[schema(value_type = Vec<serde_json::Value>, required = false)]
    ack: Box<RawValue>,
    /// The binary data of its placeholders, in base64.
    #[serde(default)]
    attachments: Vec<String>,
    /// Actions in their order, before the acknowledgement: 64 at most.
    #[serde(default)]
    actions: Vec<WrittenAction>,
}

/// An action as it is written: an object with the one member that names it.
#[derive(Deserialize, ToSchema)]
#[schema(as = CallAction)]
#[serde(rename_all = "snake_case")]
enum WrittenAction {
    /// Publishes a message in a room.
    Publish(WrittenMessage),
    /// Takes the socket into a room, whatever its grants.
    Join(WrittenRoom),
    /// Takes the socket out of a room.
    Leave(WrittenRoom),
    /// Sends an event to the socket alone.
    Emit(WrittenEvent),
    /// Disconnects the socket for good.
    Disconnect(Empty),
}

#[derive(Deserialize, ToSchema)]
#[schema(as = CallMessage)]
#[serde(deny_unknown_fields)]
struct WrittenMessage {
    room: String,
    event: String,
    #[serde(default = "null")]
    #[schema(value_type = serde_json::Value, required = false)]
    data: Box<RawValue>,
    /// The binary data of its placeholders, in base64.
    #[serde(default)]
    attachments: Vec<String>,
    /// An id under which the message is published once.
    id: Option<String>,
}

#[derive(Deserialize, ToSchema)]
#[schema(as = CallRoom)]
#[serde(deny_unknown_fields)]
struct WrittenRoom {
    room: String,
}

#[derive(Deserialize, ToSchema)]
#[schema(as = CallEvent)]
#[serde(deny_unknown_fields)]
struct WrittenEvent {
    event: String,
    #[serde(default = "no_arguments")]
    #[schema(value_type = Vec<serde_json::Value>, required = false)]
    args: Box<RawValue>,
    /// The binary data of its placeholders, in base64.
    #[serde(default)]
    attachments: Vec<String>,
}

/// An object without members.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Empty {}

fn no_arguments() -> Box<RawValue> {
    // Two brackets are always JSON.
    RawValue::from_string("[]".to_owned()).unwrap_or_else(|_| null())
}

impl Reply {
    /// Parses the body of an answer about a client of `namespace`, in which its rooms are; an empty one
    /// acknowledges without arguments. Either all of it can be done, or none of it is.
    ///
    /// # Errors
    ///
    /// When the body has another shape, or an action cannot work.
    pub(super) fn parse(namespace: &str, body: &[u8]) -> Result<Self, CallError> {
        let written = match body.trim_ascii() {
            [] => b"{}",
            body => body,
        };
        let invalid =
            |reason: &str| CallError::permanent(format!("the answer cannot be used: {reason}"));
        let Written {
            ack,
            attachments,
            actions,
        } = json::from_object(written)
            .ok_or_else(|| invalid("it is no object with ack, attachments and actions alone, or one of its actions has another shape"))?;
        if actions.len() > MAXIMUM_ACTIONS {
            return Err(invalid("it has more than 64 actions"));
        }
        let actions = actions.into_iter().map(|action| action.check(namespace));
        Ok(Self {
            ack: arguments(ack, &attachments).map_err(invalid)?,
            actions: actions.collect::<Result<_, _>>().map_err(invalid)?,
        })
    }
}

impl WrittenAction {
    fn check(self, namespace: &str) -> Result<Action, &'static str> {
        let room = |text: String| {
            RoomName::parse_in(namespace, text).map_err(|_| "a room has no such name")
        };
        let publishable = |event: &str| match is_publishable(event) {
            true => Ok(()),
            false => Err("the name of an event is reserved, or longer than 128 bytes"),
        };
        Ok(match self {
            Self::Publish(message) => {
                publishable(&message.event)?;
                if message.id.as_deref().is_some_and(|id| !is_identifier(id)) {
                    return Err(
                        "an id must have 1 to 255 bytes, without control or hidden characters",
                    );
                }
                Action::Publish {
                    room: room(message.room)?,
                    event: message.event,
                    data: data(message.data, &message.attachments)?,
                    id: message.id,
                }
            }
            Self::Join(joined) => Action::Join(room(joined.room)?),
            Self::Leave(left) => Action::Leave(room(left.room)?),
            Self::Emit(emitted) => {
                publishable(&emitted.event)?;
                Action::Emit {
                    event: emitted.event,
                    args: arguments(emitted.args, &emitted.attachments)?,
                }
            }
            Self::Disconnect(Empty {}) => Action::Disconnect,
        })
    }
}

/// Checks a JSON array of arguments and its binary data.
fn arguments(json: Box<RawValue>, attachments: &[String]) -> Result<Data, &'static str> {
    match json.get().starts_with('[') {
        true => data(json, attachments),
        false => Err("ack and args must be arrays"),
    }
}

/// Checks JSON and the binary data that belongs to it, in base64.
pub(super) fn data(json: Box<RawValue>, attachments: &[String]) -> Result<Data, &'static str> {
    if attachments.len() > MAXIMUM_ATTACHMENTS {
        return Err("it has more than 10 attachments in one place");
    }
    let decoded = attachments
        .iter()
        .map(|text| STANDARD.decode(text).map(Bytes::from));
    let decoded: Vec<Bytes> = decoded
        .collect::<Result<_, _>>()
        .map_err(|_| "an attachment is not base64")?;
    Data::new(json, decoded).map_err(|_| {
        "some client could not parse the JSON, or attachments and placeholders are not one for one"
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Reply, CallError> {
        Reply::parse("/", text.as_bytes())
    }

    #[test]
    fn an_empty_body_acknowledges_without_arguments() {
        for text in ["", " \n", "{}"] {
            let reply = parse(text).expect(text);
            assert_eq!(reply.ack.json(), "[]");
            assert!(reply.actions.is_empty());
        }
    }

    #[test]
    fn every_action_is_understood_in_its_order() {
        let reply = parse(
            r#"{"ack":[1,{"_placeholder":true,"num":0}],"attachments":["AQI="],"actions":[
                {"publish":{"room":"a:b","event":"x","data":{"n":1},"id":"7"}},
                {"join":{"room":"a"}},{"leave":{"room":"b"}},
                {"emit":{"event":"y","args":[1,2]}},{"disconnect":{}}]}"#,
        );
        let reply = reply.expect("a reply");
        assert_eq!(reply.ack.attachments(), [Bytes::from_static(&[1, 2])]);
        assert!(matches!(
            &reply.actions[..],
            [
                Action::Publish { .. },
                Action::Join(_),
                Action::Leave(_),
                Action::Emit { .. },
                Action::Disconnect
            ]
        ));
    }

    #[test]
    fn one_fault_spoils_the_whole_answer() {
        for text in [
            "[]",
            "null",
            "{",
            r#"{"ack":1}"#,
            r#"{"acks":[]}"#,
            r#"{"ack":[{"_placeholder":true,"num":0}]}"#,
            r#"{"ack":[],"attachments":["AQI="]}"#,
            r#"{"ack":[{"_placeholder":true,"num":0}],"attachments":["*"]}"#,
            r#"{"actions":[{"join":{"room":""}}]}"#,
            r#"{"actions":[{"join":{"room":"a","x":1}}]}"#,
            r#"{"actions":[{"jump":{"room":"a"}}]}"#,
            r#"{"actions":[{"emit":{"event":"rt:x"}}]}"#,
            r#"{"actions":[{"publish":{"room":"a","event":"connect"}}]}"#,
            r#"{"actions":[{"publish":{"room":"a","event":"x","id":""}}]}"#,
        ] {
            let error = parse(text).err().expect(text);
            assert_eq!(error.retry_after, None, "{text}");
        }
    }
}
