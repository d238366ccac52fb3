//! An enrolment while the secrets are replaced.

use shared_claims::{
    claims::Profile,
    secret::{SECRET_VARIABLE, Secrets},
};
use sqlx::{Connection as _, SqliteConnection};

use super::*;
use crate::{config::Config, credentials::hash::StoredHash, store::NewAccount, vault::Vault};

const OLD: &str = "mZq3vX8pL1rT6wYc9sHd2kFg5jBn7uEa";
const NEW: &str = "Qe7Rt2Yu9Io4Pa1Sd6Fg3Hj8Kl5Zx0Cv";

fn secrets(list: &str) -> Secrets {
    Secrets::parse(SECRET_VARIABLE, list, ',').expect("secrets")
}

async fn add_alice(state: &AppState) {
    let account = NewAccount {
        id: "alice".to_owned(),
        username: "alice".to_owned(),
        skeleton: "alice".to_owned(),
        password_hash: StoredHash::from("a hash"),
        profile: Profile::default(),
        email: None,
        created_at: 1_000,
    };
    let added = state.store().insert_account(&account).await;
    added.expect("a write");
}

/// The enrolment has encrypted the row under the old secret, and waits for the database until the
/// replacement has found no row.
#[tokio::test]
async fn a_secret_that_is_written_beside_a_replacement_is_encrypted_under_the_new_secret() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("auth.db");
    for list in [format!("{NEW},{OLD}"), NEW.to_owned()] {
        let _ = std::fs::remove_file(&file);
        let config = Config::for_testing(&file, secrets(OLD));
        let state = AppState::start(config).await.expect("a service");
        add_alice(&state).await;
        let url = format!("sqlite://{}", file.display());
        let mut holder = SqliteConnection::connect(&url).await.expect("a file");
        let begun = sqlx::raw_sql("begin immediate").execute(&mut holder).await;
        begun.expect("the lock");
        let replacement = async {
            let replaced = state.keys().replace_secrets(secrets(&list)).await;
            replaced.expect("secrets that can be used");
            holder.close().await.expect("closed");
        };
        let writing = write_secret(&state, "alice", b"seed", 1_000);
        let (written, ()) = tokio::join!(writing, replacement);
        assert!(written.expect("a write"));
        let found = state.store().find_totp_secret("alice").await;
        let sealed = found.expect("a read").expect("a secret").sealed;
        let vault = Vault::new(&secrets(NEW)).expect("a vault");
        let opened = vault.open(Purpose::SecondFactor, "alice", &sealed);
        assert_eq!(opened.expect("readable").as_slice(), b"seed");
    }
}
