//! Mails in the outbox: who is to be written what. The text is made when the mail is sent.

use serde::{Deserialize, Serialize};

use super::{
    Store, StoreError,
    database::on_transaction,
    outbox::{self, Destination, NewMessage},
    transaction::Transaction,
};
use crate::{credentials::email::Email, ids::random_id};

/// Time for which the delivery of a mail without a link is tried, in seconds: three days.
pub(super) const NOTICE_SECS: i64 = 3 * 24 * 60 * 60;

/// Contents of a mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MailKind {
    /// A link that verifies the address.
    VerifyEmail,
    /// A link that sets a new password.
    ResetPassword,
    /// Tells the address until now that the account is to get another.
    EmailChangeRequested,
    /// Tells the owner that the password was changed.
    PasswordChanged,
    /// Tells the owner that a passkey was added.
    PasskeyAdded,
}

impl MailKind {
    /// All kinds.
    pub const ALL: [Self; 5] = [
        Self::VerifyEmail,
        Self::ResetPassword,
        Self::EmailChangeRequested,
        Self::PasswordChanged,
        Self::PasskeyAdded,
    ];

    /// The name in templates, webhooks and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::VerifyEmail => "verify_email",
            Self::ResetPassword => "reset_password",
            Self::EmailChangeRequested => "email_change_requested",
            Self::PasswordChanged => "password_changed",
            Self::PasskeyAdded => "passkey_added",
        }
    }
}

/// The payload of a mail in the outbox.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Mail {
    /// Contents.
    pub kind: MailKind,
    /// The address.
    pub to: String,
}

/// A mail to be written into the outbox.
pub(super) struct NewMail<'a> {
    pub(super) id: &'a str,
    pub(super) kind: MailKind,
    pub(super) user_id: &'a str,
    pub(super) to: &'a Email,
    pub(super) expires_at: i64,
    pub(super) now: i64,
}

/// Writes a mail in the transaction that asks for it.
pub(super) async fn put(transaction: &mut Transaction, new: NewMail<'_>) -> Result<(), StoreError> {
    let mail = Mail {
        kind: new.kind,
        to: new.to.mailbox(),
    };
    let payload =
        serde_json::to_string(&mail).map_err(|error| sqlx::Error::Protocol(error.to_string()))?;
    let message = NewMessage {
        id: new.id,
        destination: Destination::Mail,
        user_id: Some(new.user_id),
        payload: &payload,
        expires_at: new.expires_at,
        due_at: new.now,
    };
    outbox::put(transaction, message).await
}

impl Store {
    /// Returns the maximum number of mails of one account that wait: a sixteenth of the queue, and no fewer than
    /// the two of a change of the address. `None` when no mail is sent.
    pub(super) fn mail_share(&self) -> Option<i64> {
        self.mail_queue.map(|queue| (queue / 16).max(2))
    }

    /// Returns the same for a notice to an owner; `None` also when half of the queue is full: the other half is
    /// for mails with links, which somebody waits for.
    pub(super) async fn notice_share(&self) -> Result<Option<i64>, StoreError> {
        let Some(queue) = self.mail_queue else {
            return Ok(None);
        };
        let is_half_full = self.is_mail_queue_full((queue / 2).max(1)).await?;
        Ok(self.mail_share().filter(|_| !is_half_full))
    }
}

/// Returns whether `share` mails of an account wait, or more. The caller has locked the account.
pub(super) async fn is_share_full(
    transaction: &mut Transaction,
    user_id: &str,
    share: i64,
) -> Result<bool, StoreError> {
    let last: Option<i64> = on_transaction!(transaction, |connection| {
        sqlx::query_scalar(
            "select number from outbox where user_id = $1 and destination = $2 \
             order by number limit 1 offset $3",
        )
        .bind(user_id)
        .bind(Destination::Mail.name())
        .bind(share.saturating_sub(1))
        .fetch_optional(connection)
        .await?
    });
    Ok(last.is_some())
}

/// Writes a mail that tells the owner of a change, when the account has a verified address and fewer than
/// `share` mails of it wait.
pub(super) async fn put_notice(
    transaction: &mut Transaction,
    kind: MailKind,
    user_id: &str,
    now: i64,
    share: Option<i64>,
) -> Result<(), StoreError> {
    let Some(share) = share else {
        return Ok(());
    };
    if is_share_full(transaction, user_id, share).await? {
        return Ok(());
    }
    let to: Option<String> = on_transaction!(transaction, |connection| {
        sqlx::query_scalar(
            "select email from users \
             where id = $1 and email is not null and email_verified_at is not null",
        )
        .bind(user_id)
        .fetch_optional(connection)
        .await?
    });
    let Some(Ok(to)) = to.as_deref().map(Email::parse) else {
        return Ok(());
    };
    let id = random_id().map_err(|error| sqlx::Error::Protocol(error.to_string()))?;
    let notice = NewMail {
        id: &id,
        kind,
        user_id,
        to: &to,
        expires_at: now.saturating_add(NOTICE_SECS),
        now,
    };
    put(transaction, notice).await
}
