//! The one way to a client: acknowledgements, messages, presence, notices and the closing packet
//! leave through its outbox, in one order.
//!
//! An outbox decides what may still be queued: nothing after the end of its session or of its
//! token, and no more than the limits allow. The bytes themselves wait in the session's
//! [`SendQueue`](crate::transport::SendQueue), from where a carrier takes them.

mod clients;
mod encode;
#[cfg(all(test, shuttle))]
mod interleavings;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::time::Instant;

use self::clients::Clients;
pub use self::encode::{
    EncodeError, acknowledgement, acknowledgement_by, acknowledgement_of, append_json, disconnect,
    event, event_of, question,
};
use crate::{
    clock::{self, Moment, unix_millis},
    limits::Budget,
    metrics::{Cause, Metrics},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    transport::{EngineSession, Packet, Queued, TransportContext, Waiting},
};

/// How long a client whose queue is full may have taken nothing before it is closed: whoever reads
/// is given the time to catch up.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long an answer waits before it looks again at a queue that is full.
const FULL_QUEUE_PAUSE: Duration = Duration::from_millis(5);

/// How often the limit of one client may be exceeded while the client reads.
const MAXIMUM_OVERRUN: usize = 2;

/// What all outboxes share.
pub struct OutboxContext {
    limit_bytes: usize,
    limit_packets: usize,
    budget: Arc<Budget>,
    clients: Clients,
    metrics: Arc<Metrics>,
    started_at: Instant,
}

/// Why a packet is not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError {
    /// The session has ended, or its token has.
    Closed,
    /// As much waits for the client as may.
    Full,
}

/// A moment by both clocks: the one that timers use, which stands still while a machine is
/// suspended, and the wall clock. It is read once for a message to many.
#[derive(Clone, Copy)]
pub struct Now {
    timer: Instant,
    /// Milliseconds after the start of the context.
    timer_ms: u64,
    /// Milliseconds since the Unix epoch.
    wall_ms: u64,
}

/// The way to the client of one session.
pub struct Outbox {
    context: Arc<OutboxContext>,
    engine: Arc<EngineSession>,
    /// The namespace; the main one is `/`.
    namespace: Box<str>,
    is_closed: AtomicBool,
    /// When the token ends, in milliseconds after the start of the context.
    timer_deadline: AtomicU64,
    /// When the token ends, in milliseconds since the Unix epoch.
    wall_deadline: AtomicU64,
}

impl OutboxContext {
    /// The context of all outboxes whose sessions share `transport`.
    #[must_use]
    pub fn new(transport: &TransportContext) -> Arc<Self> {
        Arc::new(Self {
            limit_bytes: transport.limits.outbound_bytes,
            limit_packets: transport.limits.outbound_packets,
            budget: transport.outbound.clone(),
            clients: Clients::default(),
            metrics: transport.metrics.clone(),
            started_at: Instant::now(),
        })
    }

    /// Reads both clocks.
    #[must_use]
    pub fn now(&self) -> Now {
        let Moment { timer, wall } = clock::now();
        Now {
            timer,
            timer_ms: self.millis(timer),
            wall_ms: unix_millis(wall),
        }
    }

    /// Prepares a packet for many outboxes: its bytes are charged once.
    #[must_use]
    pub fn share(&self, packet: Packet) -> Queued {
        let charge = self.budget.charge(packet.memory());
        Queued::new(packet, Some(Arc::new(charge)))
    }

    /// Returns whether more waits for all clients than may, after the clients that have taken
    /// nothing for longest were closed.
    pub fn is_overloaded(&self) -> bool {
        while self.budget.excess() > 0 {
            let Some(slowest) = self.clients.take_slowest(Instant::now()) else {
                return true;
            };
            tracing::warn!(
                "closed the client that has taken nothing for longest: too much waits for all of them"
            );
            slowest.end(Cause::Overflowed);
        }
        false
    }

    fn millis(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.started_at).as_millis();
        u64::try_from(since).unwrap_or(u64::MAX)
    }
}

impl Outbox {
    /// The way to the client of `engine` in `namespace`. Nothing is queued before
    /// [`set_deadline`](Self::set_deadline): somebody who is not admitted is sent nothing.
    #[must_use]
    pub fn new(
        context: &Arc<OutboxContext>,
        engine: Arc<EngineSession>,
        namespace: &str,
    ) -> Arc<Self> {
        context.clients.insert(&engine);
        Arc::new(Self {
            context: context.clone(),
            engine,
            namespace: namespace.into(),
            is_closed: AtomicBool::new(false),
            timer_deadline: AtomicU64::new(0),
            wall_deadline: AtomicU64::new(0),
        })
    }

    /// The namespace of the session; the main one is `/`.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The Engine.IO session that carries the packets.
    #[must_use]
    pub fn engine(&self) -> &Arc<EngineSession> {
        &self.engine
    }

    /// Sets when the token ends: packets are queued from now on until then. `None` is never.
    pub fn set_deadline(&self, deadline: Option<(Instant, SystemTime)>) {
        let (timer, wall) = deadline.map_or((u64::MAX, u64::MAX), |(timer, wall)| {
            (self.context.millis(timer), unix_millis(wall))
        });
        self.timer_deadline.store(timer, Ordering::Release);
        self.wall_deadline.store(wall, Ordering::Release);
    }

    /// Whether packets may still be queued.
    #[must_use]
    pub fn is_open(&self, now: Now) -> bool {
        !self.is_closed.load(Ordering::Acquire)
            && now.timer_ms < self.timer_deadline.load(Ordering::Acquire)
            && now.wall_ms < self.wall_deadline.load(Ordering::Acquire)
    }

    /// Whether packets may be queued at this moment.
    #[must_use]
    pub fn is_open_now(&self) -> bool {
        self.is_open(self.context.now())
    }

    /// Closes the outbox: nothing more is queued. Returns whether it was open.
    pub fn close(&self) -> bool {
        !self.is_closed.swap(true, Ordering::AcqRel)
    }

    /// Queues a packet for this client alone, and sends it on its way.
    ///
    /// # Errors
    ///
    /// See [`SendError`].
    pub fn send(&self, packet: Packet) -> Result<(), SendError> {
        self.queue(&self.context.share(packet), self.context.now())?;
        self.flush();
        Ok(())
    }

    /// Queues a packet that other outboxes share; [`Self::flush`] sends it on its way. A client that
    /// has taken nothing for a while is closed when its queue is full: it may not miss a packet
    /// without a word.
    ///
    /// # Errors
    ///
    /// See [`SendError`].
    pub fn queue(&self, packet: &Queued, now: Now) -> Result<(), SendError> {
        if !self.is_open(now) {
            return Err(SendError::Closed);
        }
        let Some(waiting) = self.engine.push(packet.clone()) else {
            return Err(SendError::Closed);
        };
        let is_over = waiting.packets > 1 && waiting.bytes > self.context.limit_bytes
            || waiting.packets > self.context.limit_packets;
        if is_over && self.is_slow(waiting, now.timer) {
            self.overflow();
            return Err(SendError::Full);
        }
        Ok(())
    }

    /// Queues a packet only while less than `limit` bytes wait; the client stays as it is when they
    /// do.
    ///
    /// # Errors
    ///
    /// See [`SendError`].
    pub fn queue_within(&self, packet: &Queued, limit: usize, now: Now) -> Result<(), SendError> {
        if !self.is_open(now) {
            return Err(SendError::Closed);
        }
        let waiting = self.engine.waiting();
        let is_full = waiting.packets >= self.context.limit_packets;
        if is_full || (waiting.bytes > 0 && waiting.bytes + packet.packet().wire_bytes() > limit) {
            return Err(SendError::Full);
        }
        match self.engine.push(packet.clone()) {
            Some(_) => Ok(()),
            None => Err(SendError::Closed),
        }
    }

    /// Sends what waits on its way, as far as the client takes it.
    pub fn flush(&self) {
        self.engine.flush();
    }

    /// Closes the outbox, and ends the session once `last` has left; what waits is dropped.
    /// `undelivered` is called when `last` could not leave in time.
    pub fn finish(&self, last: Packet, cause: Cause, undelivered: impl FnOnce() + Send + 'static) {
        self.close();
        let last = self.context.share(last);
        self.engine.finish(last, cause, undelivered);
    }

    /// How many bytes may wait for one client.
    #[must_use]
    pub fn limit_bytes(&self) -> usize {
        self.context.limit_bytes
    }

    /// Whether as much waits for this client as may.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let waiting = self.engine.waiting();
        waiting.bytes > self.context.limit_bytes || waiting.packets >= self.context.limit_packets
    }

    /// Waits until less waits for this client than may, or the outbox is closed.
    pub async fn wait_for_room(&self) {
        while self.is_full() && self.is_open_now() {
            tokio::time::sleep(FULL_QUEUE_PAUSE).await;
        }
    }

    /// Whether a client whose queue is full does not read, or so much slower than it is sent to that
    /// there is no hope for it.
    fn is_slow(&self, waiting: Waiting, now: Instant) -> bool {
        if self.engine.keeps_up() {
            return false;
        }
        let stalled = self.engine.blocked_for(now);
        stalled.is_some_and(|time| time >= PATIENCE)
            || waiting.bytes > MAXIMUM_OVERRUN * self.context.limit_bytes
            || waiting.packets > MAXIMUM_OVERRUN * self.context.limit_packets
    }

    /// Closes a client that takes messages too slowly.
    pub fn overflow(&self) {
        self.close();
        tracing::warn!("closed a client that takes messages too slowly");
        self.engine.end(Cause::Overflowed);
    }
}

impl OutboxContext {
    /// The counters.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock::wall_now, config::Config, transport::testing};

    #[tokio::test]
    async fn nothing_is_queued_before_the_admission_or_after_the_end_of_the_token() {
        let (metrics, timers) = (Arc::new(Metrics::new()), Arc::default());
        let transport = TransportContext::new(&Config::default(), &metrics, &timers);
        let context = OutboxContext::new(&transport);
        let outbox = Outbox::new(&context, testing::session(&transport), "/");
        let send = || outbox.send(disconnect("/"));
        assert_eq!(send(), Err(SendError::Closed));
        let far = Duration::from_secs(60);
        let (timer, wall) = (Instant::now(), wall_now());
        outbox.set_deadline(Some((timer + far, wall + far)));
        assert_eq!(send(), Ok(()));
        outbox.set_deadline(Some((timer + far, wall)));
        assert_eq!(send(), Err(SendError::Closed));
        outbox.set_deadline(Some((timer, wall + far)));
        assert_eq!(send(), Err(SendError::Closed));
        outbox.set_deadline(None);
        assert_eq!(send(), Ok(()));
    }
}
