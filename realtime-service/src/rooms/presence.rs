//! The users in a room by their subject, however many connections each of them has.

use std::{collections::HashMap, sync::Arc};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::User;
use crate::timers::Timer;

/// How much a subscriber is told of the users in a room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PresenceMode {
    /// Nothing.
    #[default]
    Off,
    /// How many there are.
    Count,
    /// Who they are.
    Full,
}

/// A user in a room.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Present {
    /// Who it is.
    #[serde(flatten)]
    pub user: User,
    /// The name to show, when the token of the first connection had one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub name: Option<Arc<str>>,
    /// The data that the back end of `connect.backend` gave the connection which entered last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub data: Option<Arc<RawValue>>,
    /// With how many connections; none for somebody who has just left and may come back.
    pub connections: usize,
}

/// The users in a room, as far as a mode tells.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Presence {
    /// Who is there, up to `presence.users`; only when the mode is `full`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub users: Option<Vec<Present>>,
    /// Whether there are more users than are named.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
    /// How many users are there, each counted once.
    pub count: usize,
    /// How many connections are there, those of guests included.
    pub connections: usize,
}

/// The users of one room. Guests are connections and nobody.
#[derive(Default)]
pub(super) struct People(HashMap<User, Entry>);

struct Entry {
    name: Option<Arc<str>>,
    data: Option<Arc<RawValue>>,
    connections: usize,
    /// Runs when the user has left for good.
    leaving: Option<Timer>,
}

impl Presence {
    /// Describes an empty room.
    #[must_use]
    pub fn of_nobody(mode: PresenceMode) -> Self {
        People::default().describe(mode, 0, 0, None)
    }
}

impl People {
    /// Counts a connection, and tells whether it is the first of its user. Who comes back before
    /// their leave was told has not left.
    pub(super) fn enter(&mut self, user: &User, name: Option<&Arc<str>>) -> bool {
        let mut is_first = false;
        let entry = self.0.entry(user.clone()).or_insert_with(|| {
            is_first = true;
            Entry {
                name: name.cloned(),
                data: None,
                connections: 0,
                leaving: None,
            }
        });
        entry.connections += 1;
        entry.leaving = None;
        is_first
    }

    /// Shows the data of a connection beside its user, in place of the data from before; without any,
    /// that stays.
    pub(super) fn show(&mut self, user: &User, data: Option<&Arc<RawValue>>) {
        if let (Some(data), Some(entry)) = (data, self.0.get_mut(user)) {
            entry.data = Some(data.clone());
        }
    }

    /// Counts a connection off, and tells whether it was the last of its user, who stays until
    /// [`Self::remove`].
    pub(super) fn leave(&mut self, user: &User) -> bool {
        let Some(entry) = self.0.get_mut(user) else {
            return false;
        };
        entry.connections = entry.connections.saturating_sub(1);
        entry.connections == 0
    }

    /// Takes back what [`Self::enter`] did for a user.
    pub(super) fn undo_enter(&mut self, user: &User) {
        if self.leave(user) {
            self.remove(user);
        }
    }

    /// Keeps the timer that runs when `user` has left for good.
    pub(super) fn await_return(&mut self, user: &User, timer: Timer) {
        if let Some(entry) = self.0.get_mut(user) {
            entry.leaving = Some(timer);
        }
    }

    /// Removes a user without connections; `false` when there are some again.
    pub(super) fn remove(&mut self, user: &User) -> bool {
        let has_left = self.0.get(user).is_some_and(|entry| entry.connections == 0);
        has_left && self.0.remove(user).is_some()
    }

    /// How many there are.
    #[must_use]
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// Describes a room with so many `connections` as `mode` asks, naming `limit` users at most;
    /// `first` is named first.
    #[must_use]
    pub(super) fn describe(
        &self,
        mode: PresenceMode,
        connections: usize,
        limit: usize,
        first: Option<&User>,
    ) -> Presence {
        let is_full = mode == PresenceMode::Full;
        let first = first.and_then(|user| self.0.get_key_value(user));
        let others = self.0.iter();
        let others = others.filter(|(user, _)| first.is_none_or(|(first, _)| first != *user));
        let present = first
            .into_iter()
            .chain(others)
            .map(|(user, entry)| Present {
                user: user.clone(),
                name: entry.name.clone(),
                data: entry.data.clone(),
                connections: entry.connections,
            });
        Presence {
            users: is_full.then(|| present.take(limit).collect()),
            truncated: is_full && self.count() > limit,
            count: self.count(),
            connections,
        }
    }
}

#[cfg(test)]
mod tests;
