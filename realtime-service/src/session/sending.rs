//! What is sent to a session's client.

use std::{collections::HashMap, time::Duration};

use serde::Serialize;
use serde_json::Value;

use super::Session;
use crate::{outbox, transport::Queued};

/// The longest time that an acknowledgement can be waited for.
pub const ACKNOWLEDGEMENT_DEADLINE: Duration = Duration::from_secs(30);

/// Why a client has not acknowledged an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAcknowledged {
    /// It has not in time.
    TimedOut,
    /// It was not asked: it is not there any more, or takes nothing more.
    NotAsked,
    /// It went away before it answered.
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
            Self::NotAsked | Self::Gone => "gone",
            Self::Invalid => "invalid",
        }
    }
}

/// An event for many sessions, encoded once for each namespace.
pub struct Event<'a, T> {
    name: &'a str,
    arguments: &'a T,
    packets: HashMap<Box<str>, Queued>,
}

impl<'a, T: Serialize> Event<'a, T> {
    /// An event with its arguments: a tuple is as many as it has members.
    #[must_use]
    pub fn new(name: &'a str, arguments: &'a T) -> Self {
        Self {
            name,
            arguments,
            packets: HashMap::new(),
        }
    }

    /// Sends the event to a client; `false` when it is not there, not admitted to hear it, or was
    /// closed since it takes messages too slowly.
    pub fn deliver(&mut self, session: &Session) -> bool {
        if !session.is_member() {
            return false;
        }
        let namespace = session.outbox.namespace();
        if !self.packets.contains_key(namespace) {
            let Ok(packet) = outbox::event(namespace, self.name, self.arguments) else {
                return false;
            };
            let packet = session.context.outboxes.share(packet);
            self.packets.insert(namespace.into(), packet);
        }
        let is_queued = session
            .outbox
            .queue(&self.packets[namespace], session.context.outboxes.now())
            .is_ok();
        session.outbox.flush();
        is_queued
    }
}

impl Session {
    /// Sends an event with its arguments: a tuple is as many as it has members,
    /// [`Arguments`](super::Arguments) are as many as they are, and `Bytes` are binary data. Returns
    /// `false` when it cannot be queued, as before the admission and after the end.
    pub fn emit(&self, event: &str, data: &impl Serialize) -> bool {
        outbox::event(self.outbox.namespace(), event, data)
            .is_ok_and(|packet| self.outbox.send(packet).is_ok())
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
        wait: Duration,
    ) -> Result<Vec<Value>, NotAcknowledged> {
        if !self.is_member() || self.outbox.is_full() {
            return Err(NotAcknowledged::NotAsked);
        }
        let (id, answer) = self.engine().acks().expect();
        let packet = outbox::question(self.outbox.namespace(), id, event, data);
        let packet = packet.map_err(|_| NotAcknowledged::NotAsked)?;
        if self.outbox.send(packet).is_err() {
            return Err(NotAcknowledged::NotAsked);
        }
        let answer = tokio::select! {
            biased;
            answer = tokio::time::timeout(wait, answer) => answer,
            () = self.ended.cancelled() => return Err(NotAcknowledged::Gone),
        };
        match answer {
            Ok(Ok(Ok(arguments))) => Ok(arguments),
            Ok(Ok(Err(_))) => Err(NotAcknowledged::Invalid),
            Ok(Err(_)) => Err(NotAcknowledged::Gone),
            Err(_) => Err(NotAcknowledged::TimedOut),
        }
    }
}
