use tempfile::TempDir;

use crate::{
    config::{DatabaseUrl, Settings},
    store::{EndReason, Ending},
};

use super::*;
use crate::credentials::CredentialError;

struct Fixture {
    settings: Settings,
    users: Users,
    _directory: TempDir,
}

async fn fixture() -> Fixture {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("users.db");
    let settings = Settings {
        database_url: DatabaseUrl::sqlite(&path),
        ..Settings::default()
    };
    let store = Store::open(&DatabaseUrl::sqlite(&path))
        .await
        .expect("a store");
    let passwords = PasswordPool::start(&settings.password).expect("a pool");
    Fixture {
        settings,
        users: Users::new(store, passwords),
        _directory: directory,
    }
}

impl Fixture {
    async fn add(&self, username: &str, password: &str) -> Result<String, ChangeError> {
        let user = NewUser::parse(username, password).expect("a user");
        add_user(&self.settings, user).await
    }

    async fn authenticate(
        &self,
        username: &str,
        password: &str,
    ) -> Result<Account, AuthenticationError> {
        let password = Password::parse(password.to_owned()).expect("a password");
        let place = self.users.passwords.enter()?;
        let found = self.users.find(username).await?;
        let found = self
            .users
            .judge(place, found, None, password, async || Ok(false))
            .await?;
        Ok(found.account)
    }
}

fn name(text: &str) -> Username {
    Username::parse(text).expect("a name")
}

#[tokio::test]
async fn every_answer_to_a_login_costs_one_hash() {
    let fixture = fixture().await;
    let id = fixture.add("alice", "open sesame").await.expect("added");
    fixture.add("shut", "open sesame").await.expect("added");
    disable_user(&fixture.settings, &name("shut"))
        .await
        .expect("disabled");
    let cost = |before| fixture.users.passwords.verified() - before;

    let before = fixture.users.passwords.verified();
    let account = fixture.authenticate("Alice", "open sesame").await;
    assert_eq!(account.expect("alice").id, id);
    assert_eq!(cost(before), 1);

    for (username, password) in [
        ("alice", "open barley"),
        ("nobody", "open sesame"),
        ("not a name", "open sesame"),
        ("", "open sesame"),
        ("shut", "open sesame"),
        ("' or 1=1--", "open sesame"),
    ] {
        let before = fixture.users.passwords.verified();
        let refused = fixture.authenticate(username, password).await;
        assert!(refused.is_err(), "{username}");
        assert_eq!(cost(before), 1, "{username}");
    }
}

#[tokio::test]
async fn a_name_is_given_once_however_many_ask_for_it() {
    let fixture = fixture().await;
    let password = "open sesame";
    let added = tokio::join!(
        fixture.add("alice", password),
        fixture.add("ALICE", password),
        fixture.add("Alice", password),
        fixture.add("alice", password),
    );
    let outcomes = [added.0, added.1, added.2, added.3];
    let made = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    assert_eq!(made, 1);
    let taken = |outcome: &&Result<_, _>| matches!(outcome, Err(ChangeError::NameTaken(_)));
    assert_eq!(outcomes.iter().filter(taken).count(), 3);
}

#[tokio::test]
async fn another_password_takes_the_place_of_the_old_one() {
    let fixture = fixture().await;
    fixture.add("alice", "open sesame").await.expect("added");
    let password = Password::parse("open barley".to_owned()).expect("a password");
    set_password(&fixture.settings, &name("alice"), password)
        .await
        .expect("changed");
    assert!(fixture.authenticate("alice", "open barley").await.is_ok());
    assert!(fixture.authenticate("alice", "open sesame").await.is_err());
}

#[tokio::test]
async fn a_password_against_the_policy_is_not_set() {
    let fixture = fixture().await;
    let refused = fixture.add("alice.liddell", "Alice.Liddell").await;
    assert!(matches!(refused, Err(ChangeError::Credential(_))));
    let users = list_users(&fixture.settings).await.expect("a list");
    assert!(users.is_empty());
}

#[tokio::test]
async fn nobody_is_not_changed() {
    let fixture = fixture().await;
    let disabled = disable_user(&fixture.settings, &name("nobody")).await;
    assert!(matches!(disabled, Err(ChangeError::NoSuchUser(_))));
}

#[tokio::test]
async fn passwords_that_differ_after_72_bytes_are_different() {
    let fixture = fixture().await;
    let start = "a long tale of a boat, a rock, and a door that opens at two words only, ";
    assert!(start.len() >= 72);
    fixture
        .add("alice", &format!("{start}b"))
        .await
        .expect("added");
    let right = fixture.authenticate("alice", &format!("{start}b")).await;
    assert!(right.is_ok());
    let wrong = fixture.authenticate("alice", &format!("{start}c")).await;
    assert!(wrong.is_err());
}

#[tokio::test]
async fn a_profile_that_a_token_cannot_carry_is_refused() {
    let fixture = fixture().await;
    let add = async |text: &str| {
        let mut user = NewUser::parse("alice", "open sesame").expect("a user");
        user.profile.family_name = Some(text.to_owned());
        add_user(&fixture.settings, user).await
    };
    for bad in ["", "Alice\nBob", "\u{202E}ecilA", &"a".repeat(256)] {
        let refused = add(bad).await;
        let expected = CredentialError::Profile;
        assert!(
            matches!(refused, Err(ChangeError::Credential(error)) if error == expected),
            "{bad:?}"
        );
    }
    assert!(add("Liddell-Ünï").await.is_ok());
}

#[tokio::test]
async fn an_audit_event_names_its_actor() {
    let fixture = fixture().await;
    let id = fixture.add("alice", "open sesame").await.expect("added");
    let now = 1_000;
    let ending = Ending::new(&fixture.settings, EndReason::PasswordChanged, now);
    let hash = StoredHash::from("a hash");
    let store = fixture.users.store();
    let by_owner = store.set_password_hash("alice", &hash, ending.expect("an ending"));
    assert!(by_owner.await.expect("a write"));
    disable_user(&fixture.settings, &name("alice"))
        .await
        .expect("disabled");
    let events = store.list_events(Some(&id), 10).await.expect("a list");
    let actors: Vec<(String, serde_json::Value)> = events
        .into_iter()
        .map(|event| {
            let detail: serde_json::Value = serde_json::from_str(&event.detail).expect("JSON");
            (event.event, detail["by"].clone())
        })
        .collect();
    let expected = [
        ("account_disabled", "command"),
        ("password_changed", "self"),
        ("account_added", "command"),
    ];
    assert_eq!(
        actors,
        expected.map(|(event, by)| (event.to_owned(), by.into()))
    );
}

#[tokio::test]
async fn a_hash_of_other_parameters_is_renewed_by_a_right_password_alone() {
    let fixture = fixture().await;
    let mut cheap = fixture.settings.clone();
    cheap.password.memory_kib = 8 * 1024;
    let user = NewUser::parse("alice", "open sesame").expect("a user");
    add_user(&cheap, user).await.expect("added");
    let stored = async || {
        let found = fixture.users.find("alice").await.expect("an answer");
        found.expect("alice")
    };
    let is_current =
        |found: &AccountWithHash| fixture.users.passwords.is_current(&found.password_hash);
    let old = stored().await;
    assert!(!is_current(&old));
    let refused = fixture.authenticate("alice", "open barley").await;
    assert!(refused.is_err());
    assert_eq!(
        stored().await.password_hash.as_str(),
        old.password_hash.as_str()
    );
    let account = fixture.authenticate("alice", "open sesame").await;
    account.expect("alice");
    let renewed = stored().await;
    assert!(is_current(&renewed));
    // The password is the same: sessions that were started with it go on.
    assert_eq!(renewed.password_version, old.password_version);
    let account = fixture.authenticate("alice", "open sesame").await;
    account.expect("alice");
    assert_eq!(
        stored().await.password_hash.as_str(),
        renewed.password_hash.as_str()
    );
}
