//! The packets that wait for one connection, in the order in which they leave.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    sync::{Arc, PoisonError},
    time::Duration,
};

use smallvec::SmallVec;
use tokio::time::Instant;

use super::{Dialect, Packet};
use crate::{
    limits::{Budget, Charge},
    sync::{Mutex, MutexGuard},
};

/// How many packets one vectored write takes at most.
const PACKETS_PER_WRITE: usize = 64;

/// Number of packets for which the queue of an idle connection keeps its buffer. The buffer of one packet is not
/// smaller.
const KEPT_PACKETS: usize = 4;

/// A packet in a queue, with the charge that all queues which hold the packet share.
#[derive(Clone)]
pub struct Queued {
    packet: Packet,
    charge: Option<Arc<Charge>>,
}

impl Queued {
    /// A packet that keeps `charge` until the last queue has let go of it.
    #[must_use]
    pub fn new(packet: Packet, charge: Option<Arc<Charge>>) -> Self {
        Self { packet, charge }
    }

    /// Returns the packet in the form for clients of `dialect`. A form that differs is charged to
    /// `budget` once, however many queues hold it.
    #[must_use]
    pub fn for_client(self, dialect: Dialect, budget: &Arc<Budget>) -> Self {
        match self.packet.for_client(dialect, budget) {
            Some(packet) => Self::new(packet, None),
            None => self,
        }
    }

    /// The packet.
    #[must_use]
    pub fn packet(&self) -> &Packet {
        &self.packet
    }

    /// The account that the packet is charged to, if it is.
    #[must_use]
    pub fn budget(&self) -> Option<&Arc<Budget>> {
        let own = self.charge.as_deref().map(Charge::budget);
        own.or_else(|| self.packet.budget())
    }
}

/// The packets that wait for one connection, in the order in which they leave.
///
/// Its count is exact: the bytes of the frames that were queued and not yet written.
#[derive(Default)]
pub struct SendQueue(Mutex<State>);

#[derive(Default)]
struct State {
    packets: VecDeque<Queued>,
    /// How many bytes of the first packet are written already.
    written: usize,
    /// How many bytes wait.
    bytes: usize,
    /// Whether the first packet is the head of the connection, and has not left in part.
    has_head: bool,
    /// Since when the connection has taken nothing, while a write waits for it.
    blocked_since: Option<Instant>,
    /// Whether only last packets are taken.
    is_closed: bool,
    /// Whether nothing is taken any more.
    is_cleared: bool,
    /// What follows when all last packets have left.
    on_finished: Option<Box<dyn FnOnce() + Send>>,
}

/// How much waits for a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// How many packets.
    pub packets: usize,
    /// How many bytes of them, as a WebSocket takes them.
    pub bytes: usize,
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// Nothing waits any more.
    All,
    /// Nothing waits any more, and the queue is closed.
    Last,
    /// The connection takes nothing more for now.
    Blocked,
}

impl SendQueue {
    /// Appends a packet, and returns how much waits now; `None` once the queue is closed.
    pub fn push(&self, packet: Queued) -> Option<Waiting> {
        let mut state = self.lock();
        if state.is_closed {
            return None;
        }
        state.bytes += packet.packet.wire_bytes();
        state.packets.push_back(packet);
        Some(state.waiting())
    }

    /// Puts the head of a connection in front of the queue, of which nothing may have left. No last packet
    /// leaves without the head.
    ///
    /// # Errors
    ///
    /// Returns `head` when everything was dropped already.
    pub(super) fn precede(&self, head: Vec<u8>) -> Result<(), Vec<u8>> {
        let mut state = self.lock();
        if state.is_cleared {
            return Err(head);
        }
        if !head.is_empty() {
            state.bytes += head.len();
            state.has_head = true;
            let packet = Queued::new(Packet::raw(head), None);
            state.packets.push_front(packet);
        }
        Ok(())
    }

    /// Drops what waits, except the rest of a packet that is written in part, and queues `last`
    /// behind that. Nothing but further last packets is queued after it: each namespace of a session
    /// has one.
    pub fn finish(&self, last: Option<Queued>) {
        let mut state = self.lock();
        if !state.is_closed {
            state.is_closed = true;
            let kept = usize::from(state.written > 0 || state.has_head);
            state.packets.truncate(kept);
        }
        if !state.is_cleared {
            state.packets.extend(last);
        }
        state.recount();
    }

    /// Appends `last` behind the packets that wait. Nothing but last packets is queued after it.
    /// Returns `false` when everything was dropped already.
    pub fn close_with(&self, last: Queued) -> bool {
        let mut state = self.lock();
        if state.is_cleared {
            return false;
        }
        state.is_closed = true;
        state.bytes += last.packet.wire_bytes();
        state.packets.push_back(last);
        true
    }

    /// Keeps `action` for the one who sends the last packets on their way: see
    /// [`Self::take_finished`].
    pub fn on_finished(&self, action: impl FnOnce() + Send + 'static) {
        self.lock().on_finished = Some(Box::new(action));
    }

    /// Returns the action that follows when all last packets have left, once they have.
    pub fn take_finished(&self) -> Option<Box<dyn FnOnce() + Send>> {
        let mut state = self.lock();
        match state.is_closed && state.packets.is_empty() {
            true => state.on_finished.take(),
            false => None,
        }
    }

    /// Drops everything. Nothing is queued any more.
    pub fn clear(&self) {
        let mut state = self.lock();
        *state = State {
            is_closed: true,
            is_cleared: true,
            ..State::default()
        };
    }

    /// Writes what waits by `write`, which behaves as a non-blocking vectored write.
    ///
    /// # Errors
    ///
    /// Those of `write`, other than that it would block.
    pub fn write_with(
        &self,
        now: Instant,
        mut write: impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> io::Result<Written> {
        let mut state = self.lock();
        while !state.packets.is_empty() {
            let result = {
                let slices = state.slices();
                write(&slices)
            };
            match result {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => state.advance(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    state.blocked_since.get_or_insert(now);
                    return Ok(Written::Blocked);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        state.shrink();
        Ok(match state.is_closed {
            true => Written::Last,
            false => Written::All,
        })
    }

    /// Takes the first packets out, of `limit` bytes together at most; or the first one alone, which may have
    /// more.
    pub fn take(&self, limit: usize) -> Vec<Queued> {
        let mut state = self.lock();
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while let Some(packet) = state.packets.pop_front_if(|next| {
            bytes += next.packet.wire_bytes();
            taken.is_empty() || bytes <= limit
        }) {
            taken.push(packet);
        }
        state.blocked_since = None;
        state.recount();
        taken
    }

    /// The first packet that waits.
    #[must_use]
    pub fn first(&self) -> Option<Queued> {
        self.lock().packets.front().cloned()
    }

    /// How much waits.
    #[must_use]
    pub fn waiting(&self) -> Waiting {
        self.lock().waiting()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lock().packets.is_empty()
    }

    /// Notes that what waits cannot be taken now.
    pub fn block(&self, now: Instant) {
        self.lock().blocked_since.get_or_insert(now);
    }

    /// How long the connection has taken nothing, while something waits for it.
    #[must_use]
    pub fn blocked_for(&self, now: Instant) -> Option<Duration> {
        let since = self.lock().blocked_since?;
        Some(now.saturating_duration_since(since))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn waiting(&self) -> Waiting {
        Waiting {
            packets: self.packets.len(),
            bytes: self.bytes,
        }
    }

    /// What the next write takes.
    fn slices(&self) -> SmallVec<[IoSlice<'_>; 16]> {
        let packets = self.packets.iter().take(PACKETS_PER_WRITE);
        let frames = packets.map(|queued| queued.packet.frames());
        let mut slices: SmallVec<_> = frames.map(IoSlice::new).collect();
        if let Some(first) = self.packets.front() {
            slices[0] = IoSlice::new(&first.packet.frames()[self.written..]);
        }
        slices
    }

    /// Takes off what was written.
    fn advance(&mut self, bytes: usize) {
        self.bytes -= bytes;
        self.has_head = false;
        self.blocked_since = None;
        let mut written = self.written + bytes;
        while let Some(first) = self.packets.front()
            && written >= first.packet.wire_bytes()
        {
            written -= first.packet.wire_bytes();
            self.packets.pop_front();
        }
        self.written = written;
    }

    /// Drops the buffer of a queue that is empty, unless it is small.
    fn shrink(&mut self) {
        if self.packets.capacity() > KEPT_PACKETS {
            self.packets = VecDeque::new();
        }
    }

    fn recount(&mut self) {
        if self.packets.is_empty() {
            self.written = 0;
            self.shrink();
        }
        let all: usize = self
            .packets
            .iter()
            .map(|queued| queued.packet.wire_bytes())
            .sum();
        self.bytes = all - self.written;
    }
}

#[cfg(test)]
mod tests;
