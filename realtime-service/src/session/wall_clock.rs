//! Sessions follow the wall clock, by which tokens end, although their timers run on a clock that
//! nobody sets and that stops while the machine is suspended.

use std::time::{Duration, SystemTime};

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::SessionContext;
use crate::clock::wall_now;

/// How often the two clocks are compared. A session ends within a second after a jump.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);

/// Maximum difference between the two clocks before all deadlines are computed again.
const TOLERANCE: Duration = Duration::from_millis(100);

/// How many sessions are armed before other tasks get their turn.
const SLICE_SESSIONS: usize = 64;

/// A moment at which timers were right, by both clocks.
struct Reference {
    timer: Instant,
    wall: SystemTime,
}

impl Reference {
    fn read() -> Self {
        Self {
            timer: Instant::now(),
            wall: wall_now(),
        }
    }

    /// Whether the wall clock has moved against the timers since. If so, makes a new reference.
    fn is_outdated(&mut self) -> bool {
        let now = Self::read();
        let expected = self.wall + now.timer.saturating_duration_since(self.timer);
        let difference = match now.wall.duration_since(expected) {
            Ok(ahead) => ahead,
            Err(behind) => behind.duration(),
        };
        let is_outdated = difference > TOLERANCE;
        if is_outdated {
            *self = now;
        }
        is_outdated
    }
}

impl SessionContext {
    /// Watches the wall clock; never returns. When the wall clock was set, arms every session again, so
    /// that each session ends when its token does.
    pub async fn follow_wall_clock(&self) {
        let mut reference = Reference::read();
        let mut checks = interval(CHECK_INTERVAL);
        checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            checks.tick().await;
            if !reference.is_outdated() {
                continue;
            }
            tracing::info!("the wall clock was set: deadlines of sessions are computed again");
            for slice in self.sessions.all().chunks(SLICE_SESSIONS) {
                for session in slice {
                    session.arm_again();
                }
                tokio::task::yield_now().await;
            }
        }
    }
}
