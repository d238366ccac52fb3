//! Settings that are lists: arrays in the file, separated by commas in a variable, where spaces around an
//! entry and an empty entry mean nothing.

use ipnet::IpNet;
use serde::{
    Deserialize, Deserializer,
    de::{Error, IntoDeserializer, value::StrDeserializer},
};
use shared_claims::address::parse_networks;

use super::CredentialSource;

/// Deserializes a list of texts.
pub(super) fn texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    let trimmed = texts.iter().map(|text| text.trim());
    Ok(trimmed
        .filter(|text| !text.is_empty())
        .map(str::to_owned)
        .collect())
}

/// Deserializes a list of networks, without repeating what is none; an address alone is one of
/// itself.
pub(super) fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    parse_networks(&texts(deserializer)?)
        .ok_or_else(|| D::Error::custom("a network, expected networks such as 10.0.0.0/8"))
}

/// Deserializes a list of places in which a client can put its token.
pub(super) fn credentials<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<CredentialSource>, D::Error> {
    let parse = |text: &String| {
        let text: StrDeserializer<'_, D::Error> = text.as_str().into_deserializer();
        CredentialSource::deserialize(text).map_err(|_| {
            D::Error::custom("a place, expected some of auth, header, query and cookie")
        })
    };
    texts(deserializer)?.iter().map(parse).collect()
}
