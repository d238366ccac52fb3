//! The bounds of the queue in number and in time, and its runner, without a database.

use std::time::Duration;

use actix_web::{ResponseError as _, http::header};
use tokio::time::{Instant, advance, pause, resume, timeout};

use super::{OwnStore, done, exchange, exchange_one, is_refused, is_undecided, start};
use crate::{
    error::ApiError,
    store::{
        Exchanged, FailureKind, StoreError,
        exchange::queue::{ExchangeQueue, MAXIMUM_BATCH, MAXIMUM_WAITING, Pending, Runner},
    },
    vault::Hash,
};

/// The time that a request may wait for a batch.
const WAIT: Duration = Duration::from_secs(2);

const MOMENT: Duration = Duration::from_millis(1);

/// The time after which an outcome counts as missing.
const PATIENCE: Duration = Duration::from_secs(60);

/// Queues the first request, and returns the runner that takes it.
fn push_first(queue: &ExchangeQueue, token: &str) -> (Pending, Runner) {
    let (pending, runner) = queue.push(exchange(token)).expect("room");
    (pending, runner.expect("the right to run"))
}

/// Queues a request behind a first one.
fn push(queue: &ExchangeQueue, token: &str) -> Result<Pending, StoreError> {
    let (pending, runner) = queue.push(exchange(token))?;
    assert!(runner.is_none(), "a second runner");
    Ok(pending)
}

async fn outcome(pending: Pending) -> Result<Exchanged, StoreError> {
    timeout(PATIENCE, pending.outcome()).await.expect("in time")
}

/// Takes the next batch and refuses all of its tokens. Returns their number.
fn refuse_batch(runner: &mut Runner) -> usize {
    let batch = runner.next_batch().expect("a batch");
    let count = batch.requests.len();
    for request in batch.requests {
        request.answer(Ok(Exchanged::Refused));
    }
    count
}

#[tokio::test(start_paused = true)]
async fn a_request_fails_at_its_deadline_unless_a_batch_has_taken_it() {
    let queue = ExchangeQueue::default();
    let (first, mut runner) = push_first(&queue, "first");
    let first = tokio::spawn(first.outcome());
    let running = runner.next_batch().expect("a batch");

    let started = Instant::now();
    let late = push(&queue, "late").expect("room");
    assert!(matches!(outcome(late).await, Err(StoreError::TooSlow)));
    assert!((WAIT..WAIT + 2 * MOMENT).contains(&started.elapsed()));

    advance(WAIT).await;
    assert!(!first.is_finished(), "its batch has a deadline of its own");
    for request in running.requests {
        request.answer(Ok(Exchanged::Undecided));
    }
    let answered = first.await.expect("no panic");
    assert!(is_undecided(&answered.expect("an answer")));

    let taken = push(&queue, "taken").expect("room");
    advance(WAIT - MOMENT).await;
    let later = push(&queue, "later").expect("room");
    assert_eq!(refuse_batch(&mut runner), 2);
    for pending in [taken, later] {
        assert!(is_refused(&outcome(pending).await.expect("an answer")));
    }
    let missed = push(&queue, "missed").expect("room");
    advance(WAIT).await;
    assert!(runner.next_batch().is_none(), "the request has expired");
    assert!(matches!(outcome(missed).await, Err(StoreError::TooSlow)));
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_has_room_again_after_a_batch_and_after_the_deadline() {
    let queue = ExchangeQueue::default();
    let (first, mut runner) = push_first(&queue, "0");
    let mut waiting = vec![first];
    let fill = |waiting: &mut Vec<Pending>| {
        for number in 0..=MAXIMUM_WAITING {
            match push(&queue, &format!("{} {number}", waiting.len())) {
                Ok(pending) => waiting.push(pending),
                Err(error) => return error,
            }
        }
        panic!("the queue has no bound");
    };
    let full = fill(&mut waiting);
    assert!(matches!(full, StoreError::QueueFull), "{full}");
    assert_eq!(full.trouble(), FailureKind::Busy);
    assert_eq!(waiting.len(), MAXIMUM_WAITING);

    assert_eq!(refuse_batch(&mut runner), MAXIMUM_BATCH);
    fill(&mut waiting);
    assert_eq!(waiting.len(), MAXIMUM_WAITING + MAXIMUM_BATCH);

    advance(WAIT).await;
    let twin = push(&queue, "twin").expect("room");
    for (place, pending) in waiting.into_iter().enumerate() {
        match outcome(pending).await {
            Ok(outcome) => assert!(place < MAXIMUM_BATCH && is_refused(&outcome)),
            Err(error) => assert!(place >= MAXIMUM_BATCH && matches!(error, StoreError::TooSlow)),
        }
    }
    assert_eq!(refuse_batch(&mut runner), 1);
    assert!(is_refused(&outcome(twin).await.expect("an answer")));
}

#[tokio::test(start_paused = true)]
async fn a_runner_that_is_dropped_leaves_no_request_waiting() {
    let queue = ExchangeQueue::default();
    let (taken, mut runner) = push_first(&queue, "taken");
    let batch = runner.next_batch();
    let waiting = push(&queue, "waiting").expect("room");
    drop((batch, runner));
    for pending in [taken, waiting] {
        let error = outcome(pending).await.expect_err("no runner");
        assert_eq!(error.trouble(), FailureKind::Unreachable);
        assert!(!matches!(error, StoreError::TooSlow));
    }
    let (next, mut runner) = push_first(&queue, "next");
    assert_eq!(refuse_batch(&mut runner), 1);
    assert!(is_refused(&outcome(next).await.expect("an answer")));
}

#[tokio::test]
async fn a_refresh_that_waits_too_long_is_answered_503_and_its_token_is_unspent() {
    let own = OwnStore::sqlite().await;
    start(&own, "alice", &Hash::of("one")).await;
    let (_, runner) = push_first(&own.exchanges, "first");
    pause();
    let exchanging = own.exchange_refresh_token(exchange("one"));
    let outcome = timeout(PATIENCE, exchanging).await.expect("in time");
    resume();
    let response = ApiError::from(outcome.expect_err("no batch")).error_response();
    assert_eq!(response.status(), 503);
    assert!(response.headers().contains_key(header::RETRY_AFTER));

    drop(runner);
    done(Ok(exchange_one(&own, exchange("one")).await));
}
