//! The users in a room by their subject, however many connections each of them has, and on whichever
//! gateway.

mod elsewhere;
mod shared;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use self::shared::record::{Row, UserRow};
pub(super) use self::{
    elsewhere::{Elsewhere, Flip},
    shared::{Changes, Rows, SharedPresence, record::Notice},
};
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

/// A user has come or left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Join,
    Leave,
}

impl Change {
    /// Returns the name of the event that announces it.
    pub(super) fn event(self) -> &'static str {
        match self {
            Self::Join => "rt:join",
            Self::Leave => "rt:leave",
        }
    }
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
    /// Whether users of other gateways may be missing, or have left: Redis cannot be reached.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
}

/// The users of one room. Guests are connections and nobody.
#[derive(Default)]
pub(super) struct People {
    /// The users with connections to this gateway.
    own: HashMap<User, Entry>,
    elsewhere: Elsewhere,
    /// Number of users that are here and elsewhere.
    both: usize,
}

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
    /// Counts a connection, and returns whether it is the first of its user on any gateway. A user who
    /// comes back before the leave was announced has not left.
    pub(super) fn enter(&mut self, user: &User, name: Option<&Arc<str>>) -> bool {
        let is_elsewhere = self.elsewhere.contains(user);
        let mut is_first = false;
        let entry = self.own.entry(user.clone()).or_insert_with(|| {
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
        self.both += usize::from(is_first && is_elsewhere);
        is_first && !is_elsewhere
    }

    /// Shows the data of a connection beside its user, in place of the data from before; without any,
    /// that stays.
    pub(super) fn show(&mut self, user: &User, data: Option<&Arc<RawValue>>) {
        if let (Some(data), Some(entry)) = (data, self.own.get_mut(user)) {
            entry.data = Some(data.clone());
        }
    }

    /// Counts a connection off, and returns whether it was the last of its user here. The user stays until
    /// [`Self::remove`].
    pub(super) fn leave(&mut self, user: &User) -> bool {
        let Some(entry) = self.own.get_mut(user) else {
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
        if let Some(entry) = self.own.get_mut(user) {
            entry.leaving = Some(timer);
        }
    }

    /// Removes a user without connections to this gateway, and returns whether the user is on none any
    /// more. Nothing happens when there are connections again.
    pub(super) fn remove(&mut self, user: &User) -> bool {
        let has_left = self
            .own
            .get(user)
            .is_some_and(|entry| entry.connections == 0);
        if !has_left || self.own.remove(user).is_none() {
            return false;
        }
        let is_elsewhere = self.elsewhere.contains(user);
        self.both -= usize::from(is_elsewhere);
        !is_elsewhere
    }

    /// Number of users on all gateways.
    #[must_use]
    pub(super) fn count(&self) -> usize {
        self.own.len() + self.elsewhere.count() - self.both
    }

    /// Whether a user is on this gateway, or has left it and may come back.
    #[must_use]
    pub(super) fn has_own(&self) -> bool {
        !self.own.is_empty()
    }

    /// Number of connections to other gateways.
    #[must_use]
    pub(super) fn connections_elsewhere(&self) -> usize {
        self.elsewhere.connections()
    }

    /// Returns the rows of this gateway about `users`, or about all users.
    #[must_use]
    pub(super) fn rows(&self, users: Option<&HashSet<User>>) -> Vec<UserRow> {
        let row = |entry: &Entry| Row {
            connections: entry.connections,
            name: entry.name.clone(),
            data: entry.data.as_ref().map(|data| data.get().into()),
        };
        match users {
            Some(users) => users
                .iter()
                .map(|user| (user.clone(), self.own.get(user).map(row)))
                .collect(),
            None => self
                .own
                .iter()
                .map(|(user, entry)| (user.clone(), Some(row(entry))))
                .collect(),
        }
    }

    /// Begins to read what other gateways have written: what is heard from now on is newer.
    pub(super) fn begin_read(&mut self) {
        self.elsewhere.begin_read();
    }

    /// Changes what is known of other gateways. Returns the users that have come or left as all gateways
    /// see it, in order.
    pub(super) fn change_elsewhere<T>(
        &mut self,
        change: impl FnOnce(&mut Elsewhere, &mut Vec<Flip>) -> T,
    ) -> (Vec<(Change, User)>, T) {
        let mut flips = Vec::new();
        let output = change(&mut self.elsewhere, &mut flips);
        let mut changes = Vec::new();
        for flip in flips {
            match flip {
                Flip::Appeared(user) if self.own.contains_key(&user) => self.both += 1,
                Flip::Vanished(user) if self.own.contains_key(&user) => self.both -= 1,
                Flip::Appeared(user) => changes.push((Change::Join, user)),
                Flip::Vanished(user) => changes.push((Change::Leave, user)),
            }
        }
        (changes, output)
    }

    /// Describes a room with `connections` on all gateways as `mode` asks, naming `limit` users at most;
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
        let first = first.filter(|user| self.own.contains_key(user));
        let others = self.own.keys();
        let others = others.filter(|user| first != Some(*user));
        let elsewhere = self.elsewhere.users();
        let elsewhere = elsewhere.filter(|user| !self.own.contains_key(*user));
        let users = first.into_iter().chain(others).chain(elsewhere);
        let present = users.map(|user| self.present(user));
        Presence {
            users: is_full.then(|| present.take(limit).collect()),
            truncated: is_full && self.count() > limit,
            count: self.count(),
            connections,
            partial: false,
        }
    }

    fn present(&self, user: &User) -> Present {
        let own = self.own.get(user);
        let elsewhere = || self.elsewhere.rows(user);
        let name = own.and_then(|entry| entry.name.clone());
        let here = own.map_or(0, |entry| entry.connections);
        let there: usize = elsewhere().map(|row| row.connections).sum();
        let shown = || {
            let text = elsewhere().find_map(|row| row.data.as_deref())?;
            RawValue::from_string(text.to_owned()).ok().map(Arc::from)
        };
        Present {
            user: user.clone(),
            name: name.or_else(|| elsewhere().find_map(|row| row.name.clone())),
            data: own.and_then(|entry| entry.data.clone()).or_else(shown),
            connections: here + there,
        }
    }
}

#[cfg(test)]
mod tests;
