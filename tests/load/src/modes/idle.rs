//! `idle`: clients that only answer heartbeats, and the memory that each of them costs the server.

use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;

use crate::measurement::Measurement;
use crate::modes::{MAXIMUM_CONNECTIONS, require_success};
use crate::progress::Progress;
use crate::sockets::{Sockets, Step, Workload};
use crate::target::Target;
use crate::usage::{Meter, resident_mb};

const LIMIT: Duration = Duration::from_secs(600);

/// Options of the mode.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Clients.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=MAXIMUM_CONNECTIONS))]
    pub(crate) connections: u32,
    /// Time between the last handshake and the reading of the server's memory, in seconds.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=120))]
    pub(crate) hold_secs: u64,
}

/// Measures the memory of idle clients.
///
/// # Errors
///
/// Returns an error if the server's memory cannot be read or no client is admitted.
pub(crate) fn run(target: &Target, options: &Options) -> anyhow::Result<Measurement> {
    let memory = || {
        let pid = target
            .pid
            .context("idle reads the server's memory: name its process with --pid")?;
        resident_mb(pid).with_context(|| format!("the process {pid} has no readable memory"))
    };
    let before = memory()?;
    let mut sockets = Sockets::new(target.clone(), options.connections as usize)?;
    let mut workload = Idle {
        hold: Duration::from_secs(options.hold_secs),
        admitted: 0,
        answered: 0,
        complete_since: None,
        meter: None,
        pid: target.pid,
        result: Measurement::new("idle"),
        progress: Progress::new(),
    };
    let opening = Meter::start(target.pid);
    sockets.open_all();
    sockets.run(&mut workload, LIMIT)?;
    let after = memory()?;
    let opened = opening.used();
    let mut result = workload.result;
    require_success(workload.admitted, "client", result.failure().as_deref())?;
    let clients = workload.admitted as f64;
    result.set("connections", clients);
    result.set("open_secs", opened.wall_secs - workload.hold.as_secs_f64());
    result.set("memory_before_mb", before);
    result.set("memory_held_mb", after);
    result.set("kb_per_connection", (after - before) * 1024.0 / clients);
    if let Some(server_secs) = workload.meter.and_then(|meter| meter.used().server_secs) {
        result.set("server_cpu_secs_while_idle", server_secs);
    }
    Ok(result)
}

struct Idle {
    hold: Duration,
    admitted: u64,
    /// Clients whose handshake has ended, well or not.
    answered: usize,
    complete_since: Option<Instant>,
    meter: Option<Meter>,
    pid: Option<u32>,
    result: Measurement,
    progress: Progress,
}

impl Workload for Idle {
    fn step(&mut self, sockets: &mut Sockets) -> anyhow::Result<Step> {
        self.progress
            .show(|| format!("idle: {} of {} clients", self.admitted, sockets.count()));
        if self.answered < sockets.count() {
            return Ok(Step::Wait(self.hold));
        }
        let since = *self.complete_since.get_or_insert_with(Instant::now);
        let pid = self.pid;
        self.meter.get_or_insert_with(|| Meter::start(pid));
        let is_over = since.elapsed() >= self.hold;
        Ok(if is_over {
            Step::Done
        } else {
            Step::Wait(self.hold)
        })
    }

    fn on_admitted(&mut self, _sockets: &mut Sockets, _slot: usize) {
        self.admitted += 1;
        self.answered += 1;
    }

    fn on_refused(&mut self, _sockets: &mut Sockets, _slot: usize, reason: &str) {
        self.answered += 1;
        self.result.fail(reason);
    }

    fn on_lost(&mut self, _sockets: &mut Sockets, _slot: usize, cause: &str) {
        self.answered += 1;
        self.result.fail(cause);
    }
}
