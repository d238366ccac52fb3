//! The keys that sign and verify now, and how the next ones take their place without a token being
//! refused in between.

use std::{sync::Arc, time::SystemTime};

use anyhow::Context as _;
use arc_swap::ArcSwap;
use aws_lc_rs::{
    digest::{SHA256, digest},
    encoding::AsBigEndian as _,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};
use shared_claims::{
    VerifiedClaims, Verifier,
    claims::{API_AUDIENCE, LOGIN_CLIENT_ID, REALTIME_AUDIENCE},
    key_set::KeySet,
    secret::Secrets,
};
use zeroize::Zeroizing;

use crate::{
    config::{KeyMode, Settings},
    second_factor,
    store::{NewSigningKey, SigningKey, Store, event::Actor},
    tokens::{NewToken, Signer, random_id},
    users::{open_store, seconds_since_epoch},
    vault::{Purpose, Vault},
};

/// Everything that comes from the keys of one moment.
pub struct Ring {
    /// The only signer.
    pub signer: Signer,
    /// Accepts tokens for the gateway's sockets.
    pub verifier: Verifier,
    /// Accepts tokens for the gateway's API.
    pub api_verifier: Verifier,
    /// What is encrypted and derived.
    pub vault: Vault,
    /// The public keys as a document (RFC 7517), and its tag for caches (RFC 9110, section 8.8.3).
    pub jwks: String,
    /// See [`Self::jwks`].
    pub etag: String,
    stored: Vec<SigningKey>,
}

/// The keys of the moment, in a place where they can be replaced.
pub struct Keys {
    ring: ArcSwap<Ring>,
    secrets: ArcSwap<Secrets>,
    settings: Settings,
    store: Store,
}

impl Keys {
    /// The keys that the secrets and the database say, which are made when there are none.
    ///
    /// # Errors
    ///
    /// When the database fails, or a key in it was encrypted under a secret that is not there.
    pub async fn open(
        settings: &Settings,
        secrets: Secrets,
        store: &Store,
    ) -> anyhow::Result<Self> {
        let ring = load(settings, &secrets, store).await?;
        Ok(Self {
            ring: ArcSwap::from_pointee(ring),
            secrets: ArcSwap::from_pointee(secrets),
            settings: settings.clone(),
            store: store.acting_as(Actor::Service),
        })
    }

    /// The keys of this moment. Whoever holds them uses the same ones to the end.
    #[must_use]
    pub fn ring(&self) -> Arc<Ring> {
        self.ring.load_full()
    }

    /// Takes other secrets in place of the ones from before.
    ///
    /// # Errors
    ///
    /// When they cannot be used; the ones from before are kept.
    pub async fn replace_secrets(&self, secrets: Secrets) -> anyhow::Result<()> {
        let ring = load(&self.settings, &secrets, &self.store).await?;
        self.secrets.store(Arc::new(secrets));
        self.ring.store(Arc::new(ring));
        Ok(())
    }

    /// Does what is due: takes over keys that another process or a command has changed, rotates
    /// them when their time has come, and throws away those that nothing is signed with any more.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn tend(&self, now: SystemTime) -> anyhow::Result<()> {
        if self.settings.keys.mode == KeyMode::Shared {
            return Ok(());
        }
        let now = seconds_since_epoch(now)?;
        let retired = now.saturating_sub(self.settings.keys.retiring_secs());
        let stored = self.store.list_signing_keys().await?;
        if stored
            .iter()
            .any(|key| key.state == "retiring" && key.since <= retired)
        {
            self.store.delete_retired_keys(retired).await?;
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
            let secrets = self.secrets.load_full();
            let ring = load(&self.settings, &secrets, &self.store).await?;
            self.ring.store(Arc::new(ring));
            tracing::info!("the keys were changed");
        }
        Ok(())
    }
}

impl Ring {
    /// What a token says that is accepted anywhere, by the gateway's sockets or its API.
    #[must_use]
    pub fn verify_any(&self, token: &str, now: SystemTime) -> Option<VerifiedClaims> {
        [&self.verifier, &self.api_verifier]
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
            expires_by: None,
        };
        let signed = self.signer.sign(token, now)?;
        self.verifier
            .verify(&signed.token, now)
            .context("a token of our own does not verify")?;
        Ok(())
    }
}

async fn load(settings: &Settings, secrets: &Secrets, store: &Store) -> anyhow::Result<Ring> {
    let vault = Vault::new(secrets)?;
    second_factor::reseal(store, &vault).await?;
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
            let stored = stored_keys(&vault, store).await?;
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
) -> Ring {
    let keys = Arc::new(keys);
    let verifier = |audience| Verifier::new(&settings.public_url, audience, Arc::clone(&keys));
    let tag = URL_SAFE_NO_PAD.encode(digest(&SHA256, jwks.as_bytes()));
    Ring {
        signer,
        verifier: verifier(REALTIME_AUDIENCE),
        api_verifier: verifier(API_AUDIENCE),
        vault,
        etag: format!("\"{tag}\""),
        jwks,
        stored,
    }
}

/// The keys in the database, made when there are none, and encrypted anew when another secret is
/// the first by now.
async fn stored_keys(vault: &Vault, store: &Store) -> anyhow::Result<Vec<SigningKey>> {
    let mut stored = store.list_signing_keys().await?;
    if stored.is_empty() {
        let now = seconds_since_epoch(SystemTime::now())?;
        let (active, pending) = (new_key(vault)?, new_key(vault)?);
        store.insert_first_keys(&active, &pending, now).await?;
        stored = store.list_signing_keys().await?;
    }
    for key in stored
        .iter_mut()
        .filter(|key| vault.is_outdated(&key.sealed))
    {
        let private = vault
            .open(Purpose::SigningKey, &key.id, &key.sealed)
            .context("cannot decrypt a key in the database")?;
        let sealed = vault.seal(Purpose::SigningKey, &key.id, &private)?;
        store
            .reseal_signing_key(&key.id, &key.sealed, &sealed)
            .await?;
        key.sealed = sealed;
    }
    Ok(stored)
}

/// A key of the curve P-256, encrypted, with its public half as a JWK.
fn new_key(vault: &Vault) -> anyhow::Result<NewSigningKey> {
    let random = SystemRandom::new();
    let private = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random)
        .ok()
        .context("cannot make a key")?;
    let private = Zeroizing::new(private.as_ref().to_vec());
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &private)
        .ok()
        .context("cannot read a key that was made")?;
    let point: aws_lc_rs::encoding::EcPublicKeyUncompressedBin = pair
        .public_key()
        .as_be_bytes()
        .ok()
        .context("a key without a public half")?;
    // 0x04, and then the two coordinates (SEC 1, section 2.3.3).
    let (x, y) = point.as_ref()[1..].split_at(32);
    let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
    // The members in the order of RFC 7638, section 3.2.
    let thumbprint = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
    let id = URL_SAFE_NO_PAD.encode(digest(&SHA256, thumbprint.as_bytes()));
    let public_key = json!({
        "kty": "EC", "crv": "P-256", "x": x, "y": y, "use": "sig", "alg": "ES256", "kid": id,
    });
    Ok(NewSigningKey {
        sealed: vault.seal(Purpose::SigningKey, &id, &private)?,
        public_key: public_key.to_string(),
        id,
    })
}

/// How long the pending key has yet to be published before it may sign, in seconds.
fn waiting_secs(settings: &Settings, stored: &[SigningKey], now: i64) -> i64 {
    let pending = stored.iter().find(|key| key.state == "pending");
    let ready = pending.map_or(now, |key| key.since + settings.keys.pending_secs());
    ready.saturating_sub(now).max(0)
}

async fn rotate(
    store: &Store,
    vault: &Vault,
    stored: &[SigningKey],
    is_emergency: bool,
    now: i64,
) -> anyhow::Result<bool> {
    let active = stored.iter().find(|key| key.state == "active");
    let active = active.context("no key in the database signs")?;
    let next = new_key(vault)?;
    let rotated = store.rotate_signing_key(&active.id, &next, is_emergency, now);
    Ok(rotated.await?)
}

/// Why the keys were not rotated.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    /// There are none.
    #[error("keys.mode is shared: change the secrets and send SIGHUP to both services")]
    Shared,
    /// Others may not know the next key yet.
    #[error("the next key has yet to be published for {0} s; --emergency does not wait for it")]
    TooEarly(i64),
    /// Somebody else has rotated them at the same time.
    #[error("the keys were rotated by another process at the same time")]
    Conflict,
    /// The database or the secrets.
    #[error("{0:#}")]
    Other(#[from] anyhow::Error),
}

/// Rotates the keys in the database; a running service takes them over within a second.
///
/// In an emergency the key that signs is thrown away at once, and so is every token that it signed:
/// those who are connected stay, and everybody else has to refresh.
///
/// # Errors
///
/// When there are no keys, or the next one was not published for long enough.
pub async fn rotate_now(
    settings: &Settings,
    secrets: &Secrets,
    is_emergency: bool,
) -> Result<(), RotationError> {
    if settings.keys.mode == KeyMode::Shared {
        return Err(RotationError::Shared);
    }
    let store = open_store(settings).await?;
    let rotated = async {
        let vault = Vault::new(secrets)?;
        let now = seconds_since_epoch(SystemTime::now())?;
        let stored = stored_keys(&vault, &store).await?;
        let waiting = waiting_secs(settings, &stored, now);
        if waiting > 0 && !is_emergency {
            return Err(RotationError::TooEarly(waiting));
        }
        match rotate(&store, &vault, &stored, is_emergency, now).await? {
            true => Ok(()),
            false => Err(RotationError::Conflict),
        }
    };
    let rotated = rotated.await;
    store.close().await;
    rotated
}

/// The keys in the database: id, state, and since when, in seconds since the epoch.
///
/// # Errors
///
/// When the database does not answer.
pub async fn list_keys(settings: &Settings) -> anyhow::Result<Vec<(String, String, i64)>> {
    let store = open_store(settings).await?;
    let stored = store.list_signing_keys().await;
    store.close().await;
    let keys = stored?.into_iter();
    Ok(keys.map(|key| (key.id, key.state, key.since)).collect())
}
