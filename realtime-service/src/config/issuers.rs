//! Issuers that are not ours: Auth0, Keycloak, any OpenID Connect provider.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use shared_claims::{
    TokenRules,
    claims::{ACCESS_TOKEN_TYPE, MAXIMUM_LIFETIME_SECS},
    verify::{AUDIENCE_CLAIM, ClaimNames, IssuerName, RequiredClaim},
};

/// An issuer whose access tokens are accepted beside our own's.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuerSettings {
    /// The `iss` of its tokens, byte for byte: with its slash at the end, where it has one. With
    /// `{tenant}` as one segment of the path it stands for one `iss` for each of `tenants`.
    pub issuer: String,
    /// The tenants that `{tenant}` stands for, byte for byte; `*` admits every tenant.
    #[serde(default)]
    pub tenants: Vec<String>,
    /// The `aud` that its access tokens must have; with several, one of them.
    #[serde(deserialize_with = "text_or_list")]
    pub audience: Vec<String>,
    /// The claim that names the audience, `aud` unless it is set.
    #[serde(default = "usual_audience_claim")]
    pub audience_claim: String,
    /// Our `client_id` at the issuer, which is the `aud` of its logout tokens; the `audience`
    /// unless it is set.
    #[serde(default)]
    pub client_id: String,
    /// Where its keys are; unless it is set, where `/.well-known/openid-configuration` says.
    #[serde(default)]
    pub jwks_uri: String,
    /// The algorithms that it may sign with; `RS256`, `ES256` and `EdDSA` unless it is set.
    #[serde(default = "usual_algorithms")]
    pub algorithms: Vec<SigningAlgorithm>,
    /// The `typ` that its access tokens may have, `at+jwt` and `JWT` unless it is set; the empty text
    /// stands for none.
    #[serde(default = "usual_types")]
    pub types: Vec<String>,
    /// The longest lifetime of its tokens, in seconds; a day unless it is set.
    #[serde(default = "a_day")]
    pub maximum_lifetime_secs: u64,
    /// Whether the `authorization_details` of its tokens grant rooms, and not our rules alone.
    #[serde(default)]
    pub grants_rooms: bool,
    /// The claims that its access tokens must have, each with its value or a list of values; `*`
    /// stands for any value.
    #[serde(default)]
    pub require_claims: BTreeMap<String, Value>,
    /// Whether ID tokens for `client_id` are accepted too.
    #[serde(default)]
    pub accept_id_tokens: bool,
    /// The names of claims that the issuer has chosen.
    #[serde(default)]
    pub claims: ClaimSettings,
}

/// What an issuer calls claims that have no fixed name.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClaimSettings {
    /// The name of the person to show, `name` unless it is set.
    pub name: String,
    /// The session, `sid` unless it is set.
    pub session: String,
    /// The scopes, `scope` unless it is set; with several claims, the first that a token has.
    #[serde(deserialize_with = "text_or_list")]
    pub scope: Vec<String>,
}

/// An algorithm that an issuer signs with (RFC 7518, section 3.1; RFC 8037).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SigningAlgorithm {
    /// RSA with SHA-256, and keys of 2048 bits or more, as for the other three of RSA.
    RS256,
    /// RSA with SHA-384.
    RS384,
    /// RSA with SHA-512.
    RS512,
    /// RSA with SHA-256 and random padding (PSS).
    PS256,
    /// ECDSA on the curve P-256.
    ES256,
    /// ECDSA on the curve P-384.
    ES384,
    /// Ed25519.
    EdDSA,
}

impl Default for ClaimSettings {
    fn default() -> Self {
        let ClaimNames {
            name,
            session,
            scope,
        } = ClaimNames::default();
        Self {
            name,
            session,
            scope,
        }
    }
}

fn usual_algorithms() -> Vec<SigningAlgorithm> {
    use SigningAlgorithm::{ES256, EdDSA, RS256};
    vec![RS256, ES256, EdDSA]
}

fn usual_types() -> Vec<String> {
    vec![ACCESS_TOKEN_TYPE.to_owned(), "JWT".to_owned()]
}

fn usual_audience_claim() -> String {
    AUDIENCE_CLAIM.to_owned()
}

const fn a_day() -> u64 {
    MAXIMUM_LIFETIME_SECS
}

/// Reads a text as a list of one.
fn text_or_list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum TextOrList {
        Text(String),
        List(Vec<String>),
    }

    Ok(match TextOrList::deserialize(deserializer)? {
        TextOrList::Text(text) => vec![text],
        TextOrList::List(list) => list,
    })
}

impl IssuerSettings {
    /// Returns the name of the issuer, which covers each of its tenants.
    #[must_use]
    pub fn name(&self) -> IssuerName {
        match self.tenants.is_empty() {
            true => IssuerName::from(&self.issuer),
            false => IssuerName::of_tenants(&self.issuer, self.tenants.clone()),
        }
    }

    /// What its tokens must look like.
    #[must_use]
    pub fn rules(&self) -> TokenRules {
        TokenRules {
            issuer: self.name(),
            audiences: self.audience.clone(),
            audience_claim: self.audience_claim.clone(),
            logout_audiences: match self.client_id.is_empty() {
                true => self.audience.clone(),
                false => vec![self.client_id.clone()],
            },
            algorithms: self.algorithms.iter().map(|one| one.as_jwt()).collect(),
            types: self.types.iter().map(|one| one.to_lowercase()).collect(),
            maximum_lifetime_secs: self.maximum_lifetime_secs,
            is_ours: false,
            claim_names: ClaimNames {
                name: self.claims.name.clone(),
                session: self.claims.session.clone(),
                scope: self.claims.scope.clone(),
            },
            required_claims: self.required_claims(),
            accepts_id_tokens: self.accept_id_tokens,
        }
    }

    /// The claims that its access tokens must have.
    pub(super) fn required_claims(&self) -> Vec<RequiredClaim> {
        let claims = self.require_claims.iter();
        let claims = claims.map(|(name, value)| RequiredClaim {
            name: name.clone(),
            values: match value {
                Value::Array(values) => values.clone(),
                one => vec![one.clone()],
            },
        });
        claims.collect()
    }
}

impl SigningAlgorithm {
    const fn as_jwt(self) -> jsonwebtoken::Algorithm {
        match self {
            Self::RS256 => jsonwebtoken::Algorithm::RS256,
            Self::RS384 => jsonwebtoken::Algorithm::RS384,
            Self::RS512 => jsonwebtoken::Algorithm::RS512,
            Self::PS256 => jsonwebtoken::Algorithm::PS256,
            Self::ES256 => jsonwebtoken::Algorithm::ES256,
            Self::ES384 => jsonwebtoken::Algorithm::ES384,
            Self::EdDSA => jsonwebtoken::Algorithm::EdDSA,
        }
    }
}
