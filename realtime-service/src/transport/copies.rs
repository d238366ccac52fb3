//! The packets that were handed to socketioxide and have not left yet.
//!
//! socketioxide keeps a copy of a packet for each client, so it is given few at a time: a window for
//! each session, and a budget for all of them. What does not fit stays in the sessions' queues,
//! where all members of a room share one copy.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::time::Instant;

use super::{TransportContext, engine_session::EngineSession};
use crate::{
    limits::{Budget, Charge},
    metrics::Cause,
    timers::Timer,
};

/// How many bytes and packets of one session socketioxide is given at a time; one packet is given
/// whatever its size.
const WINDOW_BYTES: usize = 64 * 1024;
const WINDOW_PACKETS: usize = 64;

/// How long a session that holds copies must have taken nothing to be closed in favour of the sessions
/// that wait for the budget.
const MINIMUM_STALL: Duration = Duration::from_secs(1);

/// The list of holders is not cleaned while it is shorter than this.
const MINIMUM_LENGTH: usize = 1024;

/// The budget of all copies, and the sessions that wait for a part of it.
pub(super) struct Copies {
    budget: Arc<Budget>,
    waiting: Mutex<VecDeque<Weak<EngineSession>>>,
    holders: Mutex<Holders>,
    /// Runs when the sessions that wait have waited for long enough.
    relief: Mutex<Option<Timer>>,
}

/// The sessions that were charged for a copy, by their address, until they end.
#[derive(Default)]
struct Holders {
    sessions: HashMap<usize, Weak<EngineSession>>,
    /// At which length the list is cleaned next.
    clean_at: usize,
}

impl Copies {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            budget: Budget::new(limit),
            waiting: Mutex::default(),
            holders: Mutex::default(),
            relief: Mutex::default(),
        }
    }

    /// Charges a copy of so many bytes, or notes that `session` waits for it.
    pub(super) fn charge(&self, bytes: usize, session: &Arc<EngineSession>) -> Option<Charge> {
        let mut charge = self.budget.try_charge(bytes);
        if charge.is_none() {
            lock(&self.waiting).push_back(Arc::downgrade(session));
            // A copy may have left meanwhile, and woken nobody.
            charge = self.budget.try_charge(bytes);
        }
        match charge {
            Some(_) => lock(&self.holders).insert(session),
            None => self.relieve_later(session.context()),
        }
        charge
    }

    /// Lets the session that has waited for longest go on, after copies have left.
    pub(super) fn wake_next(&self) {
        let next = lock(&self.waiting).pop_front();
        if let Some(session) = next.and_then(|session| session.upgrade()) {
            session.flush();
        }
    }

    /// Closes the sessions that hold copies and take nothing, once others have waited for a while: the
    /// sessions that read must not wait for them.
    fn relieve_later(&self, context: &Arc<TransportContext>) {
        let mut relief = lock(&self.relief);
        if relief.is_some() {
            return;
        }
        let weak = Arc::downgrade(context);
        let at = Instant::now() + MINIMUM_STALL / 4;
        *relief = Some(context.timers.schedule(at, move || {
            if let Some(context) = weak.upgrade() {
                context.copies.relieve(&context);
            }
        }));
    }

    fn relieve(&self, context: &Arc<TransportContext>) {
        let timer = lock(&self.relief).take();
        drop(timer);
        let now = Instant::now();
        let holders = lock(&self.holders).sessions();
        for session in holders {
            let is_stalled = session.in_flight_bytes() > 0
                && session
                    .blocked_for(now)
                    .is_some_and(|time| time >= MINIMUM_STALL);
            if !is_stalled {
                continue;
            }
            tracing::warn!("closed a client that takes nothing: other clients wait for its copies");
            session.end(Cause::Overflowed);
        }
        let waiting = std::mem::take(&mut *lock(&self.waiting));
        for session in waiting.iter().filter_map(Weak::upgrade) {
            session.flush();
        }
        if !lock(&self.waiting).is_empty() {
            self.relieve_later(context);
        }
    }
}

impl Holders {
    fn insert(&mut self, session: &Arc<EngineSession>) {
        if self.sessions.len() >= self.clean_at.max(MINIMUM_LENGTH) {
            self.clean();
            self.clean_at = 2 * self.sessions.len();
        }
        let address = Arc::as_ptr(session).addr();
        let weak = || Arc::downgrade(session);
        self.sessions.entry(address).or_insert_with(weak);
    }

    /// All sessions that may hold copies. The caller looks at them without the lock of the list: a
    /// session that is charged holds its own lock.
    fn sessions(&mut self) -> Vec<Arc<EngineSession>> {
        self.clean();
        self.sessions.values().filter_map(Weak::upgrade).collect()
    }

    fn clean(&mut self) {
        self.sessions
            .retain(|_, session| session.strong_count() > 0);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The packets of one session that socketioxide has.
#[derive(Default)]
pub(super) struct InFlight {
    packets: VecDeque<Copy>,
    bytes: usize,
}

struct Copy {
    /// How many of its frames have not left yet.
    frames: usize,
    bytes: usize,
    _charge: Charge,
}

impl InFlight {
    /// Whether another packet may be handed over.
    pub(super) fn has_room(&self) -> bool {
        self.bytes < WINDOW_BYTES && self.packets.len() < WINDOW_PACKETS
    }

    /// How many bytes have not left yet, by whole packets.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn push(&mut self, frames: usize, bytes: usize, charge: Charge) {
        self.bytes += bytes;
        self.packets.push_back(Copy {
            frames,
            bytes,
            _charge: charge,
        });
    }

    /// Takes off the last packet, which could not be handed over.
    pub(super) fn pop_last(&mut self) {
        if let Some(last) = self.packets.pop_back() {
            self.bytes -= last.bytes;
        }
    }

    /// Notes that so many frames have left, in the order in which they were handed over.
    pub(super) fn frames_left(&mut self, mut frames: usize) {
        while frames > 0
            && let Some(first) = self.packets.front_mut()
        {
            let taken = frames.min(first.frames);
            first.frames -= taken;
            frames -= taken;
            if first.frames == 0 {
                self.bytes -= first.bytes;
                self.packets.pop_front();
            }
        }
    }
}
