//! Requests that need no password, and should notice nothing.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tokio::runtime::Runtime;

use crate::{
    http::{Answer, Connection, get, post},
    service::{PASSWORD, username},
};

/// Interval of each request.
const INTERVAL: Duration = Duration::from_millis(100);

/// Times of the answers, from the moment when each request was due.
#[derive(Default)]
pub(crate) struct Probed {
    pub(crate) refreshes: Vec<Duration>,
    pub(crate) key_sets: Vec<Duration>,
}

/// Somebody with a session, and somebody who verifies tokens.
pub(crate) struct Probe {
    to: SocketAddr,
    refresh_token: String,
}

impl Probe {
    /// Signs in.
    pub(crate) fn sign_in(to: SocketAddr) -> anyhow::Result<Self> {
        let form = format!(
            "username={}&password={}",
            username(0),
            PASSWORD.replace(' ', "+")
        );
        let refresh_token = runtime()?.block_on(async {
            let mut connection = connect(to, 1).await?;
            refresh_token(&connection.ask(&post("/login", &form)).await?)
        })?;
        Ok(Self { to, refresh_token })
    }

    /// Refreshes the session, and reads the keys, on one thread.
    pub(crate) fn run(&mut self, probed: &mut Probed, until: Instant) -> anyhow::Result<()> {
        runtime()?.block_on(async {
            tokio::try_join!(
                refresh_until(
                    self.to,
                    &mut self.refresh_token,
                    until,
                    &mut probed.refreshes
                ),
                read_keys_until(self.to, until, &mut probed.key_sets),
            )
        })?;
        Ok(())
    }
}

fn runtime() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

async fn refresh_until(
    to: SocketAddr,
    token: &mut String,
    until: Instant,
    latencies: &mut Vec<Duration>,
) -> anyhow::Result<()> {
    let mut connection = connect(to, 1).await?;
    let mut due = Instant::now();
    while due < until {
        tokio::time::sleep_until(due.into()).await;
        let request = post("/token/refresh", &format!("refresh_token={token}"));
        *token = refresh_token(&connection.ask(&request).await?)?;
        latencies.push(due.elapsed());
        due += INTERVAL;
    }
    Ok(())
}

async fn read_keys_until(
    to: SocketAddr,
    until: Instant,
    latencies: &mut Vec<Duration>,
) -> anyhow::Result<()> {
    let mut connection = connect(to, 2).await?;
    let request = get("/.well-known/jwks.json");
    let mut due = Instant::now();
    while due < until {
        tokio::time::sleep_until(due.into()).await;
        let answer = connection.ask(&request).await?;
        anyhow::ensure!(answer.status == 200 && answer.body.contains("ES256"));
        latencies.push(due.elapsed());
        due += INTERVAL;
    }
    Ok(())
}

async fn connect(to: SocketAddr, host: u8) -> anyhow::Result<Connection> {
    Connection::open(IpAddr::V4(Ipv4Addr::new(127, 2, 0, host)), to).await
}

fn refresh_token(answer: &Answer) -> anyhow::Result<String> {
    let (_, rest) = answer
        .body
        .split_once(r#""refresh_token":""#)
        .with_context(|| format!("{}: {}", answer.status, answer.body))?;
    let (token, _) = rest.split_once('"').context("no end")?;
    Ok(token.to_owned())
}
