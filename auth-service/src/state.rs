//! State that every request may use, made once at the start.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use anyhow::Context as _;
use shared_claims::{forwarded::ReportInterval, origin::OriginList};

use crate::{
    claims_webhook::{self, ClaimsWebhook, Occasion, TokenRefused},
    config::{Config, Reload, Settings},
    guard::{
        attempts::Judge,
        counters::Counting,
        limits::{Key, Limits},
        redis::RedisCounters,
        shared::SharedCounters,
    },
    keys::{KeyRing, Keys},
    mail::Mailer,
    metrics::Metrics,
    outbox::{Delivery, Outbox},
    store::{Account, Recipients, Store},
    tls::Certificate,
    user_claims::UserClaims,
    users::{Users, normalize_emails, password::PasswordPool},
    waiting::{Place, Waiting},
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
    redis: Option<RedisCounters>,
    waiting: Waiting<Key>,
    metrics: Metrics,
    settings: Settings,
    reload: Reload,
    certificate: Option<Arc<Certificate>>,
    origins: OriginList,
    malformed_headers: ReportInterval,
    unready_answers: ReportInterval,
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
        let redis = RedisCounters::open(&settings.cluster)?;
        let store = Store::open(&settings.database_url).await?;
        let recipients = Recipients::of(&settings);
        store.put_recipients(&recipients).await?;
        let store = store.telling_events(recipients.event_retention_secs);
        let store = store.sending_mail(recipients.mail_queue);
        normalize_emails(&store).await?;
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
            redis,
            waiting: Waiting::default(),
            metrics: Metrics::new(),
            settings,
            reload,
            certificate,
            origins,
            malformed_headers: ReportInterval::default(),
            unready_answers: ReportInterval::default(),
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

    /// Returns the keys that sign, verify and encrypt at this moment.
    #[must_use]
    pub fn ring(&self) -> Arc<KeyRing> {
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

    /// Bounds how often the reason of `GET /health/ready` is logged, which anybody may ask for.
    pub(crate) fn unready_answers(&self) -> &ReportInterval {
        &self.unready_answers
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

    /// The counters of this process.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Takes a place among the requests of an address that wait for a password thread. Returns `None` when
    /// too many of it wait.
    pub(crate) fn wait(&self, address: Key) -> Option<Place<'_, Key>> {
        let most = self.settings.limits.waiting_per_address;
        self.waiting.enter(address, most)
    }

    /// The counters in Redis, if the settings name one.
    pub(crate) fn redis(&self) -> Option<&RedisCounters> {
        self.redis.as_ref()
    }

    /// Returns the parts that count attempts.
    pub(crate) fn counting(&self) -> Counting<'_> {
        Counting {
            limits: &self.limits,
            shared: SharedCounters {
                redis: self.redis.as_ref(),
                store: self.users.store(),
                metrics: &self.metrics,
            },
            ring: self.ring(),
        }
    }

    /// Returns the parts that judge an attempt to sign in.
    pub(crate) fn judge(&self) -> Judge<'_> {
        Judge {
            users: &self.users,
            counting: self.counting(),
            waiting: &self.waiting,
            waiting_per_address: self.settings.limits.waiting_per_address,
            metrics: &self.metrics,
        }
    }

    /// Returns the parts that deliver the outbox.
    pub(crate) fn delivery(&self) -> Delivery<'_> {
        Delivery {
            users: &self.users,
            keys: &self.keys,
            outbox: &self.outbox,
            mailer: self.mailer.as_ref(),
            event_hook: self.event_hook.as_ref(),
            gateways: &self.settings.revocation.gateways,
            metrics: &self.metrics,
        }
    }

    /// The sender of mail, if the settings name a way.
    #[must_use]
    pub fn mailer(&self) -> Option<&Mailer> {
        self.mailer.as_ref()
    }

    /// Returns the roles and the claims of the next token of an account: its own, and those of the claims
    /// webhook, if there is one.
    ///
    /// # Errors
    ///
    /// When the webhook refuses the login, or gives no answer.
    pub(crate) async fn claims_of(
        &self,
        account: &Account,
        occasion: Occasion,
    ) -> Result<UserClaims, TokenRefused> {
        let Some(webhook) = &self.claims_webhook else {
            return Ok(account.claims.clone());
        };
        let settings = &self.settings.token;
        claims_webhook::claims_of(webhook, &self.metrics, settings, account, occasion).await
    }

    /// Messages that wait for their delivery.
    #[must_use]
    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// The metrics.
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
