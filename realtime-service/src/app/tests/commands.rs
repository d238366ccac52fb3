//! Commands of other gateways.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::cluster::Handler as _;

/// More clients than the thread that ends a turn writes itself.
const CROWD: usize = 300;

#[tokio::test(start_paused = true)]
async fn a_broadcast_of_another_gateway_is_written_by_tasks_that_let_others_run() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = Config {
        limits: Limits {
            sessions_per_address: CROWD,
            ..Limits::default()
        },
        ..settings(&directory)
    };
    let (state, gate) = on_engine(&config);
    let exp = unix_secs(wall_now()) + LIFETIME_SECS;
    let (mut polls, answered) = (JoinSet::new(), Arc::new(AtomicUsize::new(0)));
    for number in 0..CROWD {
        let token = token(&config, &format!("user-{number}"), exp);
        let client = Client::admitted(&gate, &token).await;
        let answered = answered.clone();
        polls.spawn(async move {
            let (_, heard) = client.poll().await;
            answered.fetch_add(1, Ordering::Relaxed);
            heard
        });
    }
    // By the time that passes only when nobody has anything to do, every poll waits.
    tokio::time::sleep(Duration::from_millis(1)).await;
    let from = json!({ "sub": "shop", "connection": "c" });
    let message =
        json!({ "event": "news", "data": 1, "meta": { "id": "m", "ts": 0, "from": from } });
    let command = json!({ "Broadcast": message }).to_string();
    state.handle(command.into_bytes()).await.expect("an answer");
    let other = tokio::spawn(async move { answered.load(Ordering::Relaxed) });
    assert_eq!(
        other.await.expect("no panic"),
        0,
        "written before others ran"
    );
    while let Some(heard) = polls.join_next().await {
        assert!(heard.expect("no panic").contains("news"));
    }
}
