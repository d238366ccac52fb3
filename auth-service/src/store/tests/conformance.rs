//! What both databases must do alike.

use super::OwnStore;
use crate::{store::NewAccount, users::hash::StoredHash};

super::on_both!(a_name_and_its_look_are_given_once);

pub(super) fn account(id: &str, username: &str, skeleton: &str) -> NewAccount {
    NewAccount {
        id: id.to_owned(),
        username: username.to_owned(),
        skeleton: skeleton.to_owned(),
        password_hash: StoredHash::from("a hash"),
        profile: shared_claims::claims::Profile::default(),
        created_at: 1_000,
    }
}

async fn a_name_and_its_look_are_given_once(store: OwnStore) {
    let alice = account("id-1", "alice", "alice");
    assert!(store.insert_account(&alice).await.expect("a write"));
    for (id, name, skeleton, is_free) in [
        ("id-2", "alice", "other", false),
        ("id-3", "al1ce", "alice", false),
        ("id-4", "bob", "bob", true),
    ] {
        let written = store.insert_account(&account(id, name, skeleton)).await;
        assert_eq!(written.expect("a write"), is_free, "{name}");
    }
    let found = store.find_account_by_name("alice").await.expect("a read");
    assert_eq!(found.expect("alice").account.id, "id-1");
}
