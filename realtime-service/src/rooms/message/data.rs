//! The content of a message: JSON, and binary data in its places.

use axum::body::Bytes;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, value::RawValue};

use super::scan::{Placeholder, placeholders_in};

/// The content of a message whose publisher names none.
pub fn null() -> Box<RawValue> {
    RawValue::NULL.to_owned()
}

/// The content of a message: JSON, byte for byte as it came, with a placeholder for each attachment.
pub struct Data {
    json: Box<RawValue>,
    attachments: Vec<Bytes>,
    placeholders: Vec<Placeholder>,
}

/// The placeholders and the attachments are not one for one, or not every client could read the
/// JSON.
#[derive(Debug, thiserror::Error)]
#[error("each attachment must have one place in the data, and every parser must take it")]
pub struct InvalidData;

impl Data {
    /// Takes `json`, in which the placeholder `{"_placeholder":true,"num":N}` stands for attachment
    /// `N`.
    ///
    /// # Errors
    ///
    /// When an attachment has no place in `json` or more than one, or a placeholder no attachment;
    /// when `json` nests too deeply, or holds a text or a number that some client cannot read.
    pub fn new(json: Box<RawValue>, attachments: Vec<Bytes>) -> Result<Self, InvalidData> {
        let placeholders = placeholders_in(json.get()).map_err(|_| InvalidData)?;
        let mut is_placed = vec![false; attachments.len()];
        for place in &placeholders {
            match is_placed.get_mut(place.number) {
                Some(is_placed) if !*is_placed => *is_placed = true,
                _ => return Err(InvalidData),
            }
        }
        if is_placed.contains(&false) {
            return Err(InvalidData);
        }
        Ok(Self {
            json,
            attachments,
            placeholders,
        })
    }

    /// The JSON with its placeholders.
    #[must_use]
    pub fn json(&self) -> &str {
        self.json.get()
    }

    /// The same, as JSON.
    #[must_use]
    pub fn raw(&self) -> &RawValue {
        &self.json
    }

    /// The binary data.
    #[must_use]
    pub fn attachments(&self) -> &[Bytes] {
        &self.attachments
    }

    /// Returns the size, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.json().len() + self.attachments.iter().map(Bytes::len).sum::<usize>()
    }

    /// The content as a value, with `{"base64": …}` in the places of binary data.
    #[must_use]
    pub fn to_value(&self) -> Value {
        with_base64(self.json(), self.attachments.iter().map(AsRef::as_ref))
    }

    pub(super) fn placeholders(&self) -> &[Placeholder] {
        &self.placeholders
    }
}

/// Whether every client can read a JSON text that was parsed before, and no object in it passes for
/// the place of binary data.
#[must_use]
pub fn is_portable(json: &str) -> bool {
    placeholders_in(json).is_ok_and(|places| places.is_empty())
}

/// Returns `json` as a value, with `{"base64": …}` for each of its `attachments`.
pub(super) fn with_base64<'a>(json: &str, attachments: impl Iterator<Item = &'a [u8]>) -> Value {
    let attachments: Vec<&[u8]> = attachments.collect();
    if attachments.is_empty() {
        return serde_json::from_str(json).unwrap_or_default();
    }
    let mut text = String::with_capacity(json.len());
    let mut end = 0;
    // What was published has a place for each of its attachments.
    for place in placeholders_in(json).unwrap_or_default() {
        let data = attachments.get(place.number).copied().unwrap_or_default();
        text.push_str(&json[end..place.object.start]);
        text.push_str(&format!("{{\"base64\":\"{}\"}}", STANDARD.encode(data)));
        end = place.object.end;
    }
    text.push_str(&json[end..]);
    serde_json::from_str(&text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

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
            (format!("[{first},{{\"_placeholder\":true}}]"), 1),
            (first.to_owned(), 0),
        ] {
            assert!(data(&json, attachments).is_err(), "{json}");
        }
    }

    #[test]
    fn it_reads_as_it_came_and_as_base64() {
        let plain = data(r#"{"b":1,  "a":1.50}"#, 0).expect("data");
        assert_eq!(plain.json(), r#"{"b":1,  "a":1.50}"#);
        let value = with_base64(plain.json(), std::iter::empty());
        assert_eq!(value, json!({"b": 1, "a": 1.5}));
        let text = r#"{"a": {"_placeholder":true,"num":0} }"#;
        let value = with_base64(text, [&[1_u8, 2][..]].into_iter());
        assert_eq!(value, json!({"a": {"base64": "AQI="}}));
    }
}
