//! The limit of sessions of an account, and the end of many sessions at once.

use std::collections::BTreeSet;

use tokio::task::JoinSet;

use super::{
    OwnStore,
    conformance::account,
    sessions::{
        GATEWAY, NOW, ending, is_live, is_rotated, late_reuse, rotate, start, start_within,
    },
};
use crate::{
    store::{
        DeliveryOrder::LongestWaiting, Destination, EndReason, LoginProof, Message, SessionFilter,
        SessionStarted, Store,
    },
    vault::Hash,
};

super::on_both!(
    a_login_beyond_the_limit_ends_the_session_that_was_used_longest_ago,
    a_login_within_the_limit_ends_none,
    an_end_by_the_limit_is_told_like_any_other,
    sessions_that_have_ended_or_are_of_others_do_not_count,
    a_login_without_a_session_ends_none,
    logins_of_two_accounts_at_once_keep_to_the_limit,
    many_sessions_that_end_together_are_told_once_each,
    a_session_that_is_logged_out_beside_a_login_beyond_the_limit_ends_once,
);

async fn log_in(store: &Store, name: &str, most: u32) -> (SessionStarted, String) {
    let proof = LoginProof::PasswordAlone;
    start_within(store, "alice", &Hash::of(name), proof, most).await
}

async fn due(own: &OwnStore, destination: Destination<'_>) -> Vec<Message> {
    let due = own
        .due_messages(destination, LongestWaiting, NOW, 600, 1_000)
        .await;
    due.expect("a list")
}

/// Starts three sessions, of which the second was used longest ago.
async fn with_three(own: &Store) -> [String; 3] {
    let first = start(own, "alice", &Hash::of("first")).await;
    let second = start(own, "alice", &Hash::of("second")).await;
    let third = start(own, "alice", &Hash::of("third")).await;
    for name in ["first", "third"] {
        let successor = Hash::of(&format!("{name} successor"));
        let rotated = rotate(own, &Hash::of(name), successor, late_reuse()).await;
        assert!(is_rotated(&rotated));
    }
    [first, second, third]
}

async fn a_login_beyond_the_limit_ends_the_session_that_was_used_longest_ago(own: OwnStore) {
    let [first, second, third] = with_three(&own).await;
    let (outcome, fourth) = log_in(&own, "fourth", 3).await;
    assert_eq!(outcome, SessionStarted::InPlaceOfOthers);
    assert!(!is_live(&own, &second).await);
    for left in [&first, &third, &fourth] {
        assert!(is_live(&own, left).await);
    }
    let token = own.find_refresh_token(&Hash::of("second"), NOW).await;
    assert!(token.expect("a read").is_none());
    // The setting was lowered.
    let (_, fifth) = log_in(&own, "fifth", 1).await;
    let left = own.list_live_sessions("alice", NOW).await.expect("a list");
    let left: Vec<_> = left.iter().map(|session| &session.id).collect();
    assert_eq!(left, [&fifth]);
}

async fn a_login_within_the_limit_ends_none(own: OwnStore) {
    let three = with_three(&own).await;
    let (outcome, fourth) = log_in(&own, "fourth", 4).await;
    assert_eq!(outcome, SessionStarted::Fine);
    for left in three.iter().chain([&fourth]) {
        assert!(is_live(&own, left).await);
    }
    assert!(due(&own, Destination::Gateway(GATEWAY)).await.is_empty());
}

async fn an_end_by_the_limit_is_told_like_any_other(own: OwnStore) {
    let store = own.telling_events(Some(100));
    let [_, second, _] = with_three(&store).await;
    log_in(&store, "fourth", 3).await;
    let revocations = due(&own, Destination::Gateway(GATEWAY)).await;
    let revoked: Vec<_> = revocations.iter().map(|one| one.payload.as_str()).collect();
    assert_eq!(revoked, [second.as_str()]);
    let told = due(&own, Destination::Events).await;
    let told = told.last().expect("an event");
    for part in [
        r#""type":"session.ended""#,
        r#""reason":"session_limit""#,
        &second,
    ] {
        assert!(told.payload.contains(part), "{}", told.payload);
    }
    let events = own.list_events(Some("alice"), 2).await.expect("a list");
    let ended = events.iter().find(|one| one.event == "session_ended");
    let ended = ended.expect("an event");
    assert_eq!(ended.session_id.as_ref(), Some(&second));
    assert_eq!(
        ended.full_detail(),
        serde_json::json!({"reason": "session_limit", "by": "service"})
    );
}

async fn sessions_that_have_ended_or_are_of_others_do_not_count(own: OwnStore) {
    let [first, second, third] = with_three(&own).await;
    let logout = ending(EndReason::LoggedOut, &[]);
    let ended = own.end_sessions("alice", SessionFilter::One(&first), logout);
    assert_eq!(ended.await.expect("a write").len(), 1);
    let bob = start(&own, "bob", &Hash::of("bob")).await;
    let (outcome, _) = log_in(&own, "fourth", 3).await;
    assert_eq!(outcome, SessionStarted::Fine);
    for left in [&second, &third] {
        assert!(is_live(&own, left).await);
    }
    let live = own.is_session_live(&bob, "bob", NOW).await;
    assert!(live.expect("an answer"));
}

/// The proof of the login was spent before.
async fn a_login_without_a_session_ends_none(own: OwnStore) {
    let three = with_three(&own).await;
    let proof = LoginProof::Code {
        code: crate::store::OneTimeCode::Totp(1),
        challenge: &Hash::of("none"),
    };
    let (outcome, _) = start_within(&own, "alice", &Hash::of("fourth"), proof, 3).await;
    assert_eq!(outcome, SessionStarted::ProofSpent);
    for left in &three {
        assert!(is_live(&own, left).await);
    }
    assert!(due(&own, Destination::Gateway(GATEWAY)).await.is_empty());
}

async fn logins_of_two_accounts_at_once_keep_to_the_limit(own: OwnStore) {
    for name in ["alice", "bob"] {
        let added = own.insert_account(&account(name, name, name)).await;
        added.expect("a write");
    }
    let mut starting = JoinSet::new();
    for number in 0..40 {
        let store = Store::clone(&own);
        starting.spawn(async move {
            let name = if number % 2 == 0 { "alice" } else { "bob" };
            let token = Hash::of(&number.to_string());
            let proof = LoginProof::PasswordAlone;
            start_within(&store, name, &token, proof, 3).await.0
        });
    }
    let outcomes = starting.join_all().await;
    let fine = |outcome: &&SessionStarted| **outcome == SessionStarted::Fine;
    assert_eq!(outcomes.iter().filter(fine).count(), 6);
    for name in ["alice", "bob"] {
        let live = own.list_live_sessions(name, NOW).await.expect("a list");
        assert_eq!(live.len(), 3, "{name}");
    }
    assert_eq!(due(&own, Destination::Gateway(GATEWAY)).await.len(), 34);
    assert!(own.check_events().await.expect("an answer").is_ok());
}

/// Gives alice so many sessions more.
async fn multiply(own: &OwnStore, count: u32) {
    let statement = format!(
        "insert into sessions (id, user_id, client_id, created_at, used_at, expires_at, device, \
                               address, token_expires_at) \
         with recursive numbers(number) as \
             (select 1 union all select number + 1 from numbers where number < {count}) \
         select 'more' || number, user_id, client_id, created_at, used_at, expires_at, '', '', \
                token_expires_at \
         from sessions, numbers"
    );
    let statement = sqlx::AssertSqlSafe(statement);
    own.try_execute(statement).await.expect("rows");
}

async fn many_sessions_that_end_together_are_told_once_each(own: OwnStore) {
    start(&own, "alice", &Hash::of("first")).await;
    multiply(&own, 249).await;
    let gateways = ["http://a".to_owned(), "http://b".to_owned()];
    let logout = ending(EndReason::LoggedOut, &gateways);
    let ended = own.end_sessions("alice", SessionFilter::All, logout).await;
    let ended: BTreeSet<_> = ended.expect("a write").into_iter().collect();
    assert_eq!(ended.len(), 250);
    for gateway in &gateways {
        let told = due(&own, Destination::Gateway(gateway)).await;
        assert_eq!(told.len(), 250);
        let told: BTreeSet<_> = told.into_iter().map(|one| one.payload).collect();
        assert_eq!(told, ended);
    }
    assert_eq!(own.check_events().await.expect("an answer"), Ok(252));
}

/// A trigger of PostgreSQL counts the statements; a message of each session by itself would be 250.
#[tokio::test]
#[ignore = "needs postgresql"]
async fn the_ends_of_many_sessions_are_written_by_few_statements() {
    let own = OwnStore::postgres().await;
    start(&own, "alice", &Hash::of("first")).await;
    multiply(&own, 249).await;
    for statement in [
        "create table statements (number bigint)",
        "create function count_statement() returns trigger language plpgsql as \
         'begin insert into statements values (1); return null; end'",
        "create trigger counted after insert on outbox \
         for each statement execute function count_statement()",
    ] {
        own.try_execute(statement).await.expect(statement);
    }
    let gateways = ["http://a".to_owned()];
    let logout = ending(EndReason::LoggedOut, &gateways);
    let store = own.telling_events(Some(100));
    let ended = store
        .end_sessions("alice", SessionFilter::All, logout)
        .await;
    assert_eq!(ended.expect("a write").len(), 250);
    // Three for the gateway, and three for the events.
    assert_eq!(own.count("select count(*) from statements").await, 6);
}

/// A logout locks the session alone, and a login the account.
async fn a_session_that_is_logged_out_beside_a_login_beyond_the_limit_ends_once(own: OwnStore) {
    start(&own, "alice", &Hash::of("earlier")).await;
    let gateways = [GATEWAY.to_owned()];
    for number in 0..40 {
        let (_, first) = log_in(&own, &format!("first {number}"), 1).await;
        let filter = SessionFilter::One(&first);
        let next = format!("next {number}");
        let (ended, _) = tokio::join!(
            own.end_sessions("alice", filter, ending(EndReason::LoggedOut, &gateways)),
            log_in(&own, &next, 1),
        );
        ended.expect("an answer");
    }
    let told = due(&own, Destination::Gateway(GATEWAY)).await;
    let sessions: BTreeSet<_> = told.iter().map(|message| &message.payload).collect();
    assert_eq!(sessions.len(), told.len(), "a session is told once");
}
