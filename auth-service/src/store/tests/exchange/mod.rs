//! The group commit of refreshes on SQLite.

mod failures;
mod queue;

use std::time::Duration;

use serde_json::json;
use shared_claims::authorization::{Action, AuthorizationDetail};
use tokio::{task::JoinSet, time::timeout};

use super::{
    OwnStore, lend,
    sessions::{IDLE_SECS, NOW, is_live, is_rotated, reuse, rotate, start},
};
use crate::{
    store::{
        EndReason, Ending, Exchange, Exchanged, ExchangedFor, Refreshed, SessionFilter, Store,
        StoreError, TokenState,
        event::{Event, EventKind},
        exchange::{EXCHANGE, ExchangeQueue, FIND},
    },
    vault::Hash,
};

fn successor_of(token: &str) -> Hash {
    Hash::of(&format!("successor of {token}"))
}

/// The exchange of a token by the client of its session.
fn exchange(token: &str) -> Exchange {
    Exchange {
        presented: Hash::of(token),
        successor: successor_of(token),
        client_id: "client".to_owned(),
        address: "192.0.2.7".to_owned(),
        idle_secs: IDLE_SECS,
        now: NOW + 1,
        token_expires_at: NOW + 901,
    }
}

/// Presents tokens in one turn of the event loop, so that they are one batch.
async fn exchange_at_once(
    own: &OwnStore,
    exchanges: impl IntoIterator<Item = Exchange>,
) -> Vec<Result<Exchanged, StoreError>> {
    let exchanging = exchanges.into_iter().map(|exchange| {
        let store = Store::clone(own);
        async move { store.exchange_refresh_token(exchange).await }
    });
    futures_util::future::join_all(exchanging).await
}

async fn exchange_one(own: &OwnStore, exchange: Exchange) -> Exchanged {
    own.exchange_refresh_token(exchange)
        .await
        .expect("an answer")
}

fn done(outcome: Result<Exchanged, StoreError>) -> Box<ExchangedFor> {
    match outcome.expect("an answer") {
        Exchanged::Done(done) => done,
        other => panic!("{other:?}"),
    }
}

fn is_refused(outcome: &Exchanged) -> bool {
    matches!(outcome, Exchanged::Refused)
}

fn is_undecided(outcome: &Exchanged) -> bool {
    matches!(outcome, Exchanged::Undecided)
}

/// Returns the tables' times of a token's session: last use, address, expiry of the access tokens.
async fn session_row(own: &OwnStore, id: &str) -> (i64, String, i64) {
    let mut lent = lend(&own.readers).await;
    let query = "select used_at, address, token_expires_at from sessions where id = $1";
    let row = sqlx::query_as(query)
        .bind(id)
        .fetch_one(&mut lent.connection)
        .await;
    row.expect("a session")
}

#[tokio::test]
async fn tokens_of_one_batch_each_get_their_own_successor() {
    let own = OwnStore::sqlite().await;
    let tokens: Vec<String> = (0..300).map(|number| format!("token {number}")).collect();
    let mut sessions = Vec::new();
    for token in &tokens {
        let owner = if sessions.len() % 2 == 0 {
            "alice"
        } else {
            "bob"
        };
        sessions.push((start(&own, owner, &Hash::of(token)).await, owner));
    }
    let event = Event {
        kind: EventKind::GrantAdded,
        at: NOW,
        user_id: None,
        session_id: None,
        detail: json!({}),
    };
    for room in ["b", "a"] {
        let grant = (room, [Action::Subscribe].as_slice());
        let put = own.put_grant("alice", grant, 9, event.clone(), |_, _| true);
        assert!(put.await.expect("a write"));
    }
    let outcomes = exchange_at_once(&own, tokens.iter().map(|token| exchange(token))).await;
    for ((token, outcome), (id, owner)) in tokens.iter().zip(outcomes).zip(&sessions) {
        let done = done(outcome);
        assert_eq!((&done.session.id, done.account.id.as_str()), (id, *owner));
        assert_eq!(done.account.username, *owner);
        assert_eq!(
            (done.session.used_at, done.session.address.as_str()),
            (NOW + 1, "192.0.2.7")
        );
        assert_eq!(done.session.created_at, NOW);
        let grant =
            |room: &str| AuthorizationDetail::new(vec![Action::Subscribe], vec![room.to_owned()]);
        let grants = match *owner {
            "alice" => vec![grant("a"), grant("b")],
            _ => Vec::new(),
        };
        assert_eq!(done.grants, grants);
        assert_eq!(
            session_row(&own, id).await,
            (NOW + 1, "192.0.2.7".to_owned(), NOW + 901)
        );
        for (hash, state) in [
            (Hash::of(token), TokenState::Spent(0)),
            (successor_of(token), TokenState::Usable),
        ] {
            let found = own.find_session_of_token(&hash, NOW + 1).await;
            let (session, found) = found.expect("a read").expect("a token");
            assert_eq!((&session.id, found), (id, state));
        }
    }
    assert_eq!(own.count_unused_refresh_tokens().await, 300);
    let successor = successor_of("token 0");
    let expired = own.find_refresh_token(&successor, NOW + 1 + IDLE_SECS);
    assert!(expired.await.expect("a read").is_none());
}

/// The batch is small, and the tables are not.
#[tokio::test]
async fn no_statement_reads_a_whole_table() {
    let own = OwnStore::sqlite().await;
    for statement in [FIND].into_iter().chain(EXCHANGE.split(';')) {
        let explained = format!("explain query plan {statement}");
        let plan: Vec<(i64, i64, i64, String)> = sqlx::query_as(sqlx::AssertSqlSafe(explained))
            .bind("[]")
            .fetch_all(&mut lend(&own.readers).await.connection)
            .await
            .expect("a plan");
        for (.., step) in plan.iter().filter(|(.., step)| step.starts_with("SCAN")) {
            assert!(
                ["SCAN item ", "SCAN used"]
                    .iter()
                    .any(|scan| step.starts_with(scan)),
                "{plan:?}"
            );
        }
    }
}

#[tokio::test]
async fn the_same_token_twice_at_once_has_one_successor() {
    let own = OwnStore::sqlite().await;
    let id = start(&own, "alice", &Hash::of("first")).await;
    for round in 0..50 {
        let token = match round {
            0 => "first".to_owned(),
            round => format!("token {round}"),
        };
        let next = Hash::of(&format!("token {}", round + 1));
        let mut using = JoinSet::new();
        for _ in 0..20 {
            let store = Store::clone(&own);
            let token = token.clone();
            using.spawn(async move {
                let presented = Hash::of(&token);
                let exchange = Exchange {
                    successor: next,
                    ..exchange(&token)
                };
                match store
                    .exchange_refresh_token(exchange)
                    .await
                    .expect("an answer")
                {
                    Exchanged::Done(_) => true,
                    Exchanged::Refused => panic!("refused"),
                    Exchanged::Undecided => {
                        let rotated = rotate(&store, &presented, next, reuse()).await;
                        assert!(is_rotated(&rotated));
                        false
                    }
                }
            });
        }
        let first = using
            .join_all()
            .await
            .into_iter()
            .filter(|is_done| *is_done);
        assert_eq!(first.count(), 1, "round {round}");
        assert_eq!(own.count_unused_refresh_tokens().await, 1, "round {round}");
    }
    assert!(is_live(&own, &id).await);
}

#[tokio::test]
async fn an_unknown_token_is_refused_beside_others_and_costs_no_write() {
    let own = OwnStore::sqlite().await;
    start(&own, "alice", &Hash::of("one")).await;
    start(&own, "alice", &Hash::of("two")).await;
    let tokens = ["garbage", "one", "more garbage", "two"].map(exchange);
    let mut outcomes = exchange_at_once(&own, tokens).await;
    for is_garbage in [false, true, false, true] {
        match outcomes.pop().expect("an outcome") {
            Ok(Exchanged::Refused) => assert!(is_garbage),
            outcome => assert!(!is_garbage && done(outcome).account.id == "alice"),
        }
    }
    // No other transaction can start before this one ends, and a batch that waited for one would keep
    // the next batch waiting.
    let _transaction = own.begin().await.expect("a transaction");
    for _ in 0..2 {
        let garbage = exchange_at_once(&own, (0..20).map(|number| exchange(&number.to_string())));
        let outcomes = timeout(Duration::from_millis(500), garbage).await;
        for outcome in outcomes.expect("no wait for the writer") {
            assert!(is_refused(&outcome.expect("an answer")));
        }
    }
}

#[tokio::test]
async fn each_reason_to_refuse_a_token_spares_its_neighbour() {
    let own = OwnStore::sqlite().await;
    let ending = Ending {
        reason: EndReason::LoggedOut,
        ..reuse()
    };
    for token in ["twin", "of another client", "expired", "outlived"] {
        start(&own, "alice", &Hash::of(token)).await;
    }
    // A spent token does not expire by itself, but with its session.
    done(Ok(exchange_one(&own, exchange("outlived")).await));
    let ended = start(&own, "alice", &Hash::of("of an ended session")).await;
    let which = SessionFilter::One(&ended);
    own.end_sessions("alice", which, ending)
        .await
        .expect("a write");
    start(&own, "bob", &Hash::of("of a disabled account")).await;
    own.try_execute("update users set disabled_at = 1 where id = 'bob'")
        .await
        .expect("a write");

    let other_client = Exchange {
        client_id: "other".to_owned(),
        ..exchange("of another client")
    };
    let expired = Exchange {
        now: NOW + IDLE_SECS,
        ..exchange("expired")
    };
    let outlived = Exchange {
        now: NOW + 100_000,
        ..exchange("outlived")
    };
    let batch = [
        other_client,
        expired,
        outlived,
        exchange("twin"),
        exchange("of an ended session"),
        exchange("of a disabled account"),
    ];
    let outcomes = exchange_at_once(&own, batch).await;
    for (place, outcome) in outcomes.into_iter().enumerate() {
        match place {
            3 => assert_eq!(done(outcome).account.id, "alice"),
            place => assert!(is_refused(&outcome.expect("an answer")), "{place}"),
        }
    }
    // A second before its end, and by its client, the token is accepted.
    let in_time = Exchange {
        now: NOW + IDLE_SECS - 1,
        ..exchange("expired")
    };
    done(Ok(exchange_one(&own, in_time).await));
    done(Ok(exchange_one(&own, exchange("of another client")).await));
}

/// The reader finds the token unspent, and somebody else changes the row before the batch has the
/// writer.
#[tokio::test]
async fn the_writer_checks_each_token_again() {
    let own = OwnStore::sqlite().await;
    for (round, change) in [
        "update refresh_tokens set used_at = 1 where hash = $1",
        "update refresh_tokens set expires_at = 1 where hash = $1",
        "update sessions set ended_at = 1 where id = (select session_id from refresh_tokens where hash = $1)",
        "update sessions set expires_at = 1 where id = (select session_id from refresh_tokens where hash = $1)",
        "update sessions set client_id = 'x' where id = (select session_id from refresh_tokens where hash = $1)",
        "update users set disabled_at = 1 where id = 'bob' and $1 = $1",
    ]
    .into_iter()
    .enumerate()
    {
        let (token, twin) = (format!("token {round}"), format!("twin {round}"));
        start(&own, "bob", &Hash::of(&token)).await;
        start(&own, "alice", &Hash::of(&twin)).await;
        let queue = ExchangeQueue::default();
        let (outcome, runner) = queue.push(exchange(&token)).expect("room");
        let (outcome_of_twin, _) = queue.push(exchange(&twin)).expect("room");
        let batch = runner.expect("the right to run").next_batch();
        let unspent = own.find_batch(batch.expect("a batch").requests).await;

        let query = sqlx::query(change).bind(Hash::of(&token).as_bytes().to_vec());
        let changed = query.execute(&mut lend(&own.writer).await.connection).await.expect(change);
        assert_eq!(changed.rows_affected(), 1, "{change}");

        own.exchange_batch(unspent).await;
        let outcome = outcome.outcome().await.expect("an answer");
        assert!(is_undecided(&outcome), "{change}: {outcome:?}");
        assert_eq!(done(outcome_of_twin.outcome().await).account.id, "alice");
        let successor = own.find_session_of_token(&successor_of(&token), 0).await;
        assert!(successor.expect("a read").is_none(), "{change}");
    }
}

#[tokio::test]
async fn a_spent_token_is_undecided_and_its_reuse_ends_the_session() {
    let own = OwnStore::sqlite().await;
    let id = start(&own, "alice", &Hash::of("first")).await;
    done(Ok(exchange_one(&own, exchange("first")).await));
    assert!(is_undecided(&exchange_one(&own, exchange("first")).await));
    let retried = rotate(&own, &Hash::of("first"), successor_of("first"), reuse()).await;
    assert!(is_rotated(&retried));
    assert_eq!(own.count_unused_refresh_tokens().await, 1);

    let second = Exchange {
        presented: successor_of("first"),
        ..exchange("second")
    };
    done(Ok(exchange_one(&own, second).await));
    assert!(is_undecided(&exchange_one(&own, exchange("first")).await));
    assert!(is_live(&own, &id).await);
    let reused = rotate(&own, &Hash::of("first"), successor_of("first"), reuse()).await;
    assert!(matches!(reused, Refreshed::Reused(session) if session.id == id));
    let third = Exchange {
        presented: successor_of("second"),
        ..exchange("third")
    };
    assert!(is_refused(&exchange_one(&own, third).await));
}

#[tokio::test]
#[ignore = "needs postgresql"]
async fn on_postgresql_every_token_is_undecided() {
    let own = OwnStore::postgres().await;
    start(&own, "alice", &Hash::of("one")).await;
    for token in ["one", "garbage"] {
        assert!(is_undecided(&exchange_one(&own, exchange(token)).await));
    }
}
