//! Progress on a terminal: one line, which the next one replaces.

use std::io::{IsTerminal, Write, stderr};
use std::time::{Duration, Instant};

const INTERVAL: Duration = Duration::from_millis(250);

/// Shows progress on standard error if it is a terminal, and nothing otherwise.
pub(crate) struct Progress {
    is_shown: bool,
    last: Option<Instant>,
}

impl Progress {
    /// Detects whether standard error is a terminal.
    pub(crate) fn new() -> Self {
        Self {
            is_shown: stderr().is_terminal(),
            last: None,
        }
    }

    /// Replaces the line, at most four times a second.
    pub(crate) fn show(&mut self, line: impl FnOnce() -> String) {
        if self.is_shown && self.last.is_none_or(|last| last.elapsed() >= INTERVAL) {
            self.last = Some(Instant::now());
            // A closed terminal is no reason to stop.
            let _ = write!(stderr(), "\r\x1b[2K{}", line());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.last.is_some() {
            let _ = write!(stderr(), "\r\x1b[2K");
        }
    }
}
