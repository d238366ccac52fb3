//! What somebody is told who comes back to a room: all that was said meanwhile, or that it is not all.

use harness::{Opening, Options, Stack, WebSocket, forge::Forge};
use serde_json::{Value, json};

async fn member(stack: &Stack) -> WebSocket {
    Opening::of(stack).admitted(&stack.forge().token()).await
}

/// A member that may do only this in `room`.
async fn restricted(stack: &Stack, room: &str, actions: &[&str]) -> WebSocket {
    let detail = json!([{"type": "realtime", "actions": actions, "rooms": [room]}]);
    let forge = stack.forge().claim("authorization_details", detail);
    Opening::of(stack).admitted(&forge.token()).await
}

/// What the messages of an answer say.
fn said(answer: &Value) -> Vec<Value> {
    let messages = answer["messages"].as_array().expect("messages");
    messages
        .iter()
        .map(|message| message["data"].clone())
        .collect()
}

fn since(answer: &Value) -> Value {
    json!({"epoch": answer["epoch"], "offset": answer["offset"]})
}

async fn publish_numbers(publisher: &mut WebSocket, numbers: std::ops::RangeInclusive<u64>) {
    for number in numbers {
        publisher.publish("lobby", json!(number)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_is_told_what_was_said_meanwhile_and_then_what_follows() {
    let stack = Stack::start().await;
    let mut publisher = member(&stack).await;
    let mut first = member(&stack).await;
    let left = first.subscribe("lobby").await;
    drop(first);
    publish_numbers(&mut publisher, 1..=3).await;

    let mut back = member(&stack).await;
    let payload = json!({"room": "lobby", "since": since(&left)});
    let answer = back.call("rt:subscribe", payload).await;
    assert_eq!(
        (&answer["ok"], &answer["recovered"], &answer["offset"]),
        (&json!(true), &json!(true), &json!(3))
    );
    assert_eq!(said(&answer), [json!(1), json!(2), json!(3)]);
    let message = &answer["messages"][0];
    assert_eq!(message["event"], "message");
    assert_eq!(
        (&message["meta"]["epoch"], &message["meta"]["offset"]),
        (&answer["epoch"], &json!(1))
    );
    publish_numbers(&mut publisher, 4..=4).await;
    let event = back.event().await;
    assert_eq!((&event[1], &event[2]["offset"]), (&json!(4), &json!(4)));

    // Who has missed nothing is told that, too.
    let payload = json!({"room": "lobby", "since": {"epoch": answer["epoch"], "offset": 4}});
    let answer = back.call("rt:subscribe", payload).await;
    assert_eq!(
        (&answer["recovered"], said(&answer).len()),
        (&json!(true), 0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_been_away_for_too_many_messages_is_told_that_some_are_missing() {
    let options = Options::default().gateway("history.messages", 3);
    let stack = Stack::start_with(options).await;
    let mut publisher = member(&stack).await;
    let left = publisher.subscribe("lobby").await;
    publish_numbers(&mut publisher, 1..=4).await;

    let mut back = member(&stack).await;
    let payload = json!({"room": "lobby", "since": since(&left)});
    let answer = back.call("rt:subscribe", payload).await;
    assert_eq!(
        (&answer["recovered"], answer.get("messages")),
        (&json!(false), None)
    );
    // With one message less to fetch, the twin gets all of them.
    let payload = json!({"room": "lobby", "since": {"epoch": left["epoch"], "offset": 1}});
    let answer = back.call("rt:subscribe", payload).await;
    assert_eq!(answer["recovered"], true);
    assert_eq!(said(&answer), [json!(2), json!(3), json!(4)]);

    // Another life of the room, and a place that it never came to.
    for (epoch, offset) in [(json!("another"), 4), (left["epoch"].clone(), 5)] {
        let since = json!({"epoch": epoch, "offset": offset});
        let payload = json!({"room": "lobby", "since": since, "history": 1});
        let answer = back.call("rt:subscribe", payload).await;
        assert_eq!(answer["recovered"], false, "{since}");
        assert_eq!(said(&answer), [json!(4)], "{since}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn history_is_for_those_who_may_read_it() {
    let stack = Stack::start().await;
    let mut publisher = restricted(&stack, "news", &["sub", "pub", "hst"]).await;
    let start = publisher.subscribe("news").await;
    for number in 1..=3 {
        publisher.publish("news", json!(number)).await;
    }
    let read = json!({"room": "news", "limit": 2});
    let answer = publisher.call("rt:history", read.clone()).await;
    assert_eq!(
        (&answer["ok"], &answer["more"], &answer["offset"]),
        (&json!(true), &json!(false), &json!(3))
    );
    assert_eq!(said(&answer), [json!(2), json!(3)]);
    let read_since = json!({"room": "news", "since": since(&start), "limit": 2});
    let answer = publisher.call("rt:history", read_since.clone()).await;
    assert_eq!(
        (&answer["more"], &answer["recovered"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(said(&answer), [json!(1), json!(2)]);

    // A place that is not in this life of the room: the pages begin with the oldest message.
    let foreign = json!({"epoch": "another", "offset": 2});
    let payload = json!({"room": "news", "since": foreign, "limit": 2});
    let answer = publisher.call("rt:history", payload).await;
    assert_eq!(
        (&answer["more"], &answer["recovered"]),
        (&json!(true), &json!(false))
    );
    assert_eq!(said(&answer), [json!(1), json!(2)]);

    // Who may only hear the room is told nothing of what was said before.
    let mut hearer = restricted(&stack, "news", &["sub"]).await;
    for payload in [read, read_since] {
        let answer = hearer.call("rt:history", payload).await;
        assert_eq!(answer["error"]["code"], "forbidden", "{answer}");
    }
    let payload = json!({"room": "news", "history": 1});
    let answer = hearer.call("rt:subscribe", payload).await;
    assert_eq!(answer["error"]["code"], "forbidden", "{answer}");
    let payload = json!({"room": "news", "since": since(&start)});
    let answer = hearer.call("rt:subscribe", payload).await;
    assert_eq!(
        (&answer["ok"], &answer["recovered"], answer.get("messages")),
        (&json!(true), &json!(false), None)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_published_twice_under_one_id_arrives_once() {
    let stack = Stack::start().await;
    let forge: Forge = stack.forge();
    let mut publisher = Opening::of(&stack).admitted(&forge.token()).await;
    let mut subscriber = member(&stack).await;
    subscriber.subscribe("lobby").await;
    let payload = |id: &str| json!({"room": "lobby", "event": "message", "data": id, "id": id});
    let first = publisher.call("rt:publish", payload("a")).await;
    drop(publisher);
    // It comes back, does not know whether it arrived, and sends it again.
    let mut publisher = Opening::of(&stack).admitted(&forge.token()).await;
    let second = publisher.call("rt:publish", payload("a")).await;
    assert_eq!(
        (&second["epoch"], &second["offset"], &second["duplicate"]),
        (&first["epoch"], &first["offset"], &json!(true))
    );
    assert_eq!(first.get("duplicate"), None);
    // Another id, and the same id of another user, are other messages.
    let third = publisher.call("rt:publish", payload("b")).await;
    let other = stack.forge().claim("sub", "somebody-else");
    let mut other = Opening::of(&stack).admitted(&other.token()).await;
    let fourth = other.call("rt:publish", payload("a")).await;
    assert_eq!(
        (&third["offset"], &fourth["offset"]),
        (&json!(2), &json!(3))
    );
    for offset in 1..=3 {
        assert_eq!(subscriber.event().await[2]["offset"], offset);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_without_members_keeps_what_was_said_and_its_numbers() {
    let stack = Stack::start().await;
    let mut publisher = member(&stack).await;
    let first = publisher.publish("lobby", json!("nobody is here")).await;
    let second = publisher.publish("lobby", json!("still nobody")).await;
    assert_eq!(first["epoch"], second["epoch"]);
    let payload = json!({"room": "lobby", "history": 10});
    let answer = member(&stack).await.call("rt:subscribe", payload).await;
    assert_eq!(
        (&answer["epoch"], &answer["offset"]),
        (&first["epoch"], &json!(2))
    );
    assert_eq!(
        said(&answer),
        [json!("nobody is here"), json!("still nobody")]
    );
}

/// The parts of a message that has binary data in two places.
const PARTS: [&[u8]; 2] = [b"second", b"first"];

/// Reads the two attachments of a packet, and returns the parts of its data.
async fn parts(socket: &mut WebSocket, data: &Value) -> Vec<Vec<u8>> {
    let attachments = [socket.binary().await, socket.binary().await];
    let parts = data["parts"].as_array().expect("parts").iter();
    let part = |part: &Value| {
        assert_eq!(part["_placeholder"], true);
        attachments[usize::try_from(part["num"].as_u64().expect("a number")).expect("small")]
            .clone()
    };
    parts.map(part).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn binary_data_reaches_subscribers_and_those_who_come_later() {
    let stack = Stack::start().await;
    let mut publisher = member(&stack).await;
    let mut subscriber = member(&stack).await;
    subscriber.subscribe("lobby").await;
    let placeholder = |number: u32| json!({"_placeholder": true, "num": number});
    let publish = |data: Value| {
        let payload = json!({"room": "lobby", "event": "image", "data": data});
        json!(["rt:publish", payload])
    };
    let data = json!({"name": "a", "parts": [placeholder(1), placeholder(0)]});
    publisher.send(format!("452-1{}", publish(data))).await;
    publisher.send_binary(b"first").await;
    publisher.send_binary(b"second").await;
    let answer = publisher.acknowledgement(1).await;
    assert_eq!(answer["ok"], true, "{answer}");

    let packet = subscriber.packet().await;
    let event = packet.strip_prefix("452-").expect("a binary event");
    let event = harness::websocket::parse(event);
    assert_eq!(
        (&event[0], &event[1]["name"]),
        (&json!("image"), &json!("a"))
    );
    assert_eq!(parts(&mut subscriber, &event[1]).await, PARTS);

    let mut later = member(&stack).await;
    let subscribe = json!(["rt:subscribe", {"room": "lobby", "history": 1}]);
    later.send(format!("421{subscribe}")).await;
    let packet = later.packet().await;
    let answer = packet.strip_prefix("462-1").expect("a binary answer");
    let answer = harness::websocket::parse(answer);
    let data = &answer[0]["messages"][0]["data"];
    assert_eq!(parts(&mut later, data).await, PARTS);

    // An attachment without a place, and a place without an attachment.
    for data in [json!("none"), placeholder(1)] {
        publisher.send(format!("451-1{}", publish(data))).await;
        publisher.send_binary(b"lost").await;
        let answer = publisher.acknowledgement(1).await;
        assert_eq!(answer["error"]["code"], "invalid_request", "{answer}");
    }
    // Other events take none.
    let packet = json!(["rt:history", {"room": placeholder(0)}]);
    publisher.send(format!("451-1{packet}")).await;
    publisher.send_binary(b"no room").await;
    let answer = publisher.acknowledgement(1).await;
    assert_eq!(answer["error"]["code"], "invalid_request", "{answer}");
}
