//! `reconnect`: all clients are dropped at once and reconnect with socket.io-client's backoff.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;

use crate::measurement::Measurement;
use crate::modes::{MAXIMUM_CONNECTIONS, require_success};
use crate::progress::Progress;
use crate::sockets::{Sockets, Step, Workload};
use crate::statistics::Histogram;
use crate::target::Target;
use crate::usage::{Meter, Used};

const LIMIT: Duration = Duration::from_secs(300);
/// Longest delay of socket.io-client (`reconnectionDelayMax`), in microseconds.
const LONGEST_DELAY_US: f64 = 5e6;
/// Share by which a delay varies (`randomizationFactor`).
const JITTER: f64 = 0.5;

/// Options of the mode.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Clients that are dropped.
    #[arg(long, default_value_t = 5000, value_parser = clap::value_parser!(u32).range(1..=MAXIMUM_CONNECTIONS))]
    pub(crate) connections: u32,
    /// Delay before the first attempt of a client (`reconnectionDelay` of socket.io-client), which varies by half.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=5000))]
    pub(crate) reconnection_delay_ms: u64,
}

/// Kills and restarts the server, and returns the id of its new process.
pub(crate) type Restart<'a> = &'a mut dyn FnMut() -> anyhow::Result<u32>;

/// Measures the time from the cut until every client is admitted again.
///
/// Without `restart`, the generator closes all connections and the server keeps running.
///
/// # Errors
///
/// Returns an error if clients do not connect at first, or the server cannot be restarted.
pub(crate) fn run(
    target: &Target,
    options: &Options,
    restart: Option<Restart<'_>>,
) -> anyhow::Result<Measurement> {
    let mut sockets = Sockets::new(target.clone(), options.connections as usize)?;
    let mut seed = [0; 8];
    getrandom::fill(&mut seed).context("the system provides no random numbers")?;
    let mut workload = Reconnect {
        restart,
        delay_us: options.reconnection_delay_ms as f64 * 1e3,
        pid: target.pid,
        clients: vec![Client::default(); sockets.count()],
        due: BinaryHeap::new(),
        random: Random(u64::from_le_bytes(seed) | 1),
        admitted: 0,
        refused: 0,
        tries: 0,
        failed_tries: 0,
        cut: None,
        used: None,
        back: Histogram::new(),
        slowest_wait_us: 0,
        result: Measurement::new("reconnect"),
        progress: Progress::new(),
    };
    sockets.open_all();
    sockets.run(&mut workload, LIMIT)?;
    let mut result = workload.result;
    require_success(
        workload.back.count(),
        "reconnection",
        result.failure().as_deref(),
    )?;
    result.set("connections", sockets.count() as f64);
    result.set("back", workload.back.count() as f64);
    result.set("refused", workload.refused as f64);
    result.set("tries", workload.tries as f64);
    result.set("failed_tries", workload.failed_tries as f64);
    if let Some(used) = workload.used {
        result.set("all_back_after_secs", used.wall_secs);
        if let Some(server_secs) = used.server_secs {
            result.set("server_cpu_secs", server_secs);
        }
    }
    result.set("slowest_wait_secs", workload.slowest_wait_us as f64 / 1e6);
    result.set_latency(&workload.back);
    Ok(result)
}

struct Reconnect<'a> {
    restart: Option<Restart<'a>>,
    /// Delay before the first attempt of a client, in microseconds.
    delay_us: f64,
    pid: Option<u32>,
    clients: Vec<Client>,
    /// Clients that wait for their next attempt, by its time in microseconds.
    due: BinaryHeap<Reverse<(u64, usize)>>,
    random: Random,
    /// Clients that are admitted now.
    admitted: usize,
    /// Clients that received CONNECT_ERROR or DISCONNECT. They do not try again.
    refused: usize,
    tries: u64,
    failed_tries: u64,
    cut: Option<Cut>,
    used: Option<Used>,
    /// Time of each client from the cut to its admission.
    back: Histogram,
    /// Longest time of a client from its first attempt to its admission, in microseconds.
    slowest_wait_us: u64,
    result: Measurement,
    progress: Progress,
}

#[derive(Clone, Default)]
struct Client {
    /// Attempts since the client was last connected.
    attempts: u32,
    /// When the first of them began, in microseconds.
    first_attempt_us: Option<u64>,
    /// The client is admitted again after the cut.
    is_back: bool,
}

struct Cut {
    at: Instant,
    meter: Meter,
}

impl Reconnect<'_> {
    fn cut(&mut self, sockets: &mut Sockets) -> anyhow::Result<()> {
        let at = Instant::now();
        self.admitted = 0;
        // Separate clients do not wait for each other's handshakes.
        sockets.target.concurrency = u32::MAX;
        let meter = match &mut self.restart {
            Some(restart) => Meter::since_birth(restart()?),
            None => {
                let meter = Meter::start(self.pid);
                for slot in 0..sockets.count() {
                    sockets.cut(slot);
                    self.schedule(sockets.now_us(), slot);
                }
                meter
            }
        };
        self.cut = Some(Cut { at, meter });
        Ok(())
    }

    fn schedule(&mut self, now_us: u64, slot: usize) {
        let client = &mut self.clients[slot];
        let delay = backoff_us(self.delay_us, client.attempts, self.random.next());
        client.attempts += 1;
        self.due.push(Reverse((now_us + delay, slot)));
    }

    fn start_due(&mut self, sockets: &mut Sockets) -> Duration {
        let now = sockets.now_us();
        while let Some(Reverse((at, slot))) = self.due.peek().copied() {
            if at > now {
                return Duration::from_micros(at - now);
            }
            self.due.pop();
            self.tries += 1;
            self.clients[slot].first_attempt_us.get_or_insert(now);
            sockets.open(slot);
        }
        Duration::from_secs(1)
    }
}

impl Workload for Reconnect<'_> {
    fn step(&mut self, sockets: &mut Sockets) -> anyhow::Result<Step> {
        let (admitted, count) = (self.admitted, sockets.count());
        self.progress
            .show(|| format!("reconnect: {admitted} of {count} clients"));
        let Some(cut) = &self.cut else {
            if let Some(failure) = self.result.failure() {
                anyhow::bail!("a client did not connect before the cut: {failure}");
            }
            if admitted < count {
                return Ok(Step::Wait(Duration::from_secs(1)));
            }
            self.cut(sockets)?;
            return Ok(Step::Wait(Duration::ZERO));
        };
        if admitted + self.refused == count {
            self.used = Some(cut.meter.used());
            return Ok(Step::Done);
        }
        Ok(Step::Wait(self.start_due(sockets)))
    }

    fn on_admitted(&mut self, sockets: &mut Sockets, slot: usize) {
        self.admitted += 1;
        if let Some(cut) = &self.cut {
            let now = sockets.now_us();
            let began = self.clients[slot].first_attempt_us.unwrap_or(now);
            self.slowest_wait_us = self.slowest_wait_us.max(now.saturating_sub(began));
            self.clients[slot] = Client {
                is_back: true,
                ..Client::default()
            };
            let elapsed = cut.at.elapsed().as_micros();
            self.back.record(u64::try_from(elapsed).unwrap_or(u64::MAX));
        }
    }

    fn on_refused(&mut self, _sockets: &mut Sockets, _slot: usize, reason: &str) {
        self.refused += 1;
        self.result.fail(reason);
    }

    fn on_disconnected(&mut self, sockets: &mut Sockets, slot: usize) {
        if std::mem::take(&mut self.clients[slot].is_back) {
            self.admitted -= 1;
        }
        self.on_refused(sockets, slot, "the server sent DISCONNECT");
    }

    fn on_lost(&mut self, sockets: &mut Sockets, slot: usize, cause: &str) {
        if self.cut.is_none() {
            self.result.fail(cause);
            return;
        }
        let client = &mut self.clients[slot];
        self.failed_tries += u64::from(client.attempts > 0);
        if std::mem::take(&mut client.is_back) {
            self.admitted -= 1;
            self.result.fail(cause);
        }
        self.schedule(sockets.now_us(), slot);
    }
}

/// Returns the delay before an attempt, as backo2 computes it for socket.io-client.
fn backoff_us(first_us: f64, attempt: u32, random: f64) -> u64 {
    let doubled = first_us * f64::from(2_u32.saturating_pow(attempt.min(20)));
    let varied = doubled * (1.0 + JITTER * (2.0 * random - 1.0));
    varied.min(LONGEST_DELAY_US) as u64
}

/// Xorshift generator. The delays need an even spread, and no secrecy.
struct Random(u64);

impl Random {
    /// Returns a number from 0 to 1.
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_five_seconds() {
        assert_eq!(backoff_us(1e6, 0, 0.0), 500_000);
        assert_eq!(backoff_us(1e6, 0, 1.0), 1_500_000);
        assert_eq!(backoff_us(1e6, 1, 0.5), 2_000_000);
        assert_eq!(backoff_us(1e6, 2, 1.0), 5_000_000);
        assert_eq!(backoff_us(1e6, 40, 0.0), 5_000_000);
    }

    #[test]
    fn random_numbers_spread_evenly() {
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let mean = (0..10_000).map(|_| random.next()).sum::<f64>() / 10_000.0;
        assert!((mean - 0.5).abs() < 0.02, "{mean}");
    }
}
