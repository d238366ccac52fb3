//! What the tokens of one issuer look like.

use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};

use super::IssuerName;
use crate::{
    claims::{ACCESS_TOKEN_TYPE, MAXIMUM_LIFETIME_SECS},
    revocation::LOGOUT_TOKEN_TYPE,
};

/// What the tokens of one issuer must look like to be accepted.
#[derive(Clone, Debug)]
pub struct TokenRules {
    /// The `iss`, byte for byte, or one for each tenant.
    pub issuer: IssuerName,
    /// The audiences that are ours: an access token must name one of them.
    pub audiences: Vec<String>,
    /// The claim that names the audience: [`AUDIENCE_CLAIM`], or another one at providers whose
    /// access tokens have no `aud`. An `aud` that is there all the same must name one of
    /// `audiences` too (RFC 7519, section 4.1.3).
    pub audience_claim: String,
    /// The audiences of logout tokens that are ours: our `client_id` at the issuer.
    pub logout_audiences: Vec<String>,
    /// What the issuer signs with; a key is used for its own algorithm alone.
    pub algorithms: Vec<Algorithm>,
    /// The `typ` that access tokens may have, in lower case and without `application/`; the empty
    /// text stands for none.
    pub types: Vec<String>,
    /// The longest time from now to `exp`, and from `iat` to it, in seconds.
    pub maximum_lifetime_secs: u64,
    /// Whether the issuer is one of our own kind, whose tokens have `jti`, `sid` and `client_id`.
    pub is_ours: bool,
    /// Where claims stand that issuers name as they like.
    pub claim_names: ClaimNames,
    /// The claims that every access token must have. One that no ID token has by the standard tells
    /// an access token from an ID token, in place of a scope or a client.
    pub required_claims: Vec<RequiredClaim>,
    /// Whether ID tokens are accepted whose only audience is one of `audiences`.
    pub accepts_id_tokens: bool,
}

/// The claim that names the audience (RFC 7519, section 4.1.3).
pub const AUDIENCE_CLAIM: &str = "aud";

/// A claim that must have one of some values.
#[derive(Clone, Debug, PartialEq)]
pub struct RequiredClaim {
    /// The name of the claim.
    pub name: String,
    /// The values that are accepted; [`ANY_VALUE`] stands for each one but `null` and the empty text.
    /// A claim that is a list must hold one of them.
    pub values: Vec<Value>,
}

/// The required value that every value is.
pub const ANY_VALUE: &str = "*";

/// The claims that an ID token can have: by OpenID Connect Core 1.0, sections 2 and 5.1, and those that
/// Microsoft, Google, Keycloak and Cognito put into both kinds of tokens. None of them tells the two apart.
const ID_TOKEN_CLAIMS: &[&str] = &[
    "iss",
    "sub",
    "aud",
    "exp",
    "iat",
    "nbf",
    "jti",
    "sid",
    "auth_time",
    "nonce",
    "acr",
    "amr",
    "azp",
    "at_hash",
    "c_hash",
    "name",
    "given_name",
    "family_name",
    "middle_name",
    "nickname",
    "preferred_username",
    "profile",
    "picture",
    "website",
    "email",
    "email_verified",
    "gender",
    "birthdate",
    "zoneinfo",
    "locale",
    "phone_number",
    "phone_number_verified",
    "address",
    "updated_at",
    "cognito:groups",
    "cognito:username",
    "groups",
    "hd",
    "idp",
    "ipaddr",
    "oid",
    "realm_access",
    "resource_access",
    "roles",
    "tid",
    "unique_name",
    "upn",
    "ver",
    "wids",
];

impl RequiredClaim {
    /// Whether `claims` have the claim with one of its values.
    #[must_use]
    pub fn is_met_by(&self, claims: &Map<String, Value>) -> bool {
        let is_accepted = |value: &Value| {
            self.values.iter().any(|one| match one.as_str() {
                Some(ANY_VALUE) => !value.is_null() && value.as_str() != Some(""),
                _ => one == value,
            })
        };
        match claims.get(&self.name) {
            Some(Value::Array(all)) => all.iter().any(is_accepted),
            Some(one) => is_accepted(one),
            None => false,
        }
    }

    /// Whether the claim is none that ID tokens are known to have.
    #[must_use]
    pub fn is_of_no_id_token(&self) -> bool {
        !ID_TOKEN_CLAIMS.contains(&self.name.as_str())
    }
}

/// The names of claims that issuers name as they like.
#[derive(Clone, Debug)]
pub struct ClaimNames {
    /// The name of the person to show.
    pub name: String,
    /// The session.
    pub session: String,
    /// The scopes, as a text with spaces or as a list of texts: the first of these claims that is
    /// there.
    pub scope: Vec<String>,
}

impl Default for ClaimNames {
    fn default() -> Self {
        Self {
            name: "name".to_owned(),
            session: "sid".to_owned(),
            scope: vec!["scope".to_owned()],
        }
    }
}

impl TokenRules {
    /// The rules of an auth-service: access tokens after RFC 9068, for a day at most.
    #[must_use]
    pub fn of_our_issuer(issuer: impl Into<String>, audience: impl Into<String>) -> Self {
        let audiences = vec![audience.into()];
        Self {
            issuer: IssuerName::from(issuer),
            logout_audiences: audiences.clone(),
            audiences,
            audience_claim: AUDIENCE_CLAIM.to_owned(),
            algorithms: vec![Algorithm::HS256, Algorithm::ES256],
            types: vec![ACCESS_TOKEN_TYPE.to_owned()],
            maximum_lifetime_secs: MAXIMUM_LIFETIME_SECS,
            is_ours: true,
            claim_names: ClaimNames::default(),
            required_claims: Vec::new(),
            accepts_id_tokens: false,
        }
    }

    /// The `typ` that logout tokens may have. Many providers write `JWT` or nothing, which the
    /// specification allows (OpenID Connect Back-Channel Logout 1.0, section 2.4); the claim
    /// `events` tells such a token from any other.
    pub(super) fn logout_types(&self) -> &'static [&'static str] {
        const OURS: &[&str] = &[LOGOUT_TOKEN_TYPE];
        const OTHERS: &[&str] = &[LOGOUT_TOKEN_TYPE, "jwt", ""];
        if self.is_ours { OURS } else { OTHERS }
    }
}
