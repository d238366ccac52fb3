//! What the tokens of one issuer look like.

use jsonwebtoken::Algorithm;

use crate::{
    claims::{ACCESS_TOKEN_TYPE, MAXIMUM_LIFETIME_SECS},
    revocation::LOGOUT_TOKEN_TYPE,
};

/// What the tokens of one issuer must look like to be accepted.
#[derive(Clone, Debug)]
pub struct TokenRules {
    /// The `iss`, byte for byte.
    pub issuer: String,
    /// The `aud` of access tokens, or one of them.
    pub audience: String,
    /// The `aud` of logout tokens, or one of them: our `client_id` at the issuer.
    pub logout_audience: String,
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
}

/// The names of claims that issuers name as they like.
#[derive(Clone, Debug)]
pub struct ClaimNames {
    /// The name of the person to show.
    pub name: String,
    /// The session.
    pub session: String,
    /// The scopes, separated by spaces.
    pub scope: String,
}

impl Default for ClaimNames {
    fn default() -> Self {
        Self {
            name: "name".to_owned(),
            session: "sid".to_owned(),
            scope: "scope".to_owned(),
        }
    }
}

impl TokenRules {
    /// The rules of an auth-service: access tokens after RFC 9068, for a day at most.
    #[must_use]
    pub fn of_our_issuer(issuer: impl Into<String>, audience: impl Into<String>) -> Self {
        let audience = audience.into();
        Self {
            issuer: issuer.into(),
            logout_audience: audience.clone(),
            audience,
            algorithms: vec![Algorithm::HS256, Algorithm::ES256],
            types: vec![ACCESS_TOKEN_TYPE.to_owned()],
            maximum_lifetime_secs: MAXIMUM_LIFETIME_SECS,
            is_ours: true,
            claim_names: ClaimNames::default(),
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
