//! Packets whose attachments do not come.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_packet_that_stays_incomplete_for_two_pings_ends_its_session() {
    for (complete_after, is_served) in [(1, true), (2, false)] {
        let directory = tempfile::tempdir().expect("a directory");
        let config = settings(&directory);
        let (_state, gate) = on_engine(&config);
        let exp = unix_secs(wall_now()) + LIFETIME_SECS;
        let client = Client::admitted(&gate, &token(&config, "alice", exp)).await;
        let data = json!({ "_placeholder": true, "num": 0 });
        let publish = json!(["rt:publish", { "room": "lobby", "event": "image", "data": data }]);
        client.send(Method::POST, format!("451-1{publish}")).await;
        let mut pings = 0;
        while pings < complete_after {
            let (status, heard) = client.poll().await;
            if status != StatusCode::OK {
                break;
            }
            pings += heard
                .split(SEPARATOR)
                .filter(|packet| *packet == "2")
                .count();
        }
        client.send(Method::POST, "bAQID".to_owned()).await;
        let (status, heard) = client.poll().await;
        let is_published = status == StatusCode::OK && heard.contains("\"ok\":true");
        assert_eq!(is_published, is_served, "{status} {heard}");
    }
}
