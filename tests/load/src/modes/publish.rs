//! `publish`: acknowledged messages of many clients, a fixed number of them in flight on each.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Args;

use crate::measurement::Measurement;
use crate::modes::{MAXIMUM_CONNECTIONS, publish_event, require_success};
use crate::progress::Progress;
use crate::sockets::{Sockets, Step, Workload};
use crate::statistics::Histogram;
use crate::target::Target;
use crate::usage::{Meter, Used};
use crate::wire::packet::{Event, is_failed_ack};

const LIMIT: Duration = Duration::from_secs(240);

/// Options of the mode.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Clients that publish.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=MAXIMUM_CONNECTIONS))]
    pub(crate) connections: u32,
    /// Messages of one client that wait for their acknowledgement.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) depth: u32,
    /// Time of the measurement, in milliseconds.
    #[arg(long, default_value_t = 4000, value_parser = clap::value_parser!(u64).range(1..=120_000))]
    pub(crate) duration_ms: u64,
    /// Time before the measurement, in milliseconds.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(0..=30_000))]
    pub(crate) warm_up_ms: u64,
}

/// Measures acknowledged messages.
///
/// # Errors
///
/// Returns an error if no message is acknowledged or the clients do not connect within the limit.
pub(crate) fn run(target: &Target, options: &Options) -> anyhow::Result<Measurement> {
    let mut sockets = Sockets::new(target.clone(), options.connections as usize)?;
    let args = &target.events.acknowledged_args;
    let mut workload = Publish {
        event: publish_event(target, args, target.events.payload_bytes)?,
        ack_prefix: format!("43{}", target.packet_namespace()).into_bytes(),
        scratch: Vec::new(),
        first_stamp: unix_us(),
        depth: options.depth,
        warm_up: Duration::from_millis(options.warm_up_ms),
        duration: Duration::from_millis(options.duration_ms),
        clients: vec![Client::default(); sockets.count()],
        answered: 0,
        pid: target.pid,
        start: None,
        measured: None,
        used: None,
        latency: Histogram::new(),
        result: Measurement::new("publish"),
        progress: Progress::new(),
    };
    sockets.open_all();
    sockets.run(&mut workload, LIMIT)?;
    let mut result = workload.result;
    let count = workload.latency.count();
    require_success(count, "acknowledgement", result.failure().as_deref())?;
    if let Some(used) = workload.used {
        result.set_rates(count, &used);
    }
    result.set_latency(&workload.latency);
    Ok(result)
}

/// Returns the microseconds since the epoch.
fn unix_us() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or_default()
}

#[derive(Clone, Default)]
struct Client {
    next_id: u64,
    is_admitted: bool,
    /// Times at which the messages in flight were sent, in microseconds.
    in_flight: VecDeque<u64>,
}

struct Publish {
    event: Event,
    ack_prefix: Vec<u8>,
    scratch: Vec<u8>,
    first_stamp: u64,
    depth: u32,
    warm_up: Duration,
    duration: Duration,
    clients: Vec<Client>,
    answered: usize,
    pid: Option<u32>,
    start: Option<Instant>,
    measured: Option<Meter>,
    used: Option<Used>,
    latency: Histogram,
    result: Measurement,
    progress: Progress,
}

impl Publish {
    fn publish(&mut self, sockets: &mut Sockets, slot: usize) {
        let now = sockets.now_us();
        let count = self.clients.len() as u64;
        let client = &mut self.clients[slot];
        client.next_id += 1;
        // The stamp is the message's id too: no other client and no other run sends the same one.
        let stamp = self.first_stamp + client.next_id * count + slot as u64;
        client.in_flight.push_back(now);
        self.event
            .render(&mut self.scratch, Some(client.next_id), stamp);
        sockets.send(slot, &self.scratch);
    }

    fn start(&mut self, sockets: &mut Sockets) {
        for slot in 0..self.clients.len() {
            for _ in 0..self.depth {
                if self.clients[slot].is_admitted {
                    self.publish(sockets, slot);
                }
            }
        }
    }
}

impl Workload for Publish {
    fn step(&mut self, sockets: &mut Sockets) -> anyhow::Result<Step> {
        self.progress
            .show(|| format!("publish: {} acknowledgements", self.latency.count()));
        if self.answered < sockets.count() {
            return Ok(Step::Wait(self.duration));
        }
        let Some(start) = self.start else {
            self.start = Some(Instant::now());
            self.start(sockets);
            return Ok(Step::Wait(self.warm_up));
        };
        let elapsed = start.elapsed();
        if elapsed < self.warm_up {
            return Ok(Step::Wait(self.warm_up.saturating_sub(elapsed)));
        }
        let pid = self.pid;
        let meter = self.measured.get_or_insert_with(|| Meter::start(pid));
        if elapsed < self.warm_up + self.duration {
            return Ok(Step::Wait(self.warm_up + self.duration - elapsed));
        }
        self.used = Some(meter.used());
        Ok(Step::Done)
    }

    fn on_admitted(&mut self, _sockets: &mut Sockets, slot: usize) {
        self.answered += 1;
        self.clients[slot].is_admitted = true;
    }

    fn on_packet(&mut self, sockets: &mut Sockets, slot: usize, packet: &[u8]) {
        if !packet.starts_with(&self.ack_prefix) {
            return;
        }
        let now = sockets.now_us();
        let sent = self.clients[slot].in_flight.pop_front().unwrap_or(now);
        if is_failed_ack(packet) {
            self.result.fail(&String::from_utf8_lossy(packet));
        } else if self.measured.is_some() {
            self.latency.record(now.saturating_sub(sent));
        }
        self.publish(sockets, slot);
    }

    fn on_refused(&mut self, _sockets: &mut Sockets, _slot: usize, reason: &str) {
        self.answered += 1;
        self.result.fail(reason);
    }

    fn on_lost(&mut self, _sockets: &mut Sockets, slot: usize, cause: &str) {
        if !self.clients[slot].is_admitted {
            self.answered += 1;
        }
        self.result.fail(cause);
    }
}
