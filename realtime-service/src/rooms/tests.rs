mod presence_everywhere;
mod seam;
mod silence;
mod simulation;
mod subscriber;
mod two_gateways;

use std::time::Duration;

use serde_json::{json, value::to_raw_value};

use super::*;
use crate::{config::HistorySettings, metrics::Metrics, transport::TransportContext};

fn rooms_with(history: HistorySettings) -> Rooms {
    let config = Config {
        history,
        ..Config::default()
    };
    let timers = Arc::default();
    let transport = TransportContext::new(&config, &Arc::new(Metrics::new()), &timers);
    Rooms::new(&config, None, &OutboxContext::new(&transport), &timers)
}

fn name(text: &str) -> RoomName {
    RoomName::parse(text).expect("a room name")
}

/// Publishes so many bytes.
async fn publish(rooms: &Rooms, room: &str, bytes: usize) -> Position {
    publish_under(None, rooms, room, bytes).await.position
}

/// Publishes so many bytes under an id.
async fn publish_under(id: Option<&str>, rooms: &Rooms, room: &str, bytes: usize) -> Appended {
    let sender = Sender {
        iss: None,
        sub: Some("alice".into()),
        name: None,
        connection: "c".into(),
    };
    let data = to_raw_value(&json!("x".repeat(bytes))).expect("JSON");
    let draft = Draft {
        room: name(room),
        event: "message".to_owned(),
        data: Data::new(data, Vec::new()).expect("data"),
        id: "m".to_owned(),
        from: sender,
        ts: 0,
    };
    let key = id.map(|id| MessageKey {
        publisher: "alice".to_owned(),
        id: id.to_owned(),
    });
    let published = rooms.publish(&draft, key.as_ref()).await;
    published.expect("a log in memory")
}

/// Whether whoever has the message at `position` misses nothing.
async fn recovers(rooms: &Rooms, room: &str, position: &Position) -> bool {
    let since = Since {
        epoch: position.epoch.0.to_string(),
        offset: position.offset,
    };
    let selection = Selection {
        since: Some(since),
        ..Selection::default()
    };
    let extract = rooms.read(&name(room), &selection).await;
    let extract = extract.expect("a log in memory");
    extract.recovered.expect("an answer to since")
}

fn kept_bytes(rooms: &Rooms) -> usize {
    rooms.terms.logs.kept_bytes()
}

#[tokio::test]
async fn the_rooms_that_keep_most_forget_theirs_when_all_keep_too_much() {
    let rooms = rooms_with(HistorySettings {
        bytes: 20_000,
        total_bytes: 20_000,
        ..HistorySettings::default()
    });
    let small = publish(&rooms, "small", 1000).await;
    publish(&rooms, "small", 1000).await;
    let large = publish(&rooms, "large", 1000).await;
    while kept_bytes(&rooms) < 18_000 {
        publish(&rooms, "large", 1000).await;
    }
    assert!(recovers(&rooms, "small", &small).await && recovers(&rooms, "large", &large).await);
    // One more is too much, wherever it is said.
    let last = publish(&rooms, "small", 2000).await;
    assert!(kept_bytes(&rooms) <= 15_000, "{}", kept_bytes(&rooms));
    assert!(recovers(&rooms, "small", &small).await && recovers(&rooms, "small", &last).await);
    assert!(!recovers(&rooms, "large", &large).await);
}

#[tokio::test]
async fn an_id_is_known_although_its_room_has_to_forget_its_messages() {
    let rooms = rooms_with(HistorySettings {
        bytes: 20_000,
        total_bytes: 20_000,
        ..HistorySettings::default()
    });
    let first = publish_under(Some("1"), &rooms, "large", 10_000).await;
    publish(&rooms, "small", 5_000).await;
    publish(&rooms, "small", 5_000).await;
    assert!(
        !recovers(
            &rooms,
            "large",
            &Position {
                offset: 0,
                ..first.position.clone()
            }
        )
        .await
    );
    let again = publish_under(Some("1"), &rooms, "large", 10_000).await;
    assert!(again.is_duplicate);
    assert_eq!(again.position.offset, first.position.offset);
    let other = publish_under(Some("2"), &rooms, "large", 10).await;
    assert_eq!((other.is_duplicate, other.position.offset), (false, 2));
}

#[tokio::test]
async fn ids_are_forgotten_when_messages_are_not_enough() {
    let rooms = rooms_with(HistorySettings {
        total_bytes: 20_000,
        ..HistorySettings::default()
    });
    for number in 0..1000 {
        publish_under(Some(&number.to_string()), &rooms, "lobby", 1).await;
        assert!(kept_bytes(&rooms) <= 20_000, "{}", kept_bytes(&rooms));
    }
    assert!(
        !publish_under(Some("0"), &rooms, "lobby", 1)
            .await
            .is_duplicate
    );
}

#[tokio::test(start_paused = true)]
async fn a_room_begins_a_new_life_when_nobody_needs_the_old_one() {
    let rooms = rooms_with(HistorySettings {
        secs: 60,
        ..HistorySettings::default()
    });
    let first = publish(&rooms, "lobby", 10).await;
    tokio::time::advance(Duration::from_secs(59)).await;
    rooms.sweep();
    assert!(recovers(&rooms, "lobby", &first).await);
    let second = publish(&rooms, "lobby", 10).await;
    assert_eq!((&second.epoch, second.offset), (&first.epoch, 2));

    tokio::time::advance(Duration::from_secs(59)).await;
    rooms.sweep();
    // The first is too old by now, and the second is not.
    assert!(recovers(&rooms, "lobby", &first).await && recovers(&rooms, "lobby", &second).await);
    let start = Position { offset: 0, ..first };
    assert!(!recovers(&rooms, "lobby", &start).await);
    tokio::time::advance(Duration::from_secs(1)).await;
    rooms.sweep();
    assert_eq!((rooms.lock().len(), kept_bytes(&rooms)), (0, 0));
    assert!(!recovers(&rooms, "lobby", &second).await);
    let third = publish(&rooms, "lobby", 10).await;
    assert_eq!(third.offset, 1);
    assert_ne!(third.epoch, second.epoch);
}

#[tokio::test]
async fn reading_a_room_that_is_not_there_makes_none() {
    let rooms = rooms_with(HistorySettings::default());
    let selection = Selection {
        last: 10,
        ..Selection::default()
    };
    let extract = rooms.read(&name("lobby"), &selection).await;
    let extract = extract.expect("a log in memory");
    assert_eq!((extract.position.offset, extract.messages.len()), (0, 0));
    assert_eq!((rooms.lock().len(), kept_bytes(&rooms)), (0, 0));
    publish(&rooms, "lobby", 10).await;
    assert_eq!(rooms.lock().len(), 1);
}

#[tokio::test]
async fn a_room_that_keeps_nothing_is_gone_with_its_message() {
    let rooms = rooms_with(HistorySettings {
        messages: 0,
        ..HistorySettings::default()
    });
    let first = publish(&rooms, "lobby", 10).await;
    let second = publish(&rooms, "lobby", 10).await;
    assert_eq!((first.offset, second.offset), (1, 1));
    assert_ne!(first.epoch, second.epoch);
    assert_eq!((rooms.lock().len(), kept_bytes(&rooms)), (0, 0));
}

#[tokio::test]
async fn a_part_of_what_is_kept_says_whether_there_is_more() {
    let rooms = rooms_with(HistorySettings::default());
    let start = publish(&rooms, "lobby", 10).await;
    for _ in 0..3 {
        publish(&rooms, "lobby", 10).await;
    }
    let since = Since {
        epoch: start.epoch.0.to_string(),
        offset: 1,
    };
    let offsets = |extract: &Extract| -> Vec<u64> {
        let messages = extract.messages.iter();
        messages.map(|message| message.offset()).collect()
    };
    let lobby = name("lobby");
    for (since, limit, expected, more) in [
        (Some(&since), 2, vec![2, 3], true),
        (Some(&since), 3, vec![2, 3, 4], false),
        (None, 2, vec![3, 4], false),
        (None, 9, vec![1, 2, 3, 4], false),
    ] {
        let selection = Selection {
            since: since.cloned(),
            last: limit,
            limit: Some(limit),
        };
        let extract = rooms.read(&lobby, &selection).await;
        let extract = extract.expect("a log in memory");
        assert_eq!((offsets(&extract), extract.more), (expected, more));
        assert_eq!(extract.recovered, since.map(|_| true));
    }
}
