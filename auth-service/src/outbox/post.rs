//! Mails: finds out who is written what at the moment of sending, and gives the mail to the server.

use std::time::SystemTime;

use super::{Carrier, Delivery, Outcome};
use crate::{
    clock::seconds_since_epoch,
    mail::{Letter, MailError, Mailer, link_token},
    metrics::MailOutcome,
    store::{DeliveryOrder, Destination, Mail, MailKind, Message, event::EventKind},
};

/// The way to the mail server.
pub(super) struct Post<'a> {
    delivery: &'a Delivery<'a>,
    mailer: &'a Mailer,
}

impl<'a> Post<'a> {
    /// The way through `mailer`.
    pub(super) fn new(delivery: &'a Delivery<'a>, mailer: &'a Mailer) -> Self {
        Self { delivery, mailer }
    }

    /// Returns the mail to be sent, or `None` when the account is gone or disabled, the link has ended before
    /// it was sent, or no secret makes it any more.
    async fn write(&self, message: &Message, mail: &Mail) -> anyhow::Result<Option<Letter>> {
        let Some(user_id) = &message.user_id else {
            return Ok(None);
        };
        let now = seconds_since_epoch(SystemTime::now())?;
        let Some(account) = self.delivery.users.find_active(user_id).await? else {
            return Ok(None);
        };
        let token = match mail.kind {
            MailKind::EmailChangeRequested | MailKind::PasswordChanged | MailKind::PasskeyAdded => {
                None
            }
            MailKind::VerifyEmail | MailKind::ResetPassword => {
                let hash = self
                    .delivery
                    .users
                    .store()
                    .find_link_hash(&message.id, now)
                    .await?;
                let Some(hash) = hash else {
                    return Ok(None);
                };
                let token = link_token(&self.delivery.keys.ring().vault, &message.id, &hash);
                if token.is_none() {
                    tracing::warn!(
                        kind = mail.kind.name(),
                        user = user_id,
                        "a mail was given up: its link was made under a secret that was removed"
                    );
                    self.delivery.metrics.mail(mail.kind, MailOutcome::Expired);
                    return Ok(None);
                }
                token
            }
        };
        Ok(Some(Letter {
            id: message.id.clone(),
            kind: mail.kind,
            to: mail.to.clone(),
            username: account.username,
            name: account.name,
            token,
        }))
    }

    async fn send(&self, message: &Message, mail: &Mail) -> Outcome {
        let letter = match self.write(message, mail).await {
            Ok(Some(letter)) => letter,
            Ok(None) => return Outcome::GivenUp,
            Err(error) => return self.count(mail, MailOutcome::Failed, Outcome::Failed(error)),
        };
        match self.mailer.send(&letter).await {
            Ok(()) => {
                let is_reset = mail.kind == MailKind::ResetPassword;
                let event = is_reset.then_some(EventKind::PasswordResetSent);
                self.count(mail, MailOutcome::Sent, Outcome::Delivered(event))
            }
            Err(MailError::Refused(reason)) => {
                let user = message.user_id.as_deref();
                tracing::warn!(
                    kind = mail.kind.name(),
                    user,
                    "a mail was refused: {reason}"
                );
                self.count(mail, MailOutcome::Refused, Outcome::GivenUp)
            }
            Err(MailError::Failed(error)) => {
                self.count(mail, MailOutcome::Failed, Outcome::Failed(error))
            }
        }
    }

    fn count(&self, mail: &Mail, counted: MailOutcome, outcome: Outcome) -> Outcome {
        self.delivery.metrics.mail(mail.kind, counted);
        outcome
    }
}

impl Carrier for Post<'_> {
    const CONCURRENCY: usize = 1;
    /// Longer than the deadline of the mailer, so that a mail is not sent twice.
    const LEASE_SECS: Option<i64> = Some(120);
    const BACKOFF_SECS: (i64, i64) = (5, 300);
    const LANES: usize = 4;
    /// As few mails as the lanes can claim: one that waits may be another lane's by then.
    const BATCH: i64 = 4;
    /// Somebody waits for a link that ends in half an hour, and nobody for a notice.
    const ORDER: DeliveryOrder = DeliveryOrder::EndingSoonest;

    fn destination(&self) -> Destination<'_> {
        Destination::Mail
    }

    async fn deliver(&self, message: &Message) -> Outcome {
        match serde_json::from_str(&message.payload) {
            Ok(mail) => self.send(message, &mail).await,
            // Of another version.
            Err(_) => Outcome::GivenUp,
        }
    }
}
