//! A message as it lies in Redis: a line of JSON, the content, and the attachments.

use axum::body::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::rooms::{Data, Draft, Message, Parts, Position, RoomName, Sender};

/// Expected size of the line before the content, in bytes.
const HEAD_BYTES: usize = 256;

/// The line before the content.
#[derive(Serialize, Deserialize)]
struct Head<Text, From> {
    event: Text,
    id: Text,
    ts: u64,
    from: From,
    /// The size of the content in bytes.
    data: usize,
    /// The size of each attachment in bytes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    attachments: Vec<usize>,
}

/// Encodes a message without its place.
pub(super) fn encode(draft: &Draft) -> Vec<u8> {
    let (json, attachments) = (draft.data.json().as_bytes(), draft.data.attachments());
    let head = Head {
        event: &draft.event,
        id: &draft.id,
        ts: draft.ts,
        from: &draft.from,
        data: json.len(),
        attachments: attachments.iter().map(Bytes::len).collect(),
    };
    let attached: usize = attachments.iter().map(Bytes::len).sum();
    let mut record = Vec::with_capacity(HEAD_BYTES + json.len() + attached);
    // Texts and numbers are always JSON.
    let _ = serde_json::to_writer(&mut record, &head);
    record.push(b'\n');
    record.extend_from_slice(json);
    for attachment in attachments {
        record.extend_from_slice(attachment);
    }
    record
}

/// Decodes a message as its publisher sent it; `None` when it is none.
pub(super) fn decode(room: &RoomName, record: &[u8]) -> Option<Draft> {
    let (head, data): (Head<String, Sender>, _) = split(record)?;
    Some(Draft {
        room: room.clone(),
        event: head.event,
        data,
        id: head.id,
        from: head.from,
        ts: head.ts,
    })
}

/// Encodes a message for its subscribers, with its place; `None` when it is none. The JSON of the record becomes
/// that of the packet.
pub(super) fn message(room: &RoomName, record: &[u8], position: &Position) -> Option<Message> {
    let (head, data): (Head<&RawValue, &RawValue>, _) = split(record)?;
    let parts = Parts {
        room,
        event: head.event,
        data: &data,
        id: head.id,
        from: head.from,
        ts: head.ts,
    };
    Some(Message::join(&parts, position))
}

/// Splits a record into its head and its content.
fn split<'a, Text, From>(record: &'a [u8]) -> Option<(Head<Text, From>, Data)>
where
    Head<Text, From>: Deserialize<'a>,
{
    let (head, rest) = record.split_at(memchr::memchr(b'\n', record)?);
    let head: Head<Text, From> = serde_json::from_slice(head).ok()?;
    let (json, mut rest) = rest.get(1..)?.split_at_checked(head.data)?;
    let json = RawValue::from_string(str::from_utf8(json).ok()?.to_owned()).ok()?;
    let mut attachments = Vec::with_capacity(head.attachments.len());
    for size in &head.attachments {
        let (attachment, others) = rest.split_at_checked(*size)?;
        attachments.push(Bytes::copy_from_slice(attachment));
        rest = others;
    }
    rest.is_empty().then_some(())?;
    Some((head, Data::new(json, attachments).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rooms::Epoch;

    fn draft(json: &str, attachments: Vec<Bytes>) -> Draft {
        let json = RawValue::from_string(json.to_owned()).expect("JSON");
        Draft {
            room: RoomName::parse("lobby").expect("a room"),
            event: "a\n\"b\"".to_owned(),
            data: Data::new(json, attachments).expect("data"),
            id: "id".to_owned(),
            from: Sender {
                iss: Some("https://other.example".into()),
                sub: None,
                name: Some("A\u{2028}".into()),
                connection: "c".into(),
            },
            ts: 7,
        }
    }

    #[test]
    fn a_message_is_the_same_after_it_was_in_redis() {
        let file = Bytes::from_static(b"\n\x00\xff");
        let placed = r#"{ "a":{"_placeholder":true,"num":0}, "b":1.50}"#;
        for draft in [
            draft(r#"{"b":1,  "a":"\n"}"#, Vec::new()),
            draft(placed, vec![file]),
        ] {
            let record = encode(&draft);
            let decoded = decode(&draft.room, &record).expect("a message");
            assert_eq!(decoded.data.json(), draft.data.json());
            assert_eq!(decoded.data.attachments(), draft.data.attachments());
            let fields = |draft: &Draft| {
                let from = serde_json::to_string(&draft.from).expect("JSON");
                (draft.event.clone(), draft.id.clone(), draft.ts, from)
            };
            assert_eq!(fields(&decoded), fields(&draft));
            let position = Position {
                epoch: Epoch::new("e"),
                offset: 7,
            };
            let packets = [
                message(&draft.room, &record, &position).expect("a message"),
                Message::encode(&draft, &position),
            ]
            .map(|message| message.packet().frames().to_vec());
            assert_eq!(packets[0], packets[1]);
            // Neither a part of it nor more than it is a message.
            for end in 0..record.len() {
                assert!(decode(&draft.room, &record[..end]).is_none(), "{end}");
            }
            assert!(decode(&draft.room, &[&record[..], b"x"].concat()).is_none());
        }
    }
}
