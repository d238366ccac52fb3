//! The bars of our servers: what the comparison judges.

use crate::compare::cell::{Bar, Relation};
use crate::compare::servers::Server;

pub(crate) const CPU: &str = "server_cpu_us_per_operation";
pub(crate) const RATE: &str = "operations_per_server_cpu_sec";
pub(crate) const MEMORY: &str = "kb_per_connection";
pub(crate) const P99_9: &str = "p99_9_ms";
pub(crate) const BACK: &str = "all_back_after_secs";

const fn at_most(title: &'static str, metric: &'static str, bound: f64) -> Bar {
    Bar {
        title,
        metric,
        subject: Server::Ours,
        against: None,
        relation: Relation::AtMost,
        bound,
    }
}

const fn against(bar: Bar, server: Server) -> Bar {
    Bar {
        against: Some(server),
        ..bar
    }
}

const fn at_least(bar: Bar) -> Bar {
    Bar {
        relation: Relation::AtLeast,
        ..bar
    }
}

/// Our rate per CPU-second to that of `server`, at least `bound`.
const fn rate(title: &'static str, bound: f64, server: Server) -> Bar {
    at_least(against(at_most(title, RATE, bound), server))
}

pub(crate) const HANDSHAKE: &[Bar] = &[
    rate("handshakes per CPU-second, to Node's", 6.0, Server::Node),
    rate("the same, to the limit's", 0.65, Server::Limit),
];
pub(crate) const PUBLISH: &[Bar] = &[
    against(
        at_most("CPU of a publish and its ack, to Node's", CPU, 0.48),
        Server::Node,
    ),
    rate("publishes per CPU-second, to Node's", 3.0, Server::Node),
];
pub(crate) const CALL: &[Bar] = &[against(
    at_most("CPU of a call to a back end, to Node's", CPU, 0.35),
    Server::Node,
)];
pub(crate) const ROOM_100: &[Bar] = &[
    against(
        at_most("CPU of a delivery, room of 100, to Node's", CPU, 0.95),
        Server::Node,
    ),
    rate("rate, room of 100, to the limit's", 0.92, Server::Limit),
];
pub(crate) const ROOM_500: &[Bar] = &[
    rate("rate, room of 500, to Node's", 3.8, Server::Node),
    rate("the same, to the limit's", 0.85, Server::Limit),
];
pub(crate) const POLLING: &[Bar] = &[rate("rate, polling, to Node's", 2.0, Server::Node)];
pub(crate) const TAIL: &[Bar] = &[against(
    at_most(
        "p99.9 of 5,000 deliveries a second, to the limit's",
        P99_9,
        2.0,
    ),
    Server::Limit,
)];
pub(crate) const IDLE: &[Bar] = &[at_most("kB of an idle socket, 10,000", MEMORY, 4.0)];
pub(crate) const UPGRADED: &[Bar] = &[at_most(
    "kB of an idle socket that was upgraded, 10,000",
    MEMORY,
    4.0,
)];
pub(crate) const BURST: &[Bar] = &[
    at_most("MB kept after 200 kB to each of 2,000", "kept_mb", 25.0),
    at_most(
        "memory 10 s after the burst, to that before it",
        "settled_ratio",
        1.1,
    ),
];
pub(crate) const RECONNECT: &[Bar] = &[
    against(
        at_most(
            "time until 5,000 are back after a cut, to Node's",
            BACK,
            0.5,
        ),
        Server::Node,
    ),
    against(
        at_most(
            "of that, the slowest client's wait for the server, to Node's",
            "slowest_wait_secs",
            0.5,
        ),
        Server::Node,
    ),
    at_most("clients refused for good after a cut", "refused", 0.0),
];
pub(crate) const RECONNECT_SOON: &[Bar] = &[
    against(
        at_most(
            "the same of clients that try again after 50 to 150 ms, to Node's",
            BACK,
            0.5,
        ),
        Server::Node,
    ),
    at_most("such clients refused for good", "refused", 0.0),
];
pub(crate) const RESTART: &[Bar] = &[at_most(
    "clients refused for good after a crash",
    "refused",
    0.0,
)];
pub(crate) const PRESENCE: &[Bar] = &[against(
    at_most(
        "CPU of a presence storm, to the baseline's",
        "server_cpu_secs",
        0.25,
    ),
    Server::Baseline,
)];
pub(crate) const REFRESH: &[Bar] = &[Bar {
    subject: Server::Issuer,
    ..rate(
        "refreshes per CPU-second, to Express's",
        3.0,
        Server::Express,
    )
}];

#[cfg(test)]
pub(crate) const FOR_TEST: &[Bar] = &[against(
    at_most("CPU of a handshake, to Node's", CPU, 0.22),
    Server::Node,
)];
