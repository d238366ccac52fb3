//! What every request may use, made once at the start.

use std::time::SystemTime;

use anyhow::Context as _;
use shared_claims::{
    VerifiedClaims, Verifier,
    claims::{API_AUDIENCE, LOGIN_CLIENT_ID, REALTIME_AUDIENCE},
    key_set::KeySet,
};

use crate::{
    config::{Config, Settings},
    limits::Limits,
    outbox::Outbox,
    store::Store,
    tokens::{NewToken, Signer},
    users::{Users, password::PasswordPool},
    vault::Vault,
    waiting::Waiting,
};

/// The one state of the service. Workers share it behind an `Arc`.
pub struct AppState {
    users: Users,
    signer: Signer,
    verifier: Verifier,
    api_verifier: Verifier,
    vault: Vault,
    outbox: Outbox,
    limits: Limits,
    waiting: Waiting,
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
        let passwords = PasswordPool::start(&settings.password)?;
        Ok(Self {
            users: Users::new(store, passwords),
            signer,
            verifier,
            vault: Vault::new(&secrets)?,
            outbox: Outbox::default(),
            limits: Limits::new(settings.limits.clone()),
            waiting: Waiting::default(),
            api_verifier: Verifier::new(
                &settings.public_url,
                API_AUDIENCE,
                KeySet::from_secrets(&secrets)?,
            ),
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

    /// What a token says that is accepted anywhere, by the gateway's sockets or its API.
    #[must_use]
    pub fn verify_any(&self, token: &str, now: SystemTime) -> Option<VerifiedClaims> {
        [&self.verifier, &self.api_verifier]
            .into_iter()
            .find_map(|verifier| verifier.verify(token, now).ok())
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

    /// What is encrypted and derived.
    #[must_use]
    pub fn vault(&self) -> &Vault {
        &self.vault
    }

    /// What the gateways are told.
    #[must_use]
    pub fn outbox(&self) -> &Outbox {
        &self.outbox
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
        expires_by: None,
    };
    let token = signer.sign(token, now)?.token;
    verifier
        .verify(token.as_str(), now)
        .context("a token of our own does not verify")?;
    Ok(())
}
