//! Socket.IO packets from values (Socket.IO protocol, revision 5).

use std::io::Write as _;

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
    Ok(event_of(namespace, append(&json), &attachments))
}

/// Encodes an event from the JSON that `write` appends, an array of its name and its arguments with
/// placeholders for `attachments`.
#[must_use]
pub fn event_of(
    namespace: &str,
    write: impl FnOnce(&mut Vec<u8>),
    attachments: &[Bytes],
) -> Packet {
    packet('2', namespace, None, write, attachments)
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
    let write = append(&json);
    Ok(packet('2', namespace, Some(ack_id), write, &attachments))
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
    let write = append(&json);
    Ok(packet('3', namespace, Some(ack_id), write, &attachments))
}

/// Encodes the acknowledgement of the event `ack_id` with `arguments`, which are written as a JSON array and have
/// placeholders for `attachments`.
///
/// # Errors
///
/// When the arguments cannot be written as JSON.
pub fn acknowledgement_of(
    namespace: &str,
    ack_id: u64,
    arguments: &(impl Serialize + ?Sized),
    attachments: &[Bytes],
) -> Result<Packet, EncodeError> {
    let mut written = Ok(());
    let write = |buffer: &mut Vec<u8>| written = serde_json::to_writer(buffer, arguments);
    let packet = packet('3', namespace, Some(ack_id), write, attachments);
    match written {
        Ok(()) => Ok(packet),
        Err(error) => Err(EncodeError(error.to_string())),
    }
}

/// Encodes the acknowledgement of the event `ack_id` from the JSON that `write` appends, an array of its arguments.
#[must_use]
pub fn acknowledgement_by(
    namespace: &str,
    ack_id: u64,
    write: impl FnOnce(&mut Vec<u8>),
) -> Packet {
    packet('3', namespace, Some(ack_id), write, &[])
}

/// Appends `before`, and then a value that is always JSON, such as a text or a number. Returns the number of bytes.
pub fn append_json(json: &mut Vec<u8>, before: &str, value: &(impl Serialize + ?Sized)) -> usize {
    let start = json.len();
    json.extend_from_slice(before.as_bytes());
    // A write to a vector does not fail.
    let _ = serde_json::to_writer(&mut *json, value);
    json.len() - start
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
/// attachments there are, the namespace unless it is the main one, the id and the arguments, which `write` appends.
fn packet(
    kind: char,
    namespace: &str,
    ack_id: Option<u64>,
    write: impl FnOnce(&mut Vec<u8>),
    attachments: &[Bytes],
) -> Packet {
    let write_all = |buffer: &mut Vec<u8>| {
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
            // A write to a vector does not fail.
            let _ = write!(buffer, "{id}");
        }
        write(buffer);
    };
    Packet::message(write_all, attachments)
}

/// Returns a function that appends `text`.
fn append(text: &str) -> impl FnOnce(&mut Vec<u8>) {
    |buffer| buffer.extend_from_slice(text.as_bytes())
}

/// Encodes the packet by which the server leaves a namespace.
#[must_use]
pub fn disconnect(namespace: &str) -> Packet {
    packet('1', namespace, None, append(""), &[])
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
