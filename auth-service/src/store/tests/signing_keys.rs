//! The table of the keys that sign: one key is active, whatever happens at the same time.

use std::time::Duration;

use super::{OwnStore, sessions::NOW};
use crate::store::{NewSigningKey, Store, signing_keys::replace_pending};

super::on_both!(
    a_rotation_without_a_pending_key_changes_nothing,
    a_rotation_beside_a_replacement_of_the_pending_key_leaves_an_active_key,
);

fn key(id: &str) -> NewSigningKey {
    NewSigningKey {
        id: id.to_owned(),
        sealed: b"sealed".to_vec(),
        public_key: "{}".to_owned(),
    }
}

async fn states(own: &OwnStore) -> Vec<(String, String)> {
    let stored = own.list_signing_keys().await.expect("keys");
    stored.into_iter().map(|key| (key.id, key.state)).collect()
}

fn state(id: &str, state: &str) -> (String, String) {
    (id.to_owned(), state.to_owned())
}

async fn start(own: &OwnStore) {
    let (active, pending) = (key("first"), key("second"));
    let inserted = own.insert_missing_keys(&active, &pending, NOW);
    inserted.await.expect("a write");
}

async fn a_rotation_without_a_pending_key_changes_nothing(own: OwnStore) {
    start(&own).await;
    own.try_execute("delete from signing_keys where state = 'pending'")
        .await
        .expect("a write");
    for is_emergency in [false, true] {
        let next = key("third");
        let rotated = own.rotate_signing_key("first", &next, is_emergency, NOW);
        assert!(!rotated.await.expect("a write"));
        assert_eq!(states(&own).await, [state("first", "active")]);
    }
}

/// The replacement has written the next key, and commits while the rotation waits for its rows.
async fn a_rotation_beside_a_replacement_of_the_pending_key_leaves_an_active_key(own: OwnStore) {
    start(&own).await;
    let mut replacement = own.begin().await.expect("a transaction");
    replace_pending(&mut replacement, "second", &key("third"), NOW)
        .await
        .expect("a write");
    let store = Store::clone(&own);
    let rotation = tokio::spawn(async move {
        let next = key("fourth");
        store.rotate_signing_key("first", &next, false, NOW).await
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    replacement.commit().await.expect("a commit");
    rotation.await.expect("no panic").expect("a write");
    let states = states(&own).await;
    let active = states.iter().filter(|(_, state)| state == "active");
    assert_eq!(active.count(), 1, "{states:?}");
    let pending = states.iter().filter(|(_, state)| state == "pending");
    assert_eq!(pending.count(), 1, "{states:?}");
}
