//! Issuers that are not ours: Auth0, Keycloak, any OpenID Connect provider.

use serde::{Deserialize, Serialize};
use shared_claims::{
    TokenRules,
    claims::{ACCESS_TOKEN_TYPE, MAXIMUM_LIFETIME_SECS},
    verify::ClaimNames,
};

/// An issuer whose access tokens are accepted beside our own's.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuerSettings {
    /// The `iss` of its tokens, byte for byte: with its slash at the end, where it has one.
    pub issuer: String,
    /// The `aud` that its access tokens must have.
    pub audience: String,
    /// Our `client_id` at the issuer, which is the `aud` of its logout tokens; the `audience`
    /// unless it is set.
    #[serde(default)]
    pub client_id: String,
    /// Where its keys are; unless it is set, where `/.well-known/openid-configuration` says.
    #[serde(default)]
    pub jwks_uri: String,
    /// What it may sign with: of `RS256`, `ES256` and `EdDSA`, all unless it is set.
    #[serde(default = "every_algorithm")]
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
    /// The scopes, `scope` unless it is set.
    pub scope: String,
}

/// An algorithm that an issuer signs with (RFC 7518, section 3.1; RFC 8037).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SigningAlgorithm {
    /// RSA with keys of 2048 bits or more.
    RS256,
    /// ECDSA on the curve P-256.
    ES256,
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

fn every_algorithm() -> Vec<SigningAlgorithm> {
    use SigningAlgorithm::{ES256, EdDSA, RS256};
    vec![RS256, ES256, EdDSA]
}

fn usual_types() -> Vec<String> {
    vec![ACCESS_TOKEN_TYPE.to_owned(), "JWT".to_owned()]
}

const fn a_day() -> u64 {
    MAXIMUM_LIFETIME_SECS
}

impl IssuerSettings {
    /// What its tokens must look like.
    #[must_use]
    pub fn rules(&self) -> TokenRules {
        let client_id = Some(&self.client_id).filter(|id| !id.is_empty());
        TokenRules {
            issuer: self.issuer.clone(),
            audience: self.audience.clone(),
            logout_audience: client_id.unwrap_or(&self.audience).clone(),
            algorithms: self.algorithms.iter().map(|one| one.as_jwt()).collect(),
            types: self.types.iter().map(|one| one.to_lowercase()).collect(),
            maximum_lifetime_secs: self.maximum_lifetime_secs,
            is_ours: false,
            claim_names: ClaimNames {
                name: self.claims.name.clone(),
                session: self.claims.session.clone(),
                scope: self.claims.scope.clone(),
            },
        }
    }

    /// What is wrong with it, if something is.
    pub(super) fn problem(&self) -> Option<&'static str> {
        let is_url = |text: &str| text.starts_with("https://") || text.starts_with("http://");
        if !is_url(&self.issuer) || (!self.jwks_uri.is_empty() && !is_url(&self.jwks_uri)) {
            return Some("issuer and jwks_uri must begin with http:// or https://");
        }
        if self.audience.is_empty() {
            return Some("audience must not be empty: tokens for anybody are for nobody");
        }
        if self.algorithms.is_empty() || self.types.is_empty() {
            return Some("algorithms and types must not be empty");
        }
        let is_lifetime = (1..=MAXIMUM_LIFETIME_SECS * 31).contains(&self.maximum_lifetime_secs);
        (!is_lifetime).then_some("maximum_lifetime_secs must be 1 to 2678400")
    }
}

impl SigningAlgorithm {
    const fn as_jwt(self) -> jsonwebtoken::Algorithm {
        match self {
            Self::RS256 => jsonwebtoken::Algorithm::RS256,
            Self::ES256 => jsonwebtoken::Algorithm::ES256,
            Self::EdDSA => jsonwebtoken::Algorithm::EdDSA,
        }
    }
}
