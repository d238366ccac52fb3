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

/// Whether `text` is an http or https origin, exactly as a browser writes it, with a path of plain
/// segments or without one.
pub(super) fn is_public_url(text: &str) -> bool {
    let path = path_of(text);
    let origin = text.strip_suffix(path).unwrap_or(text);
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let is_segment =
        |segment: &str| !matches!(segment, "" | "." | "..") && segment.bytes().all(is_plain);
    is_web_origin(origin) && path.split('/').skip(1).all(is_segment)
}

/// Returns the path of a URL, from its slash on; the empty text when it has none.
pub(super) fn path_of(url: &str) -> &str {
    let authority = url.find("://").map_or(0, |scheme| scheme + 3);
    let rest = url.get(authority..).unwrap_or_default();
    rest.find('/')
        .and_then(|slash| rest.get(slash..))
        .unwrap_or_default()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_url_is_an_origin_with_a_plain_path_or_none() {
        for good in [
            "https://x.example",
            "http://localhost:8080",
            "https://x.example/auth",
            "https://x.example/a/b-1.2_3~4",
        ] {
            assert!(is_public_url(good), "{good}");
        }
        for bad in [
            "https://x.example/",
            "https://x.example/auth/",
            "https://x.example//auth",
            "https://x.example/./auth",
            "https://x.example/a/../b",
            "https://x.example/a%2Fb",
            "https://x.example/a?b",
            "https://x.example/a#b",
            "https://x.example/a b",
            "https://X.example/auth",
            "https://x.example:443/auth",
            "https://user@x.example/auth",
            "ftp://x.example/auth",
            "/auth",
            "",
        ] {
            assert!(!is_public_url(bad), "{bad}");
        }
        assert_eq!(path_of("https://x.example/a/b"), "/a/b");
        assert_eq!(path_of("https://x.example"), "");
    }
}
