//! The figures of the cluster, and their bars.

use super::copy;
use super::outage::Outage;
use crate::compare::figures::{Figures, Row};

/// A figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Figure {
    CrossP50,
    CrossP99,
    Requests,
    MessageCpu,
    RedisAdapterMessageRatio,
    StreamsAdapterMessageRatio,
    AloneCpu,
    AloneRatio,
    CrossCpu,
    RedisAdapterRatio,
    StreamsAdapterRatio,
    RevocationP99,
    Survivors,
    HandshakeRatio,
    SubscribeRatio,
    KickRatio,
    Back,
}

/// All figures.
pub(super) const ALL: [Row<Figure>; 17] = [
    (
        Figure::CrossP50,
        "publish on one gateway to delivery on another, 5,000 messages a second, p50",
        "ms",
        None,
    ),
    (Figure::CrossP99, "the same, p99", "ms", Some(20.0)),
    (
        Figure::Requests,
        "requests to Redis for each of these messages, with two gateways",
        "",
        Some(3.0),
    ),
    (
        Figure::MessageCpu,
        "CPU of one of these messages, both gateways",
        "µs",
        None,
    ),
    (
        Figure::RedisAdapterMessageRatio,
        "the same, to Node's with `@socket.io/redis-adapter`",
        "",
        Some(0.3),
    ),
    (
        Figure::StreamsAdapterMessageRatio,
        "the same, to Node's with `@socket.io/redis-streams-adapter`",
        "",
        Some(0.3),
    ),
    (
        Figure::AloneCpu,
        "CPU of a delivery on one gateway without Redis, room of 100",
        "µs",
        None,
    ),
    (
        Figure::AloneRatio,
        "the same with Redis, to that without",
        "",
        Some(1.15),
    ),
    (
        Figure::CrossCpu,
        "CPU of a delivery from one gateway to another, room of 100",
        "µs",
        None,
    ),
    (
        Figure::RedisAdapterRatio,
        "the same, to Node's with `@socket.io/redis-adapter`",
        "",
        Some(0.3),
    ),
    (
        Figure::StreamsAdapterRatio,
        "the same, to Node's with `@socket.io/redis-streams-adapter`",
        "",
        Some(0.3),
    ),
    (
        Figure::RevocationP99,
        "revocation to closed socket on three gateways, p99",
        "ms",
        Some(100.0),
    ),
    (
        Figure::Survivors,
        "sockets that survive their revocation",
        "",
        Some(0.0),
    ),
    (
        Figure::HandshakeRatio,
        "handshake while Redis is stopped, p99, to that before",
        "",
        Some(1.2),
    ),
    (
        Figure::SubscribeRatio,
        "subscription while Redis is stopped, p99, to that before",
        "",
        Some(1.2),
    ),
    (
        Figure::KickRatio,
        "revocation to closed socket while Redis is stopped, p99, to that before",
        "",
        Some(1.2),
    ),
    (
        Figure::Back,
        "time until the gateway is ready after Redis goes on",
        "s",
        Some(2.0),
    ),
];

/// Notes the values of one round without Redis.
pub(super) fn note_outage(figures: &mut Figures<Figure>, outage: anyhow::Result<Outage>) {
    let values = [
        (
            Figure::HandshakeRatio,
            outage.as_ref().map(|it| it.handshake_ratio),
        ),
        (
            Figure::SubscribeRatio,
            outage.as_ref().map(|it| it.subscribe_ratio),
        ),
        (Figure::KickRatio, outage.as_ref().map(|it| it.kick_ratio)),
        (Figure::Back, outage.as_ref().map(|it| it.back_secs)),
    ];
    for (figure, value) in values {
        figures.note(figure, value.map_err(copy));
    }
}
