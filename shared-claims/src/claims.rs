//! The claims of an access token (RFC 9068), as they stand on the wire.

use serde::{Deserialize, Serialize};

use crate::authorization::AuthorizationDetail;

/// The media type of an access token, for the header's `typ` (RFC 9068, section 2.1).
pub const ACCESS_TOKEN_TYPE: &str = "at+jwt";

/// The `aud` of a token for the gateway's socket.
pub const REALTIME_AUDIENCE: &str = "latchkey-realtime";

/// The `aud` of a token for the HTTP API of back ends.
pub const API_AUDIENCE: &str = "latchkey-api";

/// The `aud` of back ends' tokens for the operator's API of the issuer. The gateway refuses them.
pub const ADMIN_AUDIENCE: &str = "latchkey-admin";

/// The `client_id` of a person who signed in at `/login` (RFC 9068 requires the claim).
pub const LOGIN_CLIENT_ID: &str = "latchkey-login";

/// The longest lifetime that an issuer may give a token, in seconds.
pub const MAXIMUM_LIFETIME_SECS: u64 = 24 * 60 * 60;

/// What an access token says, ready to be signed or already verified.
///
/// Whoever holds one may not conclude that it was verified: that is what
/// [`VerifiedClaims`](crate::verify::VerifiedClaims) is for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Claims {
    /// The issuer: auth-service's public URL, compared byte for byte.
    pub iss: String,
    /// The subject. It is unique within its issuer only: a principal is `(iss, sub)`.
    pub sub: String,
    /// Whom the token is for.
    pub aud: Audience,
    /// The end of the token, in seconds since the epoch; at that second it is no longer accepted.
    pub exp: u64,
    /// When the token was signed, in seconds since the epoch.
    pub iat: u64,
    /// Not accepted before this second, give or take the verifier's leeway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nbf: Option<u64>,
    /// The token's own id. Our own issuer's tokens have one, and so it is with the next two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jti: Option<String>,
    /// The session that the token belongs to (OpenID Connect Front-Channel Logout 1.0, section 3).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sid: Option<String>,
    /// The client that asked for the token (RFC 8693, section 4.3).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// Space-separated scopes (RFC 6749, section 3.3).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// The rights to rooms (RFC 9396, section 9.1).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub authorization_details: Vec<AuthorizationDetail>,
    /// The person, in OpenID Connect's names.
    #[serde(flatten)]
    pub profile: Profile,
}

/// What a token tells of the person (OpenID Connect Core 1.0, section 5.1).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// The name that the person signs in with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred_username: Option<String>,
    /// The full name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The given name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given_name: Option<String>,
    /// The family name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub family_name: Option<String>,
    /// The address for mail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Whether the issuer knows that the address is the person's. Nothing may be decided by an address
    /// for which this is not `Some(true)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email_verified: Option<bool>,
}

/// The `aud` claim: one audience or several (RFC 7519, section 4.1.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Audience {
    /// A single audience, as our own issuer writes it.
    One(String),
    /// Several, of which one has to be ours.
    Many(Vec<String>),
}

impl Audience {
    /// Whether `audience` is among them.
    #[must_use]
    pub fn contains(&self, audience: &str) -> bool {
        match self {
            Self::One(one) => one == audience,
            Self::Many(many) => many.iter().any(|one| one == audience),
        }
    }
}
