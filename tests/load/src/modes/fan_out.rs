//! `fan-out`: one client or some publish to a room, and all other clients receive each message.

use std::time::{Duration, Instant};

use anyhow::ensure;
use clap::Args;

use crate::measurement::Measurement;
use crate::modes::{MAXIMUM_CONNECTIONS, Subscribers, publish_event, require_success};
use crate::progress::Progress;
use crate::sockets::{Sockets, Step, Workload};
use crate::statistics::Histogram;
use crate::target::Target;
use crate::usage::{Meter, Used};
use crate::wire::packet::{Event, delivery_prefix, stamp};

const LIMIT: Duration = Duration::from_secs(240);
/// Maximum time without a delivery while deliveries are expected.
const STALL: Duration = Duration::from_secs(10);

/// Options of the mode.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Clients in the room.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=MAXIMUM_CONNECTIONS))]
    pub(crate) connections: u32,
    /// Clients that publish, in turn.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) senders: u32,
    /// Messages that are published before all clients have received the first of them.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) window: u32,
    /// Messages a second, instead of a window.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) rate: Option<u32>,
    /// Time of the measurement, in milliseconds.
    #[arg(long, default_value_t = 4000, value_parser = clap::value_parser!(u64).range(1..=120_000))]
    pub(crate) duration_ms: u64,
    /// Time before the measurement, in milliseconds.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(0..=30_000))]
    pub(crate) warm_up_ms: u64,
}

/// Measures deliveries to a room.
///
/// # Errors
///
/// Returns an error if clients do not join, deliveries stop, or none is counted.
pub(crate) fn run(target: &Target, options: &Options) -> anyhow::Result<Measurement> {
    let clients = options.connections + options.senders;
    let mut sockets = Sockets::new(target.clone(), clients as usize)?;
    for sender in 0..options.senders as usize {
        // Senders publish over WebSocket, so that a polling room is limited by its receivers.
        sockets.use_websocket(sender);
        if let Some((server, _)) = target.others.first() {
            sockets.place(sender, *server);
        }
    }
    let events = &target.events;
    let mut workload = FanOut {
        subscribers: Subscribers::new(target, &events.subscribe_args)?,
        event: publish_event(target, &events.publish_args, events.payload_bytes)?,
        delivery: delivery_prefix(&target.packet_namespace(), &events.delivery_event)?,
        scratch: Vec::new(),
        options: options.clone(),
        pids: target.pids(),
        receivers: u64::from(options.connections),
        start: None,
        meter: None,
        measured_from_us: u64::MAX,
        used: None,
        published: 0,
        delivered: 0,
        delivered_before: 0,
        last_delivery: Instant::now(),
        latency: Histogram::new(),
        result: Measurement::new("fan-out"),
        progress: Progress::new(),
    };
    sockets.open_all();
    sockets.run(&mut workload, LIMIT)?;
    let counted = workload.delivered - workload.delivered_before;
    let mut result = workload.result;
    require_success(counted, "delivery", result.failure().as_deref())?;
    if let Some(used) = workload.used {
        result.set_rates(counted, &used);
    }
    result.set_latency(&workload.latency);
    result.set("published", workload.published as f64);
    Ok(result)
}

struct FanOut {
    subscribers: Subscribers,
    event: Event,
    delivery: Vec<u8>,
    scratch: Vec<u8>,
    options: Options,
    pids: Vec<u32>,
    receivers: u64,
    start: Option<Instant>,
    meter: Option<Meter>,
    /// Messages that were published from then on count for the latency.
    measured_from_us: u64,
    used: Option<Used>,
    published: u64,
    delivered: u64,
    /// Deliveries before the measurement.
    delivered_before: u64,
    last_delivery: Instant,
    latency: Histogram,
    result: Measurement,
    progress: Progress,
}

impl FanOut {
    fn publish(&mut self, sockets: &mut Sockets) {
        let sender = self.published % u64::from(self.options.senders);
        self.published += 1;
        self.event.render(&mut self.scratch, None, sockets.now_us());
        sockets.send(sender as usize, &self.scratch);
    }

    /// Publishes as many messages as the window or the rate allows now.
    fn publish_due(&mut self, sockets: &mut Sockets, start: Instant) {
        match self.options.rate {
            Some(rate) => {
                let due = (start.elapsed().as_secs_f64() * f64::from(rate)) as u64;
                while self.published < due {
                    self.publish(sockets);
                }
            }
            None => {
                let complete = self.delivered / self.receivers;
                while self.published < complete + u64::from(self.options.window) {
                    self.publish(sockets);
                }
            }
        }
    }

    fn wait(&self, start: Instant) -> Duration {
        let next = self.options.rate.map(|rate| {
            let due = Duration::from_secs_f64((self.published + 1) as f64 / f64::from(rate));
            due.saturating_sub(start.elapsed())
        });
        next.unwrap_or(Duration::from_millis(100))
    }
}

impl Workload for FanOut {
    fn step(&mut self, sockets: &mut Sockets) -> anyhow::Result<Step> {
        self.progress
            .show(|| format!("fan-out: {} deliveries", self.delivered));
        if let Some(failure) = self.result.failure() {
            anyhow::bail!("a client of the room failed: {failure}");
        }
        let receivers = self.receivers as usize;
        if !self.subscribers.are_complete(sockets.count(), receivers)? {
            self.last_delivery = Instant::now();
            return Ok(Step::Wait(STALL));
        }
        let start = *self.start.get_or_insert_with(Instant::now);
        let warm_up = Duration::from_millis(self.options.warm_up_ms);
        if start.elapsed() >= warm_up && self.meter.is_none() {
            self.meter = Some(Meter::start(self.pids.iter().copied()));
            self.measured_from_us = sockets.now_us();
            self.delivered_before = self.delivered;
        }
        if start.elapsed() >= warm_up + Duration::from_millis(self.options.duration_ms) {
            self.used = self.meter.as_ref().map(Meter::used);
            return Ok(Step::Done);
        }
        ensure!(
            self.options.rate.is_some() || self.last_delivery.elapsed() < STALL,
            "deliveries stopped after {} of {}",
            self.delivered,
            self.published * self.receivers
        );
        self.publish_due(sockets, start);
        Ok(Step::Wait(self.wait(start)))
    }

    fn on_admitted(&mut self, sockets: &mut Sockets, slot: usize) {
        self.subscribers.admitted += 1;
        if slot >= self.options.senders as usize {
            self.subscribers.subscribe(sockets, slot);
        }
    }

    fn on_packet(&mut self, sockets: &mut Sockets, slot: usize, packet: &[u8]) {
        if packet.starts_with(&self.delivery) {
            self.delivered += 1;
            if self.meter.is_some() {
                let sent = stamp(packet).unwrap_or(0);
                if sent >= self.measured_from_us {
                    self.latency.record(sockets.now_us().saturating_sub(sent));
                }
            }
            if self.delivered.is_multiple_of(self.receivers) {
                self.last_delivery = Instant::now();
            }
        } else if slot >= self.options.senders as usize {
            self.subscribers.acknowledge(packet, &mut self.result);
        }
    }

    fn on_refused(&mut self, _sockets: &mut Sockets, _slot: usize, reason: &str) {
        self.result.fail(reason);
    }

    fn on_lost(&mut self, _sockets: &mut Sockets, _slot: usize, cause: &str) {
        self.result.fail(cause);
    }
}
