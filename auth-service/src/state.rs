//! What every request may use, made once at the start.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use anyhow::Context as _;
use shared_claims::{forwarded::ReportInterval, origin::OriginList};

use crate::{
    claims_webhook::ClaimsWebhook,
    config::{Config, Reload, Settings},
    keys::{Keys, Ring},
    limits::Limits,
    mail::Mailer,
    metrics::Metrics,
    outbox::Outbox,
    store::Store,
    tls::Certificate,
    users::{Users, email, password::PasswordPool},
    waiting::Waiting,
    webhook::Webhook,
};

/// The one state of the service. Workers share it behind an `Arc`.
pub struct AppState {
    users: Users,
    keys: Keys,
    outbox: Outbox,
    mailer: Option<Mailer>,
    event_hook: Option<Webhook>,
    claims_webhook: Option<ClaimsWebhook>,
    limits: Limits,
    waiting: Waiting,
    metrics: Metrics,
    settings: Settings,
    reload: Reload,
    certificate: Option<Arc<Certificate>>,
    origins: OriginList,
    malformed_headers: ReportInterval,
    is_draining: AtomicBool,
}

impl AppState {
    /// Opens the store and the keys, starts the password pool, and proves that our own tokens
    /// verify.
    ///
    /// # Errors
    ///
    /// When one of these fails.
    pub async fn start(config: Config) -> anyhow::Result<Self> {
        let Config {
            settings,
            secrets,
            reload,
        } = config;
        let certificate = Certificate::open(&settings.tls)?;
        let origins = OriginList::parse(&settings.origins)?;
        let mailer = Mailer::open(&settings)?;
        let event_hook = settings.events.url.is_on();
        let event_hook = event_hook
            .then(|| Webhook::open(&settings.events.url, &settings.events.secret_file))
            .transpose()
            .context("events.url")?;
        let claims_webhook = ClaimsWebhook::open(&settings.token.claims_webhook)?;
        let store = Store::open(&settings.database_url).await?;
        let store = store.telling_events(settings.events.retention());
        let store = store.sending_mail(settings.mail.waiting());
        email::normalize_stored(&store).await?;
        let keys = Keys::open(&settings, secrets, &store).await?;
        let passwords = PasswordPool::start(&settings.password)?;
        let users = Users::new(store, passwords);
        users.refresh_decoys().await?;
        Ok(Self {
            users,
            keys,
            outbox: Outbox::default(),
            mailer,
            event_hook,
            claims_webhook,
            limits: Limits::new(settings.limits.clone()),
            waiting: Waiting::default(),
            metrics: Metrics::new(),
            settings,
            reload,
            certificate,
            origins,
            malformed_headers: ReportInterval::default(),
            is_draining: AtomicBool::new(false),
        })
    }

    /// The accounts.
    #[must_use]
    pub fn users(&self) -> &Users {
        &self.users
    }

    /// The database.
    #[must_use]
    pub fn store(&self) -> &Store {
        self.users.store()
    }

    /// The keys, which can be replaced.
    #[must_use]
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// What signs, verifies and encrypts at this moment.
    #[must_use]
    pub fn ring(&self) -> Arc<Ring> {
        self.keys.ring()
    }

    /// The certificate of the public listener, if it speaks TLS.
    #[must_use]
    pub fn certificate(&self) -> Option<&Arc<Certificate>> {
        self.certificate.as_ref()
    }

    /// Reads the secrets again, and uses them in place of the ones from before.
    ///
    /// # Errors
    ///
    /// When they cannot be used; the ones from before are kept.
    pub async fn reload_secrets(&self) -> anyhow::Result<()> {
        self.keys.replace_secrets(self.reload.read()?).await
    }

    /// The origins whose pages may call the service.
    #[must_use]
    pub fn origins(&self) -> &OriginList {
        &self.origins
    }

    /// Bounds how often a header of a proxy that cannot be parsed is logged.
    pub(crate) fn malformed_headers(&self) -> &ReportInterval {
        &self.malformed_headers
    }

    /// Turns readiness off: the service is about to stop.
    pub(crate) fn start_draining(&self) {
        self.is_draining.store(true, Ordering::Relaxed);
    }

    /// Returns whether the service is about to stop.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Relaxed)
    }

    /// How often somebody has tried.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Who waits for a password thread.
    pub(crate) fn waiting(&self) -> &Waiting {
        &self.waiting
    }

    /// The sender of mail, if the settings name a way.
    #[must_use]
    pub fn mailer(&self) -> Option<&Mailer> {
        self.mailer.as_ref()
    }

    /// The operator's service that is told what happened, if there is one.
    pub(crate) fn event_hook(&self) -> Option<&Webhook> {
        self.event_hook.as_ref()
    }

    /// The operator's service that adds claims to tokens, if there is one.
    pub(crate) fn claims_webhook(&self) -> Option<&ClaimsWebhook> {
        self.claims_webhook.as_ref()
    }

    /// Messages that wait for their delivery.
    #[must_use]
    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// What is counted.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The settings.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }
}
