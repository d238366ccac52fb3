//! Lists of what all gateways have: each gives a page, and the pages become one.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{AppState, Command, Everywhere, Reach};
use crate::{
    clock::unix_millis, cluster::MAXIMUM_ANSWER_BYTES, namespaces::MAIN, rooms::RoomName,
    session::Session,
};

/// Maximum size of the entries of one page, in bytes: less than an answer may have, so that a page is cut
/// and not refused.
const PAGE_BYTES: usize = MAXIMUM_ANSWER_BYTES / 2;

/// A connection.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Connected {
    /// Its id, as in `from.connection` of its messages.
    pub(crate) connection: String,
    /// The name of its gateway, when there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) gateway: Option<String>,
    /// Its namespace, unless it is the main one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) namespace: Option<String>,
    /// The issuer of its token, when it is another than our own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub(crate) iss: Option<Arc<str>>,
    /// The subject of its token; a guest has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub(crate) sub: Option<Arc<str>>,
    /// The name to show, when the token has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub(crate) name: Option<Arc<str>>,
    /// The `sid` of its token.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub(crate) session: Option<Arc<str>>,
    /// When it was admitted, in milliseconds since the epoch.
    pub(crate) connected_at: u64,
    /// When its token ends, in milliseconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) expires_at: Option<u64>,
    /// Number of rooms that it is in.
    pub(crate) rooms: usize,
}

/// A room with members.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct RoomCount {
    /// Its name.
    pub(crate) room: String,
    /// Number of sockets in it.
    pub(crate) connections: usize,
}

/// A page of one gateway's entries, in order.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Page<T> {
    entries: Vec<T>,
    /// Whether there are further entries after the last one.
    has_more: bool,
    /// Number of all entries, whatever the page has.
    count: usize,
}

/// A page of connections.
pub(super) type ConnectionPage = Page<Connected>;

/// A page of rooms.
pub(super) type RoomPage = Page<RoomCount>;

/// The entries of all gateways, in order.
#[derive(Debug)]
pub(crate) struct Pages<T> {
    /// The entries.
    pub(crate) entries: Vec<T>,
    /// The entry after which there are more.
    pub(crate) next: Option<String>,
    /// Number of all entries of the gateways that have answered.
    pub(crate) count: usize,
    /// The gateways that have not answered.
    pub(crate) reach: Reach,
}

/// An entry of a list: it has a name, by which the list is ordered.
pub(crate) trait Entry: Serialize + Sized {
    fn name(&self) -> &str;

    /// Adds the entry of another gateway with the same name.
    fn merge(&mut self, other: &Self);
}

impl Entry for Connected {
    fn name(&self) -> &str {
        &self.connection
    }

    fn merge(&mut self, _: &Self) {}
}

impl Entry for RoomCount {
    fn name(&self) -> &str {
        &self.room
    }

    fn merge(&mut self, other: &Self) {
        self.connections += other.connections;
    }
}

impl<T: Entry> Page<T> {
    /// Cuts entries in order to a page.
    fn cut(entries: impl ExactSizeIterator<Item = T>, count: usize, limit: usize) -> Self {
        let all = entries.len();
        let mut bytes = 0;
        let fits = |entry: &T| {
            bytes += serde_json::to_vec(entry).map_or(0, |entry| entry.len() + 1);
            bytes <= PAGE_BYTES
        };
        let entries: Vec<T> = entries.take(limit).take_while(fits).collect();
        Self {
            has_more: entries.len() < all,
            entries,
            count,
        }
    }
}

impl<T: Entry> Pages<T> {
    /// Makes one list of the pages of all gateways. An entry after the end of a page that has more is left
    /// for the next list: the gateway of that page may have entries before it.
    fn of(everywhere: Everywhere<Page<T>>, limit: usize) -> Self {
        let Everywhere { answers, reach } = everywhere;
        let count = answers.iter().map(|page| page.count).sum();
        let ends = answers.iter().filter(|page| page.has_more);
        let ends = ends.map(|page| page.entries.last().map_or("", Entry::name).to_owned());
        let end = ends.min();
        let mut merged: BTreeMap<String, T> = BTreeMap::new();
        for entry in answers.into_iter().flat_map(|page| page.entries) {
            if let Some(known) = merged.get_mut(entry.name()) {
                known.merge(&entry);
                continue;
            }
            merged.insert(entry.name().to_owned(), entry);
        }
        let all = merged.len();
        let is_complete = |entry: &T| end.as_ref().is_none_or(|end| entry.name() <= &**end);
        let entries = merged.into_values().take_while(is_complete);
        let entries: Vec<T> = entries.take(limit).collect();
        let has_more = entries.len() < all || end.is_some();
        let next = entries.last().filter(|_| has_more);
        Self {
            next: next.map(|entry| entry.name().to_owned()),
            entries,
            count,
            reach,
        }
    }
}

impl AppState {
    /// Lists the connections of all gateways, or of one user, by their ids: at most `limit` after `after`.
    pub(crate) async fn connections_everywhere(
        &self,
        user: Option<(Option<String>, String)>,
        after: Option<String>,
        limit: usize,
    ) -> Pages<Connected> {
        let own = self.connections_here(user.as_ref(), after.as_deref(), limit);
        let command = Command::Connections { user, after, limit };
        let pages = self.everywhere((MAIN, &command), Duration::ZERO, async { own });
        Pages::of(pages.await, limit)
    }

    pub(super) fn connections_here(
        &self,
        user: Option<&(Option<String>, String)>,
        after: Option<&str>,
        limit: usize,
    ) -> ConnectionPage {
        let mut sessions = match user {
            Some((iss, sub)) => self.sessions_of_user(iss.as_deref(), sub),
            None => self.sessions.sessions.all(),
        };
        let count = sessions.len();
        sessions.retain(|session| after.is_none_or(|after| *session.connection > *after));
        sessions.sort_unstable_by(|one, other| one.connection.cmp(&other.connection));
        let entries = sessions.iter().map(|session| self.connected(session));
        Page::cut(entries, count, limit)
    }

    fn connected(&self, session: &Session) -> Connected {
        let identity = session.identity();
        let sender = identity.sender.clone();
        let principal = identity.principal.as_ref();
        Connected {
            connection: session.connection.to_string(),
            gateway: self.gateway().map(str::to_owned),
            namespace: Some(session.outbox().namespace())
                .filter(|name| *name != MAIN)
                .map(str::to_owned),
            iss: sender.iss,
            sub: sender.sub,
            name: sender.name,
            session: principal.and_then(|principal| principal.session.clone()),
            connected_at: unix_millis(session.admitted_at),
            expires_at: identity.expires_at().map(|(_, wall)| unix_millis(wall)),
            rooms: session.rooms().len(),
        }
    }

    /// Lists the rooms of a namespace with members on any gateway, by name: at most `limit` after `after`, whose names
    /// begin with `prefix`.
    pub(crate) async fn rooms_everywhere(
        &self,
        (namespace, prefix): (&str, &str),
        after: Option<String>,
        limit: usize,
    ) -> Pages<RoomCount> {
        let own = self.rooms_here((namespace, prefix), after.as_deref(), limit);
        let command = Command::Rooms {
            prefix: prefix.to_owned(),
            after,
            limit,
        };
        let pages = self.everywhere((namespace, &command), Duration::ZERO, async { own });
        Pages::of(pages.await, limit)
    }

    pub(super) fn rooms_here(
        &self,
        (namespace, prefix): (&str, &str),
        after: Option<&str>,
        limit: usize,
    ) -> RoomPage {
        let rooms = self.sessions.rooms.occupied().into_iter();
        let rooms = rooms.filter(|(room, _)| room.namespace() == namespace);
        let named = |(room, connections): (RoomName, usize)| RoomCount {
            room: room.to_string(),
            connections,
        };
        let is_meant = |one: &RoomCount| {
            one.room.starts_with(prefix) && after.is_none_or(|after| *one.room > *after)
        };
        let mut rooms: Vec<RoomCount> = rooms.map(named).filter(is_meant).collect();
        rooms.sort_unstable_by(|one, other| one.room.cmp(&other.room));
        let count = rooms.len();
        Page::cut(rooms.into_iter(), count, limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(rooms: &[&str], has_more: bool) -> RoomPage {
        let entry = |room: &&str| RoomCount {
            room: (*room).to_owned(),
            connections: 1,
        };
        Page {
            entries: rooms.iter().map(entry).collect(),
            has_more,
            count: rooms.len(),
        }
    }

    fn merged(answers: Vec<RoomPage>, limit: usize) -> (String, Option<String>) {
        let reach = Reach::default();
        let pages = Pages::of(Everywhere { answers, reach }, limit);
        let texts = pages.entries.iter();
        let texts: Vec<_> = texts
            .map(|one| format!("{}{}", one.room, one.connections))
            .collect();
        (texts.join(" "), pages.next)
    }

    #[test]
    fn a_room_on_several_gateways_is_listed_once_with_all_connections() {
        let answers = || vec![page(&["a", "c"], false), page(&["b", "c"], false)];
        assert_eq!(merged(answers(), 9), ("a1 b1 c2".to_owned(), None));
        assert_eq!(merged(answers(), 3), ("a1 b1 c2".to_owned(), None));
        let next = Some("b".to_owned());
        assert_eq!(merged(answers(), 2), ("a1 b1".to_owned(), next));
    }

    #[test]
    fn nothing_is_listed_that_a_cut_page_may_have_an_entry_before() {
        let answers = vec![page(&["a", "b"], true), page(&["c", "d"], false)];
        let next = Some("b".to_owned());
        assert_eq!(merged(answers, 9), ("a1 b1".to_owned(), next));
    }

    #[test]
    fn a_page_is_cut_by_number_and_by_size() {
        let entry = |room: String| RoomCount {
            room,
            connections: 1,
        };
        let small = (0..5).map(|number| entry(number.to_string()));
        let page = Page::cut(small, 5, 3);
        assert_eq!(
            (page.entries.len(), page.has_more, page.count),
            (3, true, 5)
        );
        let large = (0..5).map(|number| entry(number.to_string().repeat(PAGE_BYTES / 3)));
        let page = Page::cut(large, 5, 5);
        assert_eq!((page.entries.len(), page.has_more), (2, true));
    }
}
