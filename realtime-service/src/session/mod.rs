//! A session: a client that was admitted to a namespace, from the verification of its token to the
//! end of its connection.
//!
//! A session ends in one of these ways, each with a verb of its own: it expires with its token, it is
//! disconnected for good, its transport is closed, or its client leaves.

mod admission;
mod context;
mod drain;
mod expiry;
mod handlers;
mod identity;
mod intake;
mod joining;
mod lifecycle;
mod liveness;
mod permission;
mod publishing;
mod received;
mod registry;
mod renewal;
mod sending;
mod share;
mod turns;
mod wall_clock;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::SystemTime,
};

use arc_swap::ArcSwap;
use serde_json::{Value, json};
use shared_claims::{Rejection, authorization::Action};
use tokio_util::sync::CancellationToken;

pub use self::{
    admission::NotAdmitted,
    context::SessionContext,
    drain::drain_notice,
    identity::{Identity, Principal},
    joining::NotJoined,
    permission::UserDetails,
    received::{Argument, Arguments, InvalidArguments, Received},
    registry::Registry,
    renewal::{NotRenewed, Renewed},
    sending::{ACKNOWLEDGEMENT_DEADLINE, Event, NotAcknowledged},
    share::ClientShare,
};
use self::{expiry::Deadlines, intake::Intake};
pub(crate) use self::{handlers::Audience, renewal::AUTHENTICATE};
use crate::{
    auth::policy::Policy,
    backends::OpenBook,
    clock::wall_now,
    limits::{Permit, Subject},
    metrics::Cause,
    outbox::{self, Outbox},
    rooms::{RoomName, Subscriber},
    transport::{EngineSession, Packet},
};

/// The reason why a session is in a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Membership {
    /// Its grants allow it. It ends when they do not.
    Granted,
    /// A back end has taken it in. Its grants do not matter.
    ByBackEnd,
}

/// A client that was admitted to a namespace. It belongs to the same principal all the time.
pub struct Session {
    /// A random id of this connection, which others may know.
    pub connection: Arc<str>,
    /// When it was admitted.
    pub admitted_at: SystemTime,
    context: Arc<SessionContext>,
    outbox: Arc<Outbox>,
    identity: ArcSwap<Identity>,
    /// Held while the identity is replaced, so that two tokens are not taken at once.
    renewing: Mutex<()>,
    deadlines: Mutex<Deadlines>,
    is_terminated: AtomicBool,
    /// Cancelled when the session ends.
    ended: CancellationToken,
    /// Whether it counts among the admitted sockets of its transport.
    is_admitted: AtomicBool,
    /// Whether the application's disconnect handler has taken the place of ours.
    is_unheard: AtomicBool,
    refusals: AtomicU32,
    share: Arc<ClientShare>,
    /// The place of its connection among those of its subject; a guest has none.
    seat: Mutex<Option<Arc<Permit<Subject>>>>,
    rooms: Mutex<HashMap<RoomName, Membership>>,
    /// The books that say that it is open, once back ends are told so.
    book: Mutex<Option<Box<OpenBook>>>,
    intake: Intake,
}

impl Session {
    /// Opens the session of a client whose CONNECT to `namespace` is about to be acknowledged. It has `share`
    /// with the client's sessions in other namespaces.
    ///
    /// # Errors
    ///
    /// When its subject has as many connections as it may.
    pub(crate) fn open(
        context: &Arc<SessionContext>,
        engine: Arc<EngineSession>,
        (namespace, share): (&str, &Arc<ClientShare>),
        identity: Identity,
    ) -> Result<Arc<Self>, Rejection> {
        let seat = identity.principal.as_ref();
        let seat = seat.map(|principal| share.take_seat(context, principal));
        let ended = CancellationToken::new();
        let session = Arc::new(Self {
            connection: identity.sender.connection.clone(),
            admitted_at: wall_now(),
            outbox: Outbox::new(&context.outboxes, engine, namespace),
            identity: ArcSwap::from_pointee(identity),
            renewing: Mutex::default(),
            deadlines: Mutex::default(),
            is_terminated: AtomicBool::new(false),
            is_admitted: AtomicBool::new(false),
            is_unheard: AtomicBool::new(false),
            refusals: AtomicU32::new(0),
            seat: Mutex::new(seat.transpose()?),
            rooms: Mutex::default(),
            book: Mutex::default(),
            intake: Intake::new(
                &context.limits,
                share.clone(),
                ended.clone(),
                context.handlers.clone(),
            ),
            share: share.clone(),
            ended,
            context: context.clone(),
        });
        context.sessions.insert(&session);
        if let Some(principal) = &session.identity().principal {
            context.sessions.insert_as(principal, &session);
        }
        Ok(session)
    }

    /// Who it is at this moment, and what they may do.
    #[must_use]
    pub fn identity(&self) -> Arc<Identity> {
        self.identity.load_full()
    }

    /// What all sessions share.
    #[must_use]
    pub fn context(&self) -> &Arc<SessionContext> {
        &self.context
    }

    /// The policy of its namespace.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        self.context.policies.of(self.outbox.namespace())
    }

    /// The way to its client.
    #[must_use]
    pub fn outbox(&self) -> &Arc<Outbox> {
        &self.outbox
    }

    fn engine(&self) -> &Arc<EngineSession> {
        self.outbox.engine()
    }

    /// Whether the session may still send and receive. It is asked before every event in either
    /// direction, so that not a byte passes after the end, however late the timer.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.outbox.is_open_now()
    }

    /// The rooms that it is in.
    pub fn rooms(&self) -> MutexGuard<'_, HashMap<RoomName, Membership>> {
        lock(&self.rooms)
    }

    /// How the session shows in `room`.
    #[must_use]
    pub fn subscriber(&self, room: &RoomName) -> Subscriber {
        let identity = self.identity();
        Subscriber {
            connection: self.connection.clone(),
            outbox: self.outbox.clone(),
            sender: identity.sender.clone(),
            may_watch: identity.grants.allow(Action::Presence, room),
            presence: identity.admission().presence.clone(),
        }
    }

    /// Takes the session out of a room.
    pub(crate) fn leave(&self, room: &RoomName) {
        if self.rooms().remove(room).is_some() {
            self.share.leave_rooms(1);
        }
        self.context.rooms.leave(room, &self.connection);
    }

    /// Whether the client may do more than authenticate.
    fn is_member(&self) -> bool {
        self.identity.load().principal.is_some()
            || self.context.keeps_guests(self.outbox.namespace())
    }

    /// Closes the transport at once, whatever waits to be sent. Stock clients come back by
    /// themselves.
    pub fn close(&self, cause: Cause) {
        self.terminate(cause);
        self.engine().end(cause);
    }

    /// Closes the transport of a client that sends events too fast. The answers that are queued have a
    /// moment to leave first.
    fn close_flooded(&self) {
        tracing::warn!(connection = %self.connection, "closed: it sends events too fast");
        self.terminate(Cause::Flooded);
        self.engine().end_soon(Cause::Flooded);
        self.outbox.flush();
    }

    /// Ends the session for good: the client is told by a DISCONNECT packet, after which stock
    /// clients do not come back by themselves, and then its transport is closed. The packet goes
    /// before everything that waits. A client that does not take it in time is closed all the same,
    /// and its token is refused for a minute, so that it stays away too.
    pub fn disconnect(self: &Arc<Self>, cause: Cause) {
        let identity = self.identity();
        if !self.terminate(cause) {
            return;
        }
        let packet = outbox::disconnect(self.outbox.namespace());
        if identity.principal.is_none() {
            // A guest is told before why this end comes.
            self.engine()
                .queue()
                .push(self.context.outboxes.share(packet));
            self.engine().end_soon(cause);
            return self.outbox.flush();
        }
        let session = self.clone();
        self.outbox.finish(packet, cause, move || {
            if let Some(claims) = identity.claims() {
                session.context.revocations.suspend(&claims);
            }
        });
    }

    /// Takes back a session that was never admitted; its transport stays.
    pub(crate) fn discard(&self, cause: Cause) {
        self.terminate(cause);
        self.engine().remove_socket(self.outbox.namespace());
    }

    /// Takes back a session that the application refuses, whatever its token.
    pub(crate) fn reject_by_application(&self) {
        tracing::info!(connection = %self.connection, "refused by the application");
        self.discard(Cause::Refused);
        self.engine().reject_by_application();
    }

    /// Admits the session. `answer` acknowledges CONNECT: it is queued before the outbox opens, so that
    /// no other packet comes before it. socketioxide sends its own answer, and takes no other packet
    /// until then. [`Self::start`] is due next.
    ///
    /// # Errors
    ///
    /// When the end of its transport was decided meanwhile. What is returned after that reaches
    /// nobody.
    pub(crate) fn admit(self: &Arc<Self>, answer: Option<Packet>) -> Result<(), Rejection> {
        if !self.engine().admit() {
            self.terminate(self.engine().cause());
            return Err(Rejection::TokenMissing);
        }
        if let Some(answer) = answer {
            let answer = self.context.outboxes.share(answer);
            self.engine().queue().push(answer);
        }
        let alone = lock(&self.renewing);
        self.outbox.set_deadline(self.identity().expires_at());
        self.is_admitted.store(true, Ordering::Release);
        drop(alone);
        self.join_named_rooms_first();
        Ok(())
    }

    /// Starts the deadlines of an admitted session.
    pub(crate) fn start(self: &Arc<Self>) {
        let alone = lock(&self.renewing);
        self.arm();
        drop(alone);
        // The engine tells when a client has gone.
        if !self.engine().is_of_engine() {
            self.check_liveness_soon();
        }
    }

    /// Resolves when the transport has ended whose end was decided.
    pub(crate) async fn ended_transport(&self) {
        self.engine().wait_if_ending().await;
    }

    /// Ends what the session is in the gateway, whatever becomes of its transport; `false` when that
    /// was done before.
    fn terminate(&self, cause: Cause) -> bool {
        let was_terminated = self.is_terminated.swap(true, Ordering::AcqRel);
        self.outbox.close();
        self.ended.cancel();
        let rooms = std::mem::take(&mut *self.rooms());
        self.share.leave_rooms(rooms.len());
        for room in rooms.into_keys() {
            self.context.rooms.leave(&room, &self.connection);
        }
        self.context.sessions.remove(self);
        if let Some(principal) = &self.identity().principal {
            self.context.sessions.remove_as(principal, self);
        }
        let timers = std::mem::take(&mut *lock(&self.deadlines));
        drop(timers);
        lock(&self.seat).take();
        self.close_book(cause);
        self.intake.end();
        !was_terminated
    }

    fn is_terminated(&self) -> bool {
        self.is_terminated.load(Ordering::Acquire)
    }
}

/// The payload of `unauthorized`: what `socketio-jwt` sends, and our reason.
fn unauthorized(rejection: Rejection) -> Value {
    let message = rejection.message();
    json!({
        "message": message,
        "inner": { "message": message },
        "data": {
            "message": message,
            "code": rejection.code(),
            "type": "UnauthorizedError",
            "reason": rejection.reason(),
        },
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
