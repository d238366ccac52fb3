//! An SQLite database that fails, and what is left when it works again.

use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use serde_json::json;
use sqlx::{Connection as _, SqliteConnection};

use super::{
    super::{database::OpenTransaction, *},
    OwnStore, lend,
    sessions::ending,
};
use crate::{credentials::hash::StoredHash, store::NewAccount, vault::Hash};

const NOW: i64 = 1_000;

/// A setting of the one connection that writes.
async fn set(store: &Store, pragma: &'static str) {
    let mut writer = lend(&store.writer).await;
    let executed = sqlx::query(pragma).execute(&mut writer.connection);
    executed.await.expect(pragma);
}

async fn add_account(store: &Store, name: &str) -> Result<Added, StoreError> {
    let account = NewAccount {
        id: name.to_owned(),
        username: name.to_owned(),
        skeleton: name.to_owned(),
        password_hash: StoredHash::from("a hash"),
        profile: shared_claims::claims::Profile::default(),
        email: None,
        created_at: NOW,
    };
    store.insert_account(&account).await
}

/// Several writes in a transaction; `detail` makes the last of them long.
async fn add_session(store: &Store, id: &str, detail: &str) -> Result<bool, StoreError> {
    let session = Session {
        id: id.to_owned(),
        user_id: "alice".to_owned(),
        client_id: "a client".to_owned(),
        created_at: NOW,
        used_at: NOW,
        expires_at: NOW + 60,
        device: String::new(),
        address: String::new(),
    };
    let new = NewSession {
        session: &session,
        password_version: 0,
        most_sessions: 1000,
        ending: ending(EndReason::SessionLimit, &[]),
        refresh_token: &Hash::of(id),
        refresh_expires_at: NOW + 60,
        detail: json!({ "detail": detail }),
    };
    let outcome = store
        .insert_session(&new, LoginProof::PasswordAlone)
        .await?;
    Ok(outcome == SessionStarted::Fine)
}

async fn with_alice() -> OwnStore {
    let store = OwnStore::sqlite().await;
    add_account(&store, "alice").await.expect("a write");
    store
}

fn trouble<T: std::fmt::Debug>(outcome: Result<T, StoreError>) -> FailureKind {
    outcome.expect_err("a failure").trouble()
}

async fn readiness(store: &Store) -> Option<FailureKind> {
    store
        .check_ready(NOW)
        .await
        .err()
        .map(|failure| failure.trouble())
}

#[tokio::test]
async fn a_full_database_is_said_to_be_full_and_takes_writes_when_there_is_space_again() {
    let store = with_alice().await;
    let long = "x".repeat(100_000);
    for round in ["one", "two", "three"] {
        set(&store, "pragma max_page_count = 1").await;
        assert_eq!(
            trouble(add_session(&store, round, &long).await),
            FailureKind::Full
        );
        set(&store, "pragma max_page_count = 1000000").await;
        assert!(add_session(&store, round, &long).await.expect("a write"));
    }
}

#[tokio::test]
async fn a_database_that_is_only_read_is_not_ready_until_it_is_written_again() {
    let store = with_alice().await;
    assert_eq!(readiness(&store).await, None);
    set(&store, "pragma query_only = on").await;
    assert_eq!(
        trouble(add_account(&store, "bob").await),
        FailureKind::ReadOnly
    );
    assert_eq!(
        trouble(add_session(&store, "one", "").await),
        FailureKind::ReadOnly
    );
    // A write has succeeded a moment ago, which counts until somebody says otherwise.
    assert_eq!(readiness(&store).await, None);
    store.doubt_writes();
    assert_eq!(readiness(&store).await, Some(FailureKind::ReadOnly));
    assert_eq!(readiness(&store).await, Some(FailureKind::ReadOnly));

    set(&store, "pragma query_only = off").await;
    store.forget_last_write();
    assert_eq!(readiness(&store).await, None);
    let added = add_account(&store, "bob").await;
    assert_eq!(added.expect("a write"), Added::Fine);
}

#[tokio::test]
async fn a_database_that_another_process_keeps_locked_is_busy_and_says_so_in_time() {
    let store = with_alice().await;
    let mut other = SqliteConnection::connect(store.url.expose())
        .await
        .expect("a connection");
    let lock = other
        .begin_with("begin immediate")
        .await
        .expect("a transaction");
    let started = Instant::now();
    assert_eq!(
        trouble(add_session(&store, "one", "").await),
        FailureKind::Busy
    );
    assert_eq!(trouble(add_account(&store, "bob").await), FailureKind::Busy);
    assert!(started.elapsed() < Duration::from_secs(4));
    lock.rollback().await.expect("unlocked");
    assert!(add_session(&store, "one", "").await.expect("a write"));
}

#[tokio::test]
async fn a_write_that_is_given_up_on_its_way_leaves_nothing_behind() {
    let store = with_alice().await;
    for number in 0..200_u64 {
        let id = format!("session-{number}");
        // Each time a little later, so that every step is the one that is interrupted.
        let patience = Duration::from_micros(number * 20);
        let _ = tokio::time::timeout(patience, add_session(&store, &id, "")).await;
    }
    assert!(add_session(&store, "last", "").await.expect("a write"));
}

#[tokio::test]
#[ignore = "needs postgresql"]
async fn a_commit_after_a_failed_statement_is_a_failure_and_has_not_happened() {
    let store = OwnStore::postgres().await;
    for is_broken in [true, false] {
        let mut transaction = store.begin().await.expect("a transaction");
        let OpenTransaction::Postgres(connection) = &mut transaction.connection else {
            panic!("not PostgreSQL");
        };
        let insert = "insert into clients (id, scopes, created_at) values ('one', '', 0)";
        sqlx::query(insert)
            .execute(&mut **connection)
            .await
            .expect("a write");
        if is_broken {
            let again = sqlx::query(insert).execute(&mut **connection).await;
            again.expect_err("the same client again");
        }
        assert_eq!(transaction.commit().await.is_err(), is_broken);
    }
}

#[tokio::test]
#[ignore = "needs postgresql"]
async fn a_value_that_the_server_repeats_is_not_repeated_in_the_log() {
    let store = OwnStore::postgres().await;
    let Pool::Postgres(pool) = &store.writer else {
        panic!("not PostgreSQL");
    };
    let query = sqlx::query("select cast($1::text as bigint)").bind("hidden");
    let error = query.execute(pool).await.expect_err("not a number");
    assert!(error.to_string().contains("hidden"), "{error}");
    let story = StoreError::from(error).story();
    assert_eq!(story, "the database failed: SQLSTATE 22P02");
}

#[tokio::test]
#[ignore = "needs postgresql"]
async fn the_server_ends_a_transaction_whose_client_says_nothing() {
    let store = OwnStore::postgres().await;
    let Pool::Postgres(pool) = &store.writer else {
        panic!("not PostgreSQL");
    };
    let setting =
        sqlx::query_scalar("select current_setting('idle_in_transaction_session_timeout')");
    let setting: String = setting.fetch_one(pool).await.expect("a setting");
    assert_eq!(setting, "10s");
}

/// A change that SQLite checks at the commit, and not before.
async fn break_commit(transaction: &mut Transaction) {
    let OpenTransaction::Sqlite(member) = &mut transaction.connection else {
        panic!("not an SQLite file");
    };
    for statement in [
        "pragma defer_foreign_keys = on",
        "insert into totp_secrets (user_id, sealed, created_at) values ('nobody', x'00', 0)",
    ] {
        sqlx::query(statement)
            .execute(member.connection().expect("a connection"))
            .await
            .expect(statement);
    }
}

#[tokio::test]
async fn a_commit_that_fails_is_a_failure_and_has_not_happened() {
    let store = with_alice().await;
    let mut transaction = store.begin().await.expect("a transaction");
    break_commit(&mut transaction).await;
    let outcome = transaction.commit().await;
    assert_eq!(trouble(outcome), FailureKind::Defect);
    assert_eq!(store.count("select count(*) from totp_secrets").await, 0);
    assert!(add_session(&store, "one", "").await.expect("a write"));
}

#[tokio::test]
async fn no_answer_rests_on_a_change_whose_commit_fails() {
    for is_broken in [true, false] {
        let store = with_alice().await;
        let mut before = store.begin().await.expect("a transaction");
        if is_broken {
            break_commit(&mut before).await;
        }
        // It finds the account open, and has nothing to write.
        let mut enabling = Box::pin(store.enable_account("alice", NOW));
        assert!(enabling.as_mut().now_or_never().is_none());
        let (committed, enabled) = tokio::join!(before.commit(), enabling);
        assert_eq!(committed.is_err(), is_broken);
        assert_eq!(enabled.is_err(), is_broken);
    }
}
