//! `connect`: authenticated handshakes, each closed as soon as it is acknowledged.

use std::time::Duration;

use clap::Args;

use crate::measurement::Measurement;
use crate::modes::{MAXIMUM_CONNECTIONS, require_success};
use crate::progress::Progress;
use crate::sockets::{Sockets, Step, Workload};
use crate::statistics::Histogram;
use crate::target::Target;
use crate::usage::Meter;

const LIMIT: Duration = Duration::from_secs(180);

/// Options of the mode.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Handshakes in all.
    #[arg(long, default_value_t = 5000, value_parser = clap::value_parser!(u32).range(1..=MAXIMUM_CONNECTIONS))]
    pub(crate) count: u32,
}

/// Measures handshakes: TCP, WebSocket, Engine.IO open and Socket.IO CONNECT.
///
/// # Errors
///
/// Returns an error if no handshake succeeds or they take longer than three minutes.
pub(crate) fn run(target: &Target, options: &Options) -> anyhow::Result<Measurement> {
    let clients = target.concurrency.min(options.count) as usize;
    let mut sockets = Sockets::new(target.clone(), clients)?;
    let mut workload = Connect {
        left: options.count as usize - clients,
        active: clients,
        latency: Histogram::new(),
        result: Measurement::new("connect"),
        progress: Progress::new(),
    };
    let meter = Meter::start(target.pid);
    sockets.open_all();
    sockets.run(&mut workload, LIMIT)?;
    let used = meter.used();
    let mut result = workload.result;
    let count = workload.latency.count();
    require_success(count, "handshake", result.failure().as_deref())?;
    result.set_rates(count, &used);
    result.set_latency(&workload.latency);
    Ok(result)
}

struct Connect {
    /// Handshakes that have not started.
    left: usize,
    /// Clients that still work.
    active: usize,
    latency: Histogram,
    result: Measurement,
    progress: Progress,
}

impl Connect {
    fn next(&mut self, sockets: &mut Sockets, slot: usize) {
        if self.left == 0 {
            self.active -= 1;
        } else {
            self.left -= 1;
            sockets.open(slot);
        }
    }
}

impl Workload for Connect {
    fn step(&mut self, _sockets: &mut Sockets) -> anyhow::Result<Step> {
        self.progress
            .show(|| format!("connect: {} handshakes", self.latency.count()));
        Ok(if self.active == 0 {
            Step::Done
        } else {
            Step::Wait(Duration::from_secs(1))
        })
    }

    fn on_admitted(&mut self, sockets: &mut Sockets, slot: usize) {
        let elapsed = sockets.sessions[slot].since.elapsed();
        self.latency
            .record(u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX));
        if !sockets.close(slot) {
            self.next(sockets, slot);
        }
    }

    fn on_refused(&mut self, sockets: &mut Sockets, slot: usize, reason: &str) {
        self.result.fail(reason);
        self.next(sockets, slot);
    }

    fn on_lost(&mut self, sockets: &mut Sockets, slot: usize, cause: &str) {
        self.result.fail(cause);
        self.next(sockets, slot);
    }

    fn on_left(&mut self, sockets: &mut Sockets, slot: usize) {
        self.next(sockets, slot);
    }
}
