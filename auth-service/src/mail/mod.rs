//! E-mail: the text of a mail, and the mail server or the webhook that takes it.
//!
//! The token of a link is derived from the secrets and the identifier of its mail, so that the database
//! holds its hash alone, and each attempt to send the mail sends the same link.

use anyhow::Context as _;
use lettre::message::Mailbox;
use serde::Serialize;
use shared_claims::ids;
use zeroize::Zeroizing;

use crate::{
    config::Settings,
    store::MailKind,
    vault::{Hash, Purpose, Vault},
    webhook::Webhook,
};

mod bounded_stream;
mod smtp;
mod templates;
#[cfg(test)]
mod tests;

use smtp::Relay;
use templates::{Templates, Words};

/// Lifetime of the link that resets a password, and of the one that verifies an address, in seconds.
pub(crate) const RESET_SECS: i64 = 30 * 60;
pub(crate) const VERIFY_SECS: i64 = 24 * 60 * 60;

/// A mail before it has a text.
#[derive(Debug)]
pub(crate) struct Letter {
    /// The identifier, the same at every attempt.
    pub(crate) id: String,
    /// Contents.
    pub(crate) kind: MailKind,
    /// The address.
    pub(crate) to: String,
    /// The name to sign in with.
    pub(crate) username: String,
    /// The person's name.
    pub(crate) name: Option<String>,
    /// The token of the link.
    pub(crate) token: Option<Zeroizing<String>>,
}

/// The text of a mail. It may hold a link that is secret.
pub(crate) struct Text {
    pub(crate) subject: String,
    pub(crate) plain: Zeroizing<String>,
    pub(crate) html: Zeroizing<String>,
}

/// Reason that a mail was not sent. No variant holds the address.
#[derive(Debug)]
pub(crate) enum MailError {
    /// The server does not take this mail, now or later.
    Refused(String),
    /// The server cannot be reached or takes no mail now.
    Failed(anyhow::Error),
}

/// Sends mail.
pub struct Mailer {
    from: Mailbox,
    app_url: String,
    templates: Templates,
    way: Way,
}

enum Way {
    Relay(Relay),
    Webhook(Webhook),
}

/// The body of a mail that a webhook gets.
#[derive(Serialize)]
struct WebhookMail<'a> {
    r#type: String,
    from: String,
    to: &'a str,
    subject: &'a str,
    text: &'a str,
    html: &'a str,
}

impl Mailer {
    /// Returns what sends mail, or `None` when the settings name neither a mail server nor a webhook.
    ///
    /// # Errors
    ///
    /// When a file of the settings cannot be read, a template is none, or TLS cannot be set up.
    pub fn open(settings: &Settings) -> anyhow::Result<Option<Self>> {
        let mail = &settings.mail;
        let way = if let Some(url) = mail.url.get() {
            Way::Relay(Relay::open(url, mail)?)
        } else if mail.webhook.is_on() {
            let hook = Webhook::open(&mail.webhook, &mail.webhook_secret_file);
            Way::Webhook(hook.context("mail.webhook")?)
        } else {
            return Ok(None);
        };
        let from = mail.from.parse().ok().context("mail.from is no address")?;
        Ok(Some(Self {
            from,
            app_url: settings.app_url.clone(),
            templates: Templates::open(&mail.templates)?,
            way,
        }))
    }

    /// Sends a mail. Each of the two ways has a deadline of its own.
    ///
    /// # Errors
    ///
    /// When it was not taken.
    pub(crate) async fn send(&self, letter: &Letter) -> Result<(), MailError> {
        let text = self.text(letter).map_err(MailError::Failed)?;
        match &self.way {
            Way::Relay(relay) => relay.send(&self.from, letter, text).await,
            Way::Webhook(hook) => self.post(hook, letter, &text).await,
        }
    }

    async fn post(&self, hook: &Webhook, letter: &Letter, text: &Text) -> Result<(), MailError> {
        let body = serde_json::to_string(&WebhookMail {
            r#type: format!("mail.{}", letter.kind.name()),
            from: self.from.to_string(),
            to: &letter.to,
            subject: &text.subject,
            text: &text.plain,
            html: &text.html,
        });
        let body = body.context("a mail is no JSON");
        let posted = async { hook.post(&letter.id, Zeroizing::new(body?)).await };
        posted.await.map_err(MailError::Failed)
    }

    fn text(&self, letter: &Letter) -> anyhow::Result<Text> {
        let (action, secs) = match letter.kind {
            MailKind::VerifyEmail => ("verify", VERIFY_SECS),
            MailKind::ResetPassword => ("reset", RESET_SECS),
            MailKind::EmailChangeRequested | MailKind::PasswordChanged | MailKind::PasskeyAdded => {
                ("", 0)
            }
        };
        // A fragment: no browser sends it to a server or in a Referer.
        let link = letter
            .token
            .as_ref()
            .map(|token| Zeroizing::new(format!("{}#{action}={}", self.app_url, token.as_str())));
        self.templates.render(
            letter.kind,
            &Words {
                username: &letter.username,
                name: letter.name.as_deref().unwrap_or(&letter.username),
                email: &letter.to,
                app_url: &self.app_url,
                link: link.as_ref().map_or("", |link| link.as_str()),
                minutes: secs / 60,
            },
        )
    }
}

/// Returns the token of the link in the mail `id`, under the newest secret.
///
/// # Errors
///
/// When there is no secret.
pub(crate) fn new_link_token(vault: &Vault, id: &str) -> anyhow::Result<Zeroizing<String>> {
    let tokens = link_tokens(vault, id).next();
    tokens.context("there is no secret")
}

/// Returns the token of the link in the mail `id` whose hash is `hash`, under whichever secret it was
/// made; `None` when that secret is gone.
pub(crate) fn link_token(vault: &Vault, id: &str, hash: &[u8]) -> Option<Zeroizing<String>> {
    link_tokens(vault, id).find(|token| Hash::of(token).as_bytes() == hash)
}

fn link_tokens(vault: &Vault, id: &str) -> impl Iterator<Item = Zeroizing<String>> {
    let macs = vault.macs(Purpose::MailLink, id.as_bytes());
    macs.into_iter()
        .map(|mac| Zeroizing::new(ids::token_from(&mac)))
}
