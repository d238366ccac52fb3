use serde_json::{json, value::RawValue};

use super::*;
use crate::rooms::Epoch;

fn message(data: &str, attachments: &[&'static [u8]]) -> Message {
    let json = RawValue::from_string(data.to_owned()).expect("JSON");
    let attachments = attachments.iter().map(|data| Bytes::from_static(data));
    let draft = Draft {
        room: RoomName::parse("lobby").expect("a room name"),
        event: "a\"b".to_owned(),
        data: Data::new(json, attachments.collect()).expect("data"),
        id: "m".to_owned(),
        from: Sender {
            iss: None,
            sub: Some("alice".into()),
            name: None,
            connection: "c".into(),
        },
        ts: 7,
    };
    let epoch = Epoch("e".into());
    Message::encode(&draft, &Position { epoch, offset: 3 })
}

const META: &str = r#"{"room":"lobby","epoch":"e","offset":3,"id":"m","ts":7,"from":{"sub":"alice","connection":"c"}}"#;

#[test]
fn a_message_is_one_packet_and_its_parts_are_in_it() {
    let message = message(r#"{ "x" : 1.50 }"#, &[]);
    let text = message.packet().text();
    assert_eq!(text, format!(r#"42["a\"b",{{ "x" : 1.50 }},{META}]"#));
    assert_eq!(message.event(), "a\"b");
    assert_eq!(message.data(), json!({"x": 1.5}));
    assert_eq!(
        message.meta()["from"],
        json!({"sub": "alice", "connection": "c"})
    );
    assert!(message.memory() > message.packet().wire_bytes());
}

#[test]
fn attachments_of_several_messages_are_numbered_anew() {
    let two = r#"[{"_placeholder":true,"num":1},{"num":0,"_placeholder":true}]"#;
    let one = r#"{"_placeholder":true,"num":0}"#;
    let messages = [
        message(two, &[b"a", b"b"]),
        message("null", &[]),
        message(one, &[b"c"]),
    ];
    assert!(messages[0].packet().text().starts_with("452-[\"a\\\"b\",["));
    assert_eq!(
        messages[0].data(),
        json!([{"base64": "Yg=="}, {"base64": "YQ=="}])
    );
    let MessageList { json, attachments } = list(messages.iter());
    let list: Value = serde_json::from_str(json.get()).expect("JSON");
    assert_eq!(list[0]["data"][0]["num"], 1);
    assert_eq!(list[0]["data"][1]["num"], 0);
    assert_eq!(list[1]["data"], Value::Null);
    assert_eq!(list[2]["data"]["num"], 2);
    assert_eq!(attachments, [&b"a"[..], b"b", b"c"]);
}

#[test]
fn names_that_peers_listen_for_by_themselves_cannot_be_published() {
    for name in RESERVED_EVENTS {
        assert!(!is_publishable(name), "{name}");
    }
    for name in ["rt:join", "reconnect", "reconnect_attempt", "", "a\0"] {
        assert!(!is_publishable(name), "{name:?}");
    }
    assert!(!is_publishable(&"a".repeat(129)));
    for name in [
        "message",
        "chat:typing",
        "connected",
        "Disconnect",
        &"a".repeat(128),
    ] {
        assert!(is_publishable(name), "{name}");
    }
}
