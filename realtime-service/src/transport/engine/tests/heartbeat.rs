//! Pings and their timeouts, in paused time.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{
    super::{CloseReason, EngineSettings},
    server::{Server, settings},
};

/// The longest delay that the wheel adds.
const STEP: Duration = Duration::from_millis(500);

fn assert_elapsed(since: Instant, expected: Duration) {
    let elapsed = since.elapsed();
    assert!(
        elapsed >= expected && elapsed <= expected + STEP,
        "{elapsed:?} instead of {expected:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn the_first_ping_comes_after_the_interval_and_the_next_ones_after_pongs() {
    let mut server = Server::start(settings()).await;
    let mut client = server.websocket().await;
    for delay in [0, 0, 3] {
        let since = Instant::now();
        assert_eq!(client.text().await, "2");
        assert_elapsed(since, Duration::from_secs(25));
        sleep(Duration::from_secs(delay)).await;
        client.send("3").await;
    }
    assert!(server.session().await.is_open());
}

#[tokio::test(start_paused = true)]
async fn a_websocket_without_a_pong_is_closed_after_the_timeout() {
    let mut server = Server::start(settings()).await;
    let since = Instant::now();
    let mut client = server.websocket().await;
    // Other packets are no pong.
    client.send("4hello").await;
    assert_eq!(client.text().await, "4hello");
    assert_eq!(client.text().await, "2");
    client.send("4hello").await;
    assert_eq!(client.text().await, "4hello");
    assert_eq!(client.close_code().await, Some(1008));
    assert_elapsed(since, Duration::from_secs(45));
    assert_eq!(server.close_reason().await, CloseReason::PingTimeout);
}

#[tokio::test(start_paused = true)]
async fn a_polling_session_is_pinged_and_ends_alike() {
    let mut server = Server::start(settings()).await;
    let sid = server.poll_session().await;
    assert_eq!(server.get(&sid).await, (200, "2".to_owned()));
    assert_eq!(server.post(&sid, b"3").await.0, 200);
    let since = Instant::now();
    assert_eq!(server.get(&sid).await, (200, "2".to_owned()));
    assert_elapsed(since, Duration::from_secs(25));
    // The poll that is pending at the timeout ends with it.
    assert_eq!(server.get(&sid).await.0, 400);
    assert_elapsed(since, Duration::from_secs(45));
    assert_eq!(server.close_reason().await, CloseReason::PingTimeout);
    assert_eq!(server.get(&sid).await.0, 400);
    assert!(server.has_no_other_end());
}

#[tokio::test(start_paused = true)]
async fn pings_go_on_when_the_timeout_is_longer_than_the_interval() {
    let settings = EngineSettings {
        ping_interval: Duration::from_secs(5),
        ping_timeout: Duration::from_secs(20),
        ..settings()
    };
    let server = Server::start(settings).await;
    let mut client = server.websocket().await;
    let since = Instant::now();
    for count in 1..=6 {
        assert_eq!(client.text().await, "2");
        client.send("3").await;
        let expected = Duration::from_secs(5) * count;
        let elapsed = since.elapsed();
        assert!(elapsed >= expected && elapsed <= expected + STEP * count);
    }
}

#[tokio::test(start_paused = true)]
async fn a_pong_that_was_not_asked_for_changes_nothing() {
    let mut server = Server::start(settings()).await;
    let since = Instant::now();
    let mut client = server.websocket().await;
    sleep(Duration::from_secs(20)).await;
    client.send("3").await;
    assert_eq!(client.text().await, "2");
    assert_elapsed(since, Duration::from_secs(25));
    assert_eq!(client.close_code().await, Some(1008));
    assert_eq!(server.close_reason().await, CloseReason::PingTimeout);
}
