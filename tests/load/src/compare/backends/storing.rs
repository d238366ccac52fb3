//! Clients whose events a gateway stores before it acknowledges them.

use anyhow::Context as _;

use crate::compare::bars::CPU;
use crate::compare::cluster::group::{Group, Kind};
use crate::compare::prepare::STORED_EVENT;
use crate::compare::rounds::Bench;
use crate::measurement::number;
use crate::modes::publish;

/// Clients, each of which sends its next event when the one before it is acknowledged.
const CLIENTS: u32 = 16;
/// Time of the measurement, in milliseconds.
const DURATION_MS: u64 = 8000;
/// Time before the measurement, in milliseconds. The copy of the queue is whole by then.
const WARM_UP_MS: u64 = 2000;

/// Returns the CPU time of a gateway of `kind` for one stored event, in microseconds.
///
/// # Errors
///
/// Returns an error if a server does not start, or an event is not acknowledged.
pub(super) fn cpu_of_event(bench: &Bench, kind: Kind) -> anyhow::Result<f64> {
    let Bench {
        programs,
        home,
        cores,
    } = bench;
    let group = Group::start(kind, 1, programs, home, cores)?;
    let mut target = group.target(home)?;
    // One subject may have a share of the queue.
    let token = |number| home.token(&format!("user-{number}"));
    target.tokens = (0..CLIENTS).map(token).collect::<Result<_, _>>()?;
    target.events.publish_event = STORED_EVENT.to_owned();
    target.events.acknowledged_args = "{data}".to_owned();
    let options = publish::Options {
        connections: CLIENTS,
        depth: 1,
        duration_ms: DURATION_MS,
        warm_up_ms: WARM_UP_MS,
    };
    let result = publish::run(&target, &options)?;
    if let Some(failure) = result.failure() {
        anyhow::bail!(failure);
    }
    if let Some(rate) = result.get("operations_per_sec") {
        eprintln!("cargo load: {} stored events a second", number(rate));
    }
    result.get(CPU).context("the CPU time was not measured")
}
