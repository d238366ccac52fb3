//! What every request may use, made once at the start.

use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use shared_claims::{Verifier, claims::REALTIME_AUDIENCE, key_set::KeySet};

use crate::{
    config::Config,
    store::Store,
    tokens::{Signer, TokenIds},
    users::{Users, password::PasswordPool},
};

/// The one state of the service. Workers share it behind an `Arc`.
pub struct AppState {
    users: Users,
    signer: Signer,
    verifier: Verifier,
    body_limit_bytes: usize,
    body_deadline: Duration,
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
        let store = Store::open(&settings.database_path()?).await?;
        let passwords =
            PasswordPool::start(settings.password.thread_count(), settings.password.queue)?;
        Ok(Self {
            users: Users::new(store, passwords),
            signer,
            verifier,
            body_limit_bytes: settings.login.body_limit_bytes,
            body_deadline: Duration::from_secs(settings.login.body_deadline_secs),
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

    /// The longest body that `/login` takes.
    #[must_use]
    pub fn body_limit_bytes(&self) -> usize {
        self.body_limit_bytes
    }

    /// How long a body may take to arrive.
    #[must_use]
    pub fn body_deadline(&self) -> Duration {
        self.body_deadline
    }
}

/// A deployment whose tokens nobody accepts is found here, and not by its first visitor.
fn check_own_token(signer: &Signer, verifier: &Verifier) -> anyhow::Result<()> {
    let now = SystemTime::now();
    let token = signer.sign("self-check", None, TokenIds::random()?, now)?;
    verifier
        .verify(token.as_str(), now)
        .context("a token of our own does not verify")?;
    Ok(())
}
