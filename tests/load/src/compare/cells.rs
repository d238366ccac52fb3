//! The cells of the comparison as data: the work, the servers, and the bars of ours.

use crate::compare::bars::{self, BACK, CPU, MEMORY, P99_9};
use crate::compare::cell::{Cell, Work};
use crate::compare::servers::Server;
use crate::modes::http::Call;
use crate::modes::{burst, connect, fan_out, idle, presence, publish, reconnect};
use crate::target::Transport;

const GATEWAYS: &[Server] = &[
    Server::Node,
    Server::Bun,
    Server::Bare,
    Server::Limit,
    Server::Ours,
];
/// Servers with every transport, and with more than frames to write.
const FULL: &[Server] = &[Server::Node, Server::Bun, Server::Bare, Server::Ours];
/// Servers that check tokens.
const ADMITTING: &[Server] = &[Server::Node, Server::Bun, Server::Ours];
const ISSUERS: &[Server] = &[Server::Express, Server::Issuer];

/// Returns a cell with the values that most cells share.
const fn cell(name: &'static str, title: &'static str, work: Work) -> Cell {
    Cell {
        name,
        title,
        servers: GATEWAYS,
        work,
        transport: Transport::Websocket,
        server_cores: 1,
        warm_up: 2000,
        shown: (CPU, "µs of CPU"),
        bars: &[],
    }
}

const fn room(connections: u32, window: u32) -> Work {
    Work::FanOut(fan_out::Options {
        connections,
        senders: 1,
        window,
        rate: None,
        duration_ms: 4000,
        warm_up_ms: 1000,
    })
}

const fn idle(connections: u32) -> Work {
    Work::Idle(idle::Options {
        connections,
        hold_secs: 4,
    })
}

/// Returns all cells.
pub(crate) fn all() -> Vec<Cell> {
    let mut cells = messages();
    cells.extend(rooms());
    cells.extend(memory());
    cells.extend(storms());
    cells.extend(issuers());
    cells
}

fn messages() -> Vec<Cell> {
    let connect = Work::Connect(connect::Options { count: 5000 });
    let publish = publish::Options {
        connections: 64,
        depth: 1,
        duration_ms: 4000,
        warm_up_ms: 1000,
    };
    vec![
        Cell {
            bars: bars::HANDSHAKE,
            ..cell("handshake", "handshake", connect)
        },
        Cell {
            bars: bars::PUBLISH,
            ..cell(
                "publish",
                "publish and acknowledgement, 64 sockets",
                Work::Publish(publish.clone()),
            )
        },
        Cell {
            servers: &[Server::Node, Server::Ours],
            bars: bars::CALL,
            ..cell(
                "call",
                "event that a back end answers over HTTP, 64 sockets",
                Work::Call(publish),
            )
        },
    ]
}

fn rooms() -> Vec<Cell> {
    let tail = Work::FanOut(fan_out::Options {
        connections: 1000,
        senders: 1,
        window: 1,
        rate: Some(5),
        duration_ms: 60_000,
        warm_up_ms: 2000,
    });
    vec![
        Cell {
            bars: bars::ROOM_100,
            ..cell(
                "room-100",
                "delivery, room of 100, one message at a time",
                room(100, 1),
            )
        },
        Cell {
            bars: bars::ROOM_500,
            ..cell(
                "room-500",
                "delivery, room of 500, four messages in flight",
                room(500, 4),
            )
        },
        Cell {
            servers: FULL,
            server_cores: 2,
            shown: ("operations_per_sec", "deliveries a second"),
            ..cell(
                "room-500-two-cores",
                "room of 500, four in flight, two server cores",
                room(500, 4),
            )
        },
        Cell {
            servers: FULL,
            transport: Transport::Polling,
            bars: bars::POLLING,
            ..cell(
                "polling",
                "delivery, room of 100, polling, one message at a time",
                room(100, 1),
            )
        },
        Cell {
            // A minute each, so no more than the bar needs.
            servers: &[Server::Node, Server::Limit, Server::Ours],
            shown: (P99_9, "ms, p99.9"),
            bars: bars::TAIL,
            ..cell(
                "tail",
                "latency of 5,000 deliveries a second to 1,000 sockets",
                tail,
            )
        },
    ]
}

fn memory() -> Vec<Cell> {
    let shown = (MEMORY, "kB a socket");
    let burst = Work::Burst(burst::Options {
        connections: 2000,
        bytes: 200_000,
        messages: 1,
        settle_secs: 10,
    });
    vec![
        Cell {
            shown,
            bars: bars::IDLE,
            ..cell("idle-10000", "idle socket, 10,000", idle(10_000))
        },
        Cell {
            servers: FULL,
            shown,
            transport: Transport::Upgrade,
            bars: bars::UPGRADED,
            ..cell(
                "idle-10000-upgraded",
                "idle socket, 10,000, upgraded from polling",
                idle(10_000),
            )
        },
        Cell {
            shown,
            ..cell("idle-100000", "idle socket, 100,000", idle(100_000))
        },
        Cell {
            servers: FULL,
            shown: ("kept_mb", "MB kept"),
            bars: bars::BURST,
            ..cell(
                "burst",
                "memory 10 s after 200 kB to each of 2,000 sockets",
                burst,
            )
        },
    ]
}

fn storms() -> Vec<Cell> {
    let storm = |reconnection_delay_ms, kills_server| Work::Reconnect {
        options: reconnect::Options {
            connections: 5000,
            reconnection_delay_ms,
        },
        kills_server,
    };
    let presence = Work::Presence(presence::Options {
        connections: 2000,
        within_ms: 5000,
    });
    let shown = (BACK, "s until all are back");
    vec![
        Cell {
            servers: ADMITTING,
            shown,
            // As stock clients connect by default.
            transport: Transport::Upgrade,
            bars: bars::RECONNECT,
            ..cell(
                "reconnect",
                "5,000 sockets back after they were dropped at once",
                storm(1000, false),
            )
        },
        Cell {
            servers: ADMITTING,
            shown,
            // As stock clients connect by default.
            transport: Transport::Upgrade,
            bars: bars::RECONNECT_SOON,
            ..cell(
                "reconnect-soon",
                "the same, clients that try again after 50 to 150 ms",
                storm(100, false),
            )
        },
        Cell {
            servers: ADMITTING,
            shown,
            // As stock clients connect by default.
            transport: Transport::Upgrade,
            bars: bars::RESTART,
            ..cell(
                "restart",
                "5,000 sockets back after the server was killed",
                storm(1000, true),
            )
        },
        Cell {
            servers: &[Server::Baseline, Server::Ours],
            shown: ("server_cpu_secs", "s of CPU"),
            bars: bars::PRESENCE,
            ..cell(
                "presence",
                "2,000 sockets join with full presence within 5 s",
                presence,
            )
        },
    ]
}

fn issuers() -> Vec<Cell> {
    let issuer = |name, title, call, duration_ms| Cell {
        servers: ISSUERS,
        // A handshake needs a gateway; the mode logs in and warms up by itself.
        warm_up: 0,
        ..cell(name, title, Work::Issuer { call, duration_ms })
    };
    vec![
        issuer("login", "login", Call::Login, 5000),
        Cell {
            bars: bars::REFRESH,
            ..issuer("refresh", "refresh", Call::Refresh, 4000)
        },
    ]
}

/// Returns a cell with one bar, for tests.
#[cfg(test)]
pub(crate) fn with_one_bar() -> Cell {
    Cell {
        bars: bars::FOR_TEST,
        ..all().remove(0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_cell_has_a_name_of_its_own() {
        let cells = all();
        let names: HashSet<_> = cells.iter().map(|cell| cell.name).collect();
        assert_eq!(names.len(), cells.len());
    }

    #[test]
    fn every_bar_is_about_servers_of_its_cell() {
        for cell in all() {
            for bar in cell.bars {
                assert!(cell.servers.contains(&bar.subject), "{}", bar.title);
                assert!(
                    bar.against
                        .is_none_or(|server| cell.servers.contains(&server)),
                    "{}",
                    bar.title
                );
            }
        }
    }
}
