//! Lifecycle events: the back ends that learn what happened to connections, rooms, messages and sessions.

use serde::{Deserialize, Serialize};

use super::{Config, ConfigError, check};

/// The lifecycle events that one back end is sent.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LifecycleRule {
    /// The name of the back end.
    pub backend: String,
    /// The types of the events.
    pub types: Vec<LifecycleType>,
    /// Patterns of room names, for the types that concern rooms. A name is split by `:`; `*` stands for one
    /// segment, and `**` at the end for one or more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rooms: Vec<String>,
}

/// The type of a lifecycle event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LifecycleType {
    /// A connection was admitted.
    #[serde(rename = "connection.opened")]
    ConnectionOpened,
    /// An admitted connection has ended.
    #[serde(rename = "connection.closed")]
    ConnectionClosed,
    /// The first connection has entered a room.
    #[serde(rename = "room.occupied")]
    RoomOccupied,
    /// The last connection has left a room.
    #[serde(rename = "room.vacated")]
    RoomVacated,
    /// A message was published in a room.
    #[serde(rename = "message.published")]
    MessagePublished,
    /// A session or all sessions of a subject were revoked by their issuer.
    #[serde(rename = "session.revoked")]
    SessionRevoked,
}

impl LifecycleType {
    /// The `type` of the CloudEvent.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ConnectionOpened => "latchkey.connection.opened",
            Self::ConnectionClosed => "latchkey.connection.closed",
            Self::RoomOccupied => "latchkey.room.occupied",
            Self::RoomVacated => "latchkey.room.vacated",
            Self::MessagePublished => "latchkey.message.published",
            Self::SessionRevoked => "latchkey.session.revoked",
        }
    }

    /// Whether the event concerns a room.
    #[must_use]
    pub fn is_of_room(self) -> bool {
        matches!(
            self,
            Self::RoomOccupied | Self::RoomVacated | Self::MessagePublished
        )
    }
}

impl LifecycleRule {
    fn problem(&self) -> Option<(&'static str, &'static str)> {
        if self.types.is_empty() {
            return Some(("types", "must name at least one type of event"));
        }
        let concerns_rooms = self.types.iter().any(|one| one.is_of_room());
        (concerns_rooms == self.rooms.is_empty()).then_some((
            "rooms",
            "must be set when types list room.occupied, room.vacated or message.published, and only then",
        ))
    }
}

impl Config {
    /// Checks the lifecycle events of a namespace, whose settings begin with `place`, and the back ends that
    /// are sent them. The main one has no such place, and the events that belong to no namespace.
    ///
    /// # Errors
    ///
    /// The first setting that cannot work.
    pub(super) fn check_lifecycle(
        &self,
        place: &str,
        rules: &[LifecycleRule],
    ) -> Result<(), ConfigError> {
        for (index, rule) in rules.iter().enumerate() {
            let of_rule = format!("{place}lifecycle[{index}]");
            if let Some((setting, problem)) = rule.problem() {
                check(&format!("{of_rule}.{setting}"), false, problem)?;
            }
            let is_here = place.is_empty() || !rule.types.contains(&LifecycleType::SessionRevoked);
            let problem = "session.revoked belongs to no namespace: list it in [[lifecycle]]";
            check(&format!("{of_rule}.types"), is_here, problem)?;
            self.check_backend_exists(&format!("{of_rule}.backend"), &rule.backend)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOP: &str =
        "[[backends]]\nname = 'shop'\nurl = 'https://shop.internal/events'\nsecret_file = 's'\n";
    const RULE: &str = "[[lifecycle]]\nbackend = 'shop'\ntypes = ['connection.closed']\n";

    fn load(toml: &str) -> Result<Config, ConfigError> {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), toml).expect("written");
        Config::load(Some(file.path()))
    }

    #[test]
    fn each_fault_is_told_with_its_setting_and_without_its_value() {
        let rule = |more: &str| format!("{SHOP}{RULE}{more}");
        let types = |types: &str| rule("").replace("'connection.closed'", types);
        for (toml, expected) in [
            (RULE.to_owned(), "lifecycle[0].backend: no [[backends]]"),
            (rule("hunter = 2"), "unknown field `hunter`"),
            (types(""), "lifecycle[0].types: must name"),
            (
                types("'hunter2'"),
                "types[0]: must be some of connection.opened,",
            ),
            (types("'room.vacated'"), "lifecycle[0].rooms: must be set"),
            (
                rule("rooms = ['hunter2']"),
                "lifecycle[0].rooms: must be set",
            ),
        ] {
            let error = load(&toml).expect_err(&toml).to_string();
            assert!(error.contains(expected), "{toml}: {error}");
            assert!(!error.contains("hunter2"), "{toml}: {error}");
        }
        load(&rule("")).expect("connections");
        let room = types("'room.vacated'") + "rooms = ['order:*']";
        load(&room).expect("rooms");
    }
}
