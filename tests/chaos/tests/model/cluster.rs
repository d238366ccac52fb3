//! The model around the rooms: the server with the log and the channels, connections, publishers, clients,
//! and faults at any step.

use stateright::Property;

use crate::{
    room::Rule,
    state::{Client, Node, Phase, State},
};

/// Number of gateways.
const NODES: usize = 3;
/// The gateway that each client is on at first. One gateway has no member at first.
const CLIENTS: [usize; 2] = [0, 2];

/// Name of the property that no client is misled.
pub(crate) const NO_BROKEN_PROMISE: &str = "a client has each message in order, or is told";
/// Name of the property that nothing is missing when nothing is under way.
pub(crate) const COMPLETE_AT_REST: &str = "at rest a client is at the end of the log";

/// Numbers of faults that may happen, each at any step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Faults {
    /// Messages of a channel that are lost while the connection stays.
    pub(crate) losses: u8,
    /// Connections between a gateway and the server that are cut.
    pub(crate) cuts: u8,
    /// Failovers to a server without the log, which cut every connection.
    pub(crate) failovers: u8,
    /// Deletions of all data, which cut no connection.
    pub(crate) flushes: u8,
    /// Crashes of a gateway, which starts again with nothing.
    pub(crate) crashes: u8,
}

/// The model.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    /// Number of messages of each publisher. The first one is on gateway 0, the second one on gateway 1.
    publishes: [u8; 2],
    faults: Faults,
    /// Whether the log keeps messages, or numbers them only.
    keeps: bool,
    /// The rule that is left out.
    pub(crate) without: Option<Rule>,
}

/// A step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A publisher appends a message to the log.
    Publish(usize),
    /// A gateway takes the next message of its channel.
    Receive(usize),
    /// The server answers a gateway that reads the log.
    Read(usize),
    /// A gateway takes that answer.
    Take(usize),
    /// A gateway connects, and subscribes to the channel.
    Connect(usize),
    /// A client joins at a gateway, and the server answers what is read for it.
    Join(usize, usize),
    /// The gateway takes that answer, and answers the client.
    Admit(usize),
    /// The next message of a channel is lost.
    Lose(usize),
    /// A connection to the server is cut.
    Cut(usize),
    /// Another server without the log takes the place of the server.
    FailOver,
    /// All data of the server is deleted.
    Flush,
    /// A gateway notices that the data was deleted, and leaves the connection.
    Notice(usize),
    /// A gateway crashes and starts again.
    Crash(usize),
}

impl Model {
    /// A model with faults and with history.
    pub(crate) fn new(publishes: [u8; 2], faults: Faults) -> Self {
        Self {
            publishes,
            faults,
            keeps: true,
            without: None,
        }
    }

    /// The same with a log that keeps no message.
    pub(crate) fn without_history(self) -> Self {
        Self {
            keeps: false,
            ..self
        }
    }

    /// The same with a rule left out.
    pub(crate) fn without(self, rule: Rule) -> Self {
        Self {
            without: Some(rule),
            ..self
        }
    }
}

impl stateright::Model for Model {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let nodes = vec![Node::new(); NODES];
        let client = |node| Client {
            phase: Phase::Live(node, (0, 0)),
            place: (0, 0),
        };
        vec![State {
            epoch: 0,
            offset: 0,
            has_begun: true,
            nodes,
            clients: CLIENTS.map(client).to_vec(),
            publishes: self.publishes,
            faults: self.faults,
            is_broken: false,
            was_told: false,
            has_recovered: false,
        }]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        if state.is_broken {
            return;
        }
        let faults = &state.faults;
        steps.extend(
            (0..2)
                .filter(|it| state.publishes[*it] > 0 && state.nodes[*it].is_connected)
                .map(Step::Publish),
        );
        for (number, node) in state.nodes.iter().enumerate() {
            let mut add = |may: bool, step: Step| steps.extend(may.then_some(step));
            let is_behind = node.room.is_behind() && state.has_members(number);
            add(!node.pushes.is_empty(), Step::Receive(number));
            add(
                node.is_connected && is_behind && node.reading.is_none(),
                Step::Read(number),
            );
            add(node.reading.is_some(), Step::Take(number));
            add(!node.is_connected, Step::Connect(number));
            add(
                faults.losses > 0 && !node.pushes.is_empty(),
                Step::Lose(number),
            );
            add(faults.cuts > 0 && node.is_connected, Step::Cut(number));
            add(node.is_stale, Step::Notice(number));
            add(faults.crashes > 0, Step::Crash(number));
        }
        for (number, client) in state.clients.iter().enumerate() {
            match client.phase {
                Phase::Away => {
                    let own = CLIENTS[number];
                    let nodes = [own, (own + 1) % NODES].into_iter();
                    let there = nodes.filter(|node| state.nodes[*node].is_connected);
                    steps.extend(there.map(|node| Step::Join(number, node)));
                }
                Phase::Joining(..) => steps.push(Step::Admit(number)),
                Phase::Live(..) => {}
            }
        }
        steps.extend((faults.failovers > 0).then_some(Step::FailOver));
        steps.extend((faults.flushes > 0).then_some(Step::Flush));
    }

    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        let mut next = state.clone();
        match step {
            Step::Publish(publisher) => next.publish(publisher),
            Step::Receive(number) => {
                let has_members = next.has_members(number);
                let node = &mut next.nodes[number];
                let push = node.pushes.pop_front()?;
                node.room
                    .receive(push, node.generation, has_members, self.without);
                next.hand_out(number);
            }
            Step::Read(number) => {
                let extract = next.read(number);
                next.nodes[number].reading = Some(extract);
            }
            Step::Take(number) => {
                let node = &mut next.nodes[number];
                let extract = node.reading.take()?;
                node.room.take(&extract, self.keeps, self.without);
                next.hand_out(number);
            }
            Step::Connect(number) => {
                let node = &mut next.nodes[number];
                node.generation += 1;
                node.is_connected = true;
                if self.without != Some(Rule::VerifyAfterConnecting) {
                    node.room.verify(node.generation);
                }
                node.has_lost_last = false;
            }
            Step::Join(client, number) => {
                let extract = next.read(number);
                next.clients[client].phase = Phase::Joining(number, extract, Vec::new());
            }
            Step::Admit(client) => next.admit(client, self.keeps, self.without),
            Step::Lose(number) => next.lose(number),
            Step::Cut(number) => {
                next.faults.cuts -= 1;
                next.nodes[number].disconnect();
            }
            Step::FailOver => {
                next.faults.failovers -= 1;
                next.lose_log();
                next.nodes.iter_mut().for_each(Node::disconnect);
            }
            Step::Flush => {
                next.faults.flushes -= 1;
                next.lose_log();
                next.nodes
                    .iter_mut()
                    .for_each(|node| node.is_stale = node.is_connected);
            }
            Step::Notice(number) => next.nodes[number].disconnect(),
            Step::Crash(number) => next.crash(number),
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always(NO_BROKEN_PROMISE, |_, state: &State| !state.is_broken),
            Property::always(COMPLETE_AT_REST, |_, state: &State| {
                state.is_broken || !state.is_at_rest() || state.is_complete()
            }),
            Property::sometimes("every message is published", |_, state: &State| {
                state.publishes == [0, 0] && state.is_at_rest()
            }),
        ];
        let loses = self.faults.failovers + self.faults.flushes > 0 || !self.keeps;
        if loses {
            let told = |_: &Self, state: &State| state.was_told;
            properties.push(Property::sometimes("a client is told of a loss", told));
        }
        if self.faults.crashes > 0 {
            let recovered = |_: &Self, state: &State| state.has_recovered;
            properties.push(Property::sometimes(
                "a client comes back and misses nothing",
                recovered,
            ));
        }
        properties
    }
}
