//! Binary data in the place of its placeholders, for socketioxide, which takes it out again.

use axum::body::Bytes;
use serde::{Serialize, Serializer, ser::SerializeMap as _};
use serde_json::{Map, Value};

/// The member by which Socket.IO's parsers know the place of binary data.
const PLACEHOLDER: &str = "_placeholder";

/// A value with the attachments in their places, as bytes.
pub struct Placed<'a> {
    value: &'a Value,
    attachments: &'a [Bytes],
}

impl<'a> Placed<'a> {
    /// Puts `attachments` in the places that `value` has for them.
    #[must_use]
    pub fn new(value: &'a Value, attachments: &'a [Bytes]) -> Self {
        Self { value, attachments }
    }
}

impl Serialize for Placed<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let placed = |value| Placed::new(value, self.attachments);
        match self.value {
            Value::Array(items) => serializer.collect_seq(items.iter().map(placed)),
            Value::Object(members) => {
                if let Some(attachment) = attachment_of(members, self.attachments) {
                    return serializer.serialize_bytes(attachment);
                }
                let mut map = serializer.serialize_map(Some(members.len()))?;
                for (name, value) in members {
                    map.serialize_entry(name, &placed(value))?;
                }
                map.end()
            }
            other => other.serialize(serializer),
        }
    }
}

/// The attachment that an object stands for, if it is a placeholder.
fn attachment_of<'a>(members: &Map<String, Value>, attachments: &'a [Bytes]) -> Option<&'a Bytes> {
    if members.get(PLACEHOLDER) != Some(&Value::Bool(true)) {
        return None;
    }
    let number = usize::try_from(members.get("num")?.as_u64()?).ok()?;
    attachments.get(number)
}
