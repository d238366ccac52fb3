//! Sessions that are revoked at one gateway, and their sockets on all gateways.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::calls;
use super::group::Group;
use crate::compare::prepare::Home;
use crate::sockets::{Sockets, Step, Workload};
use crate::statistics::Histogram;

/// Maximum time of the measurement.
const LIMIT: Duration = Duration::from_secs(240);
/// Interval between two revocations.
const INTERVAL: Duration = Duration::from_millis(20);
/// Time after the last revocation, after which a socket that is open has survived.
const GRACE: Duration = Duration::from_secs(2);

/// The result: the time from each revocation to the end of each of its sockets.
pub(super) struct Revoked {
    latency: Histogram,
    pub(super) survivors: usize,
}

impl Revoked {
    /// Returns the 99th percentile in milliseconds.
    ///
    /// # Errors
    ///
    /// Returns an error if no socket was closed.
    pub(super) fn p99_ms(&self) -> anyhow::Result<f64> {
        anyhow::ensure!(self.latency.count() > 0, "no socket was closed");
        Ok(self.latency.quantile(0.99) as f64 / 1000.0)
    }
}

/// Opens a socket of each of `sessions` sessions on every gateway of the group, and revokes one session after
/// another at the first gateway. `phase` makes names of sessions that were not revoked before.
///
/// # Errors
///
/// Returns an error if a client is not admitted, or a revocation is not acknowledged.
pub(super) fn run(
    group: &Group,
    home: &Home,
    (sessions, phase): (u32, &str),
) -> anyhow::Result<Revoked> {
    let nodes: Vec<_> = group.nodes.iter().map(|node| node.address).collect();
    let count = sessions as usize;
    let subject = |session: usize| format!("{phase}-{session}");
    let mut target = group.target(home)?;
    target.tokens = Vec::new();
    let mut logouts = Vec::new();
    for session in 0..count {
        let token = home.token(&subject(session))?;
        target.tokens.extend(nodes.iter().map(|_| token.clone()));
        logouts.push(home.logout_token(&subject(session))?);
    }
    let mut sockets = Sockets::new(target, count * nodes.len())?;
    for slot in 0..sockets.count() {
        sockets.place(slot, nodes[slot % nodes.len()]);
    }
    let (start, post) = start_posting(nodes[0], logouts);
    let mut workload = Revocation {
        nodes: nodes.len(),
        admitted: 0,
        start: Some(start),
        last_close: Instant::now(),
        closed: vec![None; sockets.count()],
        open: sockets.count(),
        failure: None,
    };
    sockets.open_all();
    sockets.run(&mut workload, LIMIT)?;
    if let Some(failure) = workload.failure {
        anyhow::bail!(failure);
    }
    drop(workload.start);
    let posted = post
        .join()
        .ok()
        .context("the thread that posts has ended")??;
    let mut latency = Histogram::new();
    for (slot, closed) in workload.closed.iter().enumerate() {
        if let (Some(closed), Some(posted)) = (closed, posted.get(slot / workload.nodes)) {
            let time = closed.saturating_duration_since(*posted);
            latency.record(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
        }
    }
    Ok(Revoked {
        latency,
        survivors: workload.open,
    })
}

type Posting = thread::JoinHandle<anyhow::Result<Vec<Instant>>>;

/// Starts a thread that posts the logout tokens one after another, from when the sender is used, and returns
/// the time at which each was posted. Without a message it posts none.
fn start_posting(gateway: SocketAddr, logouts: Vec<String>) -> (mpsc::Sender<()>, Posting) {
    let (start, started) = mpsc::channel();
    let post = thread::spawn(move || {
        let mut posted = Vec::new();
        if started.recv().is_err() {
            return Ok(posted);
        }
        for logout in &logouts {
            posted.push(Instant::now());
            calls::log_out(gateway, logout)?;
            thread::sleep(INTERVAL);
        }
        Ok(posted)
    });
    (start, post)
}

struct Revocation {
    nodes: usize,
    admitted: usize,
    start: Option<mpsc::Sender<()>>,
    last_close: Instant,
    closed: Vec<Option<Instant>>,
    open: usize,
    failure: Option<String>,
}

impl Workload for Revocation {
    fn step(&mut self, sockets: &mut Sockets) -> anyhow::Result<Step> {
        if self.failure.is_some() {
            return Ok(Step::Done);
        }
        if self.admitted == sockets.count()
            && let Some(start) = self.start.take()
        {
            self.last_close = Instant::now();
            // The thread waits for it.
            let _ = start.send(());
        }
        let is_over = self.start.is_none() && self.last_close.elapsed() > GRACE;
        match self.open == 0 || is_over {
            true => Ok(Step::Done),
            false => Ok(Step::Wait(Duration::from_millis(100))),
        }
    }

    fn on_admitted(&mut self, _sockets: &mut Sockets, _slot: usize) {
        self.admitted += 1;
    }

    fn on_refused(&mut self, _sockets: &mut Sockets, _slot: usize, reason: &str) {
        self.failure = Some(reason.to_owned());
    }

    fn on_lost(&mut self, _sockets: &mut Sockets, slot: usize, _cause: &str) {
        if self.closed[slot].replace(Instant::now()).is_none() {
            self.open -= 1;
        }
        self.last_close = Instant::now();
    }
}
