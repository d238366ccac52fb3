//! Batches that fail, and requests that wait in vain.

use std::time::Duration;

use tokio::time::timeout;

use super::{
    OwnStore, done, exchange, exchange_at_once, exchange_one, is_refused, is_undecided, start,
};
use crate::{
    store::{Store, Trouble},
    vault::Hash,
};

#[tokio::test]
async fn a_failure_is_the_failure_of_its_batch_alone() {
    let own = OwnStore::sqlite().await;
    start(&own, "alice", &Hash::of("one")).await;
    start(&own, "alice", &Hash::of("two")).await;
    own.try_execute("pragma query_only = on")
        .await
        .expect("a pragma");
    for outcome in exchange_at_once(&own, ["one", "two", "garbage"].map(exchange)).await {
        match outcome {
            Ok(outcome) => assert!(is_refused(&outcome)),
            Err(error) => {
                assert_eq!(error.trouble(), Trouble::ReadOnly);
                assert!(
                    error.story().starts_with("the database failed: "),
                    "{}",
                    error.story()
                );
            }
        }
    }
    own.try_execute("pragma query_only = off")
        .await
        .expect("a pragma");
    for outcome in exchange_at_once(&own, ["one", "two"].map(exchange)).await {
        assert_eq!(done(outcome).account.id, "alice");
    }
    own.close().await;
    for outcome in exchange_at_once(&own, ["one", "two"].map(exchange)).await {
        assert_eq!(outcome.expect_err("closed").trouble(), Trouble::Unreachable);
    }
}

/// The runtime of the task ends in the middle of a batch.
#[tokio::test]
async fn a_task_that_is_dropped_leaves_no_request_waiting() {
    let own = OwnStore::sqlite().await;
    start(&own, "alice", &Hash::of("one")).await;
    let transaction = own.begin().await.expect("a transaction");
    let store = Store::clone(&own);
    let (started, has_started) = tokio::sync::oneshot::channel();
    let (queued, is_queued) = tokio::sync::oneshot::channel();
    let stopped = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.expect("a runtime").block_on(async move {
            let exchanging = store.exchange_refresh_token(exchange("one"));
            let _ = timeout(Duration::from_millis(50), exchanging).await;
            started.send(()).expect("a receiver");
            // The batch waits for the writer meanwhile.
            is_queued.await.expect("another request");
        });
    });
    has_started.await.expect("a batch");
    let store = Store::clone(&own);
    let waiting = tokio::spawn(async move { store.exchange_refresh_token(exchange("one")).await });
    // The request is in the queue once its task has run.
    tokio::task::yield_now().await;
    queued.send(()).expect("a receiver");
    let outcome = timeout(Duration::from_secs(5), waiting)
        .await
        .expect("an answer")
        .expect("no panic");
    assert_eq!(
        outcome.expect_err("no task").trouble(),
        Trouble::Unreachable
    );
    stopped.join().expect("no panic");
    transaction.commit().await.expect("a commit");
    done(Ok(exchange_one(&own, exchange("one")).await));
}

#[tokio::test]
async fn too_many_that_wait_are_told_so() {
    let own = OwnStore::sqlite().await;
    let tokens = (0..1100).map(|number| exchange(&number.to_string()));
    let outcomes = exchange_at_once(&own, tokens).await;
    let (refused, failed): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    assert_eq!((refused.len(), failed.len()), (1024, 76));
    for outcome in failed {
        assert_eq!(outcome.expect_err("a full queue").trouble(), Trouble::Busy);
    }
}

#[tokio::test]
async fn one_token_that_is_presented_again_and_again_is_in_nobodys_way() {
    let own = OwnStore::sqlite().await;
    start(&own, "alice", &Hash::of("one")).await;
    let tokens = std::iter::repeat_n("garbage", 1000).chain(["one"]);
    let mut outcomes = exchange_at_once(&own, tokens.map(exchange)).await;
    let one = outcomes.pop().expect("an outcome");
    assert_eq!(done(one).account.id, "alice");
    let undecided = outcomes
        .iter()
        .filter(|outcome| outcome.as_ref().is_ok_and(is_undecided));
    assert_eq!(undecided.count(), 999);
}
