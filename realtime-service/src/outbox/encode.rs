//! Socket.IO packets from values (Socket.IO protocol, revision 5).

use axum::body::Bytes;
use serde::Serialize;
use socketioxide_core::{Value, parser::Parse as _};
use socketioxide_parser_common::CommonParser;

use crate::transport::Packet;

/// The arguments cannot be written as JSON.
#[derive(Debug, thiserror::Error)]
#[error("the arguments cannot be written as JSON: {0}")]
pub struct EncodeError(String);

/// Encodes an event with its arguments: a tuple is as many as it has members, and `Bytes` are
/// binary data.
///
/// # Errors
///
/// When the arguments cannot be written as JSON.
pub fn event(
    namespace: &str,
    event: &str,
    arguments: &impl Serialize,
) -> Result<Packet, EncodeError> {
    let (json, attachments) = json_of(arguments, Some(event))?;
    Ok(packet('2', namespace, None, &json, &attachments))
}

/// Encodes an event from `json`, an array of its name and its arguments with placeholders for
/// `attachments`.
#[must_use]
pub fn event_of(namespace: &str, json: &str, attachments: &[Bytes]) -> Packet {
    packet('2', namespace, None, json, attachments)
}

/// Encodes an event that the client is asked to acknowledge under `ack_id`.
///
/// # Errors
///
/// When the arguments cannot be written as JSON.
pub fn question(
    namespace: &str,
    ack_id: u64,
    event: &str,
    arguments: &impl Serialize,
) -> Result<Packet, EncodeError> {
    let (json, attachments) = json_of(arguments, Some(event))?;
    Ok(packet('2', namespace, Some(ack_id), &json, &attachments))
}

/// Encodes the acknowledgement of the event `ack_id`.
///
/// # Errors
///
/// When the arguments cannot be written as JSON.
pub fn acknowledgement(
    namespace: &str,
    ack_id: u64,
    arguments: &impl Serialize,
) -> Result<Packet, EncodeError> {
    let (json, attachments) = json_of(arguments, None)?;
    Ok(packet('3', namespace, Some(ack_id), &json, &attachments))
}

/// Encodes the acknowledgement of the event `ack_id` from `json`, an array of its arguments with
/// placeholders for `attachments`.
#[must_use]
pub fn acknowledgement_of(
    namespace: &str,
    ack_id: u64,
    json: &str,
    attachments: &[Bytes],
) -> Packet {
    packet('3', namespace, Some(ack_id), json, attachments)
}

/// Writes the arguments as a JSON array, with the event's name first, and takes binary data out.
fn json_of(
    arguments: &impl Serialize,
    event: Option<&str>,
) -> Result<(String, Vec<Bytes>), EncodeError> {
    let value = CommonParser.encode_value(arguments, event);
    match value.map_err(|error| EncodeError(error.to_string()))? {
        Value::Str(json, attachments) => Ok((
            json.as_str().to_owned(),
            attachments.unwrap_or_default().into(),
        )),
        Value::Bytes(_) => Err(EncodeError("it is no text".to_owned())),
    }
}

/// Joins the parts of a packet: its type (of the binary kind when there are attachments), how many
/// attachments there are, the namespace unless it is the main one, the id and the arguments.
fn packet(
    kind: char,
    namespace: &str,
    ack_id: Option<u64>,
    json: &str,
    attachments: &[Bytes],
) -> Packet {
    let write = |buffer: &mut Vec<u8>| {
        let kind = match (kind, attachments.is_empty()) {
            ('2', false) => '5',
            ('3', false) => '6',
            (kind, _) => kind,
        };
        buffer.push(kind as u8);
        if !attachments.is_empty() {
            buffer.extend_from_slice(attachments.len().to_string().as_bytes());
            buffer.push(b'-');
        }
        if namespace != "/" {
            buffer.extend_from_slice(namespace.as_bytes());
            buffer.push(b',');
        }
        if let Some(id) = ack_id {
            buffer.extend_from_slice(id.to_string().as_bytes());
        }
        buffer.extend_from_slice(json.as_bytes());
    };
    Packet::message(json.len() + namespace.len() + 32, write, attachments)
}

/// Encodes the packet by which the server leaves a namespace.
#[must_use]
pub fn disconnect(namespace: &str) -> Packet {
    packet('1', namespace, None, "", &[])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_have_the_parts_of_the_protocol() {
        let data = Bytes::from_static(b"\x01");
        let encode = |packet: Result<Packet, EncodeError>| {
            let packet = packet.expect("a packet");
            let attachments = packet.attachments().count();
            (packet.text().to_owned(), attachments)
        };
        for (packet, text, attachments) in [
            (event("/", "a", &("b", 1)), r#"42["a","b",1]"#, 0),
            (event("/x", "a", &vec![1]), r#"42/x,["a",[1]]"#, 0),
            (question("/", 7, "a", &"b"), r#"427["a","b"]"#, 0),
            (acknowledgement("/x", 12, &1), "43/x,12[1]", 0),
            (
                event("/", "a", &(data,)),
                r#"451-["a",{"_placeholder":true,"num":0}]"#,
                1,
            ),
            (Ok(disconnect("/x")), "41/x,", 0),
            (Ok(disconnect("/")), "41", 0),
        ] {
            assert_eq!(encode(packet), (text.to_owned(), attachments));
        }
    }
}
