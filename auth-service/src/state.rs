//! What every request may use, made once at the start.

use std::time::SystemTime;

use anyhow::Context as _;
use shared_claims::{
    Verifier,
    claims::{LOGIN_CLIENT_ID, REALTIME_AUDIENCE},
    key_set::KeySet,
};

use crate::{
    config::{Config, Settings},
    metrics::Metrics,
    store::Store,
    tokens::{NewToken, Signer},
    users::{Users, password::PasswordPool},
    vault::Vault,
};

/// The one state of the service. Workers share it behind an `Arc`.
pub struct AppState {
    users: Users,
    signer: Signer,
    verifier: Verifier,
    vault: Vault,
    metrics: Metrics,
    settings: Settings,
}

impl AppState {
    /// Opens the store, starts the password pool, and proves that our own tokens verify.
    ///
    /// # Errors
    ///
    /// When one of the three fails.
    pub async fn start(config: Config) -> anyhow::Result<Self> {
        let Config { settings, secrets } = config;
        let signer = Signer::new(&settings, &secrets)?;
        let verifier = Verifier::new(
            &settings.public_url,
            REALTIME_AUDIENCE,
            KeySet::from_secrets(&secrets)?,
        );
        check_own_token(&signer, &verifier)?;
        let store = Store::open(&settings.database_url).await?;
        let passwords =
            PasswordPool::start(settings.password.thread_count(), settings.password.queue)?;
        Ok(Self {
            users: Users::new(store, passwords),
            signer,
            verifier,
            vault: Vault::new(&secrets)?,
            metrics: Metrics::new(),
            settings,
        })
    }

    /// The accounts.
    #[must_use]
    pub fn users(&self) -> &Users {
        &self.users
    }

    /// The database, for readiness and for the end.
    #[must_use]
    pub fn store(&self) -> &Store {
        self.users.store()
    }

    /// The only signer.
    #[must_use]
    pub fn signer(&self) -> &Signer {
        &self.signer
    }

    /// Accepts the tokens that [`Self::signer`] made.
    #[must_use]
    pub fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    /// What is encrypted and derived.
    #[must_use]
    pub fn vault(&self) -> &Vault {
        &self.vault
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

/// A deployment whose tokens nobody accepts is found here, and not by its first visitor.
fn check_own_token(signer: &Signer, verifier: &Verifier) -> anyhow::Result<()> {
    let now = SystemTime::now();
    let token = NewToken {
        subject: "self-check",
        audience: REALTIME_AUDIENCE,
        client_id: LOGIN_CLIENT_ID,
        session_id: "self-check",
        scope: None,
        authorization_details: Vec::new(),
        profile: None,
    };
    let token = signer.sign(token, now)?;
    verifier
        .verify(token.as_str(), now)
        .context("a token of our own does not verify")?;
    Ok(())
}
