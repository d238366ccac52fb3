//! A room follows a log in Redis into its epochs. No server is asked.

use crate::{
    cluster::Cluster,
    config::{ClusterSettings, Config},
    metrics::Metrics,
    outbox::OutboxContext,
    rooms::{Epoch, Position, RoomName, Rooms, log::Extract},
    transport::TransportContext,
};

use super::*;

pub(super) fn room() -> Arc<Room> {
    let config = Config {
        cluster: ClusterSettings {
            url: "redis://127.0.0.1:9".to_owned(),
            ..ClusterSettings::default()
        },
        ..Config::default()
    };
    let (metrics, timers) = (Arc::new(Metrics::new()), Arc::default());
    let cluster = Cluster::new(&config.cluster, &metrics).expect("settings");
    let transport = TransportContext::new(&config, &metrics, &timers);
    let outboxes = OutboxContext::new(&transport);
    let rooms = Rooms::new(&config, cluster.as_ref(), &outboxes, &timers);
    rooms.get_or_open(&RoomName::parse("lobby").expect("a room"))
}

fn extract(epoch: &str, offset: u64, generation: u64) -> Extract {
    Extract {
        position: Position {
            epoch: Epoch::new(epoch),
            offset,
        },
        messages: Vec::new(),
        more: false,
        recovered: None,
        generation,
    }
}

#[tokio::test]
async fn whoever_read_the_log_before_delivery_began_reads_it_again() {
    let room = room();
    assert_eq!(room.adopt(&extract("a", 60, 1)), Some(0));
    assert_eq!(room.adopt(&extract("a", 57, 1)), None);
    assert_eq!(room.adopt(&extract("a", 60, 1)), Some(0));
    assert_eq!(room.adopt(&extract("a", 61, 1)), Some(0));
}

#[tokio::test]
async fn an_answer_of_an_epoch_that_has_ended_is_asked_for_again() {
    let room = room();
    assert_eq!(room.adopt(&extract("a", 60, 1)), Some(0));
    assert_eq!(room.adopt(&extract("b", 0, 1)), Some(1));
    assert_eq!(room.adopt(&extract("a", 61, 1)), None);
    // All messages of the epoch are delivered, so nobody has to read again.
    assert_eq!(room.adopt(&extract("b", 7, 1)), Some(1));
    assert_eq!(room.lock().delivered, Place { life: 1, offset: 0 });
}
