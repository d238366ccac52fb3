//! The types of a cell: its work, its servers and its bars.

use crate::compare::servers::Server;
use crate::measurement::number;
use crate::modes::http::Call;
use crate::modes::{burst, connect, fan_out, idle, presence, publish, reconnect};
use crate::target::Transport;

/// One measurement that is repeated on several servers.
pub(crate) struct Cell {
    /// Name for `--cells`.
    pub(crate) name: &'static str,
    /// Description in tables.
    pub(crate) title: &'static str,
    /// Servers, in the order in which they alternate.
    pub(crate) servers: &'static [Server],
    /// Work of the clients.
    pub(crate) work: Work,
    /// Transport of the clients.
    pub(crate) transport: Transport,
    /// Cores of the server.
    pub(crate) server_cores: usize,
    /// Handshakes before the measurement.
    pub(crate) warm_up: u32,
    /// Value that tables show, and its unit.
    pub(crate) shown: (&'static str, &'static str),
    /// Bars that ours must meet.
    pub(crate) bars: &'static [Bar],
}

/// Work of the clients of a cell.
#[derive(Clone)]
pub(crate) enum Work {
    /// Handshakes.
    Connect(connect::Options),
    /// Idle clients.
    Idle(idle::Options),
    /// Acknowledged messages.
    Publish(publish::Options),
    /// Events that a back end answers.
    Call(publish::Options),
    /// Deliveries to a room.
    FanOut(fan_out::Options),
    /// Joins with full presence; each client has a subject of its own.
    Presence(presence::Options),
    /// Clients that are dropped and come back.
    Reconnect {
        /// Options of the mode.
        options: reconnect::Options,
        /// The server is killed and started again, instead of the clients closing.
        kills_server: bool,
    },
    /// Large messages.
    Burst(burst::Options),
    /// Requests to an issuer.
    Issuer {
        /// Request that is measured.
        call: Call,
        /// Time of the measurement, in milliseconds.
        duration_ms: u64,
    },
}

/// Direction of a bar.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Relation {
    /// The value must not exceed the bound.
    AtMost,
    /// The value must reach the bound.
    AtLeast,
}

/// One bar of a cell: a value of ours, or its ratio to another server's, and its bound.
pub(crate) struct Bar {
    /// Text in tables.
    pub(crate) title: &'static str,
    /// Name of the value.
    pub(crate) metric: &'static str,
    /// Server that is judged.
    pub(crate) subject: Server,
    /// Server that the value is divided by, if it is a ratio.
    pub(crate) against: Option<Server>,
    /// Direction.
    pub(crate) relation: Relation,
    /// Bound of the value or the ratio.
    pub(crate) bound: f64,
}

impl Work {
    /// Returns how many connections are open at the same time.
    pub(crate) fn connections(&self) -> u64 {
        let count = match self {
            Self::Connect(_) | Self::Issuer { .. } => 100,
            Self::Idle(options) => options.connections,
            Self::Publish(options) | Self::Call(options) => options.connections,
            Self::FanOut(options) => options.connections,
            Self::Presence(options) => options.connections,
            Self::Reconnect { options, .. } => options.connections,
            Self::Burst(options) => options.connections,
        };
        u64::from(count)
    }
}

impl Bar {
    /// Returns whether a value meets the bar.
    pub(crate) fn is_met_by(&self, value: f64) -> bool {
        match self.relation {
            Relation::AtMost => value <= self.bound,
            Relation::AtLeast => value >= self.bound,
        }
    }

    /// Returns the bound as text.
    pub(crate) fn bound_text(&self) -> String {
        let relation = match self.relation {
            Relation::AtMost => "≤",
            Relation::AtLeast => "≥",
        };
        format!("{relation} {}", number(self.bound))
    }
}
