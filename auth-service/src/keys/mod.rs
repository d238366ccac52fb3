//! The keys that sign and verify now, and how the next ones take their place without a token being
//! refused in between.

mod reseal;
mod stored;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::SystemTime};

use anyhow::Context as _;
use arc_swap::ArcSwap;
use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};
use shared_claims::{
    VerifiedClaims, Verifier,
    claims::{ADMIN_AUDIENCE, API_AUDIENCE, LOGIN_CLIENT_ID, REALTIME_AUDIENCE},
    key_set::KeySet,
    secret::Secrets,
};
use tokio::sync::Mutex;

pub use self::stored::{RotationError, list_keys, rotate_now};
use self::{
    reseal::{check_second_factors, reseal_keys, reseal_second_factors},
    stored::{Unreadable, is_readable, open_keys, rotate, waiting_secs},
};
use crate::{
    clock::seconds_since_epoch,
    config::{KeyMode, Settings},
    ids::random_id,
    store::{SigningKey, Store, event::Actor},
    tokens::{NewToken, Signer},
    vault::{Purpose, Vault},
};

/// Everything that comes from the keys of one moment.
pub struct KeyRing {
    /// The only signer.
    pub signer: Signer,
    /// Accepts tokens for the gateway's sockets.
    pub verifier: Verifier,
    /// Accepts tokens for the gateway's API.
    pub api_verifier: Verifier,
    /// Accepts tokens for the operator's API.
    pub admin_verifier: Verifier,
    /// Keys that encrypt and derive.
    pub vault: Vault,
    /// The public keys as a document (RFC 7517), and its tag for caches (RFC 9110, section 8.8.3).
    pub jwks: String,
    /// See [`Self::jwks`].
    pub etag: String,
    stored: Vec<SigningKey>,
}

/// The keys of the moment, in a place where they can be replaced.
pub struct Keys {
    ring: ArcSwap<KeyRing>,
    /// The secrets of the ring. Each task that replaces the ring holds the lock from before it reads the
    /// secrets until it has stored the ring.
    secrets: Mutex<Secrets>,
    /// Whether second factors may be encrypted under an older secret. Each task that encrypts second factors
    /// anew holds the lock.
    is_reseal_due: Mutex<bool>,
    settings: Settings,
    store: Store,
}

impl Keys {
    /// The keys that the secrets and the database say, which are made when there are none. A key that
    /// was encrypted under a secret that is not there signs nothing: another key takes its place, and
    /// the old one verifies until its tokens have ended.
    ///
    /// # Errors
    ///
    /// When the database fails, or a second factor in it was encrypted under a secret that is not
    /// there.
    pub async fn open(
        settings: &Settings,
        secrets: Secrets,
        store: &Store,
    ) -> anyhow::Result<Self> {
        let store = store.acting_as(Actor::Service);
        let ring = load(settings, &secrets, &store, Load::Start).await?;
        reseal_second_factors(&store, &ring.vault).await?;
        Ok(Self {
            ring: ArcSwap::from_pointee(ring),
            secrets: Mutex::new(secrets),
            is_reseal_due: Mutex::new(false),
            settings: settings.clone(),
            store,
        })
    }

    /// The keys of this moment. Whoever holds them uses the same ones to the end.
    #[must_use]
    pub fn ring(&self) -> Arc<KeyRing> {
        self.ring.load_full()
    }

    /// Takes other secrets in place of the ones from before, and then encrypts the second factors anew. If
    /// that fails, [`Self::tend`] tries again.
    ///
    /// # Errors
    ///
    /// When they cannot be used; the ones from before are kept.
    pub async fn replace_secrets(&self, secrets: Secrets) -> anyhow::Result<()> {
        let mut is_due = self.is_reseal_due.lock().await;
        {
            let mut current = self.secrets.lock().await;
            let ring = load(&self.settings, &secrets, &self.store, Load::Replacement).await?;
            *current = secrets;
            self.ring.store(Arc::new(ring));
        }
        *is_due = true;
        // From here on no new request encrypts under an older secret.
        match reseal_second_factors(&self.store, &self.ring().vault).await {
            Ok(()) => *is_due = false,
            Err(error) => tracing::error!(
                "the second factors are not encrypted anew yet, which is tried again: {error:#}"
            ),
        }
        Ok(())
    }

    /// Encrypts the second factors anew if the last replacement of the secrets could not.
    async fn finish_reseal(&self) -> anyhow::Result<()> {
        // A replacement that runs holds the lock for as long as it takes.
        let Ok(mut is_due) = self.is_reseal_due.try_lock() else {
            return Ok(());
        };
        if *is_due {
            let sealing = reseal_second_factors(&self.store, &self.ring().vault).await;
            sealing.context("the second factors are not encrypted anew yet")?;
            *is_due = false;
            tracing::info!("the second factors are encrypted anew");
        }
        Ok(())
    }

    /// Does what is due: takes over keys that another process or a command has changed, rotates
    /// them when their time has come, and throws away those that nothing is signed with any more.
    ///
    /// It encrypts no row anew, unless a replacement of the secrets could not: another issuer may have put
    /// another secret first, and has encrypted the rows under that one.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn tend(&self, now: SystemTime) -> anyhow::Result<()> {
        if self.settings.keys.mode == KeyMode::Asymmetric {
            self.tend_stored(now).await?;
        }
        self.finish_reseal().await
    }

    /// Does what is due for the keys in the database.
    async fn tend_stored(&self, now: SystemTime) -> anyhow::Result<()> {
        let secrets = self.secrets.lock().await;
        let now = seconds_since_epoch(now)?;
        let retired = now.saturating_sub(self.settings.keys.retiring_secs());
        let stored = self.store.list_signing_keys().await?;
        let is_over = |key: &&SigningKey| key.state == "retiring" && key.since <= retired;
        let over: Vec<_> = stored.iter().filter(is_over).collect();
        if !over.is_empty() {
            self.store.delete_retired_keys(retired).await?;
            let vault = &self.ring().vault;
            for key in over.into_iter().filter(|key| !is_readable(vault, key)) {
                tracing::warn!(
                    key = key.id,
                    "a key that cannot be decrypted was thrown away: its tokens have ended"
                );
            }
        }
        let rotation = i64::try_from(self.settings.keys.rotation_secs)?;
        let is_due = stored
            .iter()
            .any(|key| key.state == "active" && key.since <= now.saturating_sub(rotation));
        if is_due && waiting_secs(&self.settings, &stored, now) == 0 {
            let vault = &self.ring().vault;
            rotate(&self.store, vault, &stored, false, now).await?;
        }
        if self.store.list_signing_keys().await? != self.ring().stored {
            let ring = load(&self.settings, &secrets, &self.store, Load::Maintenance).await?;
            self.ring.store(Arc::new(ring));
            tracing::info!("the keys were changed");
        }
        Ok(())
    }
}

impl KeyRing {
    /// Claims of a token that is accepted anywhere: by the gateway's sockets, its API, or the
    /// operator's API.
    #[must_use]
    pub fn verify_any(&self, token: &str, now: SystemTime) -> Option<VerifiedClaims> {
        [&self.verifier, &self.api_verifier, &self.admin_verifier]
            .into_iter()
            .find_map(|verifier| verifier.verify(token, now).ok())
    }

    /// A deployment whose tokens nobody accepts is found here, and not by its first visitor.
    fn check_own_token(&self) -> anyhow::Result<()> {
        let now = SystemTime::now();
        let id = random_id()?;
        let token = NewToken {
            subject: &id,
            audience: REALTIME_AUDIENCE,
            client_id: LOGIN_CLIENT_ID,
            session_id: &id,
            scope: None,
            authorization_details: Vec::new(),
            profile: None,
            further: serde_json::Map::new(),
            expires_by: None,
        };
        let signed = self.signer.sign(token, now)?;
        self.verifier
            .verify(&signed.token, now)
            .context("a token of our own does not verify")?;
        Ok(())
    }
}

/// Occasion of making a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Load {
    /// The service starts.
    Start,
    /// The secrets are replaced while the service runs.
    Replacement,
    /// The keys in the database were changed.
    Maintenance,
}

/// Makes a ring. Unless the occasion is maintenance, checks that the secrets decrypt the second factors, and
/// encrypts the key pairs anew: in `shared` mode too, for the day on which the mode changes.
///
/// # Errors
///
/// When the database fails, or a key or a confirmed second factor was encrypted under a secret that is not
/// there. At the start new keys take the place of such a key. Beside a service that runs, another process
/// can have encrypted it under a secret that this one is about to be given.
async fn load(
    settings: &Settings,
    secrets: &Secrets,
    store: &Store,
    occasion: Load,
) -> anyhow::Result<KeyRing> {
    let vault = Vault::new(secrets)?;
    if occasion != Load::Maintenance {
        check_second_factors(store, &vault).await?;
        reseal_keys(store, &vault).await?;
    }
    let unreadable = match occasion {
        Load::Start => Unreadable::Replace,
        Load::Replacement | Load::Maintenance => Unreadable::Refuse,
    };
    let ring = match settings.keys.mode {
        KeyMode::Shared => {
            let secret = secrets.signing();
            let signer = Signer::new(
                settings,
                Algorithm::HS256,
                secret.key_id().context("cannot name the key")?,
                EncodingKey::from_secret(secret.expose()),
            );
            let keys = KeySet::from_secrets(secrets)?;
            let jwks = json!({"keys": []}).to_string();
            ring(settings, signer, keys, vault, (jwks, Vec::new()))
        }
        KeyMode::Asymmetric => {
            let stored = open_keys(&vault, store, unreadable).await?;
            let active = stored
                .iter()
                .find(|key| key.state == "active")
                .context("no key in the database signs")?;
            let private = vault
                .open(Purpose::SigningKey, &active.id, &active.sealed)
                .context("cannot decrypt the key that signs")?;
            let key = EncodingKey::from_ec_der(&private);
            let signer = Signer::new(settings, Algorithm::ES256, active.id.clone(), key);
            let public: Result<Vec<Value>, _> = stored
                .iter()
                .map(|key| serde_json::from_str(&key.public_key))
                .collect();
            let jwks = json!({"keys": public.context("a public key in the database is none")?});
            let jwks = jwks.to_string();
            let keys = KeySet::from_jwks(jwks.as_bytes())?;
            ring(settings, signer, keys, vault, (jwks, stored))
        }
    };
    ring.check_own_token()?;
    Ok(ring)
}

fn ring(
    settings: &Settings,
    signer: Signer,
    keys: KeySet,
    vault: Vault,
    (jwks, stored): (String, Vec<SigningKey>),
) -> KeyRing {
    let keys = Arc::new(keys);
    let verifier = |audience| Verifier::new(&settings.public_url, audience, Arc::clone(&keys));
    let tag = URL_SAFE_NO_PAD.encode(digest(&SHA256, jwks.as_bytes()));
    KeyRing {
        signer,
        verifier: verifier(REALTIME_AUDIENCE),
        api_verifier: verifier(API_AUDIENCE),
        admin_verifier: verifier(ADMIN_AUDIENCE),
        vault,
        etag: format!("\"{tag}\""),
        jwks,
        stored,
    }
}
