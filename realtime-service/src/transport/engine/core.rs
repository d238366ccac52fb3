//! What the sessions of an engine share: the settings, the registry of the sessions that were
//! opened by polling, and the sessions that maintenance has to look at.

use std::{
    collections::HashMap,
    mem,
    sync::{Arc, OnceLock, PoisonError, Weak},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use super::{session::Session, settings::EngineSettings, sid::Sid, violation::CloseCode};
use crate::{
    clock,
    sync::{Mutex, MutexGuard, atomic::AtomicUsize},
    transport::Packet,
};

/// How many parts the registry has. Requests of different sessions rarely take the same lock.
const SHARDS: usize = 64;

/// How many steps of the wheel the shorter of ping interval and ping timeout has.
const STEPS: u32 = 16;

/// The bounds of a step.
const SHORTEST_STEP: Duration = Duration::from_millis(5);
const LONGEST_STEP: Duration = Duration::from_millis(250);

/// What the sessions of an engine share.
pub(super) struct Core<D> {
    pub(super) settings: EngineSettings,
    started_at: Instant,
    shards: [Mutex<HashMap<Sid, Arc<Session<D>>>>; SHARDS],
    wheel: Wheel<D>,
    /// The sessions that were blocked since maintenance looked last.
    blocked: Mutex<Vec<Weak<Session<D>>>>,
    /// The polling sessions whose end was decided since maintenance looked last.
    ended: Mutex<Vec<Arc<Session<D>>>>,
    /// Notified when a session was added to `ended`.
    pub(super) has_ended: Notify,
    /// How many WebSockets have a task.
    pub(super) websockets: AtomicUsize,
    /// The answer to a ping of Engine.IO 3.
    pub(super) pong: Packet,
    /// Set when the engine shuts down.
    shutdown_code: OnceLock<CloseCode>,
}

/// The sessions to visit in one step.
type Slot<D> = Mutex<Vec<Weak<Session<D>>>>;

/// The sessions by the time of their next ping or ping timeout.
struct Wheel<D> {
    slots: Box<[Slot<D>]>,
    step_ms: u64,
}

impl<D> Core<D> {
    pub(super) fn new(settings: EngineSettings) -> Self {
        let (interval, timeout) = (settings.ping_interval, settings.ping_timeout);
        let step = (interval.min(timeout) / STEPS).clamp(SHORTEST_STEP, LONGEST_STEP);
        let step_ms = as_millis(step);
        let slots = as_millis(interval.max(timeout)) / step_ms + 3;
        Self {
            settings,
            started_at: Instant::now(),
            shards: std::array::from_fn(|_| Mutex::default()),
            wheel: Wheel {
                slots: (0..slots).map(|_| Mutex::default()).collect(),
                step_ms,
            },
            blocked: Mutex::default(),
            ended: Mutex::default(),
            has_ended: Notify::new(),
            websockets: AtomicUsize::new(0),
            pong: Packet::engine("3"),
            shutdown_code: OnceLock::new(),
        }
    }

    /// Returns the time since the engine was made, in milliseconds.
    pub(super) fn now_ms(&self) -> u64 {
        as_millis(
            clock::now()
                .timer
                .saturating_duration_since(self.started_at),
        )
    }

    /// Returns the maximum time between two pongs of a live client, or two pings in Engine.IO 3, in
    /// milliseconds.
    pub(super) fn idle_timeout_ms(&self) -> u64 {
        as_millis(self.settings.ping_interval + self.settings.ping_timeout)
    }

    /// Returns the time from a ping to the next one, in milliseconds.
    pub(super) fn ping_interval_ms(&self) -> u64 {
        as_millis(self.settings.ping_interval)
    }

    /// Returns the time from a ping to its timeout, in milliseconds.
    pub(super) fn ping_timeout_ms(&self) -> u64 {
        as_millis(self.settings.ping_timeout)
    }

    /// Returns the delay of a visit that is no longer explained by the step of the wheel, in
    /// milliseconds.
    pub(super) fn late_ms(&self) -> u64 {
        2 * self.wheel.step_ms
    }

    /// Returns the time between two visits of the wheel.
    pub(super) fn step(&self) -> Duration {
        Duration::from_millis(self.wheel.step_ms)
    }

    /// Adds a session that requests may name.
    pub(super) fn register(&self, session: &Arc<Session<D>>, sid: Sid) {
        lock(self.shard(sid)).insert(sid, session.clone());
    }

    /// Removes a session that has ended.
    pub(super) fn unregister(&self, sid: Sid) {
        // Bound to a name, so that the session is dropped after the lock.
        let _session = lock(self.shard(sid)).remove(&sid);
    }

    /// Finds a session that requests may name.
    pub(super) fn session(&self, sid: Sid) -> Option<Arc<Session<D>>> {
        lock(self.shard(sid)).get(&sid).cloned()
    }

    fn shard(&self, sid: Sid) -> &Mutex<HashMap<Sid, Arc<Session<D>>>> {
        &self.shards[sid.hash_bits() % SHARDS]
    }

    /// Schedules a visit of `session` at `at_ms`, which is at most one interval or timeout ahead.
    pub(super) fn schedule(&self, session: Weak<Session<D>>, at_ms: u64) {
        // Rounded up, as a visit before the time would do nothing; and the current step is over.
        let step = at_ms.div_ceil(self.wheel.step_ms);
        let step = step.max(self.current_step() + 1);
        lock(self.wheel.slot(step)).push(session);
    }

    /// Takes the sessions whose visit is due in the `step`th step since the start.
    pub(super) fn take_due(&self, step: u64) -> Vec<Weak<Session<D>>> {
        mem::take(&mut lock(self.wheel.slot(step)))
    }

    /// Begins the shutdown, and returns the sessions that are scheduled. Maintenance closes those that
    /// it visits at this moment, and the engine those that open later.
    pub(super) fn shut_down(&self, code: CloseCode) -> Vec<Weak<Session<D>>> {
        // A second shutdown keeps the code of the first one.
        let _ = self.shutdown_code.set(code);
        let slots = self.wheel.slots.iter();
        slots.flat_map(|slot| lock(slot).clone()).collect()
    }

    /// Returns the code for the sessions, once the engine shuts down.
    pub(super) fn shutdown_code(&self) -> Option<CloseCode> {
        self.shutdown_code.get().copied()
    }

    /// Returns the number of the step that is under way.
    pub(super) fn current_step(&self) -> u64 {
        self.now_ms() / self.wheel.step_ms
    }

    /// Has maintenance end `session` if it stays blocked.
    pub(super) fn watch_stall(&self, session: &Arc<Session<D>>) {
        lock(&self.blocked).push(Arc::downgrade(session));
    }

    pub(super) fn take_blocked(&self) -> Vec<Weak<Session<D>>> {
        mem::take(&mut lock(&self.blocked))
    }

    /// Has maintenance tell the handler of the end of `session`, which has no task.
    pub(super) fn end(&self, session: Arc<Session<D>>) {
        lock(&self.ended).push(session);
        self.has_ended.notify_one();
    }

    pub(super) fn take_ended(&self) -> Vec<Arc<Session<D>>> {
        mem::take(&mut lock(&self.ended))
    }
}

impl<D> Wheel<D> {
    fn slot(&self, step: u64) -> &Slot<D> {
        &self.slots[(step % self.slots.len() as u64) as usize]
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn as_millis(duration: Duration) -> u64 {
    duration.as_millis().try_into().unwrap_or(u64::MAX)
}
