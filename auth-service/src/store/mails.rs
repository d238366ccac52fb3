//! Mails in the outbox: who is to be written what. The text is made when the mail is sent.

use serde::{Deserialize, Serialize};

use super::{
    StoreError,
    outbox::{self, Destination, NewMessage},
    transaction::Transaction,
};
use crate::credentials::email::Email;

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
}

impl MailKind {
    /// All kinds.
    pub const ALL: [Self; 3] = [
        Self::VerifyEmail,
        Self::ResetPassword,
        Self::EmailChangeRequested,
    ];

    /// The name in templates, webhooks and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::VerifyEmail => "verify_email",
            Self::ResetPassword => "reset_password",
            Self::EmailChangeRequested => "email_change_requested",
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
