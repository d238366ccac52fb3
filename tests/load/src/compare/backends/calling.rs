//! Clients that call two back ends at a steady rate, while one of them is stopped and goes on.

use std::time::Duration;

use rustix::process::Signal;

use super::{CLIENTS, EVENTS};
use crate::compare::process::Process;
use crate::sockets::{Sockets, Step, Workload};
use crate::statistics::Histogram;
use crate::target::Target;
use crate::usage::resident_mb;
use crate::wire::packet::{Event, is_failed_ack};

/// Maximum time of the measurement.
const LIMIT: Duration = Duration::from_secs(300);
/// Interval between two calls of one client, in microseconds.
const INTERVAL_US: u64 = 500_000;
/// Time before anything is measured.
const WARM_UP: Duration = Duration::from_secs(3);
/// Time after the return of a back end from which no call may fail.
const RECOVERY_US: u64 = 5_000_000;
/// Longest pause of the loop.
const TURN: Duration = Duration::from_millis(2);
/// Bytes of a call's argument.
const PAYLOAD_BYTES: usize = 64;

/// Ends of the phases, in microseconds since the first call.
#[derive(Clone, Copy)]
pub(super) struct Phases {
    warm: u64,
    stopped: u64,
    resumed: u64,
    end: u64,
}

impl Phases {
    /// Phases of `secs` seconds each, after a warm-up.
    pub(super) fn of_secs(secs: u64) -> Self {
        let warm = WARM_UP.as_micros() as u64;
        let length = secs * 1_000_000;
        Self {
            warm,
            stopped: warm + length,
            resumed: warm + 2 * length,
            end: warm + 3 * length,
        }
    }
}

/// The result.
pub(super) struct Calls {
    /// Times of the refused calls of the stopped back end, in microseconds.
    pub(super) refusals: Histogram,
    /// Times of the calls of the other one before and during the stop.
    pub(super) other_before: Histogram,
    pub(super) other_during: Histogram,
    pub(super) gained_mb: f64,
    /// Time from SIGCONT until a call that was sent after it was answered by the back end.
    pub(super) back: Option<Duration>,
    /// Calls that were refused though they were sent long after the return.
    pub(super) refused_later: u64,
}

struct Calling<'a> {
    gateway: &'a Process,
    stopped: &'a Process,
    phases: Phases,
    events: [Event; 2],
    clients: Vec<Client>,
    scratch: Vec<u8>,
    admitted: usize,
    /// Time at which the first call was due, in microseconds of the sockets' clock.
    start: Option<u64>,
    is_stopped: bool,
    resumed_at: Option<u64>,
    memory_before: f64,
    calls: Calls,
    failure: Option<String>,
}

#[derive(Clone, Default)]
struct Client {
    next_id: u64,
    due: u64,
    /// Time at which the call in flight was sent.
    sent: Option<u64>,
}

/// Runs all phases. The back end is going on when this returns.
///
/// # Errors
///
/// Returns an error if a client is not admitted or lost, a call of the other back end fails, or a signal cannot
/// be sent.
pub(super) fn run(
    target: &Target,
    gateway: &Process,
    (stopped, phases): (&Process, Phases),
) -> anyhow::Result<Calls> {
    let event = |name| Event::new(&target.packet_namespace(), name, "{data}", PAYLOAD_BYTES);
    let mut workload = Calling {
        gateway,
        stopped,
        phases,
        events: [event(EVENTS[0])?, event(EVENTS[1])?],
        clients: vec![Client::default(); CLIENTS],
        scratch: Vec::new(),
        admitted: 0,
        start: None,
        is_stopped: false,
        resumed_at: None,
        memory_before: 0.0,
        calls: Calls {
            refusals: Histogram::new(),
            other_before: Histogram::new(),
            other_during: Histogram::new(),
            gained_mb: 0.0,
            back: None,
            refused_later: 0,
        },
        failure: None,
    };
    let mut sockets = Sockets::new(target.clone(), CLIENTS)?;
    sockets.open_all();
    sockets.run(&mut workload, LIMIT)?;
    match workload.failure {
        None => Ok(workload.calls),
        Some(failure) => anyhow::bail!(failure),
    }
}

impl Calling<'_> {
    fn elapsed(&self, sockets: &Sockets) -> u64 {
        let now = sockets.now_us();
        self.start.map_or(0, |start| now.saturating_sub(start))
    }

    /// Stops the back end, and lets it go on, when it is time.
    fn change_phase(&mut self, sockets: &Sockets) -> anyhow::Result<()> {
        let elapsed = self.elapsed(sockets);
        let memory = || resident_mb(self.gateway.pid()).unwrap_or_default();
        if !self.is_stopped && elapsed >= self.phases.stopped {
            self.memory_before = memory();
            self.stopped.signal(Signal::STOP)?;
            self.is_stopped = true;
        }
        if self.is_stopped && self.resumed_at.is_none() && elapsed >= self.phases.resumed {
            self.calls.gained_mb = memory() - self.memory_before;
            self.stopped.signal(Signal::CONT)?;
            self.resumed_at = Some(sockets.now_us());
        }
        Ok(())
    }

    fn send_due(&mut self, sockets: &mut Sockets) {
        let now = sockets.now_us();
        for slot in 0..self.clients.len() {
            let client = &mut self.clients[slot];
            if client.due > now || client.sent.is_some() {
                continue;
            }
            client.sent = Some(now);
            client.next_id += 1;
            client.due = now + INTERVAL_US;
            let id = client.next_id;
            self.events[slot % 2].render(&mut self.scratch, Some(id), now);
            sockets.send(slot, &self.scratch);
        }
    }

    /// Notes an answer to a call that was sent at `sent`.
    fn note(&mut self, sockets: &Sockets, slot: usize, sent: u64, packet: &[u8]) {
        let now = sockets.now_us();
        let is_refused = is_failed_ack(packet);
        let time = now.saturating_sub(sent);
        let phase = self.elapsed(sockets);
        if slot % 2 == 1 {
            if is_refused {
                self.failure = Some(String::from_utf8_lossy(packet).into_owned());
            } else if self.is_stopped && self.resumed_at.is_none() {
                self.calls.other_during.record(time);
            } else if !self.is_stopped && phase >= self.phases.warm {
                self.calls.other_before.record(time);
            }
            return;
        }
        if is_refused && self.is_stopped {
            self.calls.refusals.record(time);
        } else if is_refused {
            self.failure = Some(String::from_utf8_lossy(packet).into_owned());
        }
        let Some(resumed) = self.resumed_at.filter(|resumed| sent >= *resumed) else {
            return;
        };
        if is_refused {
            self.calls.refused_later += u64::from(sent >= resumed + RECOVERY_US);
        } else {
            let back = Duration::from_micros(now - resumed);
            self.calls.back.get_or_insert(back);
        }
    }
}

impl Workload for Calling<'_> {
    fn step(&mut self, sockets: &mut Sockets) -> anyhow::Result<Step> {
        if self.failure.is_some() || self.elapsed(sockets) >= self.phases.end {
            return Ok(Step::Done);
        }
        if self.admitted < sockets.count() {
            return Ok(Step::Wait(Duration::from_millis(50)));
        }
        if self.start.is_none() {
            let now = sockets.now_us();
            self.start = Some(now);
            // Evenly over the interval.
            for (slot, client) in self.clients.iter_mut().enumerate() {
                client.due = now + slot as u64 * INTERVAL_US / CLIENTS as u64;
            }
        }
        self.change_phase(sockets)?;
        self.send_due(sockets);
        Ok(Step::Wait(TURN))
    }

    fn on_admitted(&mut self, _sockets: &mut Sockets, _slot: usize) {
        self.admitted += 1;
    }

    fn on_packet(&mut self, sockets: &mut Sockets, slot: usize, packet: &[u8]) {
        if packet.starts_with(b"43")
            && let Some(sent) = self.clients[slot].sent.take()
        {
            self.note(sockets, slot, sent, packet);
        }
    }

    fn on_refused(&mut self, _sockets: &mut Sockets, _slot: usize, reason: &str) {
        self.failure = Some(reason.to_owned());
    }

    fn on_lost(&mut self, _sockets: &mut Sockets, _slot: usize, cause: &str) {
        self.failure = Some(cause.to_owned());
    }
}
