//! A webhook that takes mail, in place of a mail server: what arrives there, and whether it is up.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use actix_web::{HttpRequest, HttpResponse};
use auth_service::{Settings, config::Registration};
use serde_json::Value;
use tokio::sync::mpsc;

use crate::receiver::Receiver;

/// The page to which links point.
pub(crate) const APP_URL: &str = "https://app.example.org/start";

const DEADLINE: Duration = Duration::from_secs(20);

/// Takes the mails of one service.
pub(crate) struct Mailbox {
    receiver: Receiver,
    mails: mpsc::UnboundedReceiver<Value>,
    is_down: Arc<AtomicBool>,
    attempts: Arc<AtomicUsize>,
}

impl Mailbox {
    pub(crate) fn start() -> Self {
        let (sender, mails) = mpsc::unbounded_channel();
        let is_down = Arc::new(AtomicBool::new(false));
        let attempts = Arc::new(AtomicUsize::new(0));
        let (down, counter) = (Arc::clone(&is_down), Arc::clone(&attempts));
        let take = move |request: HttpRequest, mut mail: Value| {
            counter.fetch_add(1, Ordering::SeqCst);
            let is_down = down.load(Ordering::SeqCst);
            let header = |name: &str| {
                let value = request.headers().get(name).expect(name);
                value.to_str().expect("text").to_owned()
            };
            mail["id"] = header("webhook-id").into();
            assert!(header("webhook-signature").starts_with("v1,"));
            let sender = sender.clone();
            async move {
                if is_down {
                    return HttpResponse::ServiceUnavailable().finish();
                }
                sender.send(mail).expect("a test that listens");
                HttpResponse::NoContent().finish()
            }
        };
        Self {
            receiver: Receiver::start("", take),
            mails,
            is_down,
            attempts,
        }
    }

    /// Sends the mails of a service here, and opens its registration.
    pub(crate) fn configure(&self, settings: &mut Settings) {
        settings.app_url = APP_URL.to_owned();
        settings.mail.from = "Latchkey <noreply@example.org>".to_owned();
        let url = format!("{}?key=s3cret", self.receiver.url());
        settings.mail.webhook = url.parse().expect("a URL");
        settings.mail.webhook_secret_file = self.receiver.secret_file();
        settings.registration = Registration::Open;
        settings.limits.mails_per_mailbox = 100;
        settings.limits.mails_per_address = 100;
    }

    pub(crate) fn set_down(&self, is_down: bool) {
        self.is_down.store(is_down, Ordering::SeqCst);
    }

    pub(crate) fn attempts(&self) -> usize {
        self.attempts.load(Ordering::SeqCst)
    }

    /// The next mail.
    pub(crate) async fn next(&mut self) -> Mail {
        let mail = tokio::time::timeout(DEADLINE, self.mails.recv()).await;
        Mail(mail.expect("a mail in time").expect("a mail"))
    }
}

/// A mail that arrived.
pub(crate) struct Mail(pub(crate) Value);

impl Mail {
    pub(crate) fn text(&self, member: &str) -> &str {
        self.0[member].as_str().expect(member)
    }

    /// The token of the link that does `action`. The link stands in both forms and points to the page of
    /// the settings.
    pub(crate) fn token(&self, action: &str) -> String {
        let link = format!("{APP_URL}#{action}=");
        let of = |text: &str| {
            let (_, rest) = text.split_once(&link).expect("a link to the page");
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && !"-_".contains(c));
            rest[..end.unwrap_or(rest.len())].to_owned()
        };
        let token = of(self.text("text"));
        // The template escapes slashes too.
        assert_eq!(token, of(&self.text("html").replace("&#x2f;", "/")));
        assert_eq!(token.len(), 43);
        token
    }
}
