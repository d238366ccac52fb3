//! Services whose log nobody reads: the pipe is full, and whoever writes to it waits.

use std::time::{Duration, Instant};

use harness::{Mode, Opening, Options, Stack};
use serde_json::json;
use tokio::task::JoinSet;

use crate::metrics;

/// Number of lines that fill the pipe of a process, and the buffer of its reader.
const LINES: usize = 300;

/// Number of lines that fill the queue of a service too.
const MORE_LINES: usize = 9000;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the built binaries"]
async fn a_service_whose_log_nobody_reads_goes_on() {
    let options = Options::default().mode(Mode::Binaries);
    let stack = Stack::start_with(options.gateway("limits.refusals_per_address", LINES + 1)).await;
    let secret = stack.add_client("worker", "rt.read").await;
    let mut healthy = Opening::of(&stack)
        .admitted(&stack.login("alice").await)
        .await;
    healthy.subscribe("lobby").await;
    let unread = stack.stop_reading_logs().await;
    for _ in 0..LINES {
        let token = stack.client_token("worker", &secret).await;
        token.expect("a token, which is a line of the issuer");
        refused(&Opening::of(&stack)).await;
    }
    healthy.publish("lobby", json!("still here")).await;
    healthy.event().await;
    // Read again, the log is complete.
    drop(unread);
    let (issuer, gateway) = stack.stop().await.expect("two processes");
    assert_eq!(issuer.status.code(), Some(0), "{}", issuer.output);
    assert_eq!(gateway.status.code(), Some(0), "{}", gateway.output);
    let tokens = issuer.output.matches("a client got a token").count();
    let refusals = gateway.output.matches("rejected").count();
    assert_eq!((tokens, refusals), (LINES, LINES));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the built binaries"]
async fn a_gateway_with_more_lines_than_may_wait_counts_them_and_ends_in_time() {
    let options = Options::default().mode(Mode::Binaries);
    let options = options.gateway("limits.refusals_per_address", MORE_LINES + 1);
    let (stack, admin) = metrics::stack_with_admin(options).await;
    let unread = stack.stop_reading_logs().await;
    let mut strangers = JoinSet::new();
    for _ in 0..4 {
        let opening = Opening::of(&stack);
        strangers.spawn(async move {
            for _ in 0..MORE_LINES / 4 {
                refused(&opening).await;
            }
        });
    }
    strangers.join_all().await;
    let lost = metrics::value(&stack, &admin, "log_lines_lost_total").await;
    assert!(lost > 0 && lost < MORE_LINES as u64, "{lost}");
    let started = Instant::now();
    assert_eq!(stack.stop_gateway().await, Some(0));
    assert!(started.elapsed() < Duration::from_secs(5));
    drop(unread);
}

/// Is refused, which is a line of the gateway.
async fn refused(opening: &Opening) {
    let mut stranger = opening.session().await;
    let refused = stranger.connect(&json!({ "token": "none" })).await;
    refused.expect_err("a refusal");
}
