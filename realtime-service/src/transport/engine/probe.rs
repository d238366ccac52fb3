//! A WebSocket that a polling session may move to.

use std::{io::IoSlice, pin::Pin, task::Context, time::Duration};

use tokio::time::Sleep;

use super::{
    session::close_frame,
    stream::Writer,
    violation::{CloseCode, Violation},
};
use crate::transport::Packet;

/// A WebSocket that does not carry its session yet.
pub(super) struct Probe {
    pub(super) writer: Writer,
    until: Pin<Box<Sleep>>,
    is_refused: bool,
}

impl Probe {
    /// A probe that the client has to complete within `timeout`. Sends the bytes that the stream has not
    /// sent yet.
    pub(super) fn new(writer: Writer, unsent: &[u8], timeout: Duration) -> Self {
        let mut probe = Self {
            writer,
            until: Box::pin(tokio::time::sleep(timeout)),
            is_refused: false,
        };
        // A new connection takes a few bytes, unless it is at its end.
        probe.is_refused = !probe.write(unsent);
        probe
    }

    /// Whether the upgrade was refused. It is when its time is over, for which the task is woken, and when the
    /// session has ended, for which `end` is the code.
    pub(super) fn is_over(&mut self, context: &mut Context<'_>, end: Option<CloseCode>) -> bool {
        if self.is_refused {
            return true;
        }
        let is_late = self.until.as_mut().poll(context).is_ready();
        if let Some(code) = end.or(is_late.then_some(CloseCode::PolicyViolation)) {
            self.refuse(code);
        }
        self.is_refused
    }

    /// Answers the probe of the client.
    ///
    /// # Errors
    ///
    /// When the connection does not take the few bytes of the answer at once.
    pub(super) fn answer(&mut self) -> Result<(), Violation> {
        match self.write(Packet::engine("3probe").frames()) {
            true => Ok(()),
            false => Err(Violation::Protocol),
        }
    }

    /// Sends a close frame, if the connection takes it.
    pub(super) fn refuse(&mut self, code: CloseCode) {
        self.is_refused = true;
        self.write(close_frame(code).frames());
        self.writer.close_notify();
    }

    /// Returns the writing side, for the session.
    pub(super) fn into_writer(self) -> Writer {
        self.writer
    }

    fn write(&mut self, bytes: &[u8]) -> bool {
        if bytes.is_empty() {
            return true;
        }
        let written = self.writer.try_write(&[IoSlice::new(bytes)]);
        written.is_ok_and(|written| written == bytes.len())
    }
}
