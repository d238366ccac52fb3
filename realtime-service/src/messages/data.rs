//! What a message says: JSON, and binary data in its places.

use axum::body::Bytes;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Serialize, Serializer, ser::SerializeMap as _};
use serde_json::{Map, Value, json, value::RawValue};

use super::portable::{PLACEHOLDER, is_portable};

/// What a message says whose publisher says nothing.
pub(crate) fn null() -> Box<RawValue> {
    RawValue::NULL.to_owned()
}

/// What a message says.
pub struct Data {
    /// The JSON, byte for byte as it came, with a placeholder wherever binary data belongs.
    json: Box<RawValue>,
    /// The same with the binary data, when there is any.
    binary: Option<Binary>,
}

struct Binary {
    tree: Value,
    attachments: Vec<Bytes>,
}

/// The placeholders and the attachments of an event are not one for one, or not every client could
/// read the data.
#[derive(Debug, thiserror::Error)]
#[error("each attachment must have one place in the data, and every parser must take it")]
pub struct InvalidData;

impl Data {
    /// `json`, in which the placeholder `{"_placeholder":true,"num":N}` stands for attachment `N`.
    ///
    /// # Errors
    ///
    /// When an attachment has no place in `json` or more than one, or a placeholder no attachment;
    /// when `json` is not [portable](is_portable) otherwise.
    pub fn new(json: Box<RawValue>, attachments: Vec<Bytes>) -> Result<Self, InvalidData> {
        if attachments.is_empty() {
            return match is_portable(json.get()) {
                true => Ok(Self::json(json)),
                false => Err(InvalidData),
            };
        }
        let tree = serde_json::from_str(json.get()).map_err(|_| InvalidData)?;
        let mut is_placed = vec![false; attachments.len()];
        place(&tree, &mut is_placed)?;
        if is_placed.contains(&false) {
            return Err(InvalidData);
        }
        let binary = Some(Binary { tree, attachments });
        Ok(Self { json, binary })
    }

    /// `json`, which is [portable](is_portable), without binary data.
    #[must_use]
    pub fn json(json: Box<RawValue>) -> Self {
        Self { json, binary: None }
    }

    /// All of it as JSON: in the places of binary data stands `{"base64": …}`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        match &self.binary {
            None => serde_json::from_str(self.json.get()).unwrap_or_default(),
            Some(binary) => encoded(&binary.tree, &binary.attachments),
        }
    }

    /// How much it counts in a queue or in memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let attachments = self.binary.iter().flat_map(|binary| &binary.attachments);
        self.json.get().len() + attachments.map(Bytes::len).sum::<usize>()
    }
}

fn encoded(value: &Value, attachments: &[Bytes]) -> Value {
    match value {
        Value::Array(items) => {
            let items = items.iter().map(|item| encoded(item, attachments));
            Value::Array(items.collect())
        }
        Value::Object(members) => match attachment_of(members, attachments) {
            Some(attachment) => json!({ "base64": STANDARD.encode(attachment) }),
            None => {
                let members = members
                    .iter()
                    .map(|(name, member)| (name.clone(), encoded(member, attachments)));
                Value::Object(members.collect())
            }
        },
        other => other.clone(),
    }
}

/// Marks the attachments that have a place in `value`.
fn place(value: &Value, is_placed: &mut [bool]) -> Result<(), InvalidData> {
    match value {
        Value::Array(items) => items.iter().try_for_each(|item| place(item, is_placed)),
        Value::Object(members) => match number_of(members) {
            Some(number) => {
                let number = usize::try_from(number).map_err(|_| InvalidData)?;
                match is_placed.get_mut(number) {
                    Some(slot) if !*slot => {
                        *slot = true;
                        Ok(())
                    }
                    _ => Err(InvalidData),
                }
            }
            None if members.contains_key(PLACEHOLDER) => Err(InvalidData),
            None => members
                .values()
                .try_for_each(|member| place(member, is_placed)),
        },
        _ => Ok(()),
    }
}

/// The number of the attachment that an object stands for, if it is a placeholder.
fn number_of(members: &Map<String, Value>) -> Option<u64> {
    let is_placeholder = members.get(PLACEHOLDER) == Some(&Value::Bool(true));
    is_placeholder.then(|| members.get("num").and_then(Value::as_u64))?
}

/// The attachment that an object stands for, if it is a placeholder.
fn attachment_of<'a>(members: &Map<String, Value>, attachments: &'a [Bytes]) -> Option<&'a Bytes> {
    let number = usize::try_from(number_of(members)?).ok()?;
    attachments.get(number)
}

impl Serialize for Data {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.binary {
            None => self.json.serialize(serializer),
            Some(binary) => Placed {
                value: &binary.tree,
                attachments: &binary.attachments,
            }
            .serialize(serializer),
        }
    }
}

/// A value with the attachments in their places, as bytes, which socketioxide takes out again.
struct Placed<'a> {
    value: &'a Value,
    attachments: &'a [Bytes],
}

impl Serialize for Placed<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let placed = |value| Placed {
            value,
            attachments: self.attachments,
        };
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

#[cfg(test)]
mod tests {
    use super::*;

    fn data(json: &str, attachments: usize) -> Result<Data, InvalidData> {
        let json = RawValue::from_string(json.to_owned()).expect("JSON");
        Data::new(json, vec![Bytes::from_static(b"\x01\x02"); attachments])
    }

    #[test]
    fn each_attachment_has_one_place() {
        let first = r#"{"_placeholder":true,"num":0}"#;
        let second = r#"{"_placeholder":true,"num":1}"#;
        for (json, attachments) in [
            (first.to_owned(), 1),
            (format!("[{second},{{\"a\":[{first}]}}]"), 2),
            ("[{\"num\":0}]".to_owned(), 0),
        ] {
            assert!(data(&json, attachments).is_ok(), "{json}");
        }
        for (json, attachments) in [
            ("1".to_owned(), 1),
            (second.to_owned(), 1),
            (format!("[{first},{first}]"), 1),
            (first.to_owned(), 2),
            (r#"{"_placeholder":true,"num":-1}"#.to_owned(), 1),
            (r#"{"_placeholder":true,"num":1e30}"#.to_owned(), 1),
            // Clients would look for what is not there, here or in a list with other messages.
            (format!("[{first},{{\"_placeholder\":true}}]"), 1),
            (
                format!("[{first},{{\"_placeholder\":true,\"num\":\"0\"}}]"),
                1,
            ),
            (format!("[{first},{{\"_placeholder\":1,\"num\":0}}]"), 1),
            (first.to_owned(), 0),
        ] {
            assert!(data(&json, attachments).is_err(), "{json}");
        }
    }

    #[test]
    fn it_counts_with_its_attachments_and_reads_as_it_came() {
        let plain = data(r#"{"b":1,  "a":1.50}"#, 0).expect("data");
        assert_eq!(plain.bytes(), 18);
        let json = serde_json::to_string(&plain).expect("JSON");
        assert_eq!(json, r#"{"b":1,  "a":1.50}"#);
        let binary = data(r#"{"a":{"_placeholder":true,"num":0}}"#, 1).expect("data");
        assert_eq!(binary.bytes(), 37);
        let json = serde_json::to_string(&binary).expect("JSON");
        assert_eq!(json, r#"{"a":[1,2]}"#);
        assert_eq!(plain.to_json(), json!({"b": 1, "a": 1.5}));
        assert_eq!(binary.to_json(), json!({"a": {"base64": "AQI="}}));
    }
}
