//! JSON that every client reads alike.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};

/// The member by which Socket.IO's parsers know the place of binary data.
pub(super) const PLACEHOLDER: &str = "_placeholder";

/// Whether a JSON text can be passed on to whatever client there is.
///
/// Its texts are Unicode and its numbers finite in 64 bits, or some parsers would refuse it; and no
/// object passes for the place of binary data: in a packet that has some, for instance an answer
/// with several messages, clients would look for it, and give up the whole connection.
#[must_use]
pub fn is_portable(json: &str) -> bool {
    serde_json::from_str::<Portable>(json).is_ok()
}

/// A value that was looked at and forgotten.
struct Portable;

impl<'de> Deserialize<'de> for Portable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Look)
    }
}

struct Look;

impl<'de> Visitor<'de> for Look {
    type Value = Portable;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Portable, E> {
        Ok(Portable)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Portable, E> {
        Ok(Portable)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Portable, E> {
        Ok(Portable)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Portable, E> {
        Ok(Portable)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Portable, E> {
        Ok(Portable)
    }

    fn visit_str<E>(self, _: &str) -> Result<Portable, E> {
        Ok(Portable)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Portable, A::Error> {
        while items.next_element::<Portable>()?.is_some() {}
        Ok(Portable)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Portable, A::Error> {
        while members.next_key::<Name>()?.is_some() {
            members.next_value::<Portable>()?;
        }
        Ok(Portable)
    }
}

/// The name of a member.
struct Name;

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(NameLook)
    }
}

struct NameLook;

impl Visitor<'_> for NameLook {
    type Value = Name;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Name, E> {
        match name {
            PLACEHOLDER => Err(E::custom("the place of binary data")),
            _ => Ok(Name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_some_parser_would_refuse_is_not_portable() {
        for json in [
            "null",
            "-1.5e300",
            "18446744073709551615",
            r#""a\u00e4\ud83d\ude00\\u""#,
            r#"[true,{"placeholder":true,"a":{"num":0}},"_placeholder"]"#,
            &"9".repeat(300),
        ] {
            assert!(is_portable(json), "{json}");
        }
        for json in [
            r#"{"_placeholder":true,"num":0}"#,
            r#"[{"a":{"_placeholder":false}}]"#,
            r#"{"\u005fplaceholder":true}"#,
            r#"["\ud800"]"#,
            r#"{"\udc00":1}"#,
            "1e999",
            "",
            "1 2",
            &"9".repeat(400),
        ] {
            assert!(!is_portable(json), "{json}");
        }
    }
}
