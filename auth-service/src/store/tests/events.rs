//! Events in the outbox.

use serde_json::json;

use super::{OwnStore, conformance::account};
use crate::{
    credentials::email::Email,
    store::{
        Deleted,
        DeliveryOrder::OneOfEachUser,
        Destination, EndReason, Ending, Message, NewLink, Store,
        event::{Event, EventKind},
    },
    vault::Hash,
};

super::on_both!(
    an_event_waits_for_the_earlier_ones_of_its_user_and_of_nobody_else,
    too_many_events_lose_the_oldest,
    nothing_that_waits_names_a_person_who_was_deleted,
);

/// The time of the accounts that are added.
const NOW: i64 = 1_000;

async fn add(store: &Store, name: &str) {
    let added = store.insert_account(&account(name, name, name)).await;
    added.expect("a write");
}

async fn disable(store: &Store, name: &str) {
    let ending = Ending {
        reason: EndReason::AccountDisabled,
        now: NOW + 1,
        gateways: &[],
        token_lifetime_secs: 900,
    };
    let disabled = store.disable_account(name, ending).await;
    assert!(disabled.expect("a write"));
}

async fn due(store: &Store, now: i64) -> Vec<Message> {
    let due = store
        .due_messages(Destination::Events, OneOfEachUser, now, 600, 10)
        .await;
    due.expect("a list")
}

/// The users and types of events, such as `alice user.created`.
fn names(events: &[Message]) -> Vec<String> {
    let name = |event: &Message| {
        let told: serde_json::Value = serde_json::from_str(&event.payload).expect("JSON");
        let user = event.user_id.as_deref().expect("a user");
        format!("{user} {}", told["type"].as_str().expect("a type"))
    };
    events.iter().map(name).collect()
}

async fn an_event_waits_for_the_earlier_ones_of_its_user_and_of_nobody_else(own: OwnStore) {
    let store = own.telling_events(Some(100));
    // A handle that tells nobody writes none.
    add(&own, "carol").await;
    for name in ["alice", "bob"] {
        add(&store, name).await;
    }
    disable(&store, "alice").await;
    let first = due(&own, NOW + 2).await;
    assert_eq!(names(&first), ["alice user.created", "bob user.created"]);
    // The message is claimed, or has failed: the later one of the same user waits.
    let put_off = own.postpone_message(&first[0], NOW + 50).await;
    put_off.expect("a write");
    assert_eq!(names(&due(&own, NOW + 2).await), ["bob user.created"]);
    let again = due(&own, NOW + 50).await;
    assert_eq!(again.len(), 2);
    let taken = own.finish_message(&first[0], None).await;
    taken.expect("a write");
    let next = names(&due(&own, NOW + 50).await);
    assert_eq!(next, ["bob user.created", "alice user.disabled"]);
    // One that has expired holds nobody up.
    disable(&store, "bob").await;
    let next = names(&due(&own, NOW + 100).await);
    assert_eq!(next, ["alice user.disabled", "bob user.disabled"]);
    assert!(due(&own, NOW + 101).await.is_empty());
}

async fn too_many_events_lose_the_oldest(own: OwnStore) {
    let store = own.telling_events(Some(100));
    for name in ["alice", "bob", "carol", "dave"] {
        add(&store, name).await;
    }
    let remove = async |keep| {
        let removed = own
            .remove_oldest_messages(Destination::Events, keep, 2)
            .await;
        removed.expect("a write")
    };
    assert_eq!(
        (remove(4).await, remove(1).await, remove(1).await),
        (0, 2, 1)
    );
    assert_eq!(names(&due(&own, NOW).await), ["dave user.created"]);
    assert_eq!(own.count_pending().await.expect("numbers").events, 1);
}

async fn nothing_that_waits_names_a_person_who_was_deleted(own: OwnStore) {
    let store = own.telling_events(Some(100));
    for name in ["alice", "bob"] {
        let email = Email::parse(&format!("{name}@example.org")).expect("an address");
        let mut new = account(name, name, name);
        new.email = Some(email.clone());
        new.profile.email_verified = Some(true);
        store.insert_account(&new).await.expect("a write");
        let link = NewLink {
            id: name.to_owned(),
            hash: Hash::of(name),
            email,
            now: NOW,
            expires_at: NOW + 50,
        };
        own.mail_reset(&link).await.expect("a write");
        let mut transaction = store.begin().await.expect("a transaction");
        transaction.record(Event {
            kind: EventKind::LoggedIn,
            at: NOW,
            user_id: Some(name),
            session_id: None,
            detail: json!({"new_device": true, "address": "192.0.2.1", "device": "Firefox"}),
        });
        transaction.commit().await.expect("a write");
    }
    let ending = Ending {
        reason: EndReason::AccountDeleted,
        now: NOW,
        gateways: &[],
        token_lifetime_secs: 900,
    };
    let deleted = store.delete_account("alice", ending, |_| true).await;
    assert_eq!(deleted.expect("a write"), Deleted::Now);
    let count = async |statement| own.count(statement).await;
    let names = "select count(*) from outbox where payload like '%192.0.2.1%' \
                 or payload like '%@example.org%'";
    // Events of bob.
    assert_eq!(count(names).await, 2);
    assert_eq!(
        count("select count(*) from mail_links where user_id = 'alice'").await,
        0
    );
    let told = "select count(*) from outbox where user_id = 'alice' \
                and (payload like '%user.created%' or payload like '%user.deleted%')";
    assert_eq!(count(told).await, 2);
    assert_eq!(
        count("select count(*) from outbox where user_id = 'alice'").await,
        2
    );
}
