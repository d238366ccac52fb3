//! Lifecycle events: what happened to connections, rooms, messages and sessions, for the back ends that ask to
//! be told.
//!
//! Each event goes into the durable queue. An opening and its closing event are sent both or neither: without
//! room for both, the opening is dropped and counted.

mod recipient;

use std::{sync::Arc, time::SystemTime};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Serialize;
use serde_json::{Map, Value, json, value::RawValue};
use shared_claims::{VerifiedLogout, verify::LogoutScope};

pub use self::recipient::Origin;
use self::recipient::{Recipient, Rule, Subject};
use super::{
    BackEnd, BackEnds, CloudEvent, NotStored,
    cloud_event::id_of,
    pattern::RoomPattern,
    queue::{
        OpenBook, Queue, Reservation, Share, Stored,
        store::{NewEvent, Opening},
    },
};
use crate::{
    clock::wall_now,
    config::{ConfigError, LifecycleType, NamespaceView},
    metrics::Cause,
    rooms::{Draft, Position, RoomName, Sender},
};

/// The beginning and the end of a connection, and of the use of a room.
const CONNECTION: [LifecycleType; 2] = [
    LifecycleType::ConnectionOpened,
    LifecycleType::ConnectionClosed,
];
const ROOM: [LifecycleType; 2] = [LifecycleType::RoomOccupied, LifecycleType::RoomVacated];

/// Size of an event in memory besides the data of a message, in bytes.
const EVENT_BYTES: usize = 2048;

/// Usual cause of the end of a room's use.
const LEFT: &str = "left";

/// The back ends that are sent the lifecycle events of a namespace.
pub(super) struct Lifecycle(Vec<Recipient>);

/// The beginning of a connection that is not stored yet, and the memory for it.
pub struct ConnectionOpening<'a> {
    queue: &'a Arc<Queue>,
    recipients: &'a [Recipient],
    /// One for each recipient.
    openings: Vec<Opening>,
    reservation: Option<Reservation>,
}

impl ConnectionOpening<'_> {
    /// Stores the beginning. Waits for nothing.
    #[must_use]
    pub fn store(self) -> Opened {
        let (mut ids, mut stored) = (Vec::new(), Stored::default());
        for (recipient, opening) in self.recipients.iter().zip(self.openings) {
            let (id, one) = recipient.open(self.queue, opening, self.reservation.clone());
            ids.extend(id);
            stored.add(one);
        }
        let book = OpenBook::new(self.queue.clone(), ids, Cause::Client.name());
        Opened { book, stored }
    }
}

/// The beginning of a connection: dropping the books stores its end.
pub struct Opened {
    /// The books of the connection.
    pub book: OpenBook,
    stored: Stored,
}

impl Opened {
    /// Splits into the books, and a future that resolves when the beginning is durable, or will never be: a file
    /// that cannot be written stops no client. Then neither the beginning nor the end is told.
    pub fn split(self) -> (OpenBook, impl Future<Output = ()> + Send) {
        let Self { book, stored } = self;
        // What is not stored is counted where it happens.
        (book, async {
            let _ = stored.wait().await;
        })
    }
}

/// The content of a message's event.
#[derive(Serialize)]
struct Published<'a> {
    event: &'a str,
    data: &'a RawValue,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    attachments: Vec<String>,
    #[serde(flatten)]
    position: &'a Position,
    id: &'a str,
    ts: u64,
    from: &'a Sender,
}

impl Lifecycle {
    /// The events and back ends of a namespace.
    pub(super) fn new(
        namespace: &NamespaceView<'_>,
        all: &[Arc<BackEnd>],
    ) -> Result<Self, ConfigError> {
        let mut recipients: Vec<_> = all
            .iter()
            .map(|back_end| Recipient {
                back_end: back_end.clone(),
                rules: Vec::new(),
            })
            .collect();
        for (index, rule) in namespace.lifecycle.iter().enumerate() {
            let rooms = rule.rooms.iter().map(|text| RoomPattern::parse(text));
            let rooms: Result<Vec<_>, _> = rooms.collect();
            let rooms = rooms.map_err(|problem| ConfigError::Invalid {
                setting: format!("{}lifecycle[{index}].rooms", namespace.place),
                problem: problem.to_owned(),
            })?;
            let mut named = recipients.iter_mut();
            if let Some(recipient) = named.find(|one| one.back_end.name() == rule.backend) {
                let types = rule.types.clone();
                recipient.rules.push(Rule { types, rooms });
            }
        }
        recipients.retain(|recipient| !recipient.rules.is_empty());
        Ok(Self(recipients))
    }

    /// Whether some back end is sent some event.
    pub(super) fn is_on(&self) -> bool {
        !self.0.is_empty()
    }

    fn wants(&self, r#type: LifecycleType, room: Option<&str>) -> bool {
        self.0.iter().any(|one| one.wants(r#type, room))
    }
}

impl BackEnds {
    /// Whether a back end is sent the events of connections to a namespace.
    #[must_use]
    pub fn follow_connections(&self, namespace: &str) -> bool {
        let lifecycle = self.lifecycle.of(namespace);
        CONNECTION.iter().any(|one| lifecycle.wants(*one, None))
    }

    /// Describes the beginning of a connection whose token says `claims`, and waits for the memory that storing it
    /// takes. `None` when no back end is sent events.
    pub async fn connection_opening(
        &self,
        origin: Origin<'_>,
        claims: &Map<String, Value>,
    ) -> Option<ConnectionOpening<'_>> {
        let queue = self.queue.as_ref()?;
        let content = json!({ "claims": claims });
        let describe = |recipient: &Recipient| {
            recipient.opening(Subject::Connection(origin), CONNECTION, &content)
        };
        let recipients = &self.lifecycle.of(origin.namespace).0;
        let openings: Vec<_> = recipients.iter().map(describe).collect();
        // Taken at once, so that no two connections wait for each other's part.
        let bytes = openings.iter().map(Opening::memory).sum();
        Some(ConnectionOpening {
            queue,
            recipients,
            openings,
            reservation: queue.reserve(bytes).await,
        })
    }

    /// Stores the beginning of the use of a room. Dropping the books stores its end.
    #[must_use]
    pub fn room_occupied(&self, room: &RoomName) -> Option<OpenBook> {
        let queue = self.queue.as_ref()?;
        let lifecycle = self.lifecycle.of(room.namespace());
        let mut types = ROOM.iter();
        if !types.any(|one| lifecycle.wants(*one, Some(room.as_str()))) {
            return None;
        }
        let content = Value::Object(Map::new());
        let opened = lifecycle.0.iter().filter_map(|recipient| {
            let opening = recipient.opening(Subject::Room(room), ROOM, &content);
            // The lock of the room cannot wait for the disk, nor for memory.
            let reservation = queue.try_reserve(opening.memory());
            recipient.open(queue, opening, reservation).0
        });
        Some(OpenBook::new(queue.clone(), opened.collect(), LEFT))
    }

    /// Waits for the memory that [`Self::message_published`] takes for a message. `None` when no back end is sent
    /// the messages of its room.
    pub async fn reserve_message(&self, draft: &Draft) -> Option<Reservation> {
        let queue = self.queue.as_ref()?;
        let room = draft.room.as_str();
        let wants = |one: &&Recipient| one.wants(LifecycleType::MessagePublished, Some(room));
        let recipients = &self.lifecycle.of(draft.room.namespace()).0;
        let recipients = recipients.iter().filter(wants).count();
        if recipients == 0 {
            return None;
        }
        let attachments = draft.data.attachments().iter();
        // Binary data has a third more bytes as base64.
        let attachments: usize = attachments.map(|data| data.len() / 3 * 4 + 8).sum();
        let bytes = draft.data.json().len() + attachments + EVENT_BYTES;
        let reservation = queue.reserve(bytes.saturating_mul(recipients));
        Box::pin(reservation).await
    }

    /// Stores a published message, in the memory of `reservation`. The future resolves when it is durable, or will
    /// never be: the message is delivered by then. The id is made of the place of the message, so that a repetition
    /// has the same one.
    pub fn message_published(
        &self,
        draft: &Draft,
        position: &Position,
        reservation: Reservation,
    ) -> impl Future<Output = ()> + Send + use<> {
        let room = &draft.room;
        let place = [position.epoch.to_string(), position.offset.to_string()];
        let attachments = draft.data.attachments().iter();
        let attachments: Vec<_> = attachments.map(|data| STANDARD.encode(data)).collect();
        let stored = self.tell(
            self.lifecycle.of(room.namespace()),
            (LifecycleType::MessagePublished, Some(room.as_str())),
            (reservation, Share::Sixteenth),
            |recipient| {
                let id = id_of(&[recipient, "message", room.key(), &place[0], &place[1]]);
                let content = Published {
                    event: &draft.event,
                    data: serde_json::from_str(draft.data.json()).ok()?,
                    attachments: attachments.clone(),
                    position,
                    id: &draft.id,
                    ts: draft.ts,
                    from: &draft.from,
                };
                let name = LifecycleType::MessagePublished.name();
                let mut event = CloudEvent::of_gateway(name, (&id, wall_now()), content);
                Subject::Room(room).describe(&mut event);
                let body = event.to_body().ok()?;
                Some((id, Subject::Room(room).key(), body))
            },
        );
        // What is not stored is counted where it happens.
        async {
            let _ = stored.wait().await;
        }
    }

    /// Stores a revocation; `subject` is the owner of the session, if it is known. When this returns it is durable,
    /// unless the queue is full. The id is made of the revocation, so that a repetition has the same one.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub async fn session_revoked(
        &self,
        logout: &VerifiedLogout,
        subject: Option<&str>,
        at: SystemTime,
    ) -> Result<(), NotStored> {
        let Some(queue) = &self.queue else {
            return Ok(());
        };
        // A revocation concerns all namespaces.
        let lifecycle = self.lifecycle.main();
        let bytes = EVENT_BYTES * lifecycle.0.len();
        let reservation = queue.reserve(bytes).await;
        let reservation = reservation.ok_or(NotStored::Unavailable)?;
        let terms = (reservation, Share::All);
        let (mut session, mut named, mut is_unnamed) = (None, None, false);
        for scope in &logout.scopes {
            match scope {
                LogoutScope::Session(sid) => session = Some(sid.as_str()),
                LogoutScope::Subject(sub) => named = Some(sub.as_str()),
                LogoutScope::Unnamed(sub) => (named, is_unnamed) = (Some(sub.as_str()), true),
            }
        }
        let subject = named.or(subject);
        let key = match (subject, session) {
            (Some(subject), _) => format!("{}\n{subject}", logout.iss),
            (None, session) => format!("{}\n\n{}", logout.iss, session.unwrap_or_default()),
        };
        // Tokens with a session are accepted.
        let content = match is_unnamed && session.is_none() {
            true => json!({ "issued_at": logout.iat, "tokens": "without_session" }),
            false => json!({ "issued_at": logout.iat }),
        };
        let what = (LifecycleType::SessionRevoked, None);
        let stored = self.tell(lifecycle, what, terms, |recipient| {
            let issued_at = logout.iat.to_string();
            let parts = [session, named].map(Option::unwrap_or_default);
            let id = id_of(&[
                recipient,
                "revoked",
                &logout.iss,
                parts[0],
                parts[1],
                &issued_at,
            ]);
            let name = LifecycleType::SessionRevoked.name();
            let mut event = CloudEvent::of_gateway(name, (&id, at), &content);
            event.issuer = Some(&logout.iss);
            event.session = session;
            event.subject = subject;
            let body = event.to_body().ok()?;
            Some((id, key.clone(), body))
        });
        stored.wait().await
    }

    /// Stores an event for each back end of `lifecycle` that is sent it, in the memory and the share of `terms`. `encode` makes id, subject and body for the back end
    /// of a name.
    fn tell(
        &self,
        lifecycle: &Lifecycle,
        (r#type, room): (LifecycleType, Option<&str>),
        (reservation, share): (Reservation, Share),
        encode: impl Fn(&str) -> Option<(String, String, Vec<u8>)>,
    ) -> Stored {
        let mut stored = Stored::default();
        let Some(queue) = &self.queue else {
            return stored;
        };
        let recipients = lifecycle.0.iter();
        for recipient in recipients.filter(|one| one.wants(r#type, room)) {
            let backend = recipient.back_end.name();
            if let Some((id, subject, body)) = encode(backend) {
                let event = NewEvent {
                    id,
                    backend: backend.to_owned(),
                    subject,
                    body,
                };
                let terms = (reservation.clone(), share);
                stored.add(recipient.append(queue, event, terms));
            }
        }
        stored
    }
}

#[cfg(test)]
mod tests;
