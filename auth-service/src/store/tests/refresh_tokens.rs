//! Refresh tokens: one branch lives, a lost answer is made good, and a copy is found out.

use tokio::task::JoinSet;

use super::{
    OwnStore,
    sessions::{
        IDLE_SECS, NOW, is_live, is_rotated, late_reuse, reuse, rotate, rotate_again, start,
    },
};
use crate::{
    store::{Ending, Refreshed, Rotation, Store},
    vault::Hash,
};

super::on_both!(
    of_50_uses_at_once_200_times_over_one_branch_lives,
    a_retry_gets_the_successor_and_a_reuse_ends_the_session,
    a_token_is_worth_nothing_to_another_client,
    a_lost_answer_is_replaced_later_and_the_session_goes_on,
    a_copied_token_is_found_out_when_its_owner_goes_on,
    a_lost_answer_is_replaced_although_its_secret_is_gone,
    a_copy_is_found_out_although_its_secret_is_gone,
);

async fn of_50_uses_at_once_200_times_over_one_branch_lives(own: OwnStore) {
    let mut current = Hash::of("first");
    start(&own, "alice", &current).await;
    for round in 0..200 {
        let successor = Hash::of(&format!("successor {round}"));
        let mut using = JoinSet::new();
        for _ in 0..50 {
            let store = Store::clone(&own);
            using.spawn(async move { rotate(&store, &current, successor, reuse()).await });
        }
        for outcome in using.join_all().await {
            assert!(matches!(outcome, Refreshed::Rotated { successor: 0, .. }));
        }
        assert_eq!(own.count_unused_refresh_tokens().await, 1, "round {round}");
        current = successor;
    }
}

async fn a_retry_gets_the_successor_and_a_reuse_ends_the_session(own: OwnStore) {
    let [first, second, third, fourth] = ["first", "second", "third", "fourth"].map(Hash::of);
    let id = start(&own, "alice", &first).await;
    assert!(is_rotated(&rotate(&own, &first, second, reuse()).await));
    let at = |now| Ending { now, ..reuse() };
    assert!(is_rotated(
        &rotate(&own, &first, second, at(NOW + 10)).await
    ));
    // A clock that is put back makes no retry a reuse.
    assert!(is_rotated(
        &rotate(&own, &first, second, at(NOW - 3_600)).await
    ));
    // Nor does an absence that was too long, before the answer arrived or after it.
    for (presented, successor) in [(second, third), (first, second)] {
        let expired = rotate(&own, &presented, successor, at(NOW + IDLE_SECS)).await;
        assert!(matches!(expired, Refreshed::Refused), "{expired:?}");
        assert!(is_live(&own, &id).await);
    }

    assert!(is_rotated(&rotate(&own, &second, third, reuse()).await));
    let reused = rotate(&own, &first, second, reuse()).await;
    assert!(matches!(reused, Refreshed::Reused(session) if session.id == id));
    assert!(!is_live(&own, &id).await);
    let refused = rotate(&own, &third, fourth, reuse()).await;
    assert!(matches!(refused, Refreshed::Refused));
}

/// Another client has no use for a token, and does not end the session either.
async fn a_token_is_worth_nothing_to_another_client(own: OwnStore) {
    let [first, second] = ["first", "second"].map(Hash::of);
    let id = start(&own, "alice", &first).await;
    let generation = |client: &'static str| own.find_successor_generation(&first, client, NOW);
    assert_eq!(generation("other").await.expect("an answer"), None);
    assert_eq!(generation("client").await.expect("an answer"), Some(0));
    let rotation = |client_id| Rotation {
        presented: &first,
        client_id,
        generation: 0,
        successors: std::slice::from_ref(&second),
        replacement: &second,
        idle_secs: IDLE_SECS,
        retry_secs: 10,
        address: "",
    };
    let other = own.rotate_refresh_token(rotation("other"), reuse());
    assert!(matches!(
        other.await.expect("an answer"),
        Refreshed::Refused
    ));
    assert!(is_live(&own, &id).await);
    let rotated = own.rotate_refresh_token(rotation("client"), reuse());
    assert!(is_rotated(&rotated.await.expect("an answer")));
}

/// An application that was suspended in the middle of a refresh presents the old token long after.
async fn a_lost_answer_is_replaced_later_and_the_session_goes_on(own: OwnStore) {
    let [first, second, third, fourth] = ["first", "second", "third", "fourth"].map(Hash::of);
    let id = start(&own, "alice", &first).await;
    assert!(is_rotated(&rotate(&own, &first, second, reuse()).await));
    let again = |generation, successor, replacement, ending| {
        let successors = (successor, replacement);
        let own = &own;
        async move {
            let rotated = rotate_again(own, (&first, generation), successors, ending);
            rotated.await.expect("an answer")
        }
    };
    let reissued = again(0, second, third, late_reuse()).await;
    assert!(matches!(reissued, Refreshed::Reissued(session) if session.id == id));
    let generation = own.find_successor_generation(&first, "client", NOW);
    assert_eq!(generation.await.expect("an answer"), Some(1));
    // A request that looked the generation up before that looks it up again.
    let outdated = again(0, second, third, late_reuse()).await;
    assert!(matches!(outdated, Refreshed::Outdated));
    // Within the retry window of the replacement, the replacement is what is given again.
    assert!(is_rotated(&again(1, third, fourth, late_reuse()).await));
    assert_eq!(own.count_unused_refresh_tokens().await, 1);
    assert!(is_rotated(
        &rotate(&own, &third, fourth, late_reuse()).await
    ));
    assert!(is_live(&own, &id).await);
}

/// The thief presents the token that its owner has exchanged already, before the owner goes on.
async fn a_copied_token_is_found_out_when_its_owner_goes_on(own: OwnStore) {
    let [first, second, third] = ["first", "second", "third"].map(Hash::of);
    let id = start(&own, "alice", &first).await;
    assert!(is_rotated(&rotate(&own, &first, second, reuse()).await));
    let successors = (second, third);
    let thief = rotate_again(&own, (&first, 0), successors, late_reuse()).await;
    assert!(matches!(thief.expect("an answer"), Refreshed::Reissued(_)));
    assert!(is_live(&own, &id).await);
    let owner = rotate(&own, &second, Hash::of("fourth"), late_reuse()).await;
    assert!(matches!(owner, Refreshed::Reused(_)));
    assert!(!is_live(&own, &id).await);
    let thief = rotate(&own, &third, Hash::of("fifth"), late_reuse()).await;
    assert!(matches!(thief, Refreshed::Refused));
}

/// The successor was derived from a secret that has been removed since, so that none of the hashes that a
/// later request derives is in the table.
async fn a_lost_answer_is_replaced_although_its_secret_is_gone(own: OwnStore) {
    let [first, second, third, unknown] = ["first", "second", "third", "unknown"].map(Hash::of);
    let id = start(&own, "alice", &first).await;
    assert!(is_rotated(&rotate(&own, &first, second, reuse()).await));
    // A second later as well as long after.
    let soon = Ending {
        now: NOW + 1,
        ..reuse()
    };
    let reissued = rotate_again(&own, (&first, 0), (unknown, third), soon).await;
    let reissued = reissued.expect("an answer");
    assert!(
        matches!(&reissued, Refreshed::Reissued(session) if session.id == id),
        "{reissued:?}"
    );
    assert_eq!(own.count_unused_refresh_tokens().await, 1);
    let expired = Ending {
        now: NOW + 1 + IDLE_SECS,
        ..reuse()
    };
    let refused = rotate_again(&own, (&first, 1), (unknown, unknown), expired).await;
    assert!(matches!(refused.expect("an answer"), Refreshed::Refused));
    assert!(is_live(&own, &id).await);

    // The application goes on with the replacement, and a copy of the successor is found out.
    let fourth = Hash::of("fourth");
    assert!(is_rotated(
        &rotate(&own, &third, fourth, late_reuse()).await
    ));
    let copy = rotate_again(&own, (&second, 0), (unknown, unknown), late_reuse()).await;
    assert!(matches!(copy.expect("an answer"), Refreshed::Reused(_)));
    assert!(!is_live(&own, &id).await);
}

async fn a_copy_is_found_out_although_its_secret_is_gone(own: OwnStore) {
    for (user, at) in [("alice", NOW), ("bob", NOW + 1)] {
        let token = |name: &str| Hash::of(&format!("{user} {name}"));
        let [first, second, third, unknown] = ["first", "second", "third", "unknown"].map(token);
        let id = start(&own, user, &first).await;
        assert!(is_rotated(&rotate(&own, &first, second, reuse()).await));
        let at = Ending { now: at, ..reuse() };
        assert!(is_rotated(&rotate(&own, &second, third, at).await));
        let copy = rotate_again(&own, (&first, 0), (unknown, unknown), late_reuse()).await;
        assert!(matches!(copy.expect("an answer"), Refreshed::Reused(_)));
        assert!(!is_live(&own, &id).await);
    }

    // The copy comes first, and its owner presents the successor that was replaced.
    let token = |name: &str| Hash::of(&format!("carol {name}"));
    let [first, second, third, unknown] = ["first", "second", "third", "unknown"].map(token);
    let id = start(&own, "carol", &first).await;
    assert!(is_rotated(&rotate(&own, &first, second, reuse()).await));
    let copy = rotate_again(&own, (&first, 0), (unknown, third), late_reuse()).await;
    assert!(matches!(copy.expect("an answer"), Refreshed::Reissued(_)));
    let owner = rotate_again(&own, (&second, 0), (unknown, unknown), late_reuse()).await;
    assert!(matches!(owner.expect("an answer"), Refreshed::Reused(_)));
    assert!(!is_live(&own, &id).await);
}
