//! `presence`: clients that join one room with full presence within a few seconds.
//!
//! Each client should have a token of its own subject, since presence counts users.

use std::time::{Duration, Instant};

use clap::Args;

use crate::measurement::Measurement;
use crate::modes::{MAXIMUM_CONNECTIONS, Subscribers, require_success};
use crate::progress::Progress;
use crate::sockets::{Sockets, Step, Workload};
use crate::target::Target;
use crate::usage::{Meter, Used};

const LIMIT: Duration = Duration::from_secs(300);
/// The storm is over when no packet has arrived for this long.
const QUIET: Duration = Duration::from_millis(1500);

/// Options of the mode.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Clients that join.
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=MAXIMUM_CONNECTIONS))]
    pub(crate) connections: u32,
    /// Time in which the subscriptions are sent, evenly spread, in milliseconds.
    #[arg(long, default_value_t = 5000, value_parser = clap::value_parser!(u64).range(0..=60_000))]
    pub(crate) within_ms: u64,
}

/// Measures the server's CPU time from the first subscription to the last notice.
///
/// # Errors
///
/// Returns an error if no subscription is acknowledged or the notices do not end.
pub(crate) fn run(target: &Target, options: &Options) -> anyhow::Result<Measurement> {
    let mut sockets = Sockets::new(target.clone(), options.connections as usize)?;
    let mut workload = Presence {
        subscribers: Subscribers::new(target, &target.events.presence_args)?,
        within: Duration::from_millis(options.within_ms),
        pid: target.pid,
        sent: 0,
        lost: 0,
        notices: 0,
        start: None,
        used: None,
        last_packet: Instant::now(),
        joined_after: None,
        result: Measurement::new("presence"),
        progress: Progress::new(),
    };
    sockets.open_all();
    sockets.run(&mut workload, LIMIT)?;
    let mut result = workload.result;
    let joined = workload.subscribers.subscribed as u64;
    require_success(joined, "subscription", result.failure().as_deref())?;
    result.set("joined", joined as f64);
    result.set("notices", workload.notices as f64);
    result.set(
        "joined_after_secs",
        workload.joined_after.unwrap_or_default().as_secs_f64(),
    );
    if let Some((used, quiet_after)) = workload.used {
        result.set("quiet_after_secs", quiet_after.as_secs_f64());
        if let Some(server_secs) = used.server_secs {
            result.set("server_cpu_secs", server_secs);
        }
        result.set("generator_cpu_secs", used.generator_secs);
    }
    Ok(result)
}

struct Presence {
    subscribers: Subscribers,
    within: Duration,
    pid: Option<u32>,
    /// Subscriptions that were sent.
    sent: usize,
    lost: usize,
    notices: u64,
    start: Option<(Instant, Meter)>,
    /// Use of the CPU, and the time from the first subscription to the last packet.
    used: Option<(Used, Duration)>,
    last_packet: Instant,
    joined_after: Option<Duration>,
    result: Measurement,
    progress: Progress,
}

impl Presence {
    fn subscribe_due(&mut self, sockets: &mut Sockets, elapsed: Duration) {
        let share = elapsed.as_secs_f64() / self.within.as_secs_f64().max(1e-3);
        let due = (share * sockets.count() as f64).ceil() as usize;
        while self.sent < due.min(sockets.count()) {
            self.subscribers.subscribe(sockets, self.sent);
            self.sent += 1;
            self.last_packet = Instant::now();
        }
    }
}

impl Workload for Presence {
    fn step(&mut self, sockets: &mut Sockets) -> anyhow::Result<Step> {
        let joined = self.subscribers.subscribed;
        self.progress
            .show(|| format!("presence: {joined} joined, {} notices", self.notices));
        if self.subscribers.admitted + self.lost < sockets.count() {
            return Ok(Step::Wait(QUIET));
        }
        let pid = self.pid;
        let (start, _) = self
            .start
            .get_or_insert_with(|| (Instant::now(), Meter::start(pid)));
        let start = *start;
        self.subscribe_due(sockets, start.elapsed());
        if self.sent < sockets.count() {
            return Ok(Step::Wait(Duration::from_millis(2)));
        }
        if joined + self.lost >= sockets.count() && self.joined_after.is_none() {
            self.joined_after = Some(start.elapsed());
        }
        if self.last_packet.elapsed() < QUIET {
            return Ok(Step::Wait(QUIET));
        }
        let quiet_after = self.last_packet - start;
        self.used = self
            .start
            .as_ref()
            .map(|(_, meter)| (meter.used(), quiet_after));
        Ok(Step::Done)
    }

    fn on_admitted(&mut self, _sockets: &mut Sockets, _slot: usize) {
        self.subscribers.admitted += 1;
    }

    fn on_packet(&mut self, _sockets: &mut Sockets, _slot: usize, packet: &[u8]) {
        self.last_packet = Instant::now();
        if !self.subscribers.acknowledge(packet, &mut self.result) {
            self.notices += 1;
        }
    }

    fn on_refused(&mut self, _sockets: &mut Sockets, _slot: usize, reason: &str) {
        self.lost += 1;
        self.result.fail(reason);
    }

    fn on_lost(&mut self, _sockets: &mut Sockets, _slot: usize, cause: &str) {
        self.lost += 1;
        self.result.fail(cause);
    }
}
