//! Behaviour that both databases share.

use super::OwnStore;
use crate::{
    credentials::{email::Email, hash::StoredHash},
    store::{Added, NewAccount},
};

super::on_both!(
    a_name_and_its_look_are_given_once,
    an_address_for_mail_is_of_one_account_however_it_is_written,
);

pub(super) fn account(id: &str, username: &str, skeleton: &str) -> NewAccount {
    NewAccount {
        id: id.to_owned(),
        username: username.to_owned(),
        skeleton: skeleton.to_owned(),
        password_hash: StoredHash::from("a hash"),
        profile: shared_claims::claims::Profile::default(),
        email: None,
        created_at: 1_000,
    }
}

async fn a_name_and_its_look_are_given_once(store: OwnStore) {
    let alice = account("id-1", "alice", "alice");
    let added = store.insert_account(&alice).await;
    assert_eq!(added.expect("a write"), Added::Fine);
    for (id, name, skeleton, expected) in [
        ("id-2", "alice", "other", Added::NameTaken),
        ("id-3", "al1ce", "alice", Added::NameTaken),
        ("id-4", "bob", "bob", Added::Fine),
    ] {
        let written = store.insert_account(&account(id, name, skeleton)).await;
        assert_eq!(written.expect("a write"), expected, "{name}");
    }
    let found = store.find_account_by_name("alice").await.expect("a read");
    assert_eq!(found.expect("alice").account.id, "id-1");
}

async fn an_address_for_mail_is_of_one_account_however_it_is_written(store: OwnStore) {
    let with = |name: &str, address: Option<&str>, is_verified| {
        let mut account = account(name, name, name);
        account.email = address.map(|text| Email::parse(text).expect("an address"));
        account.profile.email_verified = is_verified;
        account
    };
    for (name, address, is_verified, expected) in [
        ("alice", Some("Alice@Example.org"), None, Added::Fine),
        (
            "bob",
            Some("alice@EXAMPLE.org"),
            Some(true),
            Added::EmailTaken,
        ),
        ("bob", Some("bob@example.org"), Some(true), Added::Fine),
        ("carol", None, Some(true), Added::Fine),
        ("dave", None, None, Added::Fine),
    ] {
        let added = store
            .insert_account(&with(name, address, is_verified))
            .await;
        assert_eq!(added.expect("a write"), expected, "{name}");
    }
    let profile = async |id| {
        let found = store.find_account_by_id(id).await.expect("a read");
        let profile = found.expect("an account").profile();
        (profile.email, profile.email_verified)
    };
    let told = |email: &str, is_verified| (Some(email.to_owned()), Some(is_verified));
    assert_eq!(profile("alice").await, told("Alice@Example.org", false));
    assert_eq!(profile("bob").await, told("bob@example.org", true));
    assert_eq!(profile("carol").await, (None, None));

    // Accounts from before there was a normal form, one of them with the address of another.
    for statement in [
        "update users set email_normal = null",
        "update users set email = 'BOB@example.org', created_at = created_at + 1 where id = 'carol'",
        "update users set email = 'no address' where id = 'dave'",
    ] {
        store.try_execute(statement).await.expect(statement);
    }
    for _ in 0..2 {
        crate::users::normalize_emails(&store)
            .await
            .expect("a write");
        let left = store.list_emails_without_normal_form().await;
        let left: Vec<String> = left
            .expect("a list")
            .into_iter()
            .map(|(id, _)| id)
            .collect();
        assert_eq!(left, ["dave", "carol"]);
    }
    let erin = with("erin", Some("bob@example.org"), None);
    let added = store.insert_account(&erin).await;
    assert_eq!(added.expect("a write"), Added::EmailTaken);
}
