//! Mails whose links were made under a secret that was removed.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::json;

use crate::{
    fixture::{Service, secrets},
    mailbox::Mailbox,
};

async fn forget(service: &Service) {
    let body = json!({"email": "alice@example.org"});
    let answer = service.post("/password/forgot", None, &body).await;
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
}

/// Waits until `is_so`.
async fn soon(is_so: impl AsyncFn() -> bool) {
    let waiting = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(20), waiting).await;
    waited.expect("in time");
}

/// The log of the service would say for a day that the mail server takes nothing.
#[tokio::test]
async fn a_mail_whose_link_no_secret_makes_is_given_up() {
    let mut mailbox = Mailbox::start();
    let service = Service::start_with(|settings| mailbox.configure(settings)).await;
    service.add_verified_user("alice").await;
    mailbox.set_down(true);
    forget(&service).await;
    soon(async || mailbox.attempts() > 0).await;
    let other = secrets("another9Rk2LxQ8sVd4TnZ7yWc1HgPu5");
    let service = service.restart_with(|config| config.secrets = other).await;
    mailbox.set_down(false);
    let attempts = mailbox.attempts();
    let retry = "update outbox set next_attempt_at = 0 where destination = 'mail'";
    soon(async || service.execute(retry).await == 0).await;
    assert_eq!(mailbox.attempts(), attempts);
    // A new link is made under the new secret.
    forget(&service).await;
    mailbox.next().await.token("reset");
}
