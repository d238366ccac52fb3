//! Further namespaces, each with rules, events and lifecycle events of its own.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Carrier, Config, ConfigError, ConnectSettings, EventRule, LifecycleRule, RoomRule, check,
    events::problem_of_claims,
};
use crate::namespaces::{MAIN, MAXIMUM_NAME_BYTES, Namespaces};

/// Maximum number of namespaces in the settings.
const MAXIMUM_NAMESPACES: usize = 64;

/// A namespace beside `/`. What a room is in one is unknown in another.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamespaceSettings {
    /// The name, with which clients connect: a slash, and letters, digits, `-`, `_`, `.` and further slashes.
    pub name: String,
    /// Whose tokens may enter it: issuers, or `*` for all. Without any it is for our own issuer's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub issuers: Vec<String>,
    /// The scope that the token must have (RFC 6749, section 3.3).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// The claims that the token must have, each with its value or a list of values; `*` stands for
    /// any value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub claims: BTreeMap<String, Value>,
    /// Whether guests may enter it too, where `auth.anonymous` admits guests.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub guests: bool,
    /// Rules for its rooms.
    #[serde(default)]
    pub rooms: Vec<RoomRule>,
    /// Events of its clients that a back end answers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<EventRule>,
    /// The back end that is asked when a client connects to it.
    #[serde(default)]
    pub connect: ConnectSettings,
    /// Lifecycle events of its connections, rooms and messages that back ends are sent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lifecycle: Vec<LifecycleRule>,
}

impl NamespaceSettings {
    fn problem(&self) -> Option<(&'static str, &'static str)> {
        let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
        let is_name = self.name.len() <= MAXIMUM_NAME_BYTES && self.name.bytes().all(is_letter);
        if self.name == MAIN {
            let problem = "/ is the namespace of the settings outside of [[namespaces]]";
            return Some(("name", problem));
        }
        if !is_name || !self.name.starts_with('/') {
            let problem = "must be / and 1 to 63 letters, digits, -, _, . and /";
            return Some(("name", problem));
        }
        if self.guests && (self.scope.is_some() || !self.claims.is_empty()) {
            let problem = "guests have no token, and so no scope and no claims";
            return Some(("guests", problem));
        }
        problem_of_claims(&self.claims).map(|problem| ("claims", problem))
    }
}

/// The settings of the main namespace, or of one of `[[namespaces]]`.
pub struct NamespaceView<'a> {
    /// The name.
    pub name: &'a str,
    /// The beginning of the names of its settings: empty, or `namespaces[0].`.
    pub place: String,
    /// The entry of `[[namespaces]]`; the main namespace has none.
    pub entry: Option<&'a NamespaceSettings>,
    /// The rules for its rooms.
    pub rooms: &'a [RoomRule],
    /// The events that back ends answer.
    pub events: &'a [EventRule],
    /// The back end that is asked when a client connects.
    pub connect: &'a ConnectSettings,
    /// The lifecycle events that back ends are sent.
    pub lifecycle: &'a [LifecycleRule],
}

impl Config {
    /// Builds a value for each namespace from its settings.
    ///
    /// # Errors
    ///
    /// The first error of `build`.
    pub fn each_namespace<T, E>(
        &self,
        build: impl Fn(&NamespaceView<'_>) -> Result<T, E>,
    ) -> Result<Namespaces<T>, E> {
        let main = build(&NamespaceView {
            name: MAIN,
            place: String::new(),
            entry: None,
            rooms: &self.rooms,
            events: &self.events,
            connect: &self.connect,
            lifecycle: &self.lifecycle,
        })?;
        let others = self.namespaces.iter().enumerate().map(|(index, entry)| {
            let view = NamespaceView {
                name: &entry.name,
                place: format!("namespaces[{index}]."),
                entry: Some(entry),
                rooms: &entry.rooms,
                events: &entry.events,
                connect: &entry.connect,
                lifecycle: &entry.lifecycle,
            };
            Ok((Arc::from(view.name), build(&view)?))
        });
        Ok(Namespaces::new(
            main,
            others.collect::<Result<Vec<_>, E>>()?,
        ))
    }

    /// Checks the namespaces, the main one too, and everything in them but the patterns of rooms and events.
    ///
    /// # Errors
    ///
    /// The first setting that cannot work.
    pub(super) fn check_namespaces(&self) -> Result<(), ConfigError> {
        let is_fine = self.namespaces.len() <= MAXIMUM_NAMESPACES;
        check("namespaces", is_fine, "must be at most 64")?;
        let is_carried = self.namespaces.is_empty() || self.carrier == Carrier::Engine;
        let problem = "must be engine when there are [[namespaces]]";
        check("carrier", is_carried, problem)?;
        for (index, namespace) in self.namespaces.iter().enumerate() {
            if let Some((setting, problem)) = namespace.problem() {
                check(&format!("namespaces[{index}].{setting}"), false, problem)?;
            }
            let mut earlier = self.namespaces[..index].iter();
            let is_twice = earlier.any(|other| other.name == namespace.name);
            let setting = format!("namespaces[{index}].name");
            check(&setting, !is_twice, "another namespace has this name")?;
        }
        self.each_namespace(|view| {
            self.check_events(&view.place, view.events)?;
            self.check_rooms(&view.place, view.rooms)?;
            self.check_connect(&view.place, view.connect)?;
            self.check_lifecycle(&view.place, view.lifecycle)
        })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOP: &str =
        "[[backends]]\nname = 'shop'\nurl = 'https://shop.internal/events'\nsecret_file = 's'\n";
    const ADMIN: &str = "[[namespaces]]\nname = '/admin'\n";

    fn load(toml: &str) -> Result<Config, ConfigError> {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), toml).expect("written");
        Config::load(Some(file.path()))
    }

    #[test]
    fn each_fault_of_a_namespace_is_told_with_its_setting_and_without_its_value() {
        let named = |name: &str| ADMIN.replace("/admin", name);
        let admin = |more: &str| format!("{SHOP}{ADMIN}{more}");
        for (toml, expected) in [
            (named("hunter2"), "namespaces[0].name: must be / and"),
            (named(""), "namespaces[0].name: must be / and"),
            (named("/a,hunter2"), "namespaces[0].name: must be / and"),
            (named("/a:hunter2"), "namespaces[0].name: must be / and"),
            (named("/a?hunter2"), "namespaces[0].name: must be / and"),
            (
                named(&format!("/{}", "a".repeat(64))),
                "namespaces[0].name: must be / and",
            ),
            (named("/"), "namespaces[0].name: / is the namespace"),
            (
                format!("{ADMIN}{ADMIN}"),
                "namespaces[1].name: another namespace",
            ),
            (
                format!("carrier = 'socketioxide'\n{ADMIN}"),
                "carrier: must be engine when",
            ),
            (admin("hunter = 2"), "unknown field `hunter`"),
            (
                admin("guests = true\nscope = 'hunter2'"),
                "namespaces[0].guests: guests have",
            ),
            (
                admin("claims = { a = { b = 'hunter2' } }"),
                "namespaces[0].claims: must be texts",
            ),
            (
                admin("[namespaces.connect]\nbackend = 'hunter2'"),
                "namespaces[0].connect.backend: no [[backends]]",
            ),
            (
                admin("[[namespaces.events]]\nevents = ['a']\nbackend = 'hunter2'\nmode = 'call'"),
                "namespaces[0].events[0].backend: no [[backends]]",
            ),
            (
                admin(
                    "[[namespaces.rooms]]\nrooms = ['a']\nactions = ['sub']\nauthorize = 'backend'\nbackend = 'hunter2'",
                ),
                "namespaces[0].rooms[0].backend: no [[backends]]",
            ),
            (
                admin(
                    "[[namespaces.lifecycle]]\ntypes = ['connection.closed']\nbackend = 'hunter2'",
                ),
                "namespaces[0].lifecycle[0].backend: no [[backends]]",
            ),
            (
                admin("[[namespaces.lifecycle]]\ntypes = ['session.revoked']\nbackend = 'shop'"),
                "namespaces[0].lifecycle[0].types: session.revoked belongs",
            ),
        ] {
            let error = load(&toml).expect_err(&toml).to_string();
            assert!(error.contains(expected), "{toml}: {error}");
            assert!(!error.contains("hunter2"), "{toml}: {error}");
        }
    }

    #[test]
    fn settings_that_differ_in_that_one_thing_are_taken() {
        let whole = format!(
            "{SHOP}{ADMIN}scope = 'staff'\nissuers = ['*']\nclaims = {{ a = ['b', true] }}\n\
             [namespaces.connect]\nbackend = 'shop'\non_failure = 'admit'\n\
             [[namespaces.rooms]]\nrooms = ['a']\nactions = ['sub']\nauthorize = 'backend'\nbackend = 'shop'\n\
             [[namespaces.events]]\nevents = ['a']\nbackend = 'shop'\nmode = 'call'\n\
             [[namespaces.lifecycle]]\ntypes = ['connection.closed']\nbackend = 'shop'\n\
             [[namespaces]]\nname = '/Admin/v2.1_x-y'\nguests = true\n"
        );
        for toml in [
            ADMIN.to_owned(),
            format!("carrier = 'engine'\n{ADMIN}"),
            format!("carrier = 'socketioxide'\n{SHOP}"),
            ADMIN.replace("/admin", &format!("/{}", "a".repeat(63))),
            whole,
        ] {
            load(&toml).expect(&toml);
        }
    }
}
