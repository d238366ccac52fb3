//! Publishers over sockets and over the HTTP API, clients that send events to the back end, and logouts.
//! Each repeats a request until it is acknowledged.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use axum::{Router, http::HeaderMap, routing::post};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::mpsc,
    time::{MissedTickBehavior, interval, sleep},
};

use crate::{
    follower::{Place, place_of},
    ledger::Violation,
    link::{Link, OpenError},
    subscribers::Seat,
    world::{World, message},
};

/// Wait before a request that failed is repeated.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// Maximum time of an HTTP request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// A client that calls events, over a connection that it opens again after a loss.
pub(crate) struct Caller {
    token: String,
    link: Option<Link>,
    attempt: usize,
}

impl Caller {
    /// Makes a client with a session of its own.
    ///
    /// # Errors
    ///
    /// Returns an error if its token cannot be signed.
    pub(crate) fn new(world: &World, name: &str, number: usize) -> anyhow::Result<Self> {
        let sid = format!("{}-{name}-{number}", world.run);
        Ok(Self {
            token: world.issuer.user(&format!("{name}-{number}"), &sid)?,
            link: None,
            attempt: number,
        })
    }

    /// Calls an event until it is acknowledged with `ok: true`.
    pub(crate) async fn call(&mut self, world: &World, event: &str, argument: &Value) -> Value {
        loop {
            if self.link.is_none() {
                match Link::open(world.public(self.attempt), &self.token).await {
                    Ok(link) => self.link = Some(link),
                    Err(OpenError::Refused(message)) => {
                        let text = format!("a caller was refused: {message}");
                        world.ledger.violated(Violation::Absent, text);
                    }
                    Err(OpenError::Failed) => {}
                }
            }
            if let Some(link) = &mut self.link {
                match link.call(event, argument).await {
                    Ok(answer) if answer["ok"] == true => return answer,
                    Ok(_) => {}
                    Err(_) => self.link = None,
                }
            }
            if self.link.is_none() {
                self.attempt += 1;
            }
            sleep(RETRY_PAUSE).await;
        }
    }
}

/// Publishes a message to a room until it is acknowledged, and notes its place. Returns the place.
pub(crate) async fn publish(
    world: &World,
    caller: &mut Caller,
    room: usize,
    data: &str,
) -> Option<Place> {
    let answer = caller.call(world, "rt:publish", &message(room, data)).await;
    acknowledge(world, room, data, &answer)
}

/// Publishes to all rooms in turn over a socket, one message each `period`.
pub(crate) async fn publish_by_socket(
    world: Arc<World>,
    number: usize,
    rooms: usize,
    period: Duration,
) -> anyhow::Result<()> {
    let mut caller = Caller::new(&world, "publisher", number)?;
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    for count in 0.. {
        ticks.tick().await;
        let data = format!("socket-{number}-{count}");
        publish(&world, &mut caller, (number + count) % rooms, &data).await;
    }
    Ok(())
}

/// Publishes to all rooms in turn over the HTTP API, one message each `period`.
pub(crate) async fn publish_by_http(
    world: Arc<World>,
    number: usize,
    rooms: usize,
    period: Duration,
) -> anyhow::Result<()> {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut gateway = number;
    for count in 0.. {
        ticks.tick().await;
        let (room, data) = ((number + count) % rooms, format!("http-{number}-{count}"));
        let answer = loop {
            match call_api(&world, gateway, "publish", &message(room, &data)).await {
                Ok(answer) => break answer,
                Err(error) => {
                    let status = error.status().filter(|status| status.is_client_error());
                    if status.is_some() {
                        world.ledger.violated(Violation::Absent, error.to_string());
                    }
                    gateway += 1;
                }
            }
            sleep(RETRY_PAUSE).await;
        };
        acknowledge(&world, room, &data, &answer);
    }
    Ok(())
}

/// Disconnects a user through the HTTP API of a gateway.
///
/// # Errors
///
/// Returns an error if the gateway does not do so.
pub(crate) async fn disconnect(world: &World, gateway: usize, sub: &str) -> anyhow::Result<()> {
    call_api(world, gateway, "disconnect", &json!({ "sub": sub })).await?;
    Ok(())
}

/// Calls the HTTP API for back ends of a gateway; `attempt` turns to the next one.
async fn call_api(
    world: &World,
    attempt: usize,
    call: &str,
    body: &Value,
) -> reqwest::Result<Value> {
    let gateways = &world.cluster.gateways;
    let address = gateways[attempt % gateways.len()].api;
    let request = world.http.post(format!("http://{address}/v1/{call}"));
    let request = request.bearer_auth(&world.back_end_token).json(body);
    let answer = request.timeout(REQUEST_TIMEOUT).send().await?;
    answer.error_for_status()?.json().await
}

fn acknowledge(world: &World, room: usize, data: &str, answer: &Value) -> Option<Place> {
    match place_of(answer) {
        Ok(place) => {
            world.ledger.acknowledged(room, place.clone(), data);
            Some(place)
        }
        Err(broken) => {
            world.ledger.broken("a publisher", &broken);
            None
        }
    }
}

/// Sends events to the back end over a socket, one each `period`, and notes each that is stored.
pub(crate) async fn notify(
    world: Arc<World>,
    number: usize,
    period: Duration,
) -> anyhow::Result<()> {
    let mut caller = Caller::new(&world, "notifier", number)?;
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    for count in 0_u64.. {
        ticks.tick().await;
        let answer = caller.call(&world, "chaos:note", &json!(count)).await;
        world
            .ledger
            .stored(answer["id"].as_str().unwrap_or_default());
    }
    Ok(())
}

/// Starts the back end, which sends the id of each event that it gets to `received`.
///
/// # Errors
///
/// Returns an error if no port is free.
pub(crate) async fn start_back_end(
    received: mpsc::UnboundedSender<String>,
) -> std::io::Result<SocketAddr> {
    let take = move |headers: HeaderMap| {
        let id = headers.get("webhook-id").and_then(|id| id.to_str().ok());
        // The run has ended when nobody receives.
        let _ = received.send(id.unwrap_or_default().to_owned());
        async { axum::Json(json!({})) }
    };
    let router = Router::new().route("/events", post(take));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(address)
}

/// Revokes the sessions of `seats`, one each `period`, at any gateway.
pub(crate) async fn log_out(
    world: Arc<World>,
    seats: Vec<Arc<Seat>>,
    period: Duration,
) -> anyhow::Result<()> {
    let mut gateway = 0;
    for seat in seats {
        sleep(period).await;
        seat.is_leaving.store(true, Ordering::Relaxed);
        loop {
            gateway = (gateway + 1) % world.cluster.gateways.len();
            match post_logout(&world, gateway, &seat.sid).await {
                Ok(()) => break,
                Err(_) => sleep(RETRY_PAUSE).await,
            }
        }
        seat.is_revoked.store(true, Ordering::Relaxed);
        world.ledger.revoked();
    }
    Ok(())
}

/// Posts the logout token of a session to a gateway.
///
/// # Errors
///
/// Returns an error if the gateway does not acknowledge it.
pub(crate) async fn post_logout(world: &World, gateway: usize, sid: &str) -> anyhow::Result<()> {
    let address = world.cluster.gateways[gateway].direct;
    let url = format!("http://{address}/oidc/backchannel-logout");
    let token = world.issuer.logout(sid)?;
    let request = world.http.post(url).form(&[("logout_token", token)]);
    let answer = request.timeout(REQUEST_TIMEOUT).send().await?;
    answer.error_for_status()?;
    Ok(())
}
