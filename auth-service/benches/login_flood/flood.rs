//! The flood: logins that come when they come, however slow the answers are.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tokio::task::JoinSet;

use crate::{
    http::{Connection, post},
    service::{PASSWORD, USERS, username},
};

/// The connections, each from an address of its own: as many that each has its answer, if it waits
/// for a thread, before its next login is due.
const CONNECTIONS: u32 = 250;

/// What became of the logins.
#[derive(Default)]
pub(crate) struct Flooded {
    /// How long each took that was accepted, from the moment when it was due.
    pub(crate) accepted: Vec<Duration>,
    pub(crate) refused: u64,
    pub(crate) without_retry_after: u64,
    pub(crate) unexpected: u64,
}

impl Flooded {
    /// How many were answered at all.
    pub(crate) fn answers(&self) -> u64 {
        self.accepted.len() as u64 + self.refused + self.unexpected
    }

    fn add(&mut self, other: Self) {
        self.accepted.extend(other.accepted);
        self.refused += other.refused;
        self.without_retry_after += other.without_retry_after;
        self.unexpected += other.unexpected;
    }
}

/// Sends `rate` logins a second, on one thread.
pub(crate) fn run(to: SocketAddr, rate: f64, until: Instant) -> anyhow::Result<Flooded> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let interval = Duration::from_secs_f64(f64::from(CONNECTIONS) / rate);
    runtime.block_on(async {
        let start = Instant::now();
        let mut sending = JoinSet::new();
        for number in 0..CONNECTIONS {
            let first = start + interval * number / CONNECTIONS;
            sending.spawn(send(to, number, (first, interval), until));
        }
        let mut flooded = Flooded::default();
        while let Some(one) = sending.join_next().await {
            flooded.add(one.context("a task")??);
        }
        Ok(flooded)
    })
}

/// Sends a login at each moment that is due.
async fn send(
    to: SocketAddr,
    number: u32,
    (mut due, interval): (Instant, Duration),
    until: Instant,
) -> anyhow::Result<Flooded> {
    let [low, high, ..] = (number + 1).to_le_bytes();
    let from = IpAddr::V4(Ipv4Addr::new(127, 1, high, low));
    let form = format!(
        "username={}&password={}",
        username(number % USERS),
        PASSWORD.replace(' ', "+")
    );
    let request = post("/login", &form);
    let mut connection = Connection::open(from, to).await?;
    let mut flooded = Flooded::default();
    while due < until {
        tokio::time::sleep_until(due.into()).await;
        match connection.ask(&request).await {
            Ok(answer) if answer.status == 200 => flooded.accepted.push(due.elapsed()),
            Ok(answer) if [429, 503].contains(&answer.status) => {
                flooded.refused += 1;
                flooded.without_retry_after += u64::from(!answer.has_retry_after);
            }
            Ok(_) => flooded.unexpected += 1,
            Err(_) => {
                flooded.unexpected += 1;
                connection = Connection::open(from, to).await?;
            }
        }
        due += interval;
    }
    Ok(flooded)
}
