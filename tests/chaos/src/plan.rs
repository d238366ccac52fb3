//! The faults of one run, drawn from a seed: the same seed has the same faults at the same times.

use std::{collections::HashMap, fmt, time::Duration};

use fastrand::Rng;

/// Number of gateways.
pub(crate) const GATEWAYS: usize = 3;

/// Shortest and longest time between the starts of two faults, in milliseconds.
const INTERVAL_MS: std::ops::Range<u64> = 800..3000;
/// Shortest and longest time that a fault lasts, in milliseconds.
const LENGTH_MS: std::ops::Range<u64> = 200..4000;
/// Shortest time between two faults of one target: a process has to be back before it is hit again.
const RECOVERY: Duration = Duration::from_millis(1500);

/// Time in which a gateway that handed its clients over ends and is there again, in a rolling restart.
const RESTART: Duration = Duration::from_secs(6);

/// Harm to the connections of a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Harm {
    /// Every connection is closed.
    Cut,
    /// Every connection passes half of its next bytes and is closed.
    Halve,
    /// No byte passes; then every connection is closed, and what was under way is dropped.
    Silence,
    /// Every read of bytes passes 150 ms late.
    Delay,
    /// A third of the messages of channels is lost, and all else passes: only between a gateway and Redis.
    Lose,
}

/// Harm to the primary and the replica of a shard. A single Redis server is one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum RedisFault {
    /// SIGKILL for the primary, which is started again afterwards, with no data.
    Kill,
    /// SIGSTOP for the primary, and SIGCONT afterwards.
    Pause,
    /// `FLUSHALL`.
    Flush,
    /// SIGKILL for the primary; the replica takes its place, and the former primary becomes its replica.
    FailOver,
    /// The replica and the primary change places while both run.
    SwitchOver,
}

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Fault {
    /// SIGKILL for a gateway, which is started again afterwards.
    KillGateway(usize),
    /// SIGSTOP for a gateway, and SIGCONT afterwards.
    PauseGateway(usize),
    /// Harm to the servers of a shard.
    Redis(usize, RedisFault),
    /// SIGTERM for a gateway, which hands its clients over, ends, and is started again.
    ReplaceGateway(usize),
    /// Harm to the connections between a gateway and a shard, or all shards.
    ToRedis(usize, Option<usize>, Harm),
    /// Harm to the connections between clients and a gateway.
    ToClients(usize, Harm),
}

/// The part of the cluster that a fault concerns.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Target {
    Gateway(usize),
    Redis(usize),
    Link(usize),
    Clients(usize),
}

/// A fault, its start after the start of the run, and its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    /// Time between the start of the run and the fault.
    pub(crate) at: Duration,
    /// Time until the cluster is mended.
    pub(crate) length: Duration,
    /// The fault.
    pub(crate) fault: Fault,
}

impl Fault {
    fn target(self) -> Target {
        match self {
            Self::KillGateway(gateway)
            | Self::PauseGateway(gateway)
            | Self::ReplaceGateway(gateway) => Target::Gateway(gateway),
            Self::ToRedis(gateway, ..) => Target::Link(gateway),
            Self::ToClients(gateway, _) => Target::Clients(gateway),
            Self::Redis(shard, _) => Target::Redis(shard),
        }
    }

    /// Whether the fault is over as soon as it has happened.
    fn is_momentary(self) -> bool {
        matches!(
            self,
            Self::Redis(_, RedisFault::Flush | RedisFault::SwitchOver)
                | Self::ToRedis(.., Harm::Cut)
                | Self::ToClients(_, Harm::Cut)
        )
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let harm = |harm: &Harm| match harm {
            Harm::Cut => "cut",
            Harm::Halve => "halved",
            Harm::Silence => "silent",
            Harm::Delay => "delayed",
            Harm::Lose => "lossy",
        };
        match self {
            Self::KillGateway(gateway) => write!(formatter, "gateway {gateway} killed"),
            Self::PauseGateway(gateway) => write!(formatter, "gateway {gateway} paused"),
            Self::ReplaceGateway(gateway) => write!(formatter, "gateway {gateway} replaced"),
            Self::Redis(shard, fault) => {
                let fault = match fault {
                    RedisFault::Kill => "killed",
                    RedisFault::Pause => "paused",
                    RedisFault::Flush => "flushed",
                    RedisFault::FailOver => "failed over",
                    RedisFault::SwitchOver => "switched over",
                };
                write!(formatter, "Redis {shard} {fault}")
            }
            Self::ToRedis(gateway, None, how) => {
                write!(formatter, "gateway {gateway} to Redis {}", harm(how))
            }
            Self::ToRedis(gateway, Some(shard), how) => {
                write!(
                    formatter,
                    "gateway {gateway} to Redis {shard} {}",
                    harm(how)
                )
            }
            Self::ToClients(gateway, how) => {
                write!(formatter, "clients of gateway {gateway} {}", harm(how))
            }
        }
    }
}

/// Draws the faults of a run with so many shards, all of which are over after `length`. Every kind of fault
/// occurs once before one occurs again.
pub(crate) fn draw(seed: u64, length: Duration, shards: usize) -> Vec<Event> {
    let mut random = Rng::with_seed(seed);
    let (mut events, mut deck) = (Vec::new(), Vec::new());
    let mut free_at: HashMap<Target, Duration> = HashMap::new();
    let mut at = Duration::ZERO;
    loop {
        at += Duration::from_millis(random.u64(INTERVAL_MS));
        if deck.is_empty() {
            deck = kinds(&mut random, shards);
        }
        let Some(fault) = deck.pop() else {
            return events;
        };
        let free = free_at.entry(fault.target()).or_default();
        let start = at.max(*free);
        let lasts = Duration::from_millis(random.u64(LENGTH_MS));
        let lasts = if fault.is_momentary() {
            Duration::ZERO
        } else {
            lasts
        };
        if start + lasts > length {
            events.sort_by_key(|event: &Event| event.at);
            return events;
        }
        *free = start + lasts + RECOVERY;
        events.push(Event {
            at: start,
            length: lasts,
            fault,
        });
    }
}

/// Plans a rolling restart: one gateway after the other hands its clients over within `window`, and is
/// started again before the next one follows.
pub(crate) fn rolling(window: Duration) -> Vec<Event> {
    let events = (0..GATEWAYS).map(|gateway| Event {
        at: (window + RESTART) * u32::try_from(gateway).unwrap_or_default(),
        length: window,
        fault: Fault::ReplaceGateway(gateway),
    });
    events.collect()
}

/// One fault of each kind, in any order.
fn kinds(random: &mut Rng, shards: usize) -> Vec<Fault> {
    let mut kinds = Vec::new();
    for fault in [
        RedisFault::Kill,
        RedisFault::Pause,
        RedisFault::Flush,
        RedisFault::FailOver,
        RedisFault::SwitchOver,
    ] {
        kinds.push(Fault::Redis(random.usize(0..shards), fault));
    }
    kinds.extend([
        Fault::KillGateway(random.usize(0..GATEWAYS)),
        Fault::KillGateway(random.usize(0..GATEWAYS)),
        Fault::PauseGateway(random.usize(0..GATEWAYS)),
    ]);
    for harm in [Harm::Cut, Harm::Halve, Harm::Silence, Harm::Delay] {
        kinds.push(to_redis(random, shards, harm));
        kinds.push(Fault::ToClients(random.usize(0..GATEWAYS), harm));
    }
    kinds.push(to_redis(random, shards, Harm::Lose));
    random.shuffle(&mut kinds);
    kinds
}

/// Harm between a gateway and one shard of several, or all shards.
fn to_redis(random: &mut Rng, shards: usize, harm: Harm) -> Fault {
    let gateway = random.usize(0..GATEWAYS);
    let shard = random.usize(0..=shards);
    Fault::ToRedis(
        gateway,
        (shards > 1 && shard < shards).then_some(shard),
        harm,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_has_one_plan() {
        let length = Duration::from_secs(120);
        assert_eq!(draw(7, length, 1), draw(7, length, 1));
        assert_ne!(draw(7, length, 1), draw(8, length, 1));
    }

    #[test]
    fn faults_end_in_time_and_never_overlap_on_one_target() {
        for seed in 0..200 {
            let length = Duration::from_secs(60);
            let events = draw(seed, length, 1 + 2 * (seed as usize % 2));
            assert!(events.len() > 10, "{seed}: {}", events.len());
            for (index, event) in events.iter().enumerate() {
                assert!(event.at + event.length <= length);
                let later = &events[index + 1..];
                let mut same = later.iter();
                let next = same.find(|it| it.fault.target() == event.fault.target());
                assert!(next.is_none_or(|it| it.at >= event.at + event.length + RECOVERY));
            }
        }
    }

    #[test]
    fn a_run_of_90_seconds_has_every_kind_of_fault() {
        for seed in 0..50 {
            let events = draw(seed, Duration::from_secs(70), 3);
            let mut kinds: Vec<_> = events
                .iter()
                .map(|event| match event.fault {
                    Fault::KillGateway(_) => Fault::KillGateway(0),
                    Fault::PauseGateway(_) => Fault::PauseGateway(0),
                    Fault::ToRedis(.., harm) => Fault::ToRedis(0, None, harm),
                    Fault::Redis(_, fault) => Fault::Redis(0, fault),
                    Fault::ToClients(_, harm) => Fault::ToClients(0, harm),
                    other => other,
                })
                .collect();
            kinds.sort_by_key(|kind| format!("{kind:?}"));
            kinds.dedup();
            assert!(kinds.len() >= 13, "{seed}: {kinds:?}");
        }
    }
}
