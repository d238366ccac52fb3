//! A list of networks.

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, de::Error};
use shared_claims::address::parse_networks;

/// Deserializes a list of networks, without repeating what is none; an address alone is one of
/// itself.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<IpNet>, D::Error> {
    let mut texts = Vec::<String>::deserialize(deserializer)?;
    // What an empty variable is split into.
    texts.retain(|text| !text.is_empty());
    parse_networks(&texts)
        .ok_or_else(|| D::Error::custom("a network, expected networks such as 10.0.0.0/8"))
}
