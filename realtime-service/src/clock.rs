//! The clocks, and time as numbers.

use std::{
    cell::Cell,
    time::{SystemTime, UNIX_EPOCH},
};

use tokio::time::Instant;

/// A moment by both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// By the clock that timers use. It stands still while the machine is suspended.
    pub(crate) timer: Instant,
    /// By the wall clock.
    pub(crate) wall: SystemTime,
}

/// The clocks of a thread.
#[derive(Clone, Copy)]
enum Clocks {
    Running,
    /// They stand at the first moment that was read since they were stopped.
    Stopped(Option<Moment>),
}

thread_local! {
    static CLOCKS: Cell<Clocks> = const { Cell::new(Clocks::Running) };
}

/// Stops the clocks of this thread for [`now`], until [`go_on`]. Reading them is a large part of what
/// a small event costs, and there are a dozen readings in one. No code of an application runs
/// meanwhile: an application may block the thread, and tokens end by these clocks.
pub(crate) fn stop() {
    CLOCKS.set(Clocks::Stopped(None));
}

/// Lets the clocks of this thread go on.
pub(crate) fn go_on() {
    CLOCKS.set(Clocks::Running);
}

/// Reads both clocks. While the clocks of this thread are stopped, every reading is the first one.
#[must_use]
pub(crate) fn now() -> Moment {
    let clocks = CLOCKS.get();
    if let Clocks::Stopped(Some(moment)) = clocks {
        return moment;
    }
    let moment = Moment {
        timer: Instant::now(),
        wall: wall_now(),
    };
    if let Clocks::Stopped(None) = clocks {
        CLOCKS.set(Clocks::Stopped(Some(moment)));
    }
    moment
}

/// Returns the time of the wall clock. Unlike the clock of timers it can be set, and it runs while the
/// machine is suspended.
#[must_use]
pub(crate) fn wall_now() -> SystemTime {
    #[cfg(test)]
    if let Some(time) = for_test::now() {
        return time;
    }
    SystemTime::now()
}

/// Returns whole seconds since the Unix epoch; 0 for an earlier time.
#[must_use]
pub(crate) fn unix_secs(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

/// Returns milliseconds since the Unix epoch; 0 for an earlier time.
#[must_use]
pub(crate) fn unix_millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A wall clock that a test sets for its own thread. Tests with a paused clock run on one thread.
#[cfg(test)]
pub(crate) mod for_test {
    use std::{
        cell::Cell,
        time::{Duration, SystemTime},
    };

    use tokio::time::Instant;

    thread_local! {
        /// What the clock showed when it was set, and when that was.
        static SET: Cell<Option<(SystemTime, Instant)>> = const { Cell::new(None) };
    }

    /// Sets the wall clock. From then on it runs as fast as the clock of timers.
    pub(crate) fn set(time: SystemTime) {
        SET.set(Some((time, Instant::now())));
    }

    /// Sets the wall clock ahead of what it shows.
    pub(crate) fn jump(by: Duration) {
        set(super::wall_now() + by);
    }

    /// Sets the wall clock behind what it shows.
    pub(crate) fn jump_back(by: Duration) {
        set(super::wall_now() - by);
    }

    pub(super) fn now() -> Option<SystemTime> {
        SET.get().map(|(time, at)| time + at.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn clocks_that_are_stopped_show_the_first_reading_until_they_go_on() {
        let before = now();
        stop();
        tokio::time::advance(Duration::from_secs(1)).await;
        let first = now();
        assert_eq!(first.timer - before.timer, Duration::from_secs(1));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(now().timer, first.timer);
        go_on();
        assert_eq!(now().timer - first.timer, Duration::from_secs(1));
    }
}
