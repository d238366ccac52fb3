//! The subscribers of a room, and the delivery of messages to them.

use std::{collections::HashMap, sync::Arc};

use super::{PresenceMode, Subscriber, User, position::Place};
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
    /// Number of subscribers that have never had an answer to their subscription.
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
    /// It has its answer, and gets the messages after this place.
    Live(Place),
}

impl Phase {
    fn is_counted(&self) -> bool {
        match self {
            Self::Joining(waiting) => waiting.after.is_some(),
            Self::Live(_) => true,
        }
    }
}

/// The messages that wait behind the answer to a subscription.
#[derive(Default)]
pub(super) struct Waiting {
    /// The place of the subscriber's answer before, if there was one: it has the messages up to
    /// this place.
    after: Option<Place>,
    deliveries: Vec<Delivery>,
    bytes: usize,
}

/// A message, or the notice of lost messages, for all subscribers. `place` is that of the last
/// message.
#[derive(Clone)]
pub(super) struct Delivery {
    pub(super) place: Place,
    pub(super) packet: Queued,
}

impl Members {
    /// Number of subscribers that have, or had before, the answer to their subscription.
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

    /// Whether a connection is among [`Self::connections`].
    pub(super) fn is_counted(&self, connection: &str) -> bool {
        let place = self.places.get(connection);
        place.is_some_and(|place| self.list[*place].phase.is_counted())
    }

    /// Adds a subscriber that waits for its answer, or lets a member wait for another answer; what
    /// the member has missed stays known. Returns whether it was a member with an answer.
    pub(super) fn join(&mut self, subscriber: &Subscriber) -> bool {
        if let Some(place) = self.places.get(&subscriber.connection) {
            let member = &mut self.list[*place];
            if let Phase::Live(after) = member.phase {
                member.phase = Phase::Joining(Waiting {
                    after: Some(after),
                    ..Waiting::default()
                });
            }
            return member.phase.is_counted();
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
            phase: Phase::Joining(Waiting::default()),
            has_missed: false,
        });
        false
    }

    pub(super) fn remove(&mut self, connection: &str) -> Option<Member> {
        let place = self.places.remove(connection)?;
        let member = self.list.swap_remove(place);
        self.joining -= usize::from(!member.phase.is_counted());
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
                Phase::Joining(waiting)
                    if waiting.after.is_none_or(|after| delivery.place > after) =>
                {
                    waiting.bytes += delivery.packet.packet().wire_bytes();
                    waiting.deliveries.push(delivery.clone());
                    if waiting.bytes > member.outbox.limit_bytes() {
                        waiting.deliveries = Vec::new();
                        waiting.bytes = 0;
                        member.outbox.overflow();
                    }
                }
                Phase::Live(after) if delivery.place > *after => {
                    // An outbox that is full has been closed, and one that is closed gets nothing.
                    if member.outbox.queue(&delivery.packet, now).is_ok() {
                        member.outbox.flush();
                        delivered += 1;
                    }
                }
                Phase::Joining(_) | Phase::Live(_) => {}
            }
        }
        delivered
    }

    /// Queues the messages up to `place` that were delivered while a subscriber waits for its
    /// answer.
    ///
    /// # Errors
    ///
    /// When its outbox takes nothing more.
    pub(super) fn release_until(
        &mut self,
        connection: &str,
        place: Place,
        now: Now,
    ) -> Result<(), SendError> {
        let member = self.get_mut(connection).ok_or(SendError::Closed)?;
        if let Phase::Joining(waiting) = &mut member.phase {
            let count = waiting
                .deliveries
                .partition_point(|delivery| delivery.place <= place);
            for delivery in waiting.deliveries.drain(..count) {
                waiting.bytes -= delivery.packet.packet().wire_bytes();
                member.outbox.queue(&delivery.packet, now)?;
            }
        }
        Ok(())
    }

    /// Lets a subscriber get messages: first the messages after `place` that were delivered while it
    /// waited for its answer.
    ///
    /// # Errors
    ///
    /// When its outbox takes nothing more.
    pub(super) fn go_live(
        &mut self,
        connection: &str,
        place: Place,
        now: Now,
    ) -> Result<(), SendError> {
        let Some(index) = self.places.get(connection) else {
            return Err(SendError::Closed);
        };
        let member = &mut self.list[*index];
        self.joining -= usize::from(!member.phase.is_counted());
        let phase = std::mem::replace(&mut member.phase, Phase::Live(place));
        if let Phase::Joining(waiting) = phase {
            let deliveries = waiting.deliveries.iter();
            for delivery in deliveries.filter(|delivery| delivery.place > place) {
                member.outbox.queue(&delivery.packet, now)?;
            }
        }
        Ok(())
    }
}
