//! Logout tokens for a gateway (OpenID Connect Back-Channel Logout 1.0, section 2.5). A gateway that
//! gets one twice answers the same.

use std::time::{Duration, SystemTime};

use anyhow::bail;
use reqwest::{Client, redirect::Policy};

use super::{Carrier, Delivery, Outcome};
use crate::store::{Destination, Message};

/// Maximum time that a gateway takes to accept a connection, and to answer.
const CONNECT_DEADLINE: Duration = Duration::from_secs(2);
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);

/// Path at which a gateway takes logout tokens.
const LOGOUT_PATH: &str = "/oidc/backchannel-logout";

/// The way to one gateway.
pub(super) struct Gateway<'a> {
    delivery: &'a Delivery<'a>,
    client: &'a Client,
    url: &'a str,
}

/// Makes the HTTP client for all gateways.
///
/// # Errors
///
/// When TLS cannot be set up.
pub(super) fn client() -> reqwest::Result<Client> {
    Client::builder()
        .redirect(Policy::none())
        .connect_timeout(CONNECT_DEADLINE)
        .timeout(ANSWER_DEADLINE)
        .build()
}

impl<'a> Gateway<'a> {
    /// The way to the gateway at `url`.
    pub(super) fn new(delivery: &'a Delivery<'a>, client: &'a Client, url: &'a str) -> Self {
        Self {
            delivery,
            client,
            url,
        }
    }

    async fn send(&self, message: &Message) -> anyhow::Result<()> {
        let signer = &self.delivery.keys.ring().signer;
        let ended = (message.payload.as_str(), u64::try_from(message.expires_at)?);
        let token = signer.sign_logout(&message.id, ended, SystemTime::now())?;
        let answer = self
            .client
            .post(format!("{}{LOGOUT_PATH}", self.url))
            .form(&[("logout_token", token.as_str())])
            .send()
            .await
            .map_err(reqwest::Error::without_url)?;
        if !answer.status().is_success() {
            bail!("it answered {}", answer.status());
        }
        Ok(())
    }
}

impl Carrier for Gateway<'_> {
    const CONCURRENCY: usize = 8;
    const LEASE_SECS: Option<i64> = None;
    const BACKOFF_SECS: (i64, i64) = (1, 60);

    fn destination(&self) -> Destination<'_> {
        Destination::Gateway(self.url)
    }

    async fn deliver(&self, message: &Message) -> Outcome {
        match self.send(message).await {
            Ok(()) => Outcome::Delivered(None),
            Err(error) => Outcome::Failed(error),
        }
    }
}
