//! Events in the outbox.

use super::{OwnStore, conformance::account};
use crate::store::{Destination, EndReason, Ending, Message, Store};

super::on_both!(
    an_event_waits_for_the_earlier_ones_of_its_user_and_of_nobody_else,
    too_many_events_lose_the_oldest,
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
    let due = store.due_messages(Destination::Events, true, now, 10).await;
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
    // It is claimed, or has failed: the later one of the same user waits.
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
