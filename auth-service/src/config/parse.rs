//! The values that are more than a number or a text.

use std::{fmt, net::SocketAddr, str::FromStr};

use ipnet::IpNet;
use serde::{
    Deserialize, Deserializer,
    de::{Error, SeqAccess, Visitor},
};
use shared_claims::{address::parse_networks, forwarded::ForwardedHeader, origin::OriginPattern};

/// Whether `text` is one http or https origin, exactly as a browser writes it.
pub(super) fn is_web_origin(text: &str) -> bool {
    OriginPattern::parse(text).is_ok_and(|origin| origin.is_web_origin())
}

/// A value that is written as a text.
pub(super) trait TextValue: FromStr {
    /// The texts that can be parsed, as the end of an error message.
    const RULE: &str;
}

impl TextValue for SocketAddr {
    const RULE: &str = "must be an IP address with a port, such as 127.0.0.1:8080";
}

impl TextValue for ForwardedHeader {
    const RULE: &str = "must be x-forwarded-for or forwarded";
}

/// Deserializes what is written as a text, without repeating the text when it is wrong.
pub(super) fn from_text<'de, T: TextValue, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| D::Error::custom(T::RULE))
}

/// Deserializes a list: an array in a file, separated by commas in a variable.
pub(super) fn list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    deserializer.deserialize_any(List)
}

/// Deserializes a list of networks; an address alone is one of itself.
pub(super) fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    parse_networks(&list(deserializer)?)
        .ok_or_else(|| D::Error::custom("must be networks such as 10.0.0.0/8"))
}

struct List;

impl<'de> Visitor<'de> for List {
    type Value = Vec<String>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Vec<String>, E> {
        let parts = text.split(',').map(str::trim);
        Ok(parts
            .filter(|part| !part.is_empty())
            .map(str::to_owned)
            .collect())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Vec<String>, A::Error> {
        let mut parts = Vec::new();
        while let Some(part) = sequence.next_element()? {
            parts.push(part);
        }
        Ok(parts)
    }
}
