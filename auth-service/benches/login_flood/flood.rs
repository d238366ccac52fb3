//! The flood: logins that come when they come, however slow the answers are.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use futures_util::future::try_join_all;
use tokio::runtime::Runtime;

use crate::{
    http::{Connection, post},
    service::{PASSWORD, USERS, username},
};

/// The connections, each from an address of its own: as many that each has its answer, if it waits
/// for a thread, before its next login is due.
const CONNECTIONS: u32 = USERS;

/// Outcome of the logins.
#[derive(Default)]
pub(crate) struct Flooded {
    /// Times of accepted logins, each from the moment when it was due.
    pub(crate) accepted: Vec<Duration>,
    pub(crate) refused: u64,
    pub(crate) without_retry_after: u64,
    pub(crate) unexpected: u64,
}

impl Flooded {
    /// Number of logins that were answered at all.
    pub(crate) fn answers(&self) -> u64 {
        self.accepted.len() as u64 + self.refused + self.unexpected
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.accepted.extend(other.accepted);
        self.refused += other.refused;
        self.without_retry_after += other.without_retry_after;
        self.unexpected += other.unexpected;
    }
}

/// Everybody who sends logins, with a connection that stays.
pub(crate) struct Flood {
    runtime: Runtime,
    senders: Vec<Sender>,
}

impl Flood {
    /// Connects all of them, on one thread.
    pub(crate) fn open(to: SocketAddr) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let senders = runtime.block_on(async {
            let mut senders = Vec::new();
            for number in 0..CONNECTIONS {
                senders.push(Sender::open(to, number).await?);
            }
            anyhow::Ok(senders)
        })?;
        Ok(Self { runtime, senders })
    }

    /// Sends `rate` logins a second.
    pub(crate) fn run(&mut self, rate: f64, until: Instant) -> anyhow::Result<Flooded> {
        let interval = Duration::from_secs_f64(f64::from(CONNECTIONS) / rate);
        let start = Instant::now();
        let sending = (0..CONNECTIONS)
            .zip(&mut self.senders)
            .map(|(number, sender)| {
                let first = start + interval * number / CONNECTIONS;
                sender.send((first, interval), until)
            });
        let all = self.runtime.block_on(try_join_all(sending))?;
        let mut flooded = Flooded::default();
        all.into_iter().for_each(|one| flooded.add(one));
        Ok(flooded)
    }
}

/// One of them, at an address of its own.
struct Sender {
    from: IpAddr,
    to: SocketAddr,
    request: Vec<u8>,
    connection: Connection,
}

impl Sender {
    async fn open(to: SocketAddr, number: u32) -> anyhow::Result<Self> {
        let [low, high, ..] = (number + 1).to_le_bytes();
        let from = IpAddr::V4(Ipv4Addr::new(127, 1, high, low));
        let form = format!(
            "username={}&password={}",
            username(number),
            PASSWORD.replace(' ', "+")
        );
        Ok(Self {
            from,
            to,
            request: post("/login", &form),
            connection: Connection::open(from, to).await?,
        })
    }

    /// Sends a login at each moment that is due.
    async fn send(
        &mut self,
        (mut due, interval): (Instant, Duration),
        until: Instant,
    ) -> anyhow::Result<Flooded> {
        let mut flooded = Flooded::default();
        while due < until {
            tokio::time::sleep_until(due.into()).await;
            match self.connection.ask(&self.request).await {
                Ok(answer) if answer.status == 200 => flooded.accepted.push(due.elapsed()),
                Ok(answer) if [429, 503].contains(&answer.status) => {
                    flooded.refused += 1;
                    flooded.without_retry_after += u64::from(!answer.has_retry_after);
                }
                Ok(_) => flooded.unexpected += 1,
                Err(_) => {
                    flooded.unexpected += 1;
                    self.connection = Connection::open(self.from, self.to).await?;
                }
            }
            due += interval;
        }
        Ok(flooded)
    }
}
