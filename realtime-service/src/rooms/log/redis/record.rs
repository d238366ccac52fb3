//! A message as it lies in Redis: a line of JSON, the content, and the attachments.

use std::borrow::Cow;

use axum::body::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::rooms::{Data, Draft, RoomName, Sender};

/// The line before the content.
#[derive(Serialize, Deserialize)]
struct Head<'a> {
    event: Cow<'a, str>,
    id: Cow<'a, str>,
    ts: u64,
    from: Cow<'a, Sender>,
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
        event: Cow::Borrowed(&draft.event),
        id: Cow::Borrowed(&draft.id),
        ts: draft.ts,
        from: Cow::Borrowed(&draft.from),
        data: json.len(),
        attachments: attachments.iter().map(Bytes::len).collect(),
    };
    // Texts and numbers are always JSON.
    let mut record = serde_json::to_vec(&head).unwrap_or_default();
    record.push(b'\n');
    record.extend_from_slice(json);
    for attachment in attachments {
        record.extend_from_slice(attachment);
    }
    record
}

/// Decodes a message; `None` when it is none.
pub(super) fn decode(room: &RoomName, record: &[u8]) -> Option<Draft> {
    let (head, rest) = record.split_at(record.iter().position(|byte| *byte == b'\n')?);
    let head: Head<'_> = serde_json::from_slice(head).ok()?;
    let (json, mut rest) = rest.get(1..)?.split_at_checked(head.data)?;
    let json = RawValue::from_string(str::from_utf8(json).ok()?.to_owned()).ok()?;
    let mut attachments = Vec::with_capacity(head.attachments.len());
    for size in head.attachments {
        let (attachment, others) = rest.split_at_checked(size)?;
        attachments.push(Bytes::copy_from_slice(attachment));
        rest = others;
    }
    rest.is_empty().then_some(())?;
    Some(Draft {
        room: room.clone(),
        event: head.event.into_owned(),
        data: Data::new(json, attachments).ok()?,
        id: head.id.into_owned(),
        from: head.from.into_owned(),
        ts: head.ts,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
            // Neither a part of it nor more than it is a message.
            for end in 0..record.len() {
                assert!(decode(&draft.room, &record[..end]).is_none(), "{end}");
            }
            assert!(decode(&draft.room, &[&record[..], b"x"].concat()).is_none());
        }
    }
}
