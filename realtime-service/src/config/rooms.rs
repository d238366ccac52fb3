//! Rules for rooms, as they are written.

use serde::{Deserialize, Serialize};
use shared_claims::authorization::Action;

use super::{Config, ConfigError};

/// The issuer of a rule that is for the tokens of every issuer.
pub const ANY_ISSUER: &str = "*";

/// A rule of the configuration: who it is for may do `actions` in the rooms that match.
///
/// A pattern is a room name in which a segment can be `*` for any one, the last one `**` for one or
/// more, and `{claim}` the text of a claim of the token, such as `{sub}`, percent-encoded, as one
/// literal segment.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoomRule {
    /// Patterns of room names.
    pub rooms: Vec<String>,
    /// What may be done in them.
    pub actions: Vec<Action>,
    /// Whose tokens it is for: issuers, or `*` for all. Without any it is for our own issuer's. A
    /// rule for others that names a claim has to name `{iss}` before it, since two issuers can mean
    /// different people by the same text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub issuers: Vec<String>,
    /// The scope that the token must have (RFC 6749, section 3.3).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// Whether it is for guests too, where `auth.anonymous` lets them in.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub guests: bool,
    /// The authority that allows the actions in place of the rule itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorize: Option<Authority>,
    /// The name of the back end that is that authority.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
}

/// The authority that allows the actions of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Authority {
    /// A back end, which is asked.
    Backend,
}

impl RoomRule {
    /// Everybody may use `lobby`, and each of our own issuer's users the room of their own subject.
    #[must_use]
    pub fn defaults() -> Vec<Self> {
        let rule = |room: &str, issuers: Vec<String>| Self {
            rooms: vec![room.to_owned()],
            actions: Action::ALL.to_vec(),
            issuers,
            ..Self::default()
        };
        vec![
            rule("lobby", vec![ANY_ISSUER.to_owned()]),
            rule("user:{sub}", Vec::new()),
        ]
    }
}

impl Config {
    /// Checks that the back ends of the rules of a namespace exist; its settings begin with `place`.
    ///
    /// # Errors
    ///
    /// The first rule whose back end does not exist.
    pub(super) fn check_rooms(&self, place: &str, rules: &[RoomRule]) -> Result<(), ConfigError> {
        for (index, rule) in rules.iter().enumerate() {
            if let Some(backend) = &rule.backend {
                let setting = format!("{place}rooms[{index}].backend");
                self.check_backend_exists(&setting, backend)?;
            }
        }
        Ok(())
    }
}
