//! Deletion of an account with many rows, which are erased in slices.

use std::sync::atomic::{AtomicBool, Ordering};

use sqlx::{PgPool, Postgres, Transaction};

use super::{
    OwnStore,
    sessions::{ending, start},
};
use crate::{
    store::{Deleted, EndReason, StoreError, database::Pool},
    vault::Hash,
};

super::on_both!(
    others_write_between_the_slices_of_a_deletion,
    a_deletion_that_broke_off_is_resumed,
);

/// Rows that name alice: 1,200 sessions that ended, and as many events.
const NAMED: &str = "select (select count(*) from sessions where device <> '' or address <> '') \
                     + (select count(*) from audit_events where personal is not null \
                        and user_id = 'alice')";

async fn add_alice(own: &OwnStore) {
    start(own, "alice", &Hash::of("token")).await;
    let numbers = "with recursive numbers(number) as \
                   (select 1 union all select number + 1 from numbers where number < 1200)";
    let sessions = format!(
        "insert into sessions (id, user_id, client_id, created_at, used_at, expires_at, ended_at, \
                               end_reason, device, address, token_expires_at) {numbers} \
         select 'old' || number, user_id, client_id, created_at, used_at, expires_at, created_at, \
                'logged_out', 'a phone', '192.0.2.1', token_expires_at \
         from sessions, numbers"
    );
    let events = format!(
        "insert into audit_events (number, at, event, user_id, detail, previous, hash, personal) \
         {numbers} \
         select 1000 + numbers.number, at, 'logged_in', 'alice', '{{}}', previous, hash, '{{}}' \
         from audit_events, numbers where audit_events.number = 1"
    );
    for statement in [sessions, events] {
        let statement = sqlx::AssertSqlSafe(statement);
        own.try_execute(statement).await.expect("rows");
    }
    assert!(own.count(NAMED).await > 2_400);
}

async fn others_write_between_the_slices_of_a_deletion(own: OwnStore) {
    add_alice(&own).await;
    let is_done = AtomicBool::new(false);
    let deleting = async {
        let deleted = own.delete_account("alice", ending(EndReason::AccountDeleted, &[]), |_| true);
        let deleted = deleted.await.expect("a write");
        is_done.store(true, Ordering::SeqCst);
        deleted
    };
    let writing = async {
        let mut written = 0;
        while !is_done.load(Ordering::SeqCst) {
            own.try_execute("update sessions set used_at = used_at where id = 'none'")
                .await
                .expect("a write");
            written += 1;
        }
        written
    };
    let (deleted, written) = tokio::join!(deleting, writing);
    assert_eq!(deleted, Deleted::Now);
    assert_eq!(own.count(NAMED).await, 0);
    // One transaction lets one writer in before it, and one after it; this has seven slices of each kind.
    assert!(written > 10, "{written}");
}

async fn a_deletion_that_broke_off_is_resumed(own: OwnStore) {
    for repeated in [false, true] {
        let name = if repeated { "bob" } else { "alice" };
        start(&own, name, &Hash::of(name)).await;
        let started = own.start_erasure(name, ending(EndReason::AccountDeleted, &[]), |_| true);
        assert_eq!(started.await.expect("a write"), Deleted::Now);
        // Nobody finds the account, and the chain is valid, though a part is left.
        assert!(
            own.find_account_by_id(name)
                .await
                .expect("a read")
                .is_none()
        );
        let left = "select count(*) from sessions where device <> '' or address <> ''";
        assert_eq!(own.count(left).await, 1);
        assert!(own.check_events().await.expect("an answer").is_ok());
        let being_erased = "select count(*) from users where erasing_since is not null";
        assert_eq!(own.count(being_erased).await, 1);
        if repeated {
            let again = own.delete_account(name, ending(EndReason::AccountDeleted, &[]), |_| true);
            assert_eq!(again.await.expect("a write"), Deleted::Before);
        } else {
            own.resume_erasures().await.expect("a write");
        }
        assert_eq!(own.count(left).await, 0);
        assert_eq!(own.count(being_erased).await, 0);
        let personal = "select count(*) from audit_events where personal is not null";
        assert_eq!(own.count(personal).await, 0);
        assert!(own.check_events().await.expect("an answer").is_ok());
    }
}

/// Locks sessions of alice in a transaction that another process might have.
async fn lock<'a>(pool: &'a PgPool, statement: &'static str) -> Transaction<'a, Postgres> {
    let mut transaction = pool.begin().await.expect("a transaction");
    let locked = sqlx::query(statement).fetch_all(&mut *transaction).await;
    assert!(!locked.expect("locks").is_empty());
    transaction
}

#[tokio::test]
#[ignore = "needs postgresql"]
async fn a_deletion_waits_for_the_sessions_of_its_slices_and_for_no_other() {
    let own = OwnStore::postgres().await;
    add_alice(&own).await;
    let Pool::Postgres(pool) = &own.store.readers else {
        panic!("no PostgreSQL");
    };
    // The sessions that ended are not those that the deletion ends.
    let ended = "select id from sessions where ended_at is not null for update";
    let others = lock(pool, ended).await;
    let started = own.start_erasure("alice", ending(EndReason::AccountDeleted, &[]), |_| true);
    assert_eq!(started.await.expect("no wait"), Deleted::Now);
    drop(others);

    let erased = "update sessions set device = '', address = '' where id > 'old5'";
    own.try_execute(erased).await.expect("a write");
    // One that a slice erases, and after it those that have nothing to be erased.
    let others = lock(pool, "select id from sessions where id = 'old1' for update").await;
    let waited = own.resume_erasures().await.expect_err("a wait");
    assert!(matches!(waited, StoreError::TooSlow), "{}", waited.story());
    drop(others);
    let others = lock(pool, "select id from sessions where id > 'old5' for update").await;
    own.resume_erasures().await.expect("no wait");
    assert_eq!(own.count(NAMED).await, 0);
    drop(others);
}
