//! From a logout token to closed sockets: 1,000 sockets of one subject over WebSocket, of which 50
//! read nothing and have messages waiting.
//!
//! Prints the median and the 99th percentile of the time from the request to the end of each
//! connection as its client sees it, and how many survived. Exits with 1 when the 99th percentile
//! is above 100 ms, or when one survived. The clients share this process and its cores.

mod client;

use std::{
    net::{SocketAddr, TcpListener},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::ensure;
use futures_util::{SinkExt, StreamExt};
use realtime_service::config::{Config, KeySource, RevocationSettings};
use serde_json::json;
use shared_claims::{
    revocation::LOGOUT_EVENT,
    secret::{SECRET_VARIABLE, Secrets},
};
use tokio::{sync::oneshot, task::JoinSet, time::timeout};
use tokio_tungstenite::tungstenite::Message;

use self::client::{ISSUER, SECRET, Socket, connect, sign, until};

const SOCKETS: usize = 1_000;
const STALLED: usize = 50;

/// The bound on the 99th percentile.
const BOUND: Duration = Duration::from_millis(100);

/// A socket that is still open after this long has survived.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is sent to each stalled socket: more than the systems between take, and little enough that
/// what is left fits into the gateway's queue by default.
const BULK_MESSAGES: usize = 48;
const BULK_BYTES: usize = 100_000;

fn main() -> anyhow::Result<ExitCode> {
    // An error means that a provider is there already.
    let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(measure())
}

async fn measure() -> anyhow::Result<ExitCode> {
    let directory = tempfile::tempdir()?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let (stop, stopped) = oneshot::channel::<()>();
    let config = settings(directory.path().join("revocations.jsonl"));
    let secrets = Secrets::parse(SECRET_VARIABLE, SECRET, ',')?;
    let serving = realtime_service::serve(config, KeySource::fixed(secrets), listener, async {
        let _ = stopped.await;
    });
    let serving = tokio::spawn(serving);

    let token = sign("at+jwt", json!({"sub": "alice", "client_id": "bench"}))?;
    let mut healthy = Vec::new();
    for _ in 0..SOCKETS - STALLED {
        healthy.push(connect(address, &token, None).await?);
    }
    let mut stalled = Vec::new();
    for _ in 0..STALLED {
        let mut socket = connect(address, &token, Some(16 * 1024)).await?;
        subscribe(&mut socket).await?;
        stalled.push(socket);
    }
    fill(address).await?;

    let logout = sign(
        "logout+jwt",
        json!({"sub": "alice", "events": {(LOGOUT_EVENT): {}}}),
    )?;
    // It reads the system's certificates, for which nobody should wait.
    let issuer = reqwest::Client::new();
    let mut ends = JoinSet::new();
    let started = Instant::now();
    for socket in healthy {
        ends.spawn(end_of(socket, started));
    }
    let answer = issuer
        .post(format!("http://{address}/oidc/backchannel-logout"))
        .form(&[("logout_token", logout.as_str())])
        .send()
        .await?;
    ensure!(answer.status().is_success(), "{}", answer.status());
    let acknowledged = started.elapsed();
    // They read only now: what the gateway still had for them is gone with their connections.
    for socket in stalled {
        ends.spawn(end_of(socket, started));
    }
    let outcomes = ends.join_all().await;
    let code = report(&outcomes, acknowledged);
    let _ = stop.send(());
    serving.await??;
    Ok(code)
}

fn settings(revocations: std::path::PathBuf) -> Config {
    let mut config = Config {
        issuer: ISSUER.to_owned(),
        revocations: RevocationSettings {
            file: revocations,
            ..RevocationSettings::default()
        },
        ..Config::default()
    };
    config.limits.connections_per_address = 2 * SOCKETS;
    config.limits.sessions_per_address = 2 * SOCKETS;
    config.limits.sockets_per_subject = SOCKETS;
    config
}

async fn subscribe(socket: &mut Socket) -> anyhow::Result<()> {
    let event = format!("421{}", json!(["rt:subscribe", {"room": "lobby"}]));
    socket.send(Message::text(event)).await?;
    until(socket, "431").await?;
    Ok(())
}

/// Publishes to whoever is in the room, and sees each message acknowledged.
async fn fill(address: SocketAddr) -> anyhow::Result<()> {
    let token = sign("at+jwt", json!({"sub": "speaker", "client_id": "bench"}))?;
    let mut speaker = connect(address, &token, None).await?;
    let payload = json!({"room": "lobby", "event": "bulk", "data": "x".repeat(BULK_BYTES)});
    let event = format!("422{}", json!(["rt:publish", payload]));
    for _ in 0..BULK_MESSAGES {
        speaker.send(Message::text(event.clone())).await?;
        until(&mut speaker, "432").await?;
    }
    Ok(())
}

/// How long it took until the connection ended; `None` when it did not.
///
/// # Panics
///
/// When a client that read nothing is not short of anything: then nothing waited for it.
async fn end_of(mut socket: Socket, started: Instant) -> Option<Duration> {
    let ended = async {
        let mut messages = 0;
        while let Some(Ok(message)) = socket.next().await {
            if message.is_close() {
                break;
            }
            messages += 1;
        }
        assert!(messages < BULK_MESSAGES, "nothing waited");
        started.elapsed()
    };
    timeout(PATIENCE, ended).await.ok()
}

fn report(outcomes: &[Option<Duration>], acknowledged: Duration) -> ExitCode {
    let mut times: Vec<Duration> = outcomes.iter().flatten().copied().collect();
    times.sort_unstable();
    let survivors = outcomes.len() - times.len();
    let percentile = |percent: usize| {
        let index = (times.len() * percent).div_ceil(100).saturating_sub(1);
        times.get(index).copied().unwrap_or_default()
    };
    let (median, high) = (percentile(50), percentile(99));
    println!("sockets: {}, of them stalled: {STALLED}", outcomes.len());
    println!("acknowledged after {acknowledged:.1?}");
    println!("closed, median: {median:.1?}, p99: {high:.1?} (bound {BOUND:.0?})");
    println!("survivors: {survivors}");
    if survivors == 0 && high <= BOUND {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
