//! The share of one client in the limits, whichever namespaces it is in.

use std::sync::{
    Arc, Mutex, Weak,
    atomic::{AtomicUsize, Ordering},
};

use shared_claims::Rejection;
use tokio::time::Instant;

use super::{Principal, SessionContext, lock};
use crate::{
    clock,
    config::Limits,
    limits::{Pace, PaceLimits, Permit, Subject, Verdict},
    metrics::Limit,
};

/// The share of one client in the limits. The sessions of a client in several namespaces have the same one.
pub struct ClientShare {
    pace: Mutex<Pace>,
    /// The places of the connection among those of its subjects: one each, however many sessions have it.
    seats: Mutex<Vec<(Subject, Weak<Permit<Subject>>)>>,
    /// Number of rooms that the client is in.
    rooms: AtomicUsize,
    /// Number and size of the received events that wait.
    waiting: Mutex<(usize, usize)>,
}

impl Default for ClientShare {
    fn default() -> Self {
        Self {
            pace: Mutex::new(Pace::new(Instant::now())),
            seats: Mutex::default(),
            rooms: AtomicUsize::new(0),
            waiting: Mutex::default(),
        }
    }
}

impl ClientShare {
    /// Counts an event.
    pub(super) fn count_event(&self, limits: &PaceLimits) -> Verdict {
        lock(&self.pace).count(limits, clock::now().timer)
    }

    /// Takes a place among the connections of a subject, or the one that the client has.
    ///
    /// # Errors
    ///
    /// When the subject has as many connections as it may.
    pub(super) fn take_seat(
        &self,
        context: &SessionContext,
        principal: &Principal,
    ) -> Result<Arc<Permit<Subject>>, Rejection> {
        let subject = (principal.issuer.clone(), principal.subject.clone());
        let mut seats = lock(&self.seats);
        seats.retain(|(_, seat)| seat.strong_count() > 0);
        let own = seats.iter().find(|(owner, _)| *owner == subject);
        if let Some(seat) = own.and_then(|(_, seat)| seat.upgrade()) {
            return Ok(seat);
        }
        let seat = context.quotas.sockets.acquire(Some(subject.clone()));
        let seat = seat.map_err(|_| {
            context.metrics.limited(Limit::SocketsPerSubject);
            Rejection::TooManySockets
        })?;
        let seat = Arc::new(seat);
        seats.push((subject, Arc::downgrade(&seat)));
        Ok(seat)
    }

    /// Counts a room that the client enters. Returns `false` when it is in as many as it may be.
    pub(super) fn enter_room(&self, limits: &Limits) -> bool {
        let one_more = |rooms: usize| (rooms < limits.rooms_per_socket).then_some(rooms + 1);
        let entered = self
            .rooms
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more);
        entered.is_ok()
    }

    /// Counts rooms that the client has left.
    pub(super) fn leave_rooms(&self, rooms: usize) {
        self.rooms.fetch_sub(rooms, Ordering::AcqRel);
    }

    /// Counts an event of `size` bytes that is to wait. Returns `false`, and counts nothing, when
    /// `most_events` wait or more than `most_bytes` would.
    pub(super) fn wait(&self, size: usize, (most_events, most_bytes): (usize, usize)) -> bool {
        let mut waiting = lock(&self.waiting);
        let (events, bytes) = *waiting;
        let is_too_much = bytes > 0 && bytes + size > most_bytes;
        if is_too_much || events >= most_events {
            return false;
        }
        *waiting = (events + 1, bytes + size);
        true
    }

    /// Counts `events` of `size` bytes in all that wait no longer.
    pub(super) fn stop_waiting(&self, events: usize, size: usize) {
        let mut waiting = lock(&self.waiting);
        waiting.0 -= events;
        waiting.1 -= size;
    }
}
