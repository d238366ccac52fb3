//! Gateways that are told that a session has ended.

use serde::{Deserialize, Serialize};

use super::{ConfigError, check, parse};

/// Gateways that are told that a session has ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RevocationSettings {
    /// The gateways to tell, by origins such as `https://realtime.example.org`, separated by
    /// commas: each gets a logout token at `/oidc/backchannel-logout`.
    /// `AUTH__REVOCATION__GATEWAYS`, default ``.
    #[serde(deserialize_with = "parse::list")]
    pub gateways: Vec<String>,
}

impl RevocationSettings {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let are_origins = self.gateways.iter().all(|one| parse::is_web_origin(one));
        let rule = "must be http or https origins without a path or a slash at their ends";
        check("revocation.gateways", are_origins, rule)?;
        let mut sorted = self.gateways.clone();
        sorted.sort();
        sorted.dedup();
        let differ = sorted.len() == self.gateways.len() && sorted.len() <= 64;
        check(
            "revocation.gateways",
            differ,
            "must be up to 64, none twice",
        )
    }
}
