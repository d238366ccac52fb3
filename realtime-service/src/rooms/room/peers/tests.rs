//! Gateways that Redis has no rows of. No server is asked, and time is paused.

use tokio::time::sleep;

use crate::rooms::{PresenceMode, room::tests::room};

use super::*;

/// Applies the row of a user who is the only one on a gateway.
fn hear(room: &Arc<Room>, gateway: &str, sub: &str) {
    let message = format!("C {gateway}-x.1 - 1 1 1\n[null,\"{sub}\"]\n[1,null,null]");
    let ear = Arc::new(Ear(Arc::downgrade(room)));
    ear.receive(message.as_bytes(), 1);
}

/// Does what a read does to whose question Redis has no rows.
fn read_nothing(room: &Arc<Room>) {
    room.lock().people.begin_read();
    let now = Instant::now();
    let further = room.apply(|elsewhere, flips| elsewhere.finish_read(Vec::new(), now, flips));
    assert!(further.has_missing);
    let peers = room.peers.as_ref().expect("several gateways");
    peers.expire_at(room, now + peers.shared.cluster().lease());
}

#[tokio::test(start_paused = true)]
async fn a_gateway_without_rows_is_removed_after_a_lease_however_often_the_room_is_read() {
    let room = room();
    let timers = room.terms.timers.clone();
    tokio::spawn(async move { timers.run().await });
    let peers = room.peers.as_ref().expect("several gateways");
    let (lease, little) = (peers.shared.cluster().lease(), Duration::from_secs(1));
    let count = || room.presence(PresenceMode::Count).count;
    hear(&room, "one", "alice");
    read_nothing(&room);
    sleep(lease - little).await;
    hear(&room, "two", "bob");
    read_nothing(&room);
    assert_eq!(count(), 2);
    sleep(little + little / 2).await;
    assert_eq!(count(), 1, "only bob's gateway may be alive");
    sleep(lease - little).await;
    assert_eq!(count(), 0);
}
