//! The figures of the cluster, their bars, and their medians.

use std::collections::HashMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

use super::copy;
use super::outage::Outage;
use crate::measurement::number;
use crate::statistics::median;

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

/// All figures, each with its text in tables, its unit, and its upper bound, if it is a bar.
const ALL: [(Figure, &str, &str, Option<f64>); 17] = [
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

/// The values of all rounds.
pub(super) struct Figures {
    values: HashMap<Figure, Vec<f64>>,
    failures: HashMap<Figure, String>,
}

impl Figures {
    pub(super) fn new() -> Self {
        Self {
            values: HashMap::new(),
            failures: HashMap::new(),
        }
    }

    /// Notes the value of one round. A failure misses the bar.
    pub(super) fn note(&mut self, figure: Figure, value: anyhow::Result<f64>) {
        match value {
            Ok(value) => self.values.entry(figure).or_default().push(value),
            Err(error) => {
                eprintln!("cargo load: {figure:?} FAILED: {error:#}");
                self.failures.insert(figure, format!("{error:#}"));
            }
        }
    }

    /// Notes the values of one round without Redis.
    pub(super) fn note_outage(&mut self, outage: anyhow::Result<Outage>) {
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
            self.note(figure, value.map_err(copy));
        }
    }

    /// Returns whether every figure was measured, and no bar is missed.
    pub(super) fn are_good(&self) -> bool {
        let is_good = |(figure, _, _, bound): &(Figure, _, _, Option<f64>)| {
            self.verdict(*figure, *bound) != "FAIL"
        };
        self.failures.is_empty() && ALL.iter().all(is_good)
    }

    /// Returns the median, unless a round has failed.
    fn value(&self, figure: Figure) -> Option<f64> {
        let values = self.values.get(&figure)?;
        (!self.failures.contains_key(&figure)).then(|| median(values))?
    }

    fn verdict(&self, figure: Figure, bound: Option<f64>) -> &'static str {
        match (bound, self.value(figure)) {
            (None, _) => "",
            (Some(bound), Some(value)) if value <= bound => "pass",
            _ => "FAIL",
        }
    }

    /// Returns the figures as a table in Markdown.
    pub(super) fn table(&self) -> String {
        let mut text = String::from("| figure | bound | measured | |\n|---|---|---|---|\n");
        for (figure, title, unit, bound) in ALL {
            let value = self.value(figure);
            let value = value.map_or_else(|| "–".to_owned(), |it| format!("{} {unit}", number(it)));
            let limit = bound.map_or_else(String::new, |it| format!("≤ {} {unit}", number(it)));
            let (value, limit) = (value.trim_end(), limit.trim_end());
            let _ = writeln!(
                text,
                "| {title} | {limit} | {value} | {} |",
                self.verdict(figure, bound)
            );
        }
        text
    }

    /// Returns the figures as JSON.
    pub(super) fn to_json(&self, rounds: u32) -> Value {
        let figures = ALL.iter().map(|(figure, title, unit, bound)| {
            json!({
                "figure": title, "unit": unit, "bound": bound, "median": self.value(*figure),
                "rounds": self.values.get(figure), "verdict": self.verdict(*figure, *bound),
                "failure": self.failures.get(figure),
            })
        });
        json!({ "rounds": rounds, "figures": figures.collect::<Vec<_>>() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_missed_by_its_median_and_by_a_failure() {
        let mut figures = Figures::new();
        for (figure, ..) in ALL {
            figures.note(figure, Ok(0.0));
        }
        assert!(figures.are_good());
        figures.note(Figure::CrossP99, Ok(45.0));
        assert!(!figures.are_good());
        assert!(
            figures.table().contains("| ≤ 20.0 ms | 22.5 ms | FAIL |"),
            "{}",
            figures.table()
        );
        figures.note(Figure::CrossP99, Ok(1.0));
        assert!(figures.are_good());
        figures.note(Figure::AloneCpu, Err(anyhow::anyhow!("it broke")));
        assert!(!figures.are_good());
        assert_eq!(figures.to_json(3)["figures"][6]["failure"], "it broke");
    }
}
