//! `burst`: large messages to every client of a room, and the memory that the server keeps.

use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;

use crate::measurement::Measurement;
use crate::modes::{MAXIMUM_CONNECTIONS, Subscribers, publish_event, require_success};
use crate::progress::Progress;
use crate::sockets::{Sockets, Step, Workload};
use crate::target::Target;
use crate::usage::resident_mb;
use crate::wire::packet::{Event, delivery_prefix};

const LIMIT: Duration = Duration::from_secs(300);
/// Slot of the client that publishes.
const SENDER: usize = 0;
/// Maximum time for the deliveries of one message.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(60);

/// Options of the mode.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Clients in the room.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=MAXIMUM_CONNECTIONS))]
    pub(crate) connections: u32,
    /// Bytes of each message.
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u32).range(1..=900_000))]
    pub(crate) bytes: u32,
    /// Messages, one after the other.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) messages: u32,
    /// Time between the last delivery and a reading, and between the departure of all clients and the last reading,
    /// in seconds.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=120))]
    pub(crate) settle_secs: u64,
}

/// Measures the server's memory before, during and after a burst.
///
/// # Errors
///
/// Returns an error if the memory cannot be read or the messages are not delivered.
pub(crate) fn run(target: &Target, options: &Options) -> anyhow::Result<Measurement> {
    let pid = target
        .pid
        .context("burst reads the server's memory: name its process with --pid")?;
    let memory = move || {
        resident_mb(pid).with_context(|| format!("the process {pid} has no readable memory"))
    };
    let before = memory()?;
    let mut sockets = Sockets::new(target.clone(), options.connections as usize + 1)?;
    sockets.use_websocket(SENDER);
    let events = &target.events;
    let mut workload = Burst {
        subscribers: Subscribers::new(target, &events.subscribe_args)?,
        event: publish_event(target, &events.publish_args, options.bytes)?,
        delivery: delivery_prefix(&target.packet_namespace(), &events.delivery_event)?,
        scratch: Vec::new(),
        options: options.clone(),
        pid,
        published: 0,
        delivered: 0,
        peak_mb: 0.0,
        joined_mb: None,
        burst_mb: 0.0,
        settled_mb: 0.0,
        delivered_at: None,
        published_at: Instant::now(),
        left_at: None,
        result: Measurement::new("burst"),
        progress: Progress::new(),
    };
    sockets.open_all();
    sockets.run(&mut workload, LIMIT)?;
    let after = memory()?;
    let mut result = workload.result;
    require_success(workload.delivered, "delivery", result.failure().as_deref())?;
    result.set("memory_before_mb", before);
    result.set("memory_joined_mb", workload.joined_mb.unwrap_or_default());
    result.set("memory_peak_mb", workload.peak_mb);
    result.set("memory_after_burst_mb", workload.burst_mb);
    result.set("memory_settled_mb", workload.settled_mb);
    let joined_mb = workload.joined_mb.unwrap_or_default();
    if joined_mb > 0.0 && workload.settled_mb > 0.0 {
        result.set("settled_ratio", workload.settled_mb / joined_mb);
    }
    result.set("memory_after_leaving_mb", after);
    result.set("kept_mb", after - before);
    result.set("deliveries", workload.delivered as f64);
    Ok(result)
}

struct Burst {
    subscribers: Subscribers,
    event: Event,
    delivery: Vec<u8>,
    scratch: Vec<u8>,
    options: Options,
    pid: u32,
    published: u32,
    delivered: u64,
    peak_mb: f64,
    joined_mb: Option<f64>,
    burst_mb: f64,
    /// The memory while the clients stay, some time after the burst.
    settled_mb: f64,
    delivered_at: Option<Instant>,
    published_at: Instant,
    left_at: Option<Instant>,
    result: Measurement,
    progress: Progress,
}

impl Burst {
    fn leave(&mut self, sockets: &mut Sockets) {
        (0..sockets.count()).for_each(|slot| sockets.cut(slot));
        self.left_at = Some(Instant::now());
    }

    /// Publishes the next message when every client has received the last one.
    fn continue_burst(&mut self, sockets: &mut Sockets) -> anyhow::Result<()> {
        let expected = u64::from(self.published) * u64::from(self.options.connections);
        if self.delivered < expected {
            if self.published_at.elapsed() > DELIVERY_TIMEOUT {
                self.result.fail(&format!(
                    "{} of {expected} deliveries arrived",
                    self.delivered
                ));
                self.leave(sockets);
            }
            self.peak_mb = self.peak_mb.max(resident_mb(self.pid).unwrap_or_default());
        } else if self.published < self.options.messages {
            self.published += 1;
            self.published_at = Instant::now();
            self.event.render(&mut self.scratch, None, sockets.now_us());
            sockets.send(SENDER, &self.scratch);
        } else if self.delivered_at.is_none() {
            self.burst_mb = resident_mb(self.pid).unwrap_or_default();
            self.delivered_at = Some(Instant::now());
        } else if self.has_settled(self.delivered_at) {
            self.settled_mb = resident_mb(self.pid).unwrap_or_default();
            self.leave(sockets);
        }
        Ok(())
    }

    fn has_settled(&self, since: Option<Instant>) -> bool {
        let settle = Duration::from_secs(self.options.settle_secs);
        since.is_some_and(|since| since.elapsed() >= settle)
    }
}

impl Workload for Burst {
    fn step(&mut self, sockets: &mut Sockets) -> anyhow::Result<Step> {
        self.progress
            .show(|| format!("burst: {} deliveries", self.delivered));
        if self.left_at.is_some() {
            let settle = Duration::from_secs(self.options.settle_secs);
            return Ok(if self.has_settled(self.left_at) {
                Step::Done
            } else {
                Step::Wait(settle)
            });
        }
        if let Some(failure) = self.result.failure() {
            anyhow::bail!("a client of the room failed: {failure}");
        }
        let receivers = self.options.connections as usize;
        if !self.subscribers.are_complete(sockets.count(), receivers)? {
            return Ok(Step::Wait(Duration::from_secs(1)));
        }
        if self.joined_mb.is_none() {
            self.joined_mb = resident_mb(self.pid);
        }
        self.continue_burst(sockets)?;
        Ok(Step::Wait(Duration::from_millis(5)))
    }

    fn on_admitted(&mut self, sockets: &mut Sockets, slot: usize) {
        self.subscribers.admitted += 1;
        if slot != SENDER {
            self.subscribers.subscribe(sockets, slot);
        }
    }

    fn on_packet(&mut self, _sockets: &mut Sockets, slot: usize, packet: &[u8]) {
        if packet.starts_with(&self.delivery) {
            self.delivered += 1;
        } else if slot != SENDER {
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
