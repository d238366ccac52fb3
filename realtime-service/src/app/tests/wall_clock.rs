//! Sessions whose wall clock is set while they are connected.

use super::*;

/// How far the clock jumps: beyond the end of the token, which the timers do not notice.
const JUMP: Duration = Duration::from_secs(2 * LIFETIME_SECS);

/// A gateway with a silent client whose token ends in `LIFETIME_SECS`, and one whose token outlives the
/// jump.
async fn expiring_and_lasting(
    directory: &TempDir,
) -> (
    tokio::task::JoinHandle<(Instant, String)>,
    tokio::task::JoinHandle<(Instant, String)>,
) {
    let config = Config {
        heartbeat: Heartbeat {
            interval_secs: 10 * LIFETIME_SECS,
            ..Heartbeat::default()
        },
        ..settings(directory)
    };
    let (state, gate) = state(&config);
    let sessions = state.sessions.clone();
    tokio::spawn(async move { sessions.follow_wall_clock().await });
    // From now on the wall clock runs with the clock of timers, which is paused.
    for_test::jump(Duration::ZERO);
    let now = unix_secs(wall_now());
    let expiring = token(&config, "expiring", now + LIFETIME_SECS);
    let expiring = tokio::spawn(Client::admitted(&gate, &expiring).await.ended());
    let lasting = token(&config, "lasting", now + 4 * LIFETIME_SECS);
    let lasting = tokio::spawn(Client::admitted(&gate, &lasting).await.ended());
    // A first comparison of the clocks comes before the jump.
    tokio::time::sleep(Duration::from_secs(1)).await;
    (expiring, lasting)
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_ahead_closes_sessions_of_expired_tokens_within_a_second() {
    let directory = tempfile::tempdir().expect("a directory");
    let (expiring, lasting) = expiring_and_lasting(&directory).await;
    let jumped = Instant::now();
    for_test::jump(JUMP);
    let (at, heard) = expiring.await.expect("no panic");
    let took = at - jumped;
    assert!(took <= Duration::from_secs(1), "after {took:?}");
    assert!(heard.contains("token_expired"), "{heard}");
    assert!(!lasting.is_finished(), "its token has not ended");
    // The other session ends by the clock that was set, and not when its timer would have.
    let left = Duration::from_secs(4 * LIFETIME_SECS) - JUMP;
    let (at, heard) = lasting.await.expect("no panic");
    let took = at - jumped;
    assert!(took <= left + Duration::from_secs(1), "after {took:?}");
    assert!(heard.contains("token_expired"), "{heard}");
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_lets_no_session_outlive_its_timer() {
    let directory = tempfile::tempdir().expect("a directory");
    let (expiring, _lasting) = expiring_and_lasting(&directory).await;
    let jumped = Instant::now();
    for_test::jump_back(JUMP);
    let (at, heard) = expiring.await.expect("no panic");
    let took = at - jumped;
    assert!(took <= Duration::from_secs(LIFETIME_SECS), "after {took:?}");
    assert!(heard.contains("token_expired"), "{heard}");
}
