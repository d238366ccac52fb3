//! The packets that were handed to socketioxide and have not left yet.
//!
//! socketioxide keeps a copy of a packet for each client, so it is given few at a time: a window for
//! each session, and a budget for all of them. What does not fit stays in the sessions' queues,
//! where all members of a room share one copy.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use super::engine_session::EngineSession;
use crate::limits::{Budget, Charge};

/// How many bytes and packets of one session socketioxide is given at a time; one packet is given
/// whatever its size.
const WINDOW_BYTES: usize = 64 * 1024;
const WINDOW_PACKETS: usize = 64;

/// The budget of all copies, and the sessions that wait for a part of it.
pub(super) struct Copies {
    budget: Arc<Budget>,
    waiting: Mutex<VecDeque<Weak<EngineSession>>>,
}

impl Copies {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            budget: Budget::new(limit),
            waiting: Mutex::default(),
        }
    }

    /// Charges a copy of so many bytes, or notes that `session` waits for it.
    pub(super) fn charge(&self, bytes: usize, session: &Arc<EngineSession>) -> Option<Charge> {
        if let Some(charge) = self.budget.try_charge(bytes) {
            return Some(charge);
        }
        self.waiting().push_back(Arc::downgrade(session));
        // A copy may have left meanwhile, and woken nobody.
        self.budget.try_charge(bytes)
    }

    /// Lets the session that has waited for longest go on, after copies have left.
    pub(super) fn wake_next(&self) {
        let next = self.waiting().pop_front();
        if let Some(session) = next.and_then(|session| session.upgrade()) {
            session.flush();
        }
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, VecDeque<Weak<EngineSession>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
