//! `login` and `refresh`: requests to an issuer on kept-alive connections, one in flight on each.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use clap::Args;
use serde::Deserialize;

use crate::links::{Change, Input, Links, Ready, event_source};
use crate::measurement::Measurement;
use crate::modes::require_success;
use crate::progress::Progress;
use crate::statistics::Histogram;
use crate::usage::{Meter, Used};
use crate::wire::http::decode_response;

const LIMIT: Duration = Duration::from_secs(240);

/// Measured request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Call {
    /// `POST /login` with a name and a password.
    Login,
    /// `POST /token/refresh` with the refresh token of the answer before.
    Refresh,
}

/// Options of the modes.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Loopback address and port of the issuer.
    #[arg(long, default_value = "127.0.0.1:8080", value_parser = crate::target::loopback)]
    pub(crate) address: SocketAddr,
    /// Name of the account.
    #[arg(long)]
    pub(crate) username: String,
    /// Password of the account.
    #[arg(long)]
    pub(crate) password: String,
    /// Process id of the issuer, for its CPU time.
    #[arg(long)]
    pub(crate) pid: Option<u32>,
    /// Connections, each with one request in flight.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) connections: u32,
    /// Time of the measurement, in milliseconds.
    #[arg(long, default_value_t = 4000, value_parser = clap::value_parser!(u64).range(1..=120_000))]
    pub(crate) duration_ms: u64,
    /// Time before the measurement, in milliseconds.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(0..=30_000))]
    pub(crate) warm_up_ms: u64,
}

/// Measures one call.
///
/// # Errors
///
/// Returns an error if the issuer refuses a request or closes a connection.
pub(crate) fn run(options: &Options, call: Call) -> anyhow::Result<Measurement> {
    let mut load = Load {
        links: Links::new(options.connections as usize, 0)?,
        options: options.clone(),
        call,
        login: serde_json::json!({ "username": options.username, "password": options.password })
            .to_string(),
        sent: vec![Instant::now(); options.connections as usize],
        ready: 0,
        start: None,
        meter: None,
        latency: Histogram::new(),
    };
    let used = load.run()?;
    let name = if call == Call::Login {
        "login"
    } else {
        "refresh"
    };
    let mut result = Measurement::new(name);
    let count = load.latency.count();
    require_success(count, "answer", None)?;
    result.set_rates(count, &used);
    result.set_latency(&load.latency);
    Ok(result)
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    refresh_token: &'a str,
}

struct Load {
    links: Links,
    options: Options,
    call: Call,
    login: String,
    sent: Vec<Instant>,
    /// Connections that have logged in.
    ready: usize,
    start: Option<Instant>,
    meter: Option<Meter>,
    latency: Histogram,
}

impl Load {
    fn run(&mut self) -> anyhow::Result<Used> {
        let begin = Instant::now();
        let warm_up = Duration::from_millis(self.options.warm_up_ms);
        let end = warm_up + Duration::from_millis(self.options.duration_ms);
        let (mut ready, mut input) = (Vec::new(), Vec::new());
        let mut progress = Progress::new();
        for slot in 0..self.options.connections as usize {
            self.links
                .open(slot, self.options.address)
                .context("a connection to the issuer cannot be started")?;
        }
        loop {
            ensure!(
                begin.elapsed() < LIMIT,
                "the logins before the measurement took too long"
            );
            progress.show(|| format!("{:?}: {} answers", self.call, self.latency.count()));
            let elapsed = self.start.map_or(Duration::ZERO, |start| start.elapsed());
            if self.start.is_some() && elapsed >= warm_up {
                let pid = self.options.pid;
                let meter = self.meter.get_or_insert_with(|| Meter::start(pid));
                if elapsed >= end {
                    return Ok(meter.used());
                }
            }
            self.links
                .wait(&mut ready, Some(Duration::from_millis(20)))?;
            for event in &ready {
                self.handle(event, &mut input)?;
            }
        }
    }

    fn handle(&mut self, event: &Ready, input: &mut Vec<u8>) -> anyhow::Result<()> {
        let (slot, _) = event_source(event);
        match self.links.apply(event) {
            None => {}
            Some(Change::Opened) => {
                let body = self.login.clone();
                self.post(slot, "/login", &body);
            }
            Some(Change::Failed(error)) => bail!("the issuer cannot be reached: {error}"),
            Some(Change::Readable) => match self.links.read(slot, input) {
                Input::Nothing => {}
                Input::Closed(cause) => bail!("the issuer closed a connection: {cause}"),
                Input::Bytes => match decode_response(input)? {
                    None => self.links.keep(slot, input, 0),
                    Some(response) => self.answer(slot, response.status, &input[response.body])?,
                },
            },
        }
        Ok(())
    }

    fn answer(&mut self, slot: usize, status: u16, body: &[u8]) -> anyhow::Result<()> {
        ensure!(
            status == 200,
            "the issuer answered {status}: {}",
            String::from_utf8_lossy(&body[..body.len().min(200)])
        );
        if self.ready < self.options.connections as usize {
            self.ready += 1;
            if self.ready == self.options.connections as usize {
                self.start = Some(Instant::now());
            }
        } else if self.meter.is_some() {
            let elapsed = self.sent[slot].elapsed();
            self.latency
                .record(u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX));
        }
        if self.call == Call::Login {
            let body = self.login.clone();
            self.post(slot, "/login", &body);
            return Ok(());
        }
        let answer: Answer<'_> =
            serde_json::from_slice(body).context("the issuer's answer has no refresh_token")?;
        let body = format!("{{\"refresh_token\":\"{}\"}}", answer.refresh_token);
        self.post(slot, "/token/refresh", &body);
        Ok(())
    }

    fn post(&mut self, slot: usize, path: &str, body: &str) {
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            self.options.address,
            body.len()
        );
        self.sent[slot] = Instant::now();
        self.links.send(slot, request.as_bytes());
    }
}
