//! Events are handled in the order in which they were sent, and none is lost, not even the first.

use harness::{Opening, Options, Stack, soon};
use serde_json::{Value, json};

const EVENTS: usize = 2_000;
const CONNECTIONS: usize = 200;

/// An `rt:publish` into the lobby, asking for acknowledgement `number`.
fn publish(number: usize, event: &str, data: Value) -> String {
    let payload = json!({"room": "lobby", "event": event, "data": data});
    format!("42{number}{}", json!(["rt:publish", payload]))
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_two_names_arrive_in_the_order_sent() {
    let stack = Stack::start().await;
    let mut subscriber = Opening::of(&stack).admitted(&stack.forge().token()).await;
    let before = subscriber.subscribe("lobby").await;
    let mut publisher = Opening::of(&stack).admitted(&stack.forge().token()).await;
    let name = |number: usize| {
        if number.is_multiple_of(2) {
            "even"
        } else {
            "odd"
        }
    };
    let packets: Vec<_> = (0..EVENTS)
        .map(|number| publish(number, name(number), json!(number)))
        .collect();
    let publishing = async {
        publisher.send_at_once(&packets).await;
        for number in 0..EVENTS {
            let packet = publisher.packet().await;
            let answer = packet.strip_prefix(&format!("43{number}"));
            let answer = harness::websocket::parse(answer.expect("acknowledgements in order"));
            assert_eq!(answer[0]["ok"], true, "{answer}");
            assert_eq!(answer[0]["offset"], number + 1);
        }
    };
    let receiving = async {
        for number in 0..EVENTS {
            let event = subscriber.event().await;
            assert_eq!(
                (&event[0], &event[1]),
                (&json!(name(number)), &json!(number))
            );
            assert_eq!(event[2]["offset"], number + 1);
            assert_eq!(event[2]["epoch"], before["epoch"]);
        }
    };
    tokio::join!(publishing, receiving);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_different_kinds_are_done_one_after_the_other() {
    let stack = Stack::start().await;
    let mut socket = Opening::of(&stack).admitted(&stack.forge().token()).await;
    // What is published while the socket is in the room comes back to it, and nothing else does.
    let subscribe = json!(["rt:subscribe", {"room": "lobby"}]);
    let unsubscribe = json!(["rt:unsubscribe", {"room": "lobby"}]);
    let mut packets = Vec::new();
    for round in 0..100 {
        packets.push(format!("42{}", subscribe));
        packets.push(publish(round, "inside", json!(round)));
        packets.push(format!("42{}", unsubscribe));
        packets.push(format!(
            "42{}",
            json!(["rt:publish", {"room": "lobby", "event": "outside", "data": round}])
        ));
    }
    socket.send_at_once(&packets).await;
    for round in 0..100 {
        let event = socket.event().await;
        assert_eq!((&event[0], &event[1]), (&json!("inside"), &json!(round)));
        assert_eq!(socket.acknowledgement(round).await["ok"], true);
    }
}

/// A client has to wait for the answer to CONNECT, and one that does not is hung up on, by Node's
/// server too. Either way it knows where it stands, and nothing of its session is left behind.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_sent_in_the_same_write_as_connect_is_answered_or_the_connection_ends() {
    const PLACES: usize = 10;

    let options = Options::default()
        .gateway("limits.sessions_per_address", PLACES)
        // A session that CONNECT never ended for keeps its place for so long.
        .gateway("limits.unauthenticated_secs", 1);
    let stack = Stack::start_with(options).await;
    let place = || async {
        loop {
            match Opening::of(&stack).try_session().await {
                Ok(socket) => return socket,
                // The end of an earlier session is still on its way.
                Err(status) => assert_eq!(status, 429),
            }
        }
    };
    for round in 0..CONNECTIONS {
        let mut socket = soon("a place for a session", place()).await;
        let connect = format!("40{}", json!({"token": stack.forge().token()}));
        let subscribe = format!("420{}", json!(["rt:subscribe", {"room": "lobby"}]));
        socket.send_at_once(&[connect, subscribe]).await;
        while let Some(packet) = socket.next().await {
            if let Some(answer) = packet.strip_prefix("430") {
                assert!(answer.contains("\"ok\":true"), "round {round}: {answer}");
                break;
            }
            assert!(packet.starts_with("40"), "round {round}: {packet}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_sent_as_soon_as_connect_is_answered_is_never_lost() {
    let stack = Stack::start().await;
    for _ in 0..CONNECTIONS {
        let mut socket = Opening::of(&stack).admitted(&stack.forge().token()).await;
        socket.subscribe("lobby").await;
    }
}
