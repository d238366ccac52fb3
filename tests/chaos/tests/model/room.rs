//! One room of one gateway: the rules of delivery, in the terms of `rooms/room/delivery.rs`,
//! `rooms/room/following.rs` and `rooms/room/epochs.rs`.

use std::collections::BTreeSet;

/// A rule that can be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// A message is not delivered before the messages in front of it.
    HoleCheck,
    /// The log is read after each connection.
    VerifyAfterConnecting,
    /// What a former connection answered late of another epoch is known to be late.
    Generations,
    /// The members are told of a new epoch.
    TellOfEpochs,
    /// A subscriber gets the messages that were delivered while it waited for its answer.
    HoldBack,
}

/// A place among all messages that a gateway delivers: the number of epochs before it, and the offset.
pub(crate) type LocalPlace = (u8, u8);

/// A packet to members, with its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Delivery {
    /// The place.
    pub(crate) place: LocalPlace,
    /// The packet.
    pub(crate) packet: Packet,
}

/// A packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Packet {
    /// A message: its epoch and its offset.
    Message(u8, u8),
    /// A notice of lost messages: the epoch, the first one and the last one.
    Gap(u8, u8, u8),
}

/// A part of the log that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Extract {
    /// The connection that answered.
    pub(crate) generation: u8,
    /// The epoch.
    pub(crate) epoch: u8,
    /// The offset of the newest message.
    pub(crate) newest: u8,
    /// Offset after which all messages are in the extract.
    pub(crate) after: u8,
}

/// Relation of an epoch to the current one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Following {
    /// It is the current one.
    Current,
    /// It is the current one from now on, and the members were told.
    Begun,
    /// It has ended.
    Former,
}

/// The state of a room. Deliveries are taken out by the cluster after each step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Room {
    epoch: Option<u8>,
    generation: u8,
    former: BTreeSet<u8>,
    /// Offset after which the delivery of the epoch began.
    start: u8,
    /// The place up to which messages were delivered.
    delivered: LocalPlace,
    newest: u8,
    required: u8,
    verified: u8,
    early: BTreeSet<u8>,
    /// The place up to which messages are known to be lost, if the next reading does not have them.
    lost: LocalPlace,
    /// Packets for the members.
    pub(crate) out: Vec<Delivery>,
}

impl Room {
    /// The epoch and the newest delivered offset, of which the log is asked.
    pub(crate) fn since(&self) -> (Option<u8>, u8) {
        (self.epoch, self.delivered.1)
    }

    /// Number of epochs before the current one.
    pub(crate) fn life(&self) -> u8 {
        self.delivered.0
    }

    /// Whether the log has to be read.
    pub(crate) fn is_behind(&self) -> bool {
        self.delivered.1 < self.newest || self.verified < self.required
    }

    /// Requires that the log is read in a connection.
    pub(crate) fn verify(&mut self, generation: u8) {
        self.required = self.required.max(generation);
    }

    /// Takes a message of the channel; offset 0 is the beginning of an epoch.
    pub(crate) fn receive(
        &mut self,
        (epoch, offset): (u8, u8),
        generation: u8,
        has_members: bool,
        without: Option<Rule>,
    ) {
        let start = offset.saturating_sub(1);
        if self.follow(epoch, generation, start, without) == Following::Former {
            return;
        }
        if offset <= self.delivered.1 {
            return;
        }
        if !has_members {
            self.delivered.1 = offset;
            self.newest = 0;
            self.early.clear();
            return;
        }
        if offset > self.delivered.1 + 1 && without != Some(Rule::HoleCheck) {
            self.early.insert(offset);
            self.newest = self.newest.max(offset);
            return;
        }
        self.deliver(offset);
        while self.early.remove(&(self.delivered.1 + 1)) {
            self.deliver(self.delivered.1 + 1);
        }
    }

    /// Takes what was read for delivery.
    pub(crate) fn take(&mut self, extract: &Extract, keeps: bool, without: Option<Rule>) {
        let Extract {
            generation,
            epoch,
            newest,
            after,
        } = *extract;
        if self.follow(epoch, generation, newest, without) == Following::Former {
            return;
        }
        let life = self.life();
        let lost_until = if self.lost.0 == life { self.lost.1 } else { 0 };
        self.newest = self.newest.max(newest);
        self.verified = generation;
        let before = self.delivered.1;
        let mut known = std::mem::take(&mut self.early);
        if keeps {
            known.extend(after + 1..=newest);
        }
        let mut is_blocked = false;
        for offset in known {
            if offset <= self.delivered.1 {
                continue;
            }
            let lost = lost_until.min(offset - 1);
            if !is_blocked && self.delivered.1 < lost {
                self.tell_of_gap(lost);
            }
            is_blocked |= self.delivered.1 < offset - 1;
            if is_blocked {
                self.early.insert(offset);
            } else {
                self.deliver(offset);
            }
        }
        let lost = lost_until.min(newest);
        if !is_blocked && self.delivered.1 < lost {
            self.tell_of_gap(lost);
        }
        let is_done = self.delivered.1 >= newest && self.delivered.1 > before;
        if !is_done {
            self.lost = (life, newest);
        }
    }

    /// Takes what was read for a subscriber. Returns whether it may be answered, or the log has to be
    /// read again.
    pub(crate) fn adopt(&mut self, extract: &Extract, without: Option<Rule>) -> bool {
        let (epoch, newest) = (extract.epoch, extract.newest);
        let followed = self.follow(epoch, extract.generation, newest, without);
        if followed == Following::Former || newest < self.start {
            return false;
        }
        if followed == Following::Begun {
            self.newest = self.newest.max(newest);
        }
        true
    }

    fn follow(&mut self, epoch: u8, generation: u8, start: u8, without: Option<Rule>) -> Following {
        let Some(current) = self.epoch else {
            (self.epoch, self.generation) = (Some(epoch), generation);
            (self.start, self.delivered.1) = (start, start);
            return Following::Current;
        };
        if current == epoch {
            self.generation = self.generation.max(generation);
            return Following::Current;
        }
        let is_over = generation == self.generation && self.former.contains(&epoch);
        let is_late = generation < self.generation || is_over;
        if is_late && without != Some(Rule::Generations) {
            return Following::Former;
        }
        if generation > self.generation {
            self.former.clear();
        }
        self.generation = generation;
        self.former.insert(current);
        self.epoch = Some(epoch);
        (self.start, self.delivered) = (0, (self.delivered.0 + 1, 0));
        self.newest = 0;
        self.early.clear();
        if without != Some(Rule::TellOfEpochs) {
            self.push(Packet::Gap(epoch, 1, 0));
        }
        Following::Begun
    }

    fn deliver(&mut self, offset: u8) {
        self.delivered.1 = offset;
        self.push(Packet::Message(self.epoch.unwrap_or_default(), offset));
    }

    fn tell_of_gap(&mut self, until: u8) {
        let from = self.delivered.1 + 1;
        self.delivered.1 = until;
        self.push(Packet::Gap(self.epoch.unwrap_or_default(), from, until));
    }

    fn push(&mut self, packet: Packet) {
        self.out.push(Delivery {
            place: self.delivered,
            packet,
        });
    }
}
