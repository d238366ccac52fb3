//! Sessions and their refresh tokens, on both databases.

use serde_json::json;
use tokio::task::JoinSet;

use super::{OwnStore, conformance::account};
use crate::{
    credentials::hash::StoredHash,
    ids::random_id,
    store::{
        DeliveryOrder::LongestWaiting, Destination, EndReason, Ending, LoginProof, NewSession,
        Refreshed, Rotation, Session, SessionFilter, SessionStarted, Store, StoreError,
    },
    vault::Hash,
};

pub(super) const NOW: i64 = 1_000_000;
pub(super) const IDLE_SECS: i64 = 1_000;

/// The gateway that is told which sessions exceeded the limit.
pub(super) const GATEWAY: &str = "http://limit";

const A: Destination<'_> = Destination::Gateway("http://a");

super::on_both!(
    changes_of_one_account_at_once_never_deadlock,
    no_session_starts_with_a_password_that_was_changed,
    a_session_is_listed_while_it_can_be_refreshed_with_its_last_address,
    a_revocation_is_told_until_the_last_token_of_its_session_has_expired,
    sessions_end_together_or_alone_and_are_told_once_each,
    the_audit_log_is_a_chain_however_many_write_it,
);

pub(super) fn ending(reason: EndReason, gateways: &[String]) -> Ending<'_> {
    Ending {
        reason,
        now: NOW,
        gateways,
        token_lifetime_secs: 900,
    }
}

pub(super) fn reuse() -> Ending<'static> {
    ending(EndReason::RefreshTokenReused, &[])
}

/// The same 11 seconds later, when a retry is late.
pub(super) fn late_reuse() -> Ending<'static> {
    Ending {
        now: NOW + 11,
        ..reuse()
    }
}

/// A session of the account `user_id`, which is made when it is missing.
pub(super) async fn start(store: &Store, user_id: &str, token: &Hash) -> String {
    let account = account(user_id, user_id, user_id);
    store.insert_account(&account).await.expect("a write");
    let (outcome, id) = start_by(store, user_id, token, LoginProof::PasswordAlone).await;
    assert_eq!(outcome, SessionStarted::Fine);
    id
}

/// Starts a session of the account `user_id` by a proof, and returns what became of it, and its id.
pub(super) async fn start_by(
    store: &Store,
    user_id: &str,
    token: &Hash,
    proof: LoginProof<'_>,
) -> (SessionStarted, String) {
    start_within(store, user_id, token, proof, 1_000).await
}

/// The same, of an account that has `most_sessions` at most.
pub(super) async fn start_within(
    store: &Store,
    user_id: &str,
    token: &Hash,
    proof: LoginProof<'_>,
    most_sessions: u32,
) -> (SessionStarted, String) {
    let found = store.find_account_by_name(user_id).await.expect("a read");
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
    let gateways = [GATEWAY.to_owned()];
    let new = NewSession {
        session: &session,
        password_version: found.expect("an account").password_version,
        most_sessions,
        ending: ending(EndReason::SessionLimit, &gateways),
        refresh_token: token,
        refresh_expires_at: NOW + IDLE_SECS,
        detail: json!({}),
    };
    let outcome = store.insert_session(&new, proof).await;
    (outcome.expect("a write"), session.id)
}

/// Presents a token whose successor was replaced so many times.
pub(super) async fn rotate_again(
    store: &Store,
    (presented, generation): (&Hash, i64),
    (successor, replacement): (Hash, Hash),
    ending: Ending<'_>,
) -> Result<Refreshed, StoreError> {
    let rotation = Rotation {
        presented,
        client_id: "client",
        generation,
        successors: &[successor],
        replacement: &replacement,
        idle_secs: IDLE_SECS,
        retry_secs: 10,
        address: "192.0.2.7",
    };
    store.rotate_refresh_token(rotation, ending).await
}

pub(super) async fn rotate(
    store: &Store,
    presented: &Hash,
    successor: Hash,
    ending: Ending<'_>,
) -> Refreshed {
    let successors = (successor, Hash::of("a replacement"));
    let rotated = rotate_again(store, (presented, 0), successors, ending);
    rotated.await.expect("an answer")
}

/// Of each kind of change there are several at once, so that every pair of them meets in either
/// order.
async fn changes_of_one_account_at_once_never_deadlock(own: OwnStore) {
    let hash = StoredHash::from("a hash");
    for round in 0..50 {
        let token = |kind: &str, number| Hash::of(&format!("{kind} {round} {number}"));
        let mut left = Vec::new();
        for number in 0..3 {
            left.push(start(&own, "alice", &token("logout", number)).await);
            start(&own, "alice", &token("refresh", number)).await;
            start(&own, "alice", &token("reuse", number)).await;
            for (presented, successor) in [("reuse", "second"), ("second", "third")] {
                let (presented, successor) = (token(presented, number), token(successor, number));
                rotate(&own, &presented, successor, reuse()).await;
            }
        }
        let mut changing = JoinSet::new();
        for (number, left) in left.into_iter().enumerate() {
            let (store, hash) = (Store::clone(&own), hash.clone());
            changing.spawn(async move {
                let ending = ending(EndReason::PasswordChanged, &[]);
                let changed = store.set_password_hash("alice", &hash, ending);
                changed.await.map(|_| ())
            });
            let store = Store::clone(&own);
            changing.spawn(async move {
                let ending = ending(EndReason::LoggedOut, &[]);
                let ended = store
                    .end_sessions("alice", SessionFilter::One(&left), ending)
                    .await;
                ended.map(|_| ())
            });
            let store = Store::clone(&own);
            changing.spawn(async move {
                let ending = ending(EndReason::LoggedOut, &[]);
                let ended = store
                    .end_sessions("alice", SessionFilter::All, ending)
                    .await;
                ended.map(|_| ())
            });
            for (presented, successor) in [
                (token("refresh", number), token("fresh", number)),
                (token("reuse", number), token("second", number)),
            ] {
                let store = Store::clone(&own);
                changing.spawn(async move {
                    let successors = (successor, Hash::of("a replacement"));
                    let rotated = rotate_again(&store, (&presented, 0), successors, reuse());
                    rotated.await.map(|_| ())
                });
            }
        }
        for outcome in changing.join_all().await {
            outcome.expect("no deadlock");
        }
    }
    assert!(own.check_events().await.expect("an answer").is_ok());
}

pub(super) async fn is_live(own: &OwnStore, id: &str) -> bool {
    let live = own.is_session_live(id, "alice", NOW);
    live.await.expect("an answer")
}

pub(super) fn is_rotated(outcome: &Refreshed) -> bool {
    matches!(outcome, Refreshed::Rotated { successor: 0, .. })
}

async fn no_session_starts_with_a_password_that_was_changed(own: OwnStore) {
    start(&own, "alice", &Hash::of("first")).await;
    let (old, new) = (StoredHash::from("a hash"), StoredHash::from("another hash"));
    let change = || {
        let ending = ending(EndReason::PasswordChanged, &[]);
        own.change_password("alice", 0, &new, SessionFilter::All, ending)
    };
    // The same password, hashed with other parameters, is the same password.
    let anew = StoredHash::from("the same anew");
    assert!(
        own.replace_hash("alice", &old, &anew)
            .await
            .expect("a write")
    );
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
    for (password_version, outcome) in [
        (0, SessionStarted::AccountChanged),
        (1, SessionStarted::Fine),
    ] {
        let late = NewSession {
            session: &session,
            password_version,
            most_sessions: 100,
            ending: ending(EndReason::SessionLimit, &[]),
            refresh_token: &token,
            refresh_expires_at: NOW + 1,
            detail: json!({}),
        };
        let inserted = own.insert_session(&late, LoginProof::PasswordAlone).await;
        assert_eq!(inserted.expect("a write"), outcome);
    }
}

async fn a_session_is_listed_while_it_can_be_refreshed_with_its_last_address(own: OwnStore) {
    let [first, second] = ["first", "second"].map(Hash::of);
    let id = start(&own, "alice", &first).await;
    let listed = async |now| {
        let sessions = own.list_live_sessions("alice", now).await.expect("a list");
        let shown = |session: Session| (session.id, session.address, session.used_at);
        sessions.into_iter().map(shown).collect::<Vec<_>>()
    };
    assert_eq!(listed(NOW).await, [(id.clone(), "::1".to_owned(), NOW)]);
    assert!(is_rotated(
        &rotate(&own, &first, second, late_reuse()).await
    ));
    let used = (id.clone(), "192.0.2.7".to_owned(), NOW + 11);
    assert_eq!(listed(NOW + IDLE_SECS + 10).await, [used]);
    assert_eq!(listed(NOW + IDLE_SECS + 11).await, []);
}

/// The setting of the lifetime is lowered from 900 s to 60 s between a login and a logout.
async fn a_revocation_is_told_until_the_last_token_of_its_session_has_expired(own: OwnStore) {
    let gateways = ["http://a".to_owned()];
    let id = start(&own, "alice", &Hash::of("first")).await;
    let lowered = Ending {
        token_lifetime_secs: 60,
        ..ending(EndReason::LoggedOut, &gateways)
    };
    rotate(&own, &Hash::of("first"), Hash::of("second"), lowered).await;
    let ended = own.end_sessions("alice", SessionFilter::One(&id), lowered);
    assert_eq!(ended.await.expect("a write").len(), 1);
    for (now, count) in [(NOW + 60, 1), (NOW + 899, 1), (NOW + 900, 0)] {
        let due = own.due_messages(A, LongestWaiting, now, 600, 10).await;
        assert_eq!(due.expect("a list").len(), count, "{now}");
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
    let end = async |which| {
        let ended = own.end_sessions("alice", which, logout()).await;
        ended.expect("a write")
    };
    assert_eq!(end(SessionFilter::One(&ids[0])).await, [ids[0].clone()]);
    assert!(end(SessionFilter::One(&ids[0])).await.is_empty());
    assert!(end(SessionFilter::One(&bob)).await.is_empty());
    assert_eq!(end(SessionFilter::AllBut(&ids[1])).await.len(), 2);
    assert_eq!(end(SessionFilter::All).await, [ids[1].clone()]);
    let is_live = own.is_session_live(&bob, "bob", NOW).await;
    assert!(is_live.expect("an answer"));
    for gateway in &gateways {
        let due = own
            .due_messages(Destination::Gateway(gateway), LongestWaiting, NOW, 600, 10)
            .await
            .expect("a list");
        let mut told: Vec<_> = due.iter().map(|one| one.payload.clone()).collect();
        told.sort();
        ids.sort();
        assert_eq!(told, ids);
    }
    let due = own
        .due_messages(A, LongestWaiting, NOW, 600, 10)
        .await
        .expect("a list");
    own.finish_message(&due[0], None).await.expect("a write");
    own.postpone_message(&due[1], NOW + 5)
        .await
        .expect("a write");
    let due = |now| own.due_messages(A, LongestWaiting, now, 600, 10);
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
