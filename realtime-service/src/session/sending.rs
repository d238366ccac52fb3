//! What a session's client is sent, without waiting: a client that takes too little is closed or told,
//! never silently short.

use std::{fmt, time::Duration};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{SeqAccess, Visitor},
};
use serde_json::Value;
use socketioxide::{AckError, SendError, SocketError, extract::SocketRef};

use super::{Session, lock};
use crate::metrics::Cause;

/// The longest time that an acknowledgement can be waited for.
pub const ACKNOWLEDGEMENT_DEADLINE: Duration = Duration::from_secs(30);

/// Why a client has not acknowledged an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAcknowledged {
    /// It has not in time.
    TimedOut,
    /// It is not there any more, or takes nothing more.
    Gone,
    /// What it answered is no JSON.
    Invalid,
}

impl NotAcknowledged {
    /// The name for programs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::TimedOut => "timeout",
            Self::Gone => "gone",
            Self::Invalid => "invalid",
        }
    }
}

impl Session {
    /// Sends an event of about so many `bytes`; `false` when it cannot be queued.
    pub(crate) fn send(
        &self,
        socket: &SocketRef,
        (event, data): (&str, &impl Serialize),
        (bytes, most): (usize, usize),
    ) -> bool {
        // Counted before it is sent, or it could be written, and taken off, before it is counted.
        if self.backlog().add(bytes) > most {
            self.backlog().remove(bytes);
            return false;
        }
        let sent = socket.emit(event, data);
        let is_full = matches!(
            &sent,
            Err(SendError::Socket(SocketError::InternalChannelFull))
        );
        if sent.is_err() {
            self.backlog().remove(bytes);
        }
        // What fails otherwise is on its way out, and its session will take it from there.
        !is_full
    }

    /// Sends a message that is in no room; `false` when the client is not there, or not admitted to
    /// hear it. One whose queue is full is closed.
    pub(crate) fn deliver(&self, event: &str, data: &impl Serialize, bytes: usize) -> bool {
        let Some(socket) = self.listener() else {
            return false;
        };
        let most = self.gateway.limits.outbound_bytes;
        let is_sent = self.send(&socket, (event, data), (bytes, most));
        if !is_sent {
            tracing::warn!(connection = %self.connection, "closed: it takes messages too slowly");
            self.end(Cause::Overflowed);
        }
        is_sent
    }

    /// Sends an event and waits for the arguments of its acknowledgement.
    ///
    /// # Errors
    ///
    /// When there is none within the time, [`ACKNOWLEDGEMENT_DEADLINE`] at most.
    pub(crate) async fn ask(
        &self,
        event: &str,
        data: &impl Serialize,
        (bytes, wait): (usize, Duration),
    ) -> Result<Vec<Value>, NotAcknowledged> {
        let socket = self.listener().ok_or(NotAcknowledged::Gone)?;
        if self.is_backlogged() {
            return Err(NotAcknowledged::Gone);
        }
        self.backlog().add(bytes);
        let asked = socket.emit_with_ack::<_, Arguments>(event, data);
        let answer = asked.map_err(|_| {
            self.backlog().remove(bytes);
            NotAcknowledged::Gone
        })?;
        // socketioxide waits for the answer of a socket that has gone, too.
        let answer = tokio::select! {
            biased;
            answer = tokio::time::timeout(wait, answer) => answer,
            () = self.ended.cancelled() => return Err(NotAcknowledged::Gone),
        };
        match answer {
            Ok(Ok(Arguments(arguments))) => Ok(arguments),
            Ok(Err(AckError::Decode(_))) => Err(NotAcknowledged::Invalid),
            Err(_) | Ok(Err(AckError::Timeout)) => Err(NotAcknowledged::TimedOut),
            Ok(Err(_)) => Err(NotAcknowledged::Gone),
        }
    }

    /// The socket of somebody who may hear messages.
    fn listener(&self) -> Option<SocketRef> {
        let may_hear = self.is_live() && self.is_member();
        lock(&self.socket)
            .clone()
            .filter(|socket| may_hear && socket.connected())
    }
}

/// All arguments of an acknowledgement, however many there are.
struct Arguments(Vec<Value>);

impl<'de> Deserialize<'de> for Arguments {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Asked for a tuple, socketioxide gives all arguments, and for anything else the first.
        deserializer.deserialize_tuple(0, ArgumentsVisitor)
    }
}

struct ArgumentsVisitor;

impl<'de> Visitor<'de> for ArgumentsVisitor {
    type Value = Arguments;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Arguments, A::Error> {
        let mut arguments = Vec::new();
        while let Some(argument) = items.next_element()? {
            arguments.push(argument);
        }
        Ok(Arguments(arguments))
    }
}
