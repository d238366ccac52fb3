use std::time::Duration;

use serde_json::{json, value::to_raw_value};

use super::*;
use crate::{config::HistorySettings, messages::Data, session::Sender};

fn rooms_with(history: HistorySettings) -> Rooms {
    let config = Config {
        history,
        ..Config::default()
    };
    Rooms::new(&config, &Arc::default())
}

fn name(text: &str) -> RoomName {
    RoomName::parse(text).expect("a room name")
}

/// Publishes so many bytes.
fn publish(rooms: &Rooms, room: &str, bytes: usize) -> Position {
    let sender = Sender {
        iss: None,
        sub: Some("alice".to_owned()),
        name: None,
        connection: "c".to_owned(),
    };
    let message = Message {
        room: name(room),
        event: "message".to_owned(),
        data: Data::json(to_raw_value(&json!("x".repeat(bytes))).expect("JSON")),
        id: "m".to_owned(),
        from: sender,
        ts: 0,
    };
    let acceptance = rooms.publish(message, None, &Metrics::new());
    acceptance.position
}

/// Whether whoever has the message at `position` misses nothing.
fn recovers(rooms: &Rooms, room: &str, position: &Position) -> bool {
    let since = Since {
        epoch: position.epoch.0.to_string(),
        offset: position.offset,
    };
    let extract = rooms.read(&name(room), Some(&since), usize::MAX);
    extract.recovered.expect("an answer to since")
}

fn kept_bytes(rooms: &Rooms) -> usize {
    rooms.terms.kept_bytes.load(Ordering::Relaxed)
}

#[test]
fn the_rooms_that_keep_most_forget_theirs_when_all_keep_too_much() {
    let rooms = rooms_with(HistorySettings {
        bytes: 20_000,
        total_bytes: 20_000,
        ..HistorySettings::default()
    });
    let small = publish(&rooms, "small", 1000);
    publish(&rooms, "small", 1000);
    let large = publish(&rooms, "large", 1000);
    while kept_bytes(&rooms) < 18_000 {
        publish(&rooms, "large", 1000);
    }
    assert!(recovers(&rooms, "small", &small) && recovers(&rooms, "large", &large));
    // One more is too much, wherever it is said.
    let last = publish(&rooms, "small", 2000);
    assert!(kept_bytes(&rooms) <= 15_000, "{}", kept_bytes(&rooms));
    assert!(recovers(&rooms, "small", &small) && recovers(&rooms, "small", &last));
    assert!(!recovers(&rooms, "large", &large));
}

#[tokio::test(start_paused = true)]
async fn a_room_begins_a_new_life_when_nobody_needs_the_old_one() {
    let rooms = rooms_with(HistorySettings {
        secs: 60,
        ..HistorySettings::default()
    });
    let first = publish(&rooms, "lobby", 10);
    tokio::time::advance(Duration::from_secs(59)).await;
    rooms.sweep();
    assert!(recovers(&rooms, "lobby", &first));
    let second = publish(&rooms, "lobby", 10);
    assert_eq!((&second.epoch, second.offset), (&first.epoch, 2));

    tokio::time::advance(Duration::from_secs(59)).await;
    rooms.sweep();
    // The first is too old by now, and the second is not.
    assert!(recovers(&rooms, "lobby", &first) && recovers(&rooms, "lobby", &second));
    let start = Position { offset: 0, ..first };
    assert!(!recovers(&rooms, "lobby", &start));
    tokio::time::advance(Duration::from_secs(1)).await;
    rooms.sweep();
    assert_eq!((rooms.lock().len(), kept_bytes(&rooms)), (0, 0));
    assert!(!recovers(&rooms, "lobby", &second));
    let third = publish(&rooms, "lobby", 10);
    assert_eq!(third.offset, 1);
    assert_ne!(third.epoch, second.epoch);
}

#[test]
fn reading_a_room_that_is_not_there_makes_none() {
    let rooms = rooms_with(HistorySettings::default());
    let extract = rooms.read(&name("lobby"), None, 10);
    assert_eq!((extract.position.offset, extract.messages.len()), (0, 0));
    assert_eq!((rooms.lock().len(), kept_bytes(&rooms)), (0, 0));
    publish(&rooms, "lobby", 10);
    assert_eq!(rooms.lock().len(), 1);
}

#[test]
fn a_room_that_keeps_nothing_is_gone_with_its_message() {
    let rooms = rooms_with(HistorySettings {
        messages: 0,
        ..HistorySettings::default()
    });
    let first = publish(&rooms, "lobby", 10);
    let second = publish(&rooms, "lobby", 10);
    assert_eq!((first.offset, second.offset), (1, 1));
    assert_ne!(first.epoch, second.epoch);
    assert_eq!((rooms.lock().len(), kept_bytes(&rooms)), (0, 0));
}

#[test]
fn a_part_of_what_is_kept_says_whether_there_is_more() {
    let rooms = rooms_with(HistorySettings::default());
    let start = publish(&rooms, "lobby", 10);
    for _ in 0..3 {
        publish(&rooms, "lobby", 10);
    }
    let since = Since {
        epoch: start.epoch.0.to_string(),
        offset: 1,
    };
    let offsets = |extract: &Extract| -> Vec<u64> {
        let messages = extract.messages.iter();
        messages.map(|message| message.position.offset).collect()
    };
    let lobby = name("lobby");
    for (since, limit, expected, more) in [
        (Some(&since), 2, vec![2, 3], true),
        (Some(&since), 3, vec![2, 3, 4], false),
        (None, 2, vec![3, 4], false),
        (None, 9, vec![1, 2, 3, 4], false),
    ] {
        let extract = rooms.read(&lobby, since, limit);
        assert_eq!((offsets(&extract), extract.more), (expected, more));
        assert_eq!(extract.recovered, since.map(|_| true));
    }
}
