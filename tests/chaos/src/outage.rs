//! `cargo chaos outage`: the clients of one gateway while Redis is stopped or dead, and the time until
//! publishing works again.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::json;
use tokio::{
    task::JoinSet,
    time::{interval, sleep, timeout},
};

use crate::{
    figures::{Bar, Figures, p99},
    link::{Link, OpenError},
    publishers::{disconnect, post_logout},
    world::{World, message, room_name},
};

/// Time between two operations of one kind.
const PERIOD: Duration = Duration::from_millis(25);
/// Maximum time of one operation.
const LIMIT: Duration = Duration::from_secs(10);
/// Interval of publishing until it works.
const RETRY_PAUSE: Duration = Duration::from_millis(10);
/// Maximum time until publishing works.
const BACK_LIMIT: Duration = Duration::from_secs(60);
/// Time between two outages, in which gateways are as before.
const REST: Duration = Duration::from_secs(2);
/// Maximum ratio of a percentile during an outage to that before.
const RATIO: f64 = 1.2;
/// Maximum time until publishing works, in seconds.
const BACK_SECS: f64 = 2.0;

/// Way in which Redis does not answer.
#[derive(Clone, Copy, PartialEq)]
enum Outage {
    Stopped,
    Killed,
}

/// 99th percentiles of operations that need one gateway alone, in milliseconds.
struct Local {
    /// Subscription of an admitted client.
    subscription: f64,
    /// Handshake with a token, from the connection to the answer to CONNECT.
    token_check: f64,
    /// Request of a back end to disconnect a user, to the end of the user's socket.
    kick: f64,
    /// Logout token of a session, to the end of its socket.
    logout: f64,
}

/// Stops Redis for `length`, and then kills it for `length`.
///
/// # Errors
///
/// Returns an error if an operation fails, or publishing does not work again.
pub(crate) async fn run(
    world: &Arc<World>,
    length: Duration,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    for (outage, name) in [(Outage::Stopped, "stopped"), (Outage::Killed, "dead")] {
        until_published(world).await?;
        sleep(REST).await;
        let before = measure(world, length, &format!("before-{name}")).await?;
        let redis = world.cluster.shards.primary(0).await?;
        match outage {
            Outage::Stopped => redis.signal(Signal::SIGSTOP).await,
            Outage::Killed => redis.kill().await,
        }
        let during = measure(world, length, name).await;
        match outage {
            Outage::Stopped => redis.signal(Signal::SIGCONT).await,
            Outage::Killed => redis.start().await?,
        }
        let back = until_published(world).await?;
        note(figures, name, (&before, &during?));
        let title = format!("publishing on every gateway works again, after Redis was {name}");
        figures.note(&title, "s", back.as_secs_f64(), Bar::AtMost(BACK_SECS));
    }
    Ok(())
}

fn note(figures: &mut Figures, outage: &str, (before, during): (&Local, &Local)) {
    for (operation, before, during) in [
        ("subscription", before.subscription, during.subscription),
        ("token check", before.token_check, during.token_check),
        ("disconnect by a back end", before.kick, during.kick),
        ("logout to closed socket", before.logout, during.logout),
    ] {
        let title = format!("{operation}, p99 before Redis was {outage}");
        figures.note(&title, "ms", before, Bar::None);
        figures.note("the same meanwhile", "ms", during, Bar::None);
        figures.note_latency("the ratio", "", during / before, Bar::AtMost(RATIO));
    }
}

/// Measures the operations of the clients of the first gateway for `length`. `phase` makes names that were
/// not used before.
async fn measure(world: &Arc<World>, length: Duration, phase: &str) -> anyhow::Result<Local> {
    let idle: Arc<Mutex<Vec<Link>>> = Arc::default();
    let name = |kind: &str, number| format!("{}-{phase}-{kind}-{number}", world.run);
    let (subscriptions, checks, kicks, logouts) = tokio::try_join!(
        repeat(length, |number| subscribe(
            world.clone(),
            idle.clone(),
            number
        )),
        repeat(length, |_| check_token(world.clone())),
        repeat(length, |number| end_socket(
            world.clone(),
            name("kick", number),
            Ending::Kick
        )),
        repeat(length, |number| end_socket(
            world.clone(),
            name("logout", number),
            Ending::Logout
        )),
    )?;
    Ok(Local {
        subscription: p99(subscriptions)?,
        token_check: p99(checks)?,
        kick: p99(kicks)?,
        logout: p99(logouts)?,
    })
}

/// Begins an operation at each tick, whether or not those before have ended: one that waits is no reason for
/// others not to be measured. Returns their times in milliseconds.
async fn repeat<T>(length: Duration, operation: impl Fn(usize) -> T) -> anyhow::Result<Vec<f64>>
where
    T: Future<Output = anyhow::Result<Duration>> + Send + 'static,
{
    let (begin, mut ticks) = (Instant::now(), interval(PERIOD));
    let mut operations = JoinSet::new();
    for number in 0.. {
        ticks.tick().await;
        if begin.elapsed() > length {
            break;
        }
        operations.spawn(operation(number));
    }
    let mut times = Vec::new();
    while let Some(time) = operations.join_next().await {
        times.push(time??.as_secs_f64() * 1000.0);
    }
    Ok(times)
}

/// Measures a subscription of a client that has no other request. `idle` has clients.
async fn subscribe(
    world: Arc<World>,
    idle: Arc<Mutex<Vec<Link>>>,
    number: usize,
) -> anyhow::Result<Duration> {
    let taken = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let mut link = match taken {
        Some(link) => link,
        None => open(&world, &format!("subscriber-{number}")).await?,
    };
    let room = json!({ "room": room_name(number) });
    let start = Instant::now();
    let answer = link.call("rt:subscribe", &room).await?;
    let time = start.elapsed();
    ensure!(answer["ok"] == true, "a subscription was answered {answer}");
    link.call("rt:unsubscribe", &room).await?;
    idle.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(link);
    Ok(time)
}

/// Measures a handshake.
async fn check_token(world: Arc<World>) -> anyhow::Result<Duration> {
    let start = Instant::now();
    open(&world, "visitor").await?;
    Ok(start.elapsed())
}

/// Way to end a socket.
#[derive(Clone, Copy)]
enum Ending {
    Kick,
    Logout,
}

/// Measures the time from a request that ends the socket of a user to its end. The request is answered when
/// Redis was asked, which takes longer.
async fn end_socket(world: Arc<World>, name: String, ending: Ending) -> anyhow::Result<Duration> {
    let mut link = open(&world, &name).await?;
    let start = Instant::now();
    let request = async {
        match ending {
            Ending::Kick => disconnect(&world, 0, &name).await,
            Ending::Logout => post_logout(&world, 0, &name).await,
        }
    };
    let end = async {
        let ended = timeout(LIMIT, async { while link.next().await.is_ok() {} }).await;
        ended.with_context(|| format!("the socket of {name} is open"))?;
        Ok(start.elapsed())
    };
    let ((), time) = tokio::try_join!(request, end)?;
    Ok(time)
}

/// Publishes on every gateway until it is acknowledged there. Returns how long that took.
async fn until_published(world: &World) -> anyhow::Result<Duration> {
    let begin = Instant::now();
    for (number, gateway) in world.cluster.gateways.iter().enumerate() {
        let token = world.issuer.user("publisher", &world.run)?;
        let mut link = open_at(gateway.direct, &token).await?;
        let data = format!("back-{number}-{}", world.ledger.elapsed().as_millis());
        let message = message(0, &data);
        while link.call("rt:publish", &message).await?["ok"] != true {
            ensure!(
                begin.elapsed() < BACK_LIMIT,
                "publishing on gateway {number} does not work"
            );
            sleep(RETRY_PAUSE).await;
        }
    }
    Ok(begin.elapsed())
}

/// Connects a client to the first gateway.
async fn open(world: &World, name: &str) -> anyhow::Result<Link> {
    let token = world.issuer.user(name, name)?;
    open_at(world.cluster.gateways[0].direct, &token).await
}

async fn open_at(address: SocketAddr, token: &str) -> anyhow::Result<Link> {
    match Link::open(address, token).await {
        Ok(link) => Ok(link),
        Err(OpenError::Refused(message)) => bail!("a client was refused: {message}"),
        Err(OpenError::Failed) => bail!("a client could not connect"),
    }
}
