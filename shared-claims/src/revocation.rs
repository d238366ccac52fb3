//! The claims of a logout token (OpenID Connect Back-Channel Logout 1.0, section 2.4), by which the
//! issuer tells a gateway that a session has ended.

use serde::{Deserialize, Serialize};

use crate::claims::Audience;

/// The media type of a logout token, for the header's `typ`.
pub const LOGOUT_TOKEN_TYPE: &str = "logout+jwt";

/// How long a logout token is accepted, in seconds: two minutes, as the specification recommends.
pub const LOGOUT_LIFETIME_SECS: u64 = 120;

/// The member of `events` that makes a token a logout token.
pub const LOGOUT_EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

/// What a logout token says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogoutClaims {
    /// The issuer.
    pub iss: String,
    /// Whom the token is for.
    pub aud: Audience,
    /// When it was signed, in seconds since the epoch.
    pub iat: u64,
    /// When it is no longer accepted, in seconds since the epoch.
    pub exp: u64,
    /// The token's own id. A second delivery has the same one.
    pub jti: String,
    /// The session that has ended.
    pub sid: String,
    /// When the last token of the session has expired, in seconds since the epoch: a claim of our own. Until then a
    /// gateway remembers that the session has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_exp: Option<u64>,
    /// The one event, [`LOGOUT_EVENT`], with nothing in it.
    pub events: Events,
}

/// The claim `events` of a logout token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Events {
    /// The event, an empty object.
    #[serde(rename = "http://schemas.openid.net/event/backchannel-logout")]
    pub logout: Event,
}

/// An event without members.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_event_has_its_name_and_nothing_in_it() {
        let events = serde_json::to_value(Events::default()).expect("JSON");
        assert_eq!(events, serde_json::json!({ (LOGOUT_EVENT): {} }));
    }
}
