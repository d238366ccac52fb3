//! The subscribers of a room, and the delivery of messages to them.

use std::{collections::HashMap, sync::Arc};

use super::{PresenceMode, Subscriber, User};
use crate::{
    outbox::{Now, Outbox, SendError},
    transport::Queued,
};

/// The subscribers of a room.
#[derive(Default)]
pub(super) struct Members {
    list: Vec<Member>,
    /// Where each connection is in the list.
    places: HashMap<Arc<str>, usize>,
    /// How many wait for the answer to their subscription.
    joining: usize,
}

/// A subscriber.
pub(super) struct Member {
    pub(super) connection: Arc<str>,
    pub(super) outbox: Arc<Outbox>,
    pub(super) user: Option<User>,
    pub(super) mode: PresenceMode,
    /// Whether its grants let it know who is in the room.
    pub(super) may_watch: bool,
    pub(super) phase: Phase,
    /// Whether it missed an announcement, since too much waited for it.
    pub(super) has_missed: bool,
}

/// How far a subscriber has come.
pub(super) enum Phase {
    /// It waits for the answer to its subscription. What is delivered meanwhile follows that.
    Joining(Waiting),
    /// It has its answer, and gets the messages after this offset.
    Live(u64),
}

/// The messages that wait behind the answer to a subscription.
#[derive(Default)]
pub(super) struct Waiting {
    deliveries: Vec<Delivery>,
    bytes: usize,
}

/// A message for all subscribers.
#[derive(Clone)]
pub(super) struct Delivery {
    pub(super) offset: u64,
    pub(super) packet: Queued,
}

impl Members {
    /// How many have the answer to their subscription.
    pub(super) fn connections(&self) -> usize {
        self.list.len() - self.joining
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(super) fn get_mut(&mut self, connection: &str) -> Option<&mut Member> {
        let place = *self.places.get(connection)?;
        self.list.get_mut(place)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Member> {
        self.list.iter_mut()
    }

    /// Adds a subscriber that waits for its answer, or lets one wait that is there already; what it
    /// has missed stays known.
    pub(super) fn join(&mut self, subscriber: &Subscriber) {
        let joining = Phase::Joining(Waiting::default());
        if let Some(place) = self.places.get(&subscriber.connection) {
            let member = &mut self.list[*place];
            if matches!(member.phase, Phase::Live(_)) {
                member.phase = joining;
                self.joining += 1;
            }
            return;
        }
        self.places
            .insert(subscriber.connection.clone(), self.list.len());
        self.joining += 1;
        self.list.push(Member {
            connection: subscriber.connection.clone(),
            outbox: subscriber.outbox.clone(),
            user: None,
            mode: PresenceMode::Off,
            may_watch: false,
            phase: joining,
            has_missed: false,
        });
    }

    pub(super) fn remove(&mut self, connection: &str) -> Option<Member> {
        let place = self.places.remove(connection)?;
        let member = self.list.swap_remove(place);
        self.joining -= usize::from(matches!(member.phase, Phase::Joining(_)));
        if let Some(moved) = self.list.get(place) {
            self.places.insert(moved.connection.clone(), place);
        }
        Some(member)
    }

    /// Queues a message for every subscriber, and returns for how many. The packets leave at the end
    /// of the turn.
    pub(super) fn deliver(&mut self, delivery: &Delivery, now: Now) -> usize {
        let mut delivered = 0;
        for member in &mut self.list {
            match &mut member.phase {
                Phase::Joining(waiting) => {
                    waiting.bytes += delivery.packet.packet().wire_bytes();
                    waiting.deliveries.push(delivery.clone());
                    if waiting.bytes > member.outbox.limit_bytes() {
                        *waiting = Waiting::default();
                        member.outbox.overflow();
                    }
                }
                Phase::Live(after) if delivery.offset > *after => {
                    // An outbox that is full has been closed, and one that is closed gets nothing.
                    if member.outbox.queue(&delivery.packet, now).is_ok() {
                        member.outbox.flush();
                        delivered += 1;
                    }
                }
                Phase::Live(_) => {}
            }
        }
        delivered
    }

    /// Lets a subscriber get messages: those that were delivered meanwhile first, as far as they come
    /// after `offset`.
    ///
    /// # Errors
    ///
    /// When its outbox takes nothing more.
    pub(super) fn go_live(
        &mut self,
        connection: &str,
        offset: u64,
        now: Now,
    ) -> Result<(), SendError> {
        let Some(place) = self.places.get(connection) else {
            return Err(SendError::Closed);
        };
        let member = &mut self.list[*place];
        let phase = std::mem::replace(&mut member.phase, Phase::Live(offset));
        if let Phase::Joining(waiting) = phase {
            self.joining -= 1;
            let deliveries = waiting.deliveries.iter();
            for delivery in deliveries.filter(|delivery| delivery.offset > offset) {
                member.outbox.queue(&delivery.packet, now)?;
            }
        }
        Ok(())
    }

    /// Queues a packet for every subscriber that has its answer.
    pub(super) fn notify(&self, packet: &Queued, now: Now) {
        for member in &self.list {
            if matches!(member.phase, Phase::Live(_)) && member.outbox.queue(packet, now).is_ok() {
                member.outbox.flush();
            }
        }
    }
}
