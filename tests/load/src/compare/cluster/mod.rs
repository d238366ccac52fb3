//! `cargo load cluster`: measures several gateways over one Redis, judges them, and writes their section of
//! `docs/performance.md`.

mod calls;
mod figures;
pub(super) mod group;
mod outage;
mod revocation;

use anyhow::Context;
use clap::Args;

use self::figures::Figure;
use self::group::{Group, Kind};
use super::bars::CPU;
use super::figures::Figures;
use super::rounds::{self, Bench, Rounds};
use super::section::Section;
use crate::measurement::Measurement;
use crate::modes::fan_out;

/// The section of the figures.
pub(super) const SECTION: Section = Section {
    command: "cargo load cluster",
    title: "Several gateways and one Redis",
    introduction: "All servers and Redis share the first core, and the load generator\n\
                   has the last. CPU time is that of the gateways, without Redis. The peers on Node have no common\n\
                   history and no common offsets.",
};

/// Messages a second from one gateway to the other.
const RATE: u32 = 5000;
/// Clients that publish these messages: a gateway finishes one message of a client before it takes the next.
const SENDERS: u32 = 50;
/// Clients of the room in which the CPU time of a delivery is measured.
const ROOM: u32 = 100;

/// Options of the measurement.
#[derive(Args, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    rounds: Rounds,
    /// Time of each measurement of messages, in milliseconds.
    #[arg(long, default_value_t = 4000, value_parser = clap::value_parser!(u64).range(500..=60_000))]
    duration_ms: u64,
    /// Sessions that are revoked, each with a socket on three gateways.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=5000))]
    sessions: u32,
    /// Time for which Redis is stopped, in seconds.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(5..=120))]
    outage_secs: u64,
}

/// The measurements of one round.
struct Measurements<'a> {
    options: &'a Options,
    bench: &'a Bench,
}

/// Measures the gateways. Returns whether no bar is missed.
///
/// # Errors
///
/// Returns an error if a program cannot be built, or the result cannot be written. A failed
/// measurement is part of the result.
pub(crate) fn run(options: &Options) -> anyhow::Result<bool> {
    let (rounds, section) = (&options.rounds, (&SECTION, &figures::ALL[..]));
    rounds::run(rounds, section, |bench, figures| {
        Measurements { options, bench }.make(figures);
    })
}

impl Measurements<'_> {
    /// Measures everything once.
    fn make(&self, figures: &mut Figures<Figure>) {
        let own = self.room_on_one_gateway(figures);
        figures.note(Figure::AloneRatio, own);
        let message = self.cross(figures);
        let delivery = self.start(Kind::Ours, 2);
        let delivery = delivery.and_then(|group| self.cpu_of(&group));
        for (figure, cpu) in [
            (Figure::MessageCpu, &message),
            (Figure::CrossCpu, &delivery),
        ] {
            figures.note(figure, cpu.as_ref().copied().map_err(copy));
        }
        for (adapter, of_message, of_delivery) in [
            (
                "redis-adapter",
                Figure::RedisAdapterMessageRatio,
                Figure::RedisAdapterRatio,
            ),
            (
                "redis-streams-adapter",
                Figure::StreamsAdapterMessageRatio,
                Figure::StreamsAdapterRatio,
            ),
        ] {
            let theirs = self.start(Kind::Node(adapter), 2);
            let theirs = theirs.and_then(|group| self.cpu_of_message(&group));
            figures.note(of_message, ratio(&message, theirs));
            let theirs = self.start(Kind::Node(adapter), 2);
            let theirs = theirs.and_then(|group| self.cpu_of(&group));
            figures.note(of_delivery, ratio(&delivery, theirs));
        }
        let revoked = self.start(Kind::Ours, 3).and_then(|group| {
            revocation::run(&group, &self.bench.home, (self.options.sessions, "all"))
        });
        match revoked {
            Ok(revoked) => {
                figures.note(Figure::RevocationP99, revoked.p99_ms());
                figures.note(Figure::Survivors, Ok(revoked.survivors as f64));
            }
            Err(error) => {
                figures.note(Figure::RevocationP99, Err(copy(&error)));
                figures.note(Figure::Survivors, Err(error));
            }
        }
        let outage = self
            .start(Kind::Ours, 1)
            .and_then(|group| outage::run(&group, &self.bench.home, self.options.outage_secs));
        figures::note_outage(figures, outage);
    }

    fn start(&self, kind: Kind, nodes: usize) -> anyhow::Result<Group> {
        let Bench {
            programs,
            home,
            cores,
        } = self.bench;
        Group::start(kind, nodes, programs, home, cores)
    }

    /// Returns the CPU time of a delivery on one gateway with Redis, divided by that of one without.
    fn room_on_one_gateway(&self, figures: &mut Figures<Figure>) -> anyhow::Result<f64> {
        let alone = self.start(Kind::Alone, 1)?;
        let alone = self.cpu_of(&alone)?;
        figures.note(Figure::AloneCpu, Ok(alone));
        let group = self.start(Kind::Ours, 1)?;
        Ok(self.cpu_of(&group)? / alone)
    }

    /// Measures messages from one gateway to another: their latency, the requests that Redis gets, and the
    /// CPU time of one, in microseconds, which is returned.
    fn cross(&self, figures: &mut Figures<Figure>) -> anyhow::Result<f64> {
        let crossed = self.cross_once(figures);
        if let Err(error) = &crossed {
            for figure in [Figure::CrossP50, Figure::CrossP99, Figure::Requests] {
                figures.note(figure, Err(copy(error)));
            }
        }
        crossed
    }

    fn cross_once(&self, figures: &mut Figures<Figure>) -> anyhow::Result<f64> {
        let group = self.start(Kind::Ours, 2)?;
        let before = group.redis_requests()?;
        let result = self.fan_out(&group, 1, Some(RATE))?;
        let requests = group.redis_requests()? - before;
        let value = |name: &str| result.get(name).context("it was not measured");
        let published = value("published")?;
        figures.note(Figure::CrossP50, value("p50_ms"));
        figures.note(Figure::CrossP99, value("p99_ms"));
        figures.note(Figure::Requests, Ok(requests as f64 / published));
        value(CPU)
    }

    /// Returns the CPU time of all servers for one message that one client gets, in microseconds.
    fn cpu_of_message(&self, group: &Group) -> anyhow::Result<f64> {
        let result = self.fan_out(group, 1, Some(RATE))?;
        result.get(CPU).context("the CPU time was not measured")
    }

    /// Returns the CPU time of all servers for one delivery in a room, in microseconds.
    fn cpu_of(&self, group: &Group) -> anyhow::Result<f64> {
        let result = self.fan_out(group, ROOM, None)?;
        result.get(CPU).context("the CPU time was not measured")
    }

    fn fan_out(
        &self,
        group: &Group,
        connections: u32,
        rate: Option<u32>,
    ) -> anyhow::Result<Measurement> {
        let options = fan_out::Options {
            connections,
            senders: if rate.is_some() { SENDERS } else { 1 },
            window: 1,
            rate,
            duration_ms: self.options.duration_ms,
            warm_up_ms: 1000,
        };
        let result = fan_out::run(&group.target(&self.bench.home)?, &options)?;
        match result.failure() {
            None => Ok(result),
            Some(failure) => anyhow::bail!(failure),
        }
    }
}

/// Returns our figure divided by theirs.
fn ratio(ours: &anyhow::Result<f64>, theirs: anyhow::Result<f64>) -> anyhow::Result<f64> {
    Ok(ours.as_ref().map_err(copy)? / theirs?)
}

/// Returns an error with the same text.
fn copy(error: &anyhow::Error) -> anyhow::Error {
    anyhow::anyhow!("{error:#}")
}
