//! The modes of `cargo load`: each one drives clients against one server and measures it.

pub(crate) mod burst;
pub(crate) mod connect;
pub(crate) mod fan_out;
pub(crate) mod http;
pub(crate) mod idle;
pub(crate) mod presence;
pub(crate) mod publish;
pub(crate) mod reconnect;

use anyhow::ensure;

use crate::measurement::Measurement;
use crate::sockets::Sockets;
use crate::target::Target;
use crate::wire::packet::{Event, is_failed_ack};

/// Maximum number of clients.
pub(crate) const MAXIMUM_CONNECTIONS: i64 = 200_000;

/// Builds the event that subscribes to the room with the given arguments.
fn subscribe_event(target: &Target, args: &str) -> anyhow::Result<Event> {
    let events = &target.events;
    let args = args.replace("{room}", &events.room);
    Event::new(
        &target.packet_namespace(),
        &events.subscribe_event,
        &args,
        0,
    )
}

/// Builds the event that publishes to the room.
fn publish_event(target: &Target, args: &str, payload_bytes: u32) -> anyhow::Result<Event> {
    let events = &target.events;
    let args = args.replace("{room}", &events.room);
    let namespace = target.packet_namespace();
    Event::new(
        &namespace,
        &events.publish_event,
        &args,
        payload_bytes as usize,
    )
}

/// Clients that connect and then subscribe to the room.
struct Subscribers {
    event: Event,
    ack_prefix: Vec<u8>,
    scratch: Vec<u8>,
    /// Clients that are admitted.
    admitted: usize,
    /// Clients whose subscription is acknowledged.
    subscribed: usize,
}

impl Subscribers {
    fn new(target: &Target, args: &str) -> anyhow::Result<Self> {
        Ok(Self {
            event: subscribe_event(target, args)?,
            ack_prefix: format!("43{}", target.packet_namespace()).into_bytes(),
            scratch: Vec::new(),
            admitted: 0,
            subscribed: 0,
        })
    }

    /// Sends the subscription of an admitted client.
    fn subscribe(&mut self, sockets: &mut Sockets, slot: usize) {
        self.event.render(&mut self.scratch, Some(0), 0);
        sockets.send(slot, &self.scratch);
    }

    /// Counts the packet if it acknowledges a subscription, and a refusal as a failure.
    ///
    /// Returns whether the packet is an acknowledgement.
    fn acknowledge(&mut self, packet: &[u8], result: &mut Measurement) -> bool {
        let is_ack = packet.starts_with(&self.ack_prefix);
        if is_ack && is_failed_ack(packet) {
            result.fail(&String::from_utf8_lossy(packet));
        }
        self.subscribed += usize::from(is_ack);
        is_ack
    }
}

/// Rejects a measurement without any success, whose values would mean nothing.
fn require_success(count: u64, what: &str, failure: Option<&str>) -> anyhow::Result<()> {
    let failure = failure.unwrap_or("no failure is known");
    ensure!(count > 0, "no {what} was counted: {failure}");
    Ok(())
}
