//! What the end-to-end tests stand on: both services, started in this process or as the binaries
//! that are shipped, and clients that log in, connect, and misbehave.
//!
//! Everything here waits for an event and gives up at a deadline; nothing sleeps. What goes wrong
//! in the harness itself panics, with a message that says what was waited for.

pub mod api;
mod binary;
pub mod called;
pub mod client;
pub mod fake_providers;
pub mod forge;
mod gateways;
pub mod mail_server;
pub mod nginx;
pub mod oidc_provider;
pub mod opening;
pub mod options;
pub mod other_issuer;
pub mod polling;
pub mod recipe;
mod redis;
mod service;
pub mod stack;
pub mod stock;
pub mod tls;
pub mod webhook_receiver;
pub mod websocket;

use std::time::Duration;

pub use called::CalledBackEnd;
pub use client::SocketClient;
pub use fake_providers::FakeProviders;
pub use forge::Forge;
pub use gateways::Gateway;
pub use oidc_provider::OidcProvider;
pub use opening::Opening;
pub use options::{Mode, Options};
pub use other_issuer::OtherIssuer;
pub use polling::Polling;
pub use redis::{Redis, RedisCluster, SentinelGroup};
pub use stack::Stack;
pub use websocket::WebSocket;

/// How long anything may take that should take no time. It only shows when a test fails.
pub const DEADLINE: Duration = Duration::from_secs(15);

/// Awaits `future`, or panics at [`DEADLINE`] and says `what` never came.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(output) => output,
        Err(_) => panic!("{what}: not within {} s", DEADLINE.as_secs()),
    }
}

/// Asks again and again until the answer is `true`, or panics at [`DEADLINE`] and says `what`
/// never came. For what nobody tells of when it happens.
pub async fn eventually(what: &str, mut ask: impl AsyncFnMut() -> bool) {
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    let asking = async {
        while !ask().await {
            ticks.tick().await;
        }
    };
    soon(what, asking).await;
}

/// An address of this machine that is free at this moment.
///
/// # Panics
///
/// When there is none.
#[must_use]
pub fn free_address() -> String {
    service::address(&service::listener()).to_string()
}

/// Random text in base64url, from as many random bytes.
#[must_use]
pub fn random_text(bytes: usize) -> String {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

    let mut random = vec![0; bytes];
    getrandom::fill(&mut random).expect("random bytes");
    URL_SAFE_NO_PAD.encode(random)
}
