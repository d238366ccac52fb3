//! `cargo chaos revocation`: the time from a logout token to the end of the session's sockets on three
//! gateways, and a gateway that was cut off from Redis meanwhile.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    figures::{Bar, Figures, p99},
    link::{Link, OpenError},
    plan::{Event, Fault, Harm},
    publishers::post_logout,
    world::World,
};

/// Sessions that are revoked, each with a socket on every gateway.
const SESSIONS: usize = 200;
/// Time between two revocations.
const PERIOD: Duration = Duration::from_millis(20);
/// Time after the last revocation, after which a socket that is open has survived.
const GRACE: Duration = Duration::from_secs(2);
/// Sessions that are revoked while a gateway is cut off.
const CUT_OFF_SESSIONS: usize = 50;
/// The gateway that is cut off.
const CUT_OFF: usize = 2;
/// Time for which the gateway is cut off before the revocations.
const LEAD: Duration = Duration::from_secs(1);
/// Interval between two handshakes of a revoked session.
const PAUSE: Duration = Duration::from_millis(20);
/// Maximum time until the gateway refuses.
const LIMIT: Duration = Duration::from_secs(60);
/// Maximum of the 99th percentile, in milliseconds.
const P99_MS: f64 = 100.0;
/// Maximum time until a gateway that was cut off refuses, in seconds.
const REFUSES_SECS: f64 = 5.0;

/// Revokes sessions while all gateways are connected, and while one is cut off for `length`.
///
/// # Errors
///
/// Returns an error if a client is not admitted, or a revocation is not acknowledged.
pub(crate) async fn run(
    world: &Arc<World>,
    length: Duration,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let (times, survivors) = revoke(world).await?;
    let title = "logout to closed socket on three gateways, p99";
    figures.note_latency(title, "ms", p99(times)?, Bar::AtMost(P99_MS));
    let title = "sockets that survive a logout";
    figures.note(title, "", survivors as f64, Bar::AtMost(0.0));
    let (closed, refused) = return_from_cut(world, length).await?;
    let title = format!(
        "a gateway that was cut off for {} s closes the last socket of a session revoked meanwhile, after its return",
        length.as_secs()
    );
    figures.note(&title, "s", closed, Bar::AtMost(REFUSES_SECS));
    let title = "the same gateway refuses the last handshake of such a session";
    figures.note(title, "s", refused, Bar::AtMost(REFUSES_SECS));
    Ok(())
}

/// Revokes sessions one after another at all gateways in turn. Returns the times to the ends of their
/// sockets in milliseconds, and the number of sockets that are open.
async fn revoke(world: &World) -> anyhow::Result<(Vec<f64>, usize)> {
    let mut ends = JoinSet::new();
    for session in 0..SESSIONS {
        let sid = sid(world, "revoked", session);
        for gateway in 0..world.cluster.gateways.len() {
            let link = open(world, gateway, &sid).await?;
            ends.spawn(async move { (session, end_of(link).await) });
        }
    }
    let mut posted = Vec::new();
    for session in 0..SESSIONS {
        posted.push(Instant::now());
        let gateway = session % world.cluster.gateways.len();
        post_logout(world, gateway, &sid(world, "revoked", session)).await?;
        sleep(PERIOD).await;
    }
    sleep(GRACE).await;
    let mut times = Vec::new();
    while let Some(ended) = ends.try_join_next() {
        let (session, end) = ended?;
        let time = end.saturating_duration_since(posted[session]);
        times.push(time.as_secs_f64() * 1000.0);
    }
    Ok((times, ends.len()))
}

/// Revokes sessions while a gateway that has a socket of each is cut off from Redis. Returns the seconds from
/// its return to the end of the last of these sockets, and to the last refusal.
async fn return_from_cut(world: &Arc<World>, length: Duration) -> anyhow::Result<(f64, f64)> {
    let mut ends = JoinSet::new();
    for session in 0..CUT_OFF_SESSIONS {
        let link = open(world, CUT_OFF, &sid(world, "cut-off", session)).await?;
        ends.spawn(end_of(link));
    }
    let cutting = {
        let world = world.clone();
        let event = Event {
            at: Duration::ZERO,
            length,
            fault: Fault::ToRedis(CUT_OFF, None, Harm::Silence),
        };
        tokio::spawn(async move {
            world.cluster.suffer(event).await?;
            anyhow::Ok(Instant::now())
        })
    };
    sleep(LEAD).await;
    let mut logouts = JoinSet::new();
    for session in 0..CUT_OFF_SESSIONS {
        let world = world.clone();
        let sid = sid(&world, "cut-off", session);
        logouts.spawn(async move { post_logout(&world, session % CUT_OFF, &sid).await });
    }
    for answered in logouts.join_all().await {
        answered.context("a logout at a connected gateway")?;
    }
    ensure!(
        ends.try_join_next().is_none() && !cutting.is_finished(),
        "the gateway was not cut off while the sessions were revoked"
    );
    let back = cutting.await??;
    let mut refusals = JoinSet::new();
    for session in 0..CUT_OFF_SESSIONS {
        let world = world.clone();
        let sid = sid(&world, "cut-off", session);
        refusals.spawn(async move { refusal_of(&world, &sid).await });
    }
    let mut refused = 0.0;
    for at in refusals.join_all().await {
        refused = f64::max(refused, at?.saturating_duration_since(back).as_secs_f64());
    }
    let mut closed = 0.0;
    for at in timeout(LIMIT, ends.join_all()).await? {
        closed = f64::max(closed, at.saturating_duration_since(back).as_secs_f64());
    }
    Ok((closed, refused))
}

/// Presents the token of a session until it is refused. Returns the time of the refusal.
async fn refusal_of(world: &World, sid: &str) -> anyhow::Result<Instant> {
    let token = world.issuer.user(sid, sid)?;
    let refused = timeout(LIMIT, async {
        let address = world.cluster.gateways[CUT_OFF].direct;
        while !matches!(
            Link::open(address, &token).await,
            Err(OpenError::Refused(_))
        ) {
            sleep(PAUSE).await;
        }
        Instant::now()
    });
    refused.await.context("a revoked session is admitted")
}

async fn open(world: &World, gateway: usize, sid: &str) -> anyhow::Result<Link> {
    let token = world.issuer.user(sid, sid)?;
    let opened = Link::open(world.cluster.gateways[gateway].direct, &token).await;
    opened.map_err(|error| anyhow::anyhow!("gateway {gateway} does not admit {sid}: {error:?}"))
}

/// Waits for the end of a connection.
async fn end_of(mut link: Link) -> Instant {
    while link.next().await.is_ok() {}
    Instant::now()
}

fn sid(world: &World, kind: &str, session: usize) -> String {
    format!("{}-{kind}-{session}", world.run)
}
