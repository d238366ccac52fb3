//! JSON from elsewhere.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};

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
}
