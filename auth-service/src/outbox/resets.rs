//! Requests for a new password: looks the account up and writes the mail, after the request was answered.
//!
//! Nothing wakes this delivery: it would run beside the answer, do less for an address that no account has,
//! and the answer's time would tell.

use anyhow::Context as _;

use super::{Carrier, Delivery, Outcome};
use crate::{
    credentials::email::Email,
    mail::{RESET_SECS, new_link_token},
    store::{Destination, Message, NewLink},
    vault::Hash,
};

/// The way from a request to the mail.
pub(super) struct Resets<'a>(pub(super) &'a Delivery<'a>);

impl Resets<'_> {
    async fn mail(&self, message: &Message) -> anyhow::Result<()> {
        let token = new_link_token(&self.0.keys.ring().vault, &message.id)?;
        let link = NewLink {
            id: message.id.clone(),
            hash: Hash::of(&token),
            email: Email::parse(&message.payload).context("the address of a request is none")?,
            now: message.expires_at.saturating_sub(RESET_SECS),
            expires_at: message.expires_at,
        };
        Ok(self.0.users.store().mail_password_reset(&link).await?)
    }
}

impl Carrier for Resets<'_> {
    const CONCURRENCY: usize = 1;
    const LEASE_SECS: Option<i64> = None;
    const BACKOFF_SECS: (i64, i64) = (1, 60);
    const IS_WOKEN: bool = false;

    fn destination(&self) -> Destination<'_> {
        Destination::PasswordResets
    }

    async fn deliver(&self, message: &Message) -> Outcome {
        match self.mail(message).await {
            Ok(()) => {
                self.0.outbox.wake();
                Outcome::Delivered(None)
            }
            Err(error) => Outcome::Failed(error),
        }
    }
}
