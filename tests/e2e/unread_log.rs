//! Services whose log nobody reads: the pipe is full, and whoever writes to it waits.

use harness::{Mode, Opening, Options, Stack};
use serde_json::json;

/// Number of lines that fill the pipe of a process, and the buffer of its reader.
const LINES: usize = 300;

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
        let mut stranger = Opening::of(&stack).session().await;
        let refused = stranger.connect(&json!({ "token": "none" })).await;
        refused.expect_err("a refusal, which is a line of the gateway");
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
