//! Encrypts rows anew that were encrypted under another than the first of the secrets.

use anyhow::{Context as _, bail};

use crate::{
    store::{Store, TotpSecret},
    vault::{Purpose, Vault},
};

/// Maximum number of passes over the second factors. A row that changes during a pass needs another one.
const MAXIMUM_PASSES: usize = 10;

/// Encrypts every key anew that an older secret encrypted. A key that no secret decrypts is left as it
/// is.
///
/// # Errors
///
/// When the database or the cryptographic provider fails.
pub(super) async fn reseal_keys(store: &Store, vault: &Vault) -> anyhow::Result<()> {
    for key in store.list_signing_keys().await? {
        if !vault.is_outdated(&key.sealed) {
            continue;
        }
        let Ok(private) = vault.open(Purpose::SigningKey, &key.id, &key.sealed) else {
            continue;
        };
        let sealed = vault.seal(Purpose::SigningKey, &key.id, &private)?;
        store
            .reseal_signing_key(&key.id, &key.sealed, &sealed)
            .await?;
    }
    Ok(())
}

/// Checks that the secrets decrypt every second factor that was confirmed.
///
/// # Errors
///
/// When the database fails, or the secret that encrypted a second factor is not in the list.
pub(super) async fn check_second_factors(store: &Store, vault: &Vault) -> anyhow::Result<()> {
    for (user_id, secret) in outdated(store, vault).await? {
        let opened = vault.open(Purpose::SecondFactor, &user_id, &secret.sealed);
        if secret.confirmed_at.is_some() {
            opened.context(
                "cannot decrypt a second factor in the database: put the secret that encrypted it \
                 into the list again, as the second one",
            )?;
        }
    }
    Ok(())
}

/// Encrypts every second factor anew that an older secret encrypted, until there is none. Deletes those
/// that are not confirmed and that no secret decrypts: their owners enrol again.
///
/// # Errors
///
/// See [`check_second_factors`].
pub(super) async fn reseal_second_factors(store: &Store, vault: &Vault) -> anyhow::Result<()> {
    for _ in 0..MAXIMUM_PASSES {
        check_second_factors(store, vault).await?;
        let outdated = outdated(store, vault).await?;
        if outdated.is_empty() {
            return Ok(());
        }
        for (user_id, secret) in outdated {
            let sealed = &secret.sealed;
            match vault.open(Purpose::SecondFactor, &user_id, sealed) {
                Ok(plain) => {
                    let anew = vault.seal(Purpose::SecondFactor, &user_id, &plain)?;
                    store.reseal_totp_secret(&user_id, sealed, &anew).await?;
                }
                Err(_) => {
                    store
                        .delete_unconfirmed_totp_secret(&user_id, sealed)
                        .await?;
                }
            }
        }
    }
    bail!("other processes keep writing second factors under an older secret")
}

/// Returns the second factors that were encrypted under another than the first secret.
async fn outdated(store: &Store, vault: &Vault) -> anyhow::Result<Vec<(String, TotpSecret)>> {
    let mut secrets = store.list_totp_secrets().await?;
    secrets.retain(|(_, secret)| vault.is_outdated(&secret.sealed));
    Ok(secrets)
}
