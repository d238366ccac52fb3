//! A state of the model: the server, the gateways, the clients, and their steps.

use std::collections::VecDeque;

use crate::{
    cluster::Faults,
    room::{Delivery, Extract, LocalPlace, Packet, Room, Rule},
};

/// A state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) epoch: u8,
    pub(crate) offset: u8,
    /// Whether the epoch has begun: it does so when the log is used.
    pub(crate) has_begun: bool,
    pub(crate) nodes: Vec<Node>,
    pub(crate) clients: Vec<Client>,
    pub(crate) publishes: [u8; 2],
    pub(crate) faults: Faults,
    /// Whether a client was misled.
    pub(crate) is_broken: bool,
    /// Whether a client was told of a loss, and whether one missed nothing although it was away.
    pub(crate) was_told: bool,
    pub(crate) has_recovered: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Node {
    pub(crate) generation: u8,
    pub(crate) is_connected: bool,
    /// Whether the data was deleted since it connected.
    pub(crate) is_stale: bool,
    /// Whether the last message of the channel was lost.
    pub(crate) has_lost_last: bool,
    /// Messages of the channel under way: epoch and offset.
    pub(crate) pushes: VecDeque<(u8, u8)>,
    pub(crate) reading: Option<Extract>,
    pub(crate) room: Room,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Client {
    pub(crate) phase: Phase,
    /// The epoch and the offset of the last message that it has.
    pub(crate) place: (u8, u8),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Phase {
    /// It is not connected.
    Away,
    /// It waits for the answer to its subscription at a gateway: what was read, and the messages that were
    /// delivered meanwhile.
    Joining(usize, Extract, Vec<Delivery>),
    /// It gets the messages of a gateway after a place.
    Live(usize, LocalPlace),
}

impl Phase {
    /// The gateway that the client is on.
    pub(crate) fn node(&self) -> Option<usize> {
        match self {
            Self::Away => None,
            Self::Joining(node, ..) | Self::Live(node, _) => Some(*node),
        }
    }
}

impl Node {
    /// A gateway that is connected, and knows the first epoch.
    pub(crate) fn new() -> Self {
        let mut room = Room::default();
        room.receive((0, 0), 1, true, None);
        Self {
            generation: 1,
            is_connected: true,
            is_stale: false,
            has_lost_last: false,
            pushes: VecDeque::new(),
            reading: None,
            room,
        }
    }

    pub(crate) fn disconnect(&mut self) {
        self.is_connected = false;
        self.is_stale = false;
        self.pushes.clear();
    }
}

impl State {
    pub(crate) fn has_members(&self, node: usize) -> bool {
        let mut nodes = self.clients.iter().map(|client| client.phase.node());
        nodes.any(|at| at == Some(node))
    }

    /// Whether nothing is under way, and nobody noticed or has to notice a loss.
    pub(crate) fn is_at_rest(&self) -> bool {
        let is_quiet = |(number, node): (usize, &Node)| {
            let is_behind = node.room.is_behind() && self.has_members(number);
            node.is_connected
                && !node.is_stale
                && !node.has_lost_last
                && node.pushes.is_empty()
                && node.reading.is_none()
                && !is_behind
        };
        let is_live = |client: &Client| matches!(client.phase, Phase::Live(..));
        self.has_begun
            && self.nodes.iter().enumerate().all(is_quiet)
            && self.clients.iter().all(is_live)
    }

    pub(crate) fn is_complete(&self) -> bool {
        let end = (self.epoch, self.offset);
        self.clients.iter().all(|client| client.place == end)
    }

    pub(crate) fn publish(&mut self, publisher: usize) {
        self.begin();
        self.publishes[publisher] -= 1;
        self.offset += 1;
        self.push((self.epoch, self.offset));
    }

    /// Begins the epoch, if it has not begun.
    pub(crate) fn begin(&mut self) {
        if !std::mem::replace(&mut self.has_begun, true) {
            self.push((self.epoch, 0));
        }
    }

    pub(crate) fn push(&mut self, message: (u8, u8)) {
        for node in self.nodes.iter_mut().filter(|node| node.is_connected) {
            node.pushes.push_back(message);
            node.has_lost_last = false;
        }
    }

    /// Reads the messages that a gateway does not have.
    pub(crate) fn read(&mut self, number: usize) -> Extract {
        self.begin();
        let node = &self.nodes[number];
        let (epoch, offset) = node.room.since();
        Extract {
            generation: node.generation,
            epoch: self.epoch,
            newest: self.offset,
            after: if epoch == Some(self.epoch) { offset } else { 0 },
        }
    }

    /// Loses the next message of a channel.
    pub(crate) fn lose(&mut self, number: usize) {
        self.faults.losses -= 1;
        let node = &mut self.nodes[number];
        node.pushes.pop_front();
        node.has_lost_last |= node.pushes.is_empty();
    }

    pub(crate) fn lose_log(&mut self) {
        self.epoch += 1;
        (self.offset, self.has_begun) = (0, false);
    }

    pub(crate) fn crash(&mut self, number: usize) {
        self.faults.crashes -= 1;
        let node = &mut self.nodes[number];
        node.disconnect();
        (node.reading, node.room, node.generation) = (None, Room::default(), 0);
        for client in &mut self.clients {
            if client.phase.node() == Some(number) {
                client.phase = Phase::Away;
            }
        }
    }

    /// Answers a subscription, or reads the log again.
    pub(crate) fn admit(&mut self, number: usize, keeps: bool, without: Option<Rule>) {
        let Phase::Joining(at, extract, _) = self.clients[number].phase else {
            return;
        };
        let is_adopted = self.nodes[at].room.adopt(&extract, without);
        self.hand_out(at);
        if !is_adopted {
            // A gateway without a connection waits for one.
            if self.nodes[at].is_connected {
                let extract = self.read(at);
                if let Phase::Joining(_, read, _) = &mut self.clients[number].phase {
                    *read = extract;
                }
            } else {
                self.clients[number].phase = Phase::Away;
            }
            return;
        }
        let place = (self.nodes[at].room.life(), extract.newest);
        let client = &mut self.clients[number];
        let (epoch, offset) = client.place;
        let missed = extract.newest.checked_sub(offset);
        let is_recovered =
            epoch == extract.epoch && missed.is_some_and(|missed| keeps || missed == 0);
        self.was_told |= !is_recovered;
        self.has_recovered |= is_recovered && missed > Some(0);
        client.place = (extract.epoch, extract.newest);
        let phase = std::mem::replace(&mut client.phase, Phase::Live(at, place));
        if let Phase::Joining(_, _, waiting) = phase
            && without != Some(Rule::HoldBack)
        {
            for delivery in waiting {
                self.deliver(number, &delivery);
            }
        }
    }

    /// Hands the packets of a room to its members.
    pub(crate) fn hand_out(&mut self, node: usize) {
        for delivery in std::mem::take(&mut self.nodes[node].room.out) {
            for number in 0..self.clients.len() {
                match &mut self.clients[number].phase {
                    Phase::Joining(at, _, waiting) if *at == node => waiting.push(delivery),
                    Phase::Live(at, _) if *at == node => self.deliver(number, &delivery),
                    _ => {}
                }
            }
        }
    }

    /// Gives a packet to a client, and checks it.
    pub(crate) fn deliver(&mut self, number: usize, delivery: &Delivery) {
        let client = &mut self.clients[number];
        match client.phase {
            Phase::Live(_, after) if delivery.place > after => {}
            _ => return,
        }
        let (epoch, offset) = client.place;
        match delivery.packet {
            Packet::Message(of, number) => {
                self.is_broken |= of != epoch || number != offset + 1;
                client.place = (of, number);
            }
            Packet::Gap(of, from, to) => {
                self.was_told = true;
                self.is_broken |= of == epoch && (from != offset + 1 || to < from);
                client.place = (of, to);
            }
        }
    }
}
