//! Sessions and their refresh tokens, on both databases.

use serde_json::json;
use tokio::task::JoinSet;

use super::{OwnStore, conformance::account};
use crate::{
    store::{EndReason, Ending, NewSession, Refreshed, Session, Store, Which},
    tokens::random_id,
    users::hash::StoredHash,
    vault::Hash,
};

const NOW: i64 = 1_000_000;
const IDLE_SECS: i64 = 1_000;

super::on_both!(
    changes_of_one_account_at_once_never_deadlock,
    of_50_uses_at_once_200_times_over_one_branch_lives,
    a_retry_gets_the_successor_and_a_reuse_ends_the_session,
    no_session_starts_with_a_password_that_was_changed,
    sessions_end_together_or_alone_and_are_told_once_each,
    the_audit_log_is_a_chain_however_many_write_it,
    what_is_old_is_forgotten_and_nothing_else,
);

fn ending(reason: EndReason, gateways: &[String]) -> Ending<'_> {
    Ending {
        reason,
        now: NOW,
        gateways,
        token_lifetime_secs: 900,
    }
}

fn reuse() -> Ending<'static> {
    ending(EndReason::RefreshTokenReused, &[])
}

/// A session of the account `user_id`, which is made when it is missing.
async fn start(store: &Store, user_id: &str, token: &Hash) -> String {
    let account = account(user_id, user_id, user_id);
    store.insert_account(&account).await.expect("a write");
    let session = Session {
        id: random_id().expect("randomness"),
        user_id: user_id.to_owned(),
        client_id: "client".to_owned(),
        created_at: NOW,
        used_at: NOW,
        expires_at: NOW + 100_000,
        device: "a device".to_owned(),
        address: "::1".to_owned(),
    };
    let new = NewSession {
        session: &session,
        password_hash: &account.password_hash,
        refresh_token: token,
        refresh_expires_at: NOW + IDLE_SECS,
        detail: json!({}),
    };
    assert!(store.insert_session(&new).await.expect("a write"));
    session.id
}

async fn rotate(store: &Store, presented: &Hash, successor: Hash, ending: Ending<'_>) -> Refreshed {
    store
        .rotate_refresh_token(presented, "client", &[successor], IDLE_SECS, ending)
        .await
        .expect("an answer")
}

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

/// Of each kind of change there are several at once, so that every pair of them meets in either
/// order.
async fn changes_of_one_account_at_once_never_deadlock(own: OwnStore) {
    let hash = StoredHash::from("a hash");
    for round in 0..50 {
        let mut changing = JoinSet::new();
        for number in 0..3 {
            let token = |kind: &str| Hash::of(&format!("{kind} {round} {number}"));
            let left = start(&own, "alice", &token("logout")).await;
            start(&own, "alice", &token("refresh")).await;
            start(&own, "alice", &token("reuse")).await;
            rotate(&own, &token("reuse"), token("second"), reuse()).await;
            rotate(&own, &token("second"), token("third"), reuse()).await;

            let (store, hash) = (Store::clone(&own), hash.clone());
            changing.spawn(async move {
                let ending = ending(EndReason::PasswordChanged, &[]);
                let hashes = (&hash, &hash);
                let changed = store.change_password("alice", hashes, Which::All, ending);
                changed.await.map(|_| ())
            });
            let store = Store::clone(&own);
            changing.spawn(async move {
                let ending = ending(EndReason::LoggedOut, &[]);
                let ended = store.end_sessions("alice", Which::One(&left), ending).await;
                ended.map(|_| ())
            });
            let store = Store::clone(&own);
            changing.spawn(async move {
                let ending = ending(EndReason::LoggedOut, &[]);
                let ended = store.end_sessions("alice", Which::All, ending).await;
                ended.map(|_| ())
            });
            for (presented, successor) in [
                (token("refresh"), token("fresh")),
                (token("reuse"), token("second")),
            ] {
                let store = Store::clone(&own);
                changing.spawn(async move {
                    let offered = [successor];
                    let answer = store.rotate_refresh_token(
                        &presented,
                        "client",
                        &offered,
                        IDLE_SECS,
                        reuse(),
                    );
                    answer.await.map(|_| ())
                });
            }
        }
        for outcome in changing.join_all().await {
            outcome.expect("no deadlock");
        }
    }
    assert!(own.check_events().await.expect("an answer").is_ok());
}

async fn a_retry_gets_the_successor_and_a_reuse_ends_the_session(own: OwnStore) {
    let [first, second, third] = ["first", "second", "third"].map(Hash::of);
    let id = start(&own, "alice", &first).await;
    let is_rotated = |outcome| matches!(outcome, Refreshed::Rotated { .. });
    assert!(is_rotated(rotate(&own, &first, second, reuse()).await));
    let at = |now| Ending { now, ..reuse() };
    assert!(is_rotated(rotate(&own, &first, second, at(NOW + 10)).await));
    // Another client has no use for it, and does not end the session either.
    let offered = [third];
    let other = own.rotate_refresh_token(&second, "other", &offered, IDLE_SECS, reuse());
    assert!(matches!(
        other.await.expect("an answer"),
        Refreshed::Refused
    ));
    let expired = rotate(&own, &second, third, at(NOW + IDLE_SECS)).await;
    assert!(matches!(expired, Refreshed::Refused));
    assert!(
        own.is_session_live(&id, "alice", NOW)
            .await
            .expect("an answer")
    );

    let reused = rotate(&own, &first, second, at(NOW + 11)).await;
    assert!(matches!(reused, Refreshed::Reused(session) if session.id == id));
    assert!(
        !own.is_session_live(&id, "alice", NOW)
            .await
            .expect("an answer")
    );
    let refused = rotate(&own, &second, third, reuse()).await;
    assert!(matches!(refused, Refreshed::Refused));
}

async fn no_session_starts_with_a_password_that_was_changed(own: OwnStore) {
    start(&own, "alice", &Hash::of("first")).await;
    let (old, new) = (StoredHash::from("a hash"), StoredHash::from("another hash"));
    let change = || {
        let ending = ending(EndReason::PasswordChanged, &[]);
        own.change_password("alice", (&old, &new), Which::All, ending)
    };
    assert!(change().await.expect("a write"));
    assert!(!change().await.expect("a write"));
    let token = Hash::of("second");
    let session = Session {
        id: "late".to_owned(),
        user_id: "alice".to_owned(),
        client_id: "client".to_owned(),
        created_at: NOW,
        used_at: NOW,
        expires_at: NOW + 1,
        device: String::new(),
        address: String::new(),
    };
    for (hash, is_started) in [(&old, false), (&new, true)] {
        let late = NewSession {
            session: &session,
            password_hash: hash,
            refresh_token: &token,
            refresh_expires_at: NOW + 1,
            detail: json!({}),
        };
        assert_eq!(
            own.insert_session(&late).await.expect("a write"),
            is_started
        );
    }
}

async fn sessions_end_together_or_alone_and_are_told_once_each(own: OwnStore) {
    let gateways = ["http://a".to_owned(), "http://b".to_owned()];
    let logout = || ending(EndReason::LoggedOut, &gateways);
    let mut ids = Vec::new();
    for number in 0..4 {
        ids.push(start(&own, "alice", &Hash::of(&number.to_string())).await);
    }
    let bob = start(&own, "bob", &Hash::of("bob")).await;
    let end = |which| own.end_sessions("alice", which, logout());
    assert_eq!(
        end(Which::One(&ids[0])).await.expect("a write"),
        [ids[0].clone()]
    );
    assert!(end(Which::One(&ids[0])).await.expect("a write").is_empty());
    assert!(end(Which::One(&bob)).await.expect("a write").is_empty());
    assert_eq!(end(Which::AllBut(&ids[1])).await.expect("a write").len(), 2);
    assert_eq!(end(Which::All).await.expect("a write"), [ids[1].clone()]);
    assert!(
        own.is_session_live(&bob, "bob", NOW)
            .await
            .expect("an answer")
    );
    for gateway in &gateways {
        let due = own.due_deliveries(gateway, NOW, 10).await.expect("a list");
        let mut told: Vec<_> = due.iter().map(|one| one.session_id.clone()).collect();
        told.sort();
        ids.sort();
        assert_eq!(told, ids);
    }
    let due = own
        .due_deliveries("http://a", NOW, 10)
        .await
        .expect("a list");
    own.finish_delivery(&due[0]).await.expect("a write");
    own.postpone_delivery(&due[1], NOW + 5)
        .await
        .expect("a write");
    let due = |now| own.due_deliveries("http://a", now, 10);
    assert_eq!(due(NOW).await.expect("a list").len(), 2);
    assert_eq!(due(NOW + 5).await.expect("a list").len(), 3);
    // The last token of these sessions has expired.
    assert_eq!(due(NOW + 900).await.expect("a list").len(), 0);
}

async fn the_audit_log_is_a_chain_however_many_write_it(own: OwnStore) {
    let mut writing = JoinSet::new();
    for number in 0..20 {
        let store = Store::clone(&own);
        writing.spawn(async move {
            let name = format!("user-{number}");
            start(&store, &name, &Hash::of(&name)).await;
        });
    }
    writing.join_all().await;
    let events = own.list_events(None, 1_000).await.expect("a list");
    assert_eq!(events.len(), 40);
    assert_eq!(own.check_events().await.expect("an answer"), Ok(40));
    for statement in ["update audit_events set at = 0", "delete from audit_events"] {
        assert!(own.try_execute(statement).await.is_err(), "{statement}");
    }
}

async fn what_is_old_is_forgotten_and_nothing_else(own: OwnStore) {
    let gateways = ["http://a".to_owned()];
    let ended = start(&own, "alice", &Hash::of("ended")).await;
    let live = start(&own, "alice", &Hash::of("live")).await;
    let ending = ending(EndReason::LoggedOut, &gateways);
    own.end_sessions("alice", Which::One(&ended), ending)
        .await
        .expect("a write");
    assert_eq!(own.forget_old(NOW, NOW, 10).await.expect("a write"), 0);
    assert_eq!(own.count_deliveries().await.expect("a number"), 1);
    assert_eq!(
        own.forget_old(NOW + 900, NOW + 1, 10)
            .await
            .expect("a write"),
        1
    );
    assert_eq!(own.count_deliveries().await.expect("a number"), 0);
    assert!(
        own.is_session_live(&live, "alice", NOW)
            .await
            .expect("an answer")
    );
    assert_eq!(own.count_unused_refresh_tokens().await, 1);
}
