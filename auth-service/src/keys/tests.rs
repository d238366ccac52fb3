//! Keys of two issuers, and of one, while their secrets are replaced.

use shared_claims::{claims::Profile, secret::SECRET_VARIABLE};

use super::*;
use crate::{
    config::KeySettings,
    credentials::hash::StoredHash,
    store::{NewAccount, tests::OwnStore},
};

const OLD: &str = "mZq3vX8pL1rT6wYc9sHd2kFg5jBn7uEa";
const NEW: &str = "Qe7Rt2Yu9Io4Pa1Sd6Fg3Hj8Kl5Zx0Cv";

const OLD_FIRST: [&str; 2] = [OLD, NEW];
const NEW_FIRST: [&str; 2] = [NEW, OLD];

crate::store::tests::on_both!(
    maintenance_leaves_rows_that_another_issuer_has_re_encrypted,
    maintenance_does_not_undo_a_replacement_beside_it,
    a_table_without_an_active_or_a_pending_key_is_repaired,
    an_unconfirmed_second_factor_that_cannot_be_decrypted_is_removed,
    a_confirmed_second_factor_that_cannot_be_decrypted_is_kept_with_its_secret,
);

fn secrets(list: &[&str]) -> Secrets {
    Secrets::parse(SECRET_VARIABLE, &list.join(","), ',').expect("secrets")
}

fn vault(list: &[&str]) -> Vault {
    Vault::new(&secrets(list)).expect("a vault")
}

async fn try_open(own: &OwnStore, list: &[&str]) -> anyhow::Result<Keys> {
    let settings = Settings {
        keys: KeySettings {
            mode: KeyMode::Asymmetric,
            ..KeySettings::default()
        },
        ..Settings::default()
    };
    Keys::open(&settings, secrets(list), own).await
}

async fn open(own: &OwnStore, list: &[&str]) -> Keys {
    try_open(own, list).await.expect("keys")
}

async fn replace(keys: &Keys, list: &[&str]) {
    let replaced = keys.replace_secrets(secrets(list)).await;
    replaced.expect("secrets that can be used");
}

async fn tend(keys: &Keys) {
    keys.tend(SystemTime::now()).await.expect("maintenance");
}

/// Whether the ring encrypts under this secret.
fn encrypts_under(keys: &Keys, secret: &str) -> bool {
    let sealed = keys.ring().vault.seal(Purpose::SecondFactor, "", b"");
    !vault(&[secret]).is_outdated(&sealed.expect("sealed"))
}

/// Stores a second factor of a new account, not confirmed yet, encrypted under the secret.
async fn enrol(own: &OwnStore, user_id: &str, secret: &str) -> Vec<u8> {
    let account = NewAccount {
        id: user_id.to_owned(),
        username: user_id.to_owned(),
        skeleton: user_id.to_owned(),
        password_hash: StoredHash::from("a hash"),
        profile: Profile::default(),
        email: None,
        created_at: 1_000,
    };
    own.insert_account(&account).await.expect("a write");
    let sealed = vault(&[secret]).seal(Purpose::SecondFactor, user_id, b"seed");
    let sealed = sealed.expect("sealed");
    let put = own.put_totp_secret(user_id, &sealed, 1_000).await;
    assert!(put.expect("a write"));
    sealed
}

/// Everything that is encrypted in the database.
async fn encrypted_rows(own: &OwnStore) -> Vec<Vec<u8>> {
    let keys = own.list_signing_keys().await.expect("keys");
    let factors = own.list_totp_secrets().await.expect("second factors");
    let keys = keys.into_iter().map(|key| key.sealed);
    keys.chain(factors.into_iter().map(|(_, secret)| secret.sealed))
        .collect()
}

async fn maintenance_leaves_rows_that_another_issuer_has_re_encrypted(own: OwnStore) {
    enrol(&own, "alice", OLD).await;
    let (first, second) = (open(&own, &OLD_FIRST).await, open(&own, &OLD_FIRST).await);
    replace(&first, &NEW_FIRST).await;
    let rows = encrypted_rows(&own).await;
    let new = vault(&[NEW]);
    assert_eq!(rows.len(), 3);
    assert!(rows.iter().all(|sealed| !new.is_outdated(sealed)));
    for _ in 0..2 {
        for keys in [&second, &first] {
            tend(keys).await;
            assert!(encrypted_rows(&own).await == rows, "rows were written");
        }
    }
    replace(&second, &NEW_FIRST).await;
    assert!(encrypted_rows(&own).await == rows, "rows were written");
}

/// In each round another process has rotated the keys, so that maintenance makes a ring as well.
async fn maintenance_does_not_undo_a_replacement_beside_it(own: OwnStore) {
    let keys = open(&own, &OLD_FIRST).await;
    for round in 0..60 {
        let list = [NEW_FIRST, OLD_FIRST][round % 2];
        let stored = own.list_signing_keys().await.expect("keys");
        let now = seconds_since_epoch(SystemTime::now()).expect("a time");
        let rotated = rotate(&own, &keys.ring().vault, &stored, true, now).await;
        assert!(rotated.expect("a write"));
        let later = async {
            for _ in 0..round % 7 {
                tokio::task::yield_now().await;
            }
            replace(&keys, &list).await;
        };
        tokio::join!(later, tend(&keys));
        assert!(encrypts_under(&keys, list[0]), "round {round}");
    }
}

/// The pending key is published, so that verifiers know it already.
async fn a_table_without_an_active_or_a_pending_key_is_repaired(own: OwnStore) {
    let keys = open(&own, &[OLD]).await;
    let pending = |stored: &[SigningKey]| {
        let mut pending = stored.iter().filter(|key| key.state == "pending");
        pending.next().expect("a pending key").id.clone()
    };
    let states = |stored: &[SigningKey]| {
        let states = stored.iter().map(|key| key.state.clone());
        states.collect::<Vec<_>>().join(" ")
    };
    for (damage, expected) in [
        (
            "update signing_keys set state = 'retiring' where state = 'active'",
            "active pending retiring",
        ),
        (
            "delete from signing_keys where state = 'active'",
            "active pending retiring",
        ),
    ] {
        let next = pending(&own.list_signing_keys().await.expect("keys"));
        own.try_execute(damage).await.expect("damaged");
        tend(&keys).await;
        let stored = own.list_signing_keys().await.expect("keys");
        assert_eq!(states(&stored), expected);
        assert_eq!(stored[0].id, next);
    }
    own.try_execute("delete from signing_keys where state = 'pending'")
        .await
        .expect("damaged");
    tend(&keys).await;
    let stored = own.list_signing_keys().await.expect("keys");
    assert_eq!(states(&stored), "active pending retiring");
    own.try_execute("delete from signing_keys where state <> 'retiring'")
        .await
        .expect("damaged");
    open(&own, &[OLD]).await;
    let stored = own.list_signing_keys().await.expect("keys");
    assert_eq!(states(&stored), "active pending retiring");
}

async fn an_unconfirmed_second_factor_that_cannot_be_decrypted_is_removed(own: OwnStore) {
    let keys = open(&own, &[OLD]).await;
    enrol(&own, "alice", OLD).await;
    open(&own, &[OLD]).await;
    replace(&keys, &NEW_FIRST).await;
    // As another issuer writes a row that has not read the secrets again.
    enrol(&own, "bob", OLD).await;
    replace(&keys, &[NEW]).await;
    assert!(encrypts_under(&keys, NEW));
    let users = || async { own.list_totp_secrets().await.expect("second factors") };
    assert_eq!(users().await.len(), 1);
    enrol(&own, "carol", OLD).await;
    open(&own, &[NEW]).await;
    assert_eq!(users().await[0].0, "alice");
    assert_eq!(users().await.len(), 1);
}

async fn a_confirmed_second_factor_that_cannot_be_decrypted_is_kept_with_its_secret(own: OwnStore) {
    let keys = open(&own, &[OLD]).await;
    let sealed = enrol(&own, "alice", OLD).await;
    let confirmed = own.confirm_totp("alice", (&sealed, 1), &[], 1_000).await;
    assert!(confirmed.expect("a write"));
    let rows = encrypted_rows(&own).await;
    let failed = try_open(&own, &[NEW]).await.map(|_| ());
    assert!(format!("{failed:?}").contains("cannot decrypt a second factor"));
    let failed = keys.replace_secrets(secrets(&[NEW])).await;
    assert!(format!("{failed:?}").contains("cannot decrypt a second factor"));
    assert!(encrypts_under(&keys, OLD));
    assert!(encrypted_rows(&own).await == rows, "rows were written");
    // The way out: the old secret comes back as the second, and is removed again.
    replace(&keys, &NEW_FIRST).await;
    replace(&keys, &[NEW]).await;
    open(&own, &[NEW]).await;
}

/// A trigger keeps rows from being encrypted anew.
#[tokio::test]
async fn the_new_secret_is_in_use_before_all_rows_are_re_encrypted() {
    let own = OwnStore::sqlite().await;
    let keys = open(&own, &[OLD]).await;
    enrol(&own, "alice", OLD).await;
    let trigger = "create trigger refuse before update on totp_secrets \
                   begin select raise(abort, 'refused'); end";
    own.try_execute(trigger).await.expect("a trigger");
    replace(&keys, &NEW_FIRST).await;
    assert!(encrypts_under(&keys, NEW));
    let new = vault(&[NEW]);
    let is_outdated = || async {
        let factors = own.list_totp_secrets().await.expect("second factors");
        new.is_outdated(&factors[0].1.sealed)
    };
    assert!(keys.tend(SystemTime::now()).await.is_err());
    assert!(is_outdated().await);
    own.try_execute("drop trigger refuse")
        .await
        .expect("no trigger");
    tend(&keys).await;
    assert!(!is_outdated().await);
}
