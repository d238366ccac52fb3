//! Sessions on a clock that stands still until somebody waits: whole handshakes by polling, without
//! a network.

mod admission;
mod commands;
mod drain;
mod floods;
mod handlers;
mod incomplete;
mod lost_answers;
mod shutdown;
mod wall_clock;

use std::{net::SocketAddr, time::SystemTime};

use axum::body::Body;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};
use shared_claims::{
    claims::{ACCESS_TOKEN_TYPE, LOGIN_CLIENT_ID, REALTIME_AUDIENCE},
    secret::{SECRET_VARIABLE, Secrets},
    verify::LogoutScope,
};
use tempfile::TempDir;
use tokio::time::Instant;
use tower::ServiceExt;

use super::*;
use crate::{
    clock::{for_test, unix_secs, wall_now},
    config::{Heartbeat, Limits, RevocationSettings},
    transport::listener::{Connection, KillSwitch},
};

const SECRET: &str = "mZq3vX8pL1rT6wYc9sHd2kFg5jBn7uEa";

/// The character between two packets of one poll.
const SEPARATOR: char = '\u{1e}';

const SOCKETS: usize = 1_000;

/// How long the tokens live: longer than it takes to connect them all, by the clock on the wall.
const LIFETIME_SECS: u64 = 300;

/// A client that polls.
#[derive(Clone)]
struct Client {
    gate: Gate,
    uri: String,
}

impl Client {
    /// Opens a session.
    async fn opened(gate: &Gate) -> Self {
        let mut client = Self {
            gate: gate.clone(),
            uri: "/socket.io/?EIO=4&transport=polling".to_owned(),
        };
        let (_, opened) = client.send(Method::GET, String::new()).await;
        let opened: Value = serde_json::from_str(&opened[1..]).expect("an open packet");
        client.uri += &format!("&sid={}", opened["sid"].as_str().expect("a sid"));
        client
    }

    /// Opens a session and presents `token`.
    async fn admitted(gate: &Gate, token: &str) -> Self {
        let client = Self::opened(gate).await;
        client.connect(token).await;
        while !client.poll().await.1.contains("40{") {}
        client
    }

    /// Presents `token`.
    async fn connect(&self, token: &str) {
        let connect = format!("40{}", json!({ "token": token }));
        assert_eq!(self.send(Method::POST, connect).await.0, StatusCode::OK);
    }

    /// Fetches what there is, and answers a ping.
    async fn poll(&self) -> (StatusCode, String) {
        let (status, packets) = self.send(Method::GET, String::new()).await;
        if packets.split(SEPARATOR).any(|packet| packet == "2") {
            self.send(Method::POST, "3".to_owned()).await;
        }
        (status, packets)
    }

    async fn send(&self, method: Method, body: String) -> (StatusCode, String) {
        let request = Request::builder().method(method).uri(&self.uri);
        let mut request = request.body(Body::from(body)).expect("a request");
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let switch = KillSwitch::default();
        let connection = Connection::new(peer, Arc::default(), switch);
        request.extensions_mut().insert(Arc::new(connection));
        let answer = self.gate.clone().oneshot(request).await;
        let answer = answer.unwrap_or_else(|never| match never {});
        let status = answer.status();
        let body = answer.into_body().collect().await.expect("a body");
        let body = String::from_utf8(body.to_bytes().to_vec()).expect("text");
        (status, body)
    }

    /// Polls until the session has ended, and gives when that was and what came before.
    async fn ended(self) -> (Instant, String) {
        let mut heard = String::new();
        loop {
            let (status, packets) = self.poll().await;
            if status != StatusCode::OK {
                return (Instant::now(), heard);
            }
            heard += &packets;
            heard.push(SEPARATOR);
        }
    }
}

/// A gateway in front of socketioxide, whose timers run.
fn state(config: &Config) -> (Arc<AppState>, Gate) {
    let app = app(config);
    app.io().ns("/", guard(async || {}));
    serving(app)
}

/// A gateway without a namespace.
fn app(config: &Config) -> App {
    let secrets = Secrets::parse(SECRET_VARIABLE, SECRET, ',').expect("a good secret");
    App::new(config.clone(), KeySource::fixed(secrets)).expect("a gateway")
}

/// The same with the gateway's own events, for clients that the engine carries.
fn on_engine(config: &Config) -> (Arc<AppState>, Gate) {
    serving(app(config).with_engine())
}

/// The same with the gateway's own events, for clients that socketioxide carries.
fn on_socketioxide(config: &Config) -> (Arc<AppState>, Gate) {
    let app = app(config);
    app.io().ns("/", guard(welcome).with(register_events));
    serving(app)
}

/// Runs what an application needs beside its gate.
fn serving(app: App) -> (Arc<AppState>, Gate) {
    let state = app.state.clone();
    let timers = state.transport.timers.clone();
    tokio::spawn(async move { timers.run().await });
    let gate = Gate::new(app.socketioxide, &app.config, state.transport.clone());
    let Some(engine) = app.engine else {
        return (state, gate);
    };
    let gate = gate.with_engine(engine.clone());
    tokio::spawn(async move { engine.run().await });
    (state, gate)
}

/// A gateway's settings whose files are in `directory`.
fn settings(directory: &TempDir) -> Config {
    Config {
        revocations: RevocationSettings {
            file: directory.path().join("revocations.jsonl"),
            ..Default::default()
        },
        ..Config::default()
    }
}

/// A token of `subject` that ends at `exp`.
fn token(config: &Config, subject: &str, exp: u64) -> String {
    let secrets = Secrets::parse(SECRET_VARIABLE, SECRET, ',').expect("a good secret");
    let header = Header {
        typ: Some(ACCESS_TOKEN_TYPE.to_owned()),
        kid: secrets.signing().key_id().ok(),
        ..Header::default()
    };
    let claims = json!({
        "iss": config.issuer, "sub": subject, "aud": REALTIME_AUDIENCE, "exp": exp,
        "iat": unix_secs(SystemTime::now()), "jti": subject, "sid": subject, "client_id": LOGIN_CLIENT_ID,
    });
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&header, &claims, &key).expect("a token")
}

#[tokio::test(start_paused = true)]
async fn a_thousand_sockets_with_the_same_exp_are_gone_within_a_second_after_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = Config {
        limits: Limits {
            sessions_per_address: 2 * SOCKETS,
            ..Limits::default()
        },
        // Pings of a thousand clients are not what this is about.
        heartbeat: Heartbeat {
            interval_secs: 2 * LIFETIME_SECS,
            ..Heartbeat::default()
        },
        ..settings(&directory)
    };
    let (state, gate) = state(&config);
    // The wall clock runs with the clock of timers, so that a token ends by both at once.
    for_test::jump(Duration::ZERO);
    let exp = unix_secs(wall_now()) + LIFETIME_SECS;
    let lasting = token(&config, "lasting", exp + LIFETIME_SECS);
    let lasting = tokio::spawn(Client::admitted(&gate, &lasting).await.ended());
    let mut ending = JoinSet::new();
    for number in 0..SOCKETS {
        let subject = format!("user-{number}");
        let client = Client::admitted(&gate, &token(&config, &subject, exp)).await;
        let scope = LogoutScope::Subject(subject);
        let session = state.sessions.sessions.find(&config.issuer, &scope).pop();
        let end = session.expect("a session").identity().expires_at();
        let (end, _) = end.expect("the end of a token");
        ending.spawn(async move { (end, client.ended().await) });
    }
    while let Some(ended) = ending.join_next().await {
        let (end, (at, heard)) = ended.expect("no panic");
        assert!(at >= end, "{:?} too early", end - at);
        assert!(at < end + Duration::from_secs(1), "{:?} late", at - end);
        assert!(heard.contains("token_expired"), "{heard}");
    }
    assert_eq!(state.transport.quotas.sockets.count(), 1);
    assert!(!lasting.is_finished(), "the other one is gone too");
}
