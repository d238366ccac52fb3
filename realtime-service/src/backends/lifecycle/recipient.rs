//! A back end that is sent lifecycle events: which ones, and how they are described.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::{
    backends::{
        BackEnd, CloudEvent,
        cloud_event::timestamp,
        pattern::RoomPattern,
        queue::{
            BookId, CLOSING_BYTES, Queue, Reservation, Share, Stored,
            store::{NewBook, NewEvent, Opening},
        },
    },
    clock::wall_now,
    config::LifecycleType,
    ids::random_id,
    rooms::RoomName,
};

/// A back end, and the events that it is sent.
pub(super) struct Recipient {
    pub(super) back_end: Arc<BackEnd>,
    pub(super) rules: Vec<Rule>,
}

/// Types of events, and the rooms that they may be about.
pub(super) struct Rule {
    pub(super) types: Vec<LifecycleType>,
    pub(super) rooms: Vec<RoomPattern>,
}

/// A connection, as its events describe it.
#[derive(Clone, Copy)]
pub struct Origin<'a> {
    /// The public id.
    pub connection: &'a str,
    /// The namespace.
    pub namespace: &'a str,
    /// The issuer of the token; a guest has none.
    pub issuer: Option<&'a str>,
    /// The subject of the token.
    pub subject: Option<&'a str>,
    /// The `sid` of the token.
    pub session: Option<&'a str>,
}

/// A connection or a room that is open.
#[derive(Clone, Copy)]
pub(super) enum Subject<'a> {
    Connection(Origin<'a>),
    Room(&'a RoomName),
}

impl<'a> Subject<'a> {
    fn room(self) -> Option<&'a str> {
        match self {
            Self::Connection(_) => None,
            Self::Room(room) => Some(room.as_str()),
        }
    }

    /// The subject in the queue: events of one subject are sent in their order.
    pub(super) fn key(self) -> String {
        match self {
            Self::Connection(origin) => key_of(origin),
            Self::Room(room) => key_of_room(room),
        }
    }

    pub(super) fn describe<T>(self, event: &mut CloudEvent<'a, T>) {
        match self {
            Self::Connection(origin) => {
                event.connection = Some(origin.connection);
                event.namespace = Some(origin.namespace);
                event.issuer = origin.issuer;
                event.subject = origin.subject;
                event.session = origin.session;
            }
            Self::Room(room) => {
                event.namespace = Some(room.namespace());
                event.room = Some(room.as_str());
            }
        }
    }
}

impl Rule {
    fn covers(&self, r#type: LifecycleType, room: Option<&str>) -> bool {
        let covers = |room| self.rooms.iter().any(|pattern| pattern.matches(room));
        self.types.contains(&r#type) && room.is_none_or(covers)
    }
}

impl Recipient {
    /// Whether the back end is sent events of a type, about a room if they are about one.
    pub(super) fn wants(&self, r#type: LifecycleType, room: Option<&str>) -> bool {
        self.rules.iter().any(|rule| rule.covers(r#type, room))
    }

    /// Returns the event that begins something, and the book for the one that ends it, with the same
    /// attributes, as far as the back end is sent them.
    pub(super) fn opening(
        &self,
        subject: Subject<'_>,
        [opened, closed]: [LifecycleType; 2],
        content: &Value,
    ) -> Opening {
        let (now, room, key) = (wall_now(), subject.room(), subject.key());
        let encode = |r#type: LifecycleType, id: &str, content: &Value| {
            let mut event = CloudEvent::of_gateway(r#type.name(), (id, now), content);
            subject.describe(&mut event);
            event.to_body().unwrap_or_default()
        };
        let backend = || self.back_end.name().to_owned();
        let event = self.wants(opened, room).then(|| {
            let id = random_id();
            NewEvent {
                body: encode(opened, &id, content),
                id,
                backend: backend(),
                subject: key.clone(),
            }
        });
        let book = self.wants(closed, room).then(|| {
            let id = random_id();
            let draft = encode(closed, &id, &json!({ "since": timestamp(now) }));
            NewBook {
                id,
                backend: backend(),
                subject: key.clone(),
                bytes: draft.len() as u64 + CLOSING_BYTES,
                draft,
            }
        });
        Opening { event, book }
    }

    /// Stores an opening, in the memory of `reservation`. Returns the id of its book. Without memory the opening
    /// is dropped, and there is no book.
    pub(super) fn open(
        &self,
        queue: &Queue,
        opening: Opening,
        reservation: Option<Reservation>,
    ) -> (Option<BookId>, Stored) {
        let events = u64::from(opening.event.is_some()) + u64::from(opening.book.is_some());
        let dropped = self.count_dropped(events);
        let Some(reservation) = reservation else {
            dropped();
            return (None, Stored::default());
        };
        let id = opening.book.as_ref();
        let id = id.map(|book| BookId::from(book.id.as_str()));
        let terms = (reservation, Share::Eighth);
        let book = id.clone();
        let dropped = move || {
            book.iter().for_each(BookId::mark_dropped);
            dropped();
        };
        (id, queue.open_book(opening, terms, dropped))
    }

    /// Stores an event that begins nothing.
    pub(super) fn append(
        &self,
        queue: &Queue,
        event: NewEvent,
        terms: (Reservation, Share),
    ) -> Stored {
        let dropped = self.count_dropped(1);
        if !self.back_end.holds(event.body.len()) {
            dropped();
            return Stored::default();
        }
        let opening = Opening {
            event: Some(event),
            book: None,
        };
        queue.open_book(opening, terms, dropped)
    }

    fn count_dropped(&self, events: u64) -> impl FnOnce() + Send + 'static {
        let back_end = self.back_end.clone();
        move || back_end.metrics().dropped(events)
    }
}

/// The subject of a connection's events: its user, or the one connection of a guest. The parts are told apart
/// by a character that no identifier has. Queued events of clients have the same.
fn key_of(origin: Origin<'_>) -> String {
    match (origin.issuer, origin.subject) {
        (Some(issuer), Some(subject)) => format!("{issuer}\n{subject}"),
        _ => format!("\n{}", origin.connection),
    }
}

/// The subject of a room's events. No issuer is called like that.
fn key_of_room(room: &RoomName) -> String {
    format!("room\n\n{}", room.key())
}
