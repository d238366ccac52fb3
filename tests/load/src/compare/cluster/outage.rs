//! Latency of the clients of one gateway while Redis is stopped, and the time until the gateway is back.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::process::Signal;

use super::group::Group;
use super::{calls, revocation};
use crate::compare::prepare::Home;
use crate::modes::{connect, publish};

/// Maximum time until the gateway is back.
const BACK_TIMEOUT: Duration = Duration::from_secs(30);
/// Handshakes of one measurement.
const HANDSHAKES: u32 = 2000;
/// Sessions that are revoked in one measurement.
const SESSIONS: u32 = 200;

/// 99th percentiles of operations that need one gateway alone, in milliseconds.
#[derive(Clone, Copy)]
struct Local {
    handshake: f64,
    subscribe: f64,
    kick: f64,
}

/// The percentiles with Redis stopped, divided by those before, and the time until the gateway was back.
pub(super) struct Outage {
    pub(super) handshake_ratio: f64,
    pub(super) subscribe_ratio: f64,
    pub(super) kick_ratio: f64,
    pub(super) back_secs: f64,
}

/// Stops Redis for `secs` seconds.
///
/// # Errors
///
/// Returns an error if an operation fails, or the gateway does not come back.
pub(super) fn run(group: &Group, home: &Home, secs: u64) -> anyhow::Result<Outage> {
    let before = measure(group, home, "before")?;
    group.redis()?.signal(Signal::STOP)?;
    let stopped = Instant::now();
    let during = measure(group, home, "during");
    thread::sleep(Duration::from_secs(secs).saturating_sub(stopped.elapsed()));
    group.redis()?.signal(Signal::CONT)?;
    let back = calls::until_ready(group.nodes[0].address, BACK_TIMEOUT)?;
    let during = during?;
    Ok(Outage {
        handshake_ratio: during.handshake / before.handshake,
        subscribe_ratio: during.subscribe / before.subscribe,
        kick_ratio: during.kick / before.kick,
        back_secs: back.as_secs_f64(),
    })
}

fn measure(group: &Group, home: &Home, phase: &str) -> anyhow::Result<Local> {
    let target = group.target(home)?;
    let p99 = |result: crate::measurement::Measurement| match result.failure() {
        None => result.get("p99_ms").context("nothing was measured"),
        Some(failure) => anyhow::bail!(failure),
    };
    let handshakes = connect::Options { count: HANDSHAKES };
    let handshake = p99(connect::run(&target, &handshakes)?)?;
    let mut subscribing = target.clone();
    subscribing.events.publish_event = subscribing.events.subscribe_event.clone();
    subscribing.events.acknowledged_args = subscribing.events.subscribe_args.clone();
    let subscriptions = publish::Options {
        connections: 8,
        depth: 1,
        duration_ms: 4000,
        warm_up_ms: 0,
    };
    let subscribe = p99(publish::run(&subscribing, &subscriptions)?)?;
    let kick = revocation::run(group, home, (SESSIONS, phase))?.p99_ms()?;
    Ok(Local {
        handshake,
        subscribe,
        kick,
    })
}
