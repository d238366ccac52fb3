//! Batches that fail, and requests that are in the way of others.

use std::{future::poll_fn, pin::pin, sync::mpsc, task::Poll, thread};

use tokio::sync::oneshot;

use super::{OwnStore, done, exchange, exchange_at_once, is_refused, is_undecided, start};
use crate::{
    store::{FailureKind, Store},
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
                assert_eq!(error.trouble(), FailureKind::ReadOnly);
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
        assert_eq!(
            outcome.expect_err("closed").trouble(),
            FailureKind::Unreachable
        );
    }
}

/// Starts a thread with a runtime of its own, as an HTTP worker has, that presents a token. From then on
/// the thread is busy, until `free` sends or is dropped; then the runtime ends.
async fn present_on_worker(
    own: &OwnStore,
    token: &'static str,
) -> (mpsc::Sender<()>, thread::JoinHandle<()>) {
    let store = Store::clone(own);
    let (presented, is_presented) = oneshot::channel();
    let (free, is_free) = mpsc::channel();
    let worker = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.expect("a runtime").block_on(async move {
            let mut exchanging = pin!(store.exchange_refresh_token(exchange(token)));
            let poll = poll_fn(|context| Poll::Ready(exchanging.as_mut().poll(context)));
            assert!(poll.await.is_pending());
            presented.send(()).expect("a receiver");
            let _ = is_free.recv();
        });
    });
    is_presented.await.expect("a worker");
    (free, worker)
}

#[tokio::test]
async fn a_worker_that_ends_fails_no_request_of_another() {
    let own = OwnStore::sqlite().await;
    start(&own, "alice", &Hash::of("one")).await;
    start(&own, "alice", &Hash::of("two")).await;
    let (free, worker) = present_on_worker(&own, "one").await;
    let mut exchanging = pin!(own.exchange_refresh_token(exchange("two")));
    let poll = poll_fn(|context| Poll::Ready(exchanging.as_mut().poll(context)));
    assert!(poll.await.is_pending());
    drop(free);
    worker.join().expect("no panic");
    done(exchanging.await);
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
