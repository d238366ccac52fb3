//! The tokens of people.

use serde::{Deserialize, Serialize};
use shared_claims::claims::{
    ADMIN_AUDIENCE, API_AUDIENCE, MAXIMUM_LIFETIME_SECS, REALTIME_AUDIENCE,
};

use super::{ClaimsWebhookSettings, ConfigError, check, parse};

/// Names that no custom claim has: the claims of the issuer (RFC 7519, RFC 9068, RFC 9396, OpenID Connect
/// Core 1.0, section 5.1), and those by which a verifier tells kinds of tokens and their holders apart.
pub const RESERVED_CLAIMS: [&str; 39] = [
    "acr",
    "act",
    "amr",
    "appid",
    "at_hash",
    "aud",
    "auth_time",
    "authorization_details",
    "azp",
    "c_hash",
    "cid",
    "client_id",
    "cnf",
    "email",
    "email_verified",
    "events",
    "exp",
    "family_name",
    "given_name",
    "iat",
    "iss",
    "jti",
    "may_act",
    "name",
    "nbf",
    "nonce",
    "preferred_username",
    "roles",
    "s_hash",
    "scope",
    "scp",
    "sid",
    "sub",
    "sub_id",
    "sub_jwk",
    "tid",
    "toe",
    "txn",
    "typ",
];

/// Contents of a token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TokenSettings {
    /// Time for which a token is accepted, in seconds, 1 to 86400. `AUTH__TOKEN__LIFETIME_SECS`,
    /// default 900.
    pub lifetime_secs: u64,
    /// Whether a token tells the person's names and address for mail. `AUTH__TOKEN__PROFILE`,
    /// default true.
    pub profile: bool,
    /// The further audiences of people's tokens, beside `latchkey-realtime`, separated by commas: services of
    /// your own that accept them, such as `https://api.example.org`. Each of these services can use a
    /// token that it gets with the others and with the gateway. `AUTH__TOKEN__AUDIENCES`, default ``.
    #[serde(deserialize_with = "parse::list")]
    pub audiences: Vec<String>,
    /// The claim of people's tokens that lists their roles. `AUTH__TOKEN__ROLES_CLAIM`, default `roles`.
    pub roles_claim: String,
    /// Prefix of the names of custom claims in tokens, such as `https://app.example/`.
    /// `AUTH__TOKEN__CLAIMS_PREFIX`, default ``.
    pub claims_prefix: String,
    /// The service that adds claims.
    pub claims_webhook: ClaimsWebhookSettings,
}

impl TokenSettings {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let lifetime_fine = (1..=MAXIMUM_LIFETIME_SECS).contains(&self.lifetime_secs);
        check("token.lifetime_secs", lifetime_fine, "must be 1 to 86400")?;
        let own = [REALTIME_AUDIENCE, API_AUDIENCE, ADMIN_AUDIENCE];
        let is_fine = |name: &String| {
            (1..=255).contains(&name.len())
                && name.bytes().all(|byte| byte.is_ascii_graphic())
                && !own.contains(&name.as_str())
        };
        let are_fine = self.audiences.len() <= 8 && self.audiences.iter().all(is_fine);
        let rule = "must be 8 names at most, of 1 to 255 visible ASCII characters, and none of latchkey-realtime, \
                    latchkey-api and latchkey-admin";
        check("token.audiences", are_fine, rule)?;
        let is_visible = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        let is_reserved =
            self.roles_claim != "roles" && RESERVED_CLAIMS.contains(&&*self.roles_claim);
        let is_name = (1..=128).contains(&self.roles_claim.len()) && is_visible(&self.roles_claim);
        let rule =
            "must be 1 to 128 visible ASCII characters, and no claim that the issuer decides on";
        check("token.roles_claim", is_name && !is_reserved, rule)?;
        let is_prefix = self.claims_prefix.len() <= 128 && is_visible(&self.claims_prefix);
        let rule = "must be at most 128 visible ASCII characters";
        check("token.claims_prefix", is_prefix, rule)?;
        self.claims_webhook.check()
    }
}

impl Default for TokenSettings {
    fn default() -> Self {
        Self {
            lifetime_secs: 900,
            profile: true,
            audiences: Vec::new(),
            roles_claim: "roles".to_owned(),
            claims_prefix: String::new(),
            claims_webhook: ClaimsWebhookSettings::default(),
        }
    }
}
