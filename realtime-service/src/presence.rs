//! Who is in a room: people by their subject, however many connections each has.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use shared_claims::authorization::Action;
use utoipa::ToSchema;

use crate::{
    events::{Call, EventError, room},
    session::{Sender, wait_for_room},
    timers::Timer,
};

/// How much somebody wants to know of who is in a room.
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

/// Somebody, as others see them: a subject is nobody without its issuer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, ToSchema)]
pub struct User {
    /// The issuer, when it is another than our own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iss: Option<String>,
    /// The subject.
    pub sub: String,
}

/// A user in a room.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Present {
    /// Who it is.
    #[serde(flatten)]
    pub user: User,
    /// The name to show, when the token of the first connection had one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// With how many connections; none for somebody who has just left and may come back.
    pub connections: usize,
}

/// What is told of who is in a room.
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
pub struct People(HashMap<User, Entry>);

struct Entry {
    name: Option<String>,
    connections: usize,
    /// Runs when the user has left for good.
    leaving: Option<Timer>,
}

impl User {
    /// The user that a connection belongs to; none for a guest's.
    #[must_use]
    pub fn of(sender: &Sender) -> Option<Self> {
        Some(Self {
            iss: sender.iss.clone(),
            sub: sender.sub.clone()?,
        })
    }
}

impl People {
    /// Counts a connection, and tells whether it is the first of its user. Who comes back before
    /// their leave was told has not left.
    pub fn enter(&mut self, user: &User, name: Option<&String>) -> bool {
        let mut is_first = false;
        let entry = self.0.entry(user.clone()).or_insert_with(|| {
            is_first = true;
            Entry {
                name: name.cloned(),
                connections: 0,
                leaving: None,
            }
        });
        entry.connections += 1;
        entry.leaving = None;
        is_first
    }

    /// Counts a connection off, and tells whether it was the last of its user, who stays until
    /// [`Self::remove`].
    pub fn leave(&mut self, user: &User) -> bool {
        let Some(entry) = self.0.get_mut(user) else {
            return false;
        };
        entry.connections = entry.connections.saturating_sub(1);
        entry.connections == 0
    }

    /// Keeps the timer that runs when `user` has left for good.
    pub fn await_return(&mut self, user: &User, timer: Timer) {
        if let Some(entry) = self.0.get_mut(user) {
            entry.leaving = Some(timer);
        }
    }

    /// Removes a user without connections; `false` when there are some again.
    pub fn remove(&mut self, user: &User) -> bool {
        let has_left = self.0.get(user).is_some_and(|entry| entry.connections == 0);
        has_left && self.0.remove(user).is_some()
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// What is told in `mode` about a room with so many `connections`, naming `most` users at most.
    #[must_use]
    pub fn describe(&self, mode: PresenceMode, connections: usize, most: usize) -> Presence {
        self.describe_with(None, mode, (connections, most))
    }

    /// The same as it is once `newcomer` has entered with one more connection, who is named first.
    #[must_use]
    pub fn describe_with(
        &self,
        newcomer: Option<(&User, Option<&String>)>,
        mode: PresenceMode,
        (connections, most): (usize, usize),
    ) -> Presence {
        let present = |user: &User, entry: &Entry, more: usize| Present {
            user: user.clone(),
            name: entry.name.clone(),
            connections: entry.connections + more,
        };
        let known = newcomer.and_then(|(user, _)| self.0.get_key_value(user));
        let first = match (newcomer, known) {
            (_, Some((user, entry))) => Some(present(user, entry, 1)),
            (Some((user, name)), None) => Some(Present {
                user: user.clone(),
                name: name.cloned(),
                connections: 1,
            }),
            (None, None) => None,
        };
        let count = self.count() + usize::from(first.is_some() && known.is_none());
        let is_full = mode == PresenceMode::Full;
        let others = self.0.iter();
        let others = others.filter(|(user, _)| newcomer.is_none_or(|(new, _)| new != *user));
        let others = others.map(|(user, entry)| present(user, entry, 0));
        Presence {
            users: is_full.then(|| first.into_iter().chain(others).take(most).collect()),
            truncated: is_full && count > most,
            count,
            connections,
        }
    }
}

/// The payload of `rt:presence`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ask {
    room: Value,
    #[serde(default = "full")]
    mode: PresenceMode,
}

fn full() -> PresenceMode {
    PresenceMode::Full
}

/// `rt:presence`: who is in a room; one need not be in it. Who is in it is told of changes, too, as
/// `mode` says from now on.
pub(crate) async fn tell(call: &Call<'_>) -> Result<(), EventError> {
    let payload: Ask = call.argument()?;
    let room = room(payload.room)?;
    call.require(Action::Presence, &room)?;
    let watching = (&**call.session, payload.mode);
    let tell = |presence: &Presence| call.try_succeed(presence);
    let rooms = &call.gateway.rooms;
    while call.session.is_live() && rooms.watch(&room, watching, tell).is_err() {
        wait_for_room().await;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
