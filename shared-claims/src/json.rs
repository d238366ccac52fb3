//! JSON from elsewhere.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::{Map, Value};

/// A `T` that stands as an object.
///
/// serde would also take a struct from an array of its members' values, which no format of ours
/// means: a text could then be read in a way that its other readers do not share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Object<T>(pub T);

/// One JSON object of the shape of a `T`.
#[must_use]
pub fn from_object<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Option<T> {
    let Object(value) = serde_json::from_slice(json).ok()?;
    Some(value)
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = Object<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Object<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(members)).map(Object)
    }
}

/// Any JSON value in whose objects no member stands twice, at any depth.
///
/// serde takes the last of two members of one name. Another reader of the same text may take the first,
/// and the two would then disagree about what was signed.
#[derive(Clone, Debug, PartialEq)]
pub struct Unambiguous(pub Value);

impl<'de> Deserialize<'de> for Unambiguous {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UnambiguousVisitor)
    }
}

struct UnambiguousVisitor;

impl<'de> Visitor<'de> for UnambiguousVisitor {
    type Value = Unambiguous;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value without members that stand twice")
    }

    fn visit_unit<E: Error>(self) -> Result<Unambiguous, E> {
        Ok(Unambiguous(Value::Null))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Unambiguous, E> {
        Ok(Unambiguous(value.into()))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Unambiguous, E> {
        Ok(Unambiguous(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Unambiguous, E> {
        Ok(Unambiguous(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Unambiguous, E> {
        Ok(Unambiguous(value.into()))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Unambiguous, E> {
        Ok(Unambiguous(value.into()))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Unambiguous, E> {
        Ok(Unambiguous(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Unambiguous, A::Error> {
        let mut elements = Vec::new();
        while let Some(Unambiguous(element)) = sequence.next_element()? {
            elements.push(element);
        }
        Ok(Unambiguous(elements.into()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Unambiguous, A::Error> {
        let mut object = Map::new();
        while let Some((name, Unambiguous(value))) = members.next_entry::<String, _>()? {
            if object.insert(name, value).is_some() {
                return Err(Error::custom("a member stands twice"));
            }
        }
        Ok(Unambiguous(object.into()))
    }
}

/// One JSON object in which no member stands twice, at any depth.
#[must_use]
pub fn unambiguous_object(json: &[u8]) -> Option<Map<String, Value>> {
    match serde_json::from_slice(json).ok()? {
        Unambiguous(Value::Object(members)) => Some(members),
        Unambiguous(_) => None,
    }
}

/// Reads an object in which no member stands twice, at any depth, for serde's `deserialize_with`.
///
/// # Errors
///
/// When the value is no object, or a member stands twice.
pub fn unambiguous_members<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Map<String, Value>, D::Error> {
    match Unambiguous::deserialize(deserializer)? {
        Unambiguous(Value::Object(members)) => Ok(members),
        Unambiguous(_) => Err(D::Error::custom("not an object")),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Named {
        name: String,
    }

    #[test]
    fn an_array_is_no_object() {
        let named = |json: &str| from_object::<Named>(json.as_bytes()).map(|named| named.name);
        assert_eq!(named(" \r\n\t{\"name\":\"ada\"} "), Some("ada".to_owned()));
        for other in [
            r#"["ada"]"#,
            r#" ["ada"]"#,
            r#""ada""#,
            "{}",
            "",
            r#"{"name":"ada"}]"#,
        ] {
            assert_eq!(named(other), None, "{other}");
        }
        // What it is all about: serde itself takes it.
        assert!(serde_json::from_str::<Named>(r#"["ada"]"#).is_ok());
    }

    #[test]
    fn no_member_stands_twice_at_any_depth() {
        for bad in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"x":{"a":1,"b":2,"a":3}}"#,
            r#"{"x":[1,{"y":[{"a":null,"a":null}]}]}"#,
            r#"[{"a":1}]"#,
            "1",
            "",
            r#"{"a":1}}"#,
        ] {
            assert_eq!(unambiguous_object(bad.as_bytes()), None, "{bad}");
        }
        // Else it is what serde_json reads.
        let text = r#"{"a":{"a":1},"b":[{"a":-1},{"a":1.5}],"A":"\u00e9","c":null,"d":true}"#;
        let expected: Value = serde_json::from_str(text).expect("JSON");
        let read = unambiguous_object(text.as_bytes()).map(Value::Object);
        assert_eq!(read, Some(expected));
        let deep = format!(r#"{{"a":{}}}"#, "[".repeat(10_000));
        assert_eq!(unambiguous_object(deep.as_bytes()), None);
    }
}
