//! The key pairs in the database: made, encrypted anew, replaced, rotated.

use std::time::SystemTime;

use anyhow::{Context as _, bail};
use aws_lc_rs::{
    digest::{SHA256, digest},
    encoding::AsBigEndian as _,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::json;
use shared_claims::secret::Secrets;
use zeroize::Zeroizing;

use crate::{
    clock::seconds_since_epoch,
    config::{KeyMode, Settings},
    store::{NewSigningKey, SigningKey, Store, open_for_command},
    vault::{Purpose, Vault},
};

/// Treatment of keys that none of the secrets decrypts, and that sign now or will sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// Fail, and change nothing.
    Refuse,
    /// Let new keys take their place. The one that signed verifies until its tokens have ended.
    Replace,
}

/// Whether one of the secrets decrypts the private key.
pub(super) fn is_readable(vault: &Vault, key: &SigningKey) -> bool {
    vault
        .open(Purpose::SigningKey, &key.id, &key.sealed)
        .is_ok()
}

/// Returns the keys in the database, made when there are none. The keys that sign now or will sign are
/// readable.
///
/// # Errors
///
/// When the database fails, or a key is unreadable and `unreadable` says to refuse it.
pub(super) async fn open_keys(
    vault: &Vault,
    store: &Store,
    unreadable: Unreadable,
) -> anyhow::Result<Vec<SigningKey>> {
    let stored = ensure_keys(vault, store).await?;
    let is_lost = |key: &SigningKey| key.state != "retiring" && !is_readable(vault, key);
    if !stored.iter().any(is_lost) {
        return Ok(stored);
    }
    if unreadable == Unreadable::Refuse {
        bail!(
            "cannot decrypt a key in the database: the secret that encrypted it is not in the list"
        );
    }
    let stored = replace_pending(vault, store, stored).await?;
    let is_lost = |key: &&SigningKey| key.state == "active" && !is_readable(vault, key);
    if let Some(active) = stored.iter().find(is_lost) {
        let now = seconds_since_epoch(SystemTime::now())?;
        if rotate(store, vault, &stored, false, now).await? {
            tracing::warn!(
                key = active.id,
                "the key that signed cannot be decrypted by any of the secrets: another key signs \
                 from now on, and this one verifies until its tokens have ended"
            );
        }
    }
    Ok(store.list_signing_keys().await?)
}

/// Returns the keys in the database for a rotation that throws the active one away: the pending one,
/// which takes its place, is readable.
async fn rotatable_keys(vault: &Vault, store: &Store) -> anyhow::Result<Vec<SigningKey>> {
    let stored = ensure_keys(vault, store).await?;
    replace_pending(vault, store, stored).await
}

/// Returns the keys in the database, of which one is active and one is pending. Without an active key, the
/// pending key becomes the active one. Keys that are still missing are made.
async fn ensure_keys(vault: &Vault, store: &Store) -> anyhow::Result<Vec<SigningKey>> {
    let stored = store.list_signing_keys().await?;
    let has = |state| stored.iter().any(|key| key.state == state);
    if has("active") && has("pending") {
        return Ok(stored);
    }
    let now = seconds_since_epoch(SystemTime::now())?;
    let (active, pending) = (new_key(vault)?, new_key(vault)?);
    store.insert_missing_keys(&active, &pending, now).await?;
    if !stored.is_empty() {
        tracing::warn!("the database had no active or no pending key: the missing key was made");
    }
    Ok(store.list_signing_keys().await?)
}

/// Puts a new pending key in place of one that is unreadable: nothing was signed with it.
async fn replace_pending(
    vault: &Vault,
    store: &Store,
    stored: Vec<SigningKey>,
) -> anyhow::Result<Vec<SigningKey>> {
    let is_lost = |key: &&SigningKey| key.state == "pending" && !is_readable(vault, key);
    let Some(pending) = stored.iter().find(is_lost) else {
        return Ok(stored);
    };
    let now = seconds_since_epoch(SystemTime::now())?;
    store
        .replace_pending_key(&pending.id, &new_key(vault)?, now)
        .await?;
    tracing::warn!(
        key = pending.id,
        "the next key cannot be decrypted by any of the secrets: another one is in its place"
    );
    Ok(store.list_signing_keys().await?)
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

/// Returns the time for which the pending key has yet to be published before it may sign, in seconds.
pub(super) fn waiting_secs(settings: &Settings, stored: &[SigningKey], now: i64) -> i64 {
    let pending = stored.iter().find(|key| key.state == "pending");
    let ready = pending.map_or(now, |key| key.since + settings.keys.pending_secs());
    ready.saturating_sub(now).max(0)
}

pub(super) async fn rotate(
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

/// Reason for which the keys were not rotated.
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
/// those who are connected stay, and everybody else has to refresh. An emergency rotation needs
/// nothing that was encrypted before.
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
    let store = open_for_command(settings).await?;
    let rotated = async {
        let vault = Vault::new(secrets)?;
        let now = seconds_since_epoch(SystemTime::now())?;
        let stored = match is_emergency {
            true => rotatable_keys(&vault, &store).await?,
            false => open_keys(&vault, &store, Unreadable::Refuse).await?,
        };
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
    let store = open_for_command(settings).await?;
    let stored = store.list_signing_keys().await;
    store.close().await;
    let keys = stored?.into_iter();
    Ok(keys.map(|key| (key.id, key.state, key.since)).collect())
}
