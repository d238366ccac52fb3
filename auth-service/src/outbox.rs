//! The outbox: tells each gateway that a session has ended, until the gateway has acknowledged it
//! or the session's last token has expired (OpenID Connect Back-Channel Logout 1.0, section 2.5).

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, bail};
use futures_util::{StreamExt as _, stream};
use reqwest::{Client, redirect::Policy};
use tokio::sync::{Notify, watch};

use crate::{
    state::AppState,
    store::{Delivery, StoreError},
    users::seconds_since_epoch,
};

/// How often the table is asked for what other processes have written into it, in time.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// How long a gateway may take to accept a connection, and to answer.
const CONNECT_DEADLINE: Duration = Duration::from_secs(2);
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);

/// How many tokens are under way to one gateway at a time, and read from the table at once.
const CONCURRENCY: usize = 8;
const BATCH: i64 = 256;

/// The longest wait between two attempts, in seconds.
const MAXIMUM_BACKOFF_SECS: i64 = 60;

/// Where the gateway takes logout tokens.
const LOGOUT_PATH: &str = "/oidc/backchannel-logout";

/// Wakes the outbox when something was put into it.
#[derive(Default)]
pub struct Outbox(Notify);

impl Outbox {
    /// Says that something was put into the outbox, which is then sent at once.
    pub fn wake(&self) {
        self.0.notify_waiters();
    }
}

/// Delivers until `stopping` says to stop. Each gateway is served for itself, so that one that does
/// not answer delays no other.
///
/// # Errors
///
/// When the HTTP client cannot be made.
pub(crate) async fn run(
    state: Arc<AppState>,
    stopping: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let client = Client::builder()
        .redirect(Policy::none())
        .connect_timeout(CONNECT_DEADLINE)
        .timeout(ANSWER_DEADLINE)
        .build()
        .context("cannot make an HTTP client")?;
    let gateways = state.settings().revocation.gateways.clone();
    let serving = gateways
        .iter()
        .map(|gateway| serve_gateway(&state, &client, gateway, stopping.clone()));
    futures_util::future::join_all(serving).await;
    Ok(())
}

async fn serve_gateway(
    state: &AppState,
    client: &Client,
    gateway: &str,
    mut stopping: watch::Receiver<bool>,
) {
    let mut is_failing = false;
    loop {
        // From before the table is read, so that nothing written meanwhile waits for the next poll.
        let woken = state.outbox().0.notified();
        tokio::pin!(woken);
        woken.as_mut().enable();
        let deliver = deliver_due(state, client, gateway, &mut is_failing);
        tokio::select! {
            outcome = deliver => if let Err(error) = outcome {
                tracing::warn!("the outbox cannot be read: {:#}", anyhow::Error::from(error));
            },
            _ = stopping.wait_for(|stop| *stop) => return,
        }
        tokio::select! {
            () = woken => {}
            () = tokio::time::sleep(POLL_INTERVAL) => {}
            _ = stopping.wait_for(|stop| *stop) => return,
        }
    }
}

/// Sends what is due to one gateway, and logs when it stops or starts to answer.
async fn deliver_due(
    state: &AppState,
    client: &Client,
    gateway: &str,
    is_failing: &mut bool,
) -> Result<(), StoreError> {
    let store = state.store();
    loop {
        let Ok(now) = seconds_since_epoch(SystemTime::now()) else {
            return Ok(());
        };
        let due = store.due_deliveries(gateway, now, BATCH).await?;
        let count = due.len();
        let mut outcomes = stream::iter(due)
            .map(|delivery| async move {
                let outcome = deliver(state, client, &delivery).await;
                (delivery, outcome)
            })
            .buffer_unordered(CONCURRENCY);
        while let Some((delivery, outcome)) = outcomes.next().await {
            match outcome {
                Ok(()) => store.finish_delivery(&delivery).await?,
                Err(_) => {
                    let wait = backoff_secs(delivery.attempts);
                    store.postpone_delivery(&delivery, now + wait).await?;
                }
            }
            report(gateway, outcome.err(), is_failing);
        }
        if i64::try_from(count) != Ok(BATCH) {
            return Ok(());
        }
    }
}

async fn deliver(state: &AppState, client: &Client, delivery: &Delivery) -> anyhow::Result<()> {
    let token = state.ring().signer.sign_logout(
        &delivery.revocation_id,
        &delivery.session_id,
        SystemTime::now(),
    )?;
    let answer = client
        .post(format!("{}{LOGOUT_PATH}", delivery.gateway))
        .form(&[("logout_token", token.as_str())])
        .send()
        .await
        .map_err(reqwest::Error::without_url)?;
    if !answer.status().is_success() {
        bail!("it answered {}", answer.status());
    }
    Ok(())
}

/// One line when a gateway stops to acknowledge, and one when it does again.
fn report(gateway: &str, error: Option<anyhow::Error>, is_failing: &mut bool) {
    match error {
        Some(error) if !*is_failing => {
            tracing::warn!(gateway, "a gateway does not acknowledge: {error:#}");
            *is_failing = true;
        }
        None if *is_failing => {
            tracing::info!(gateway, "a gateway acknowledges again");
            *is_failing = false;
        }
        _ => {}
    }
}

/// 1 s after the first failure, then twice as long each time.
fn backoff_secs(attempts: i64) -> i64 {
    let doublings = u32::try_from(attempts).unwrap_or(u32::MAX).min(6);
    (1_i64 << doublings).min(MAXIMUM_BACKOFF_SECS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_a_minute() {
        let waits: Vec<i64> = [0, 1, 2, 5, 6, 1_000, i64::MAX].map(backoff_secs).to_vec();
        assert_eq!(waits, [1, 2, 4, 32, 60, 60, 60]);
    }
}
