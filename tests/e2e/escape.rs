//! Who tries to get into rooms that are not theirs: by name, by number, or by being called like
//! somebody else.

use harness::{Forge, Mode, Opening, Options, OtherIssuer, Stack, WebSocket};
use serde_json::{Value, json};

/// What can be tried with a room, each without anything else that could be wrong.
fn attempts(room: &Value) -> [(&'static str, Value); 6] {
    [
        ("rt:subscribe", json!({ "room": room })),
        (
            "rt:subscribe",
            json!({"room": room, "since": {"epoch": "e", "offset": 0}}),
        ),
        ("rt:subscribe", json!({"room": room, "presence": "full"})),
        (
            "rt:publish",
            json!({"room": room, "event": "message", "data": 1}),
        ),
        ("rt:history", json!({ "room": room })),
        ("rt:presence", json!({ "room": room })),
    ]
}

/// Everything that can be tried with the room is answered with `code`.
async fn assert_refused(socket: &mut WebSocket, room: &str, code: &str) {
    for (event, payload) in attempts(&json!(room)) {
        let answer = socket.call(event, payload).await;
        let room: String = room.chars().take(80).collect();
        assert_eq!(answer["error"]["code"], code, "{event} {room}: {answer}");
        assert_eq!(answer["ok"], false, "{event} {room}");
    }
}

/// Everything that can be tried with the room works; gives who is in it.
async fn assert_allowed(socket: &mut WebSocket, room: &str) -> Value {
    let mut last = Value::Null;
    for (event, payload) in attempts(&json!(room)) {
        last = socket.call(event, payload).await;
        assert_eq!(last["ok"], true, "{event} {room}: {last}");
        if event == "rt:publish" {
            assert_eq!(socket.event().await[0], "message", "{room}");
        }
    }
    last
}

fn with_rooms(forge: Forge, rooms: &[&str]) -> Forge {
    let actions = ["sub", "pub", "hst", "prs"];
    let detail = json!([{"type": "realtime", "actions": actions, "rooms": rooms}]);
    forge.claim("authorization_details", detail)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_name_leads_into_a_room_that_is_not_granted() {
    let stack = Stack::start().await;
    let forge = with_rooms(stack.forge(), &["org:acme:**", "chat:*"]).claim("sub", "alice");
    let mut socket = Opening::of(&stack).admitted(&forge.token()).await;
    let own_sid = format!("sid:{}", forge.text_of("sid"));
    for room in [
        // What other servers keep for control, and a socket's own names.
        "sid:1",
        &own_sid,
        "sub:alice",
        "sub:bob",
        "conn:1",
        "/",
        "socket.io",
        "rt:control",
        "room:lobby",
        // Other tenants' rooms, and names that look like one's own.
        "org:zoo:a",
        "org:acme",
        "org:acme2:a",
        "org:ACME:a",
        "org%3Aacme%3Aa",
        "org:acme%3Aa",
        "orgs:acme:a",
        "chat",
        "chat:1:2",
        "user:bob",
        "user:alice:x",
        "lobby ",
        "LOBBY",
    ] {
        assert_refused(&mut socket, room, "forbidden").await;
    }
    for room in [
        "org:acme:**",
        "org:**",
        "chat:*",
        "*",
        "**",
        "*:*",
        "user:{sub}",
        "org:acme:",
        ":",
    ] {
        assert_refused(&mut socket, room, "invalid_room").await;
    }
    for room in [
        "org:acme:a",
        "org:acme:a:b",
        "chat:1",
        "lobby",
        "user:alice",
    ] {
        assert_allowed(&mut socket, room).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_of_a_megabyte_is_no_name_and_a_longer_one_is_not_read() {
    let stack = Stack::start().await;
    let mut socket = Opening::of(&stack).admitted(&stack.forge().token()).await;
    for room in ["a".repeat(1_000_000), "a:".repeat(500_000) + "a"] {
        assert_refused(&mut socket, &room, "invalid_room").await;
    }
    assert_allowed(&mut socket, "lobby").await;
    let payload = json!({"room": "a".repeat(1_100_000)});
    socket
        .try_send(format!("421{}", json!(["rt:subscribe", payload])))
        .await;
    assert_eq!(socket.closed().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_rooms_are_more_than_a_socket_may_be_in_or_the_gateway_keeps() {
    const ROOMS: usize = 10_000;
    const EACH: usize = 500;

    let options = Options::default()
        .gateway("limits.events_per_sec", 1_000_000)
        .gateway("limits.events_burst", 1_000_000)
        .gateway("history.total_bytes", 2 * 1024 * 1024);
    let stack = Stack::start_with(options).await;
    let forge = with_rooms(stack.forge(), &["chat:*"]);
    let mut socket = Opening::of(&stack).admitted(&forge.token()).await;
    let (mut entered, mut refused) = (0, 0);
    for first in (0..ROOMS).step_by(EACH) {
        let packets: Vec<_> = (first..first + EACH)
            .map(|number| {
                let payload = json!({"room": format!("chat:{number}")});
                format!("42{number}{}", json!(["rt:subscribe", payload]))
            })
            .collect();
        socket.send_at_once(&packets).await;
        for _ in 0..EACH {
            let packet = socket.packet().await;
            match packet.contains("\"ok\":true") {
                true => entered += 1,
                false if packet.contains("\"too_many_rooms\"") => refused += 1,
                false => panic!("{packet}"),
            }
        }
    }
    assert_eq!((entered, refused), (100, ROOMS - 100));

    // Rooms that nobody is in are no more than their messages, and those have their bound.
    let first = publish(&mut socket, &["chat:200".to_owned()]).await;
    let rooms: Vec<_> = (201..ROOMS)
        .map(|number| format!("chat:{number}"))
        .collect();
    for some in rooms.chunks(EACH) {
        publish(&mut socket, some).await;
    }
    let last = publish(&mut socket, &[format!("chat:{ROOMS}")]).await;
    for (room, since, recovered) in [
        ("chat:200".to_owned(), first, false),
        (format!("chat:{ROOMS}"), last, true),
    ] {
        let payload = json!({"room": room, "since": since});
        let answer = socket.call("rt:history", payload).await;
        assert_eq!(answer["recovered"], recovered, "{room}: {answer}");
    }
}

/// Publishes a message in each of these rooms, and gives the place of the last one.
async fn publish(socket: &mut WebSocket, rooms: &[String]) -> Value {
    let mut packets: Vec<_> = rooms
        .iter()
        .map(|room| {
            let payload = json!({"room": room, "event": "message", "data": "one of many"});
            format!("42{}", json!(["rt:publish", payload]))
        })
        .collect();
    packets.last_mut().expect("a room").insert(2, '1');
    socket.send_at_once(&packets).await;
    let answer = socket.acknowledgement(1).await;
    assert_eq!(answer["ok"], true, "{answer}");
    json!({"epoch": answer["epoch"], "offset": answer["offset"]})
}

/// A gateway with a second issuer, whose users have rooms of their own.
async fn two_issuers() -> (Stack, OtherIssuer) {
    let other = OtherIssuer::start().await;
    let all = ["sub", "pub", "hst", "prs"];
    let rules = json!([
        {"rooms": ["lobby"], "actions": all, "issuers": ["*"]},
        {"rooms": ["user:{sub}", "org:{org}:**"], "actions": all},
        {"rooms": ["user:{iss}:{sub}", "org:{iss}:{org}"], "actions": all, "issuers": [other.url]},
    ]);
    let options = Options::default()
        .gateway("issuers", json!([other.settings()]))
        .gateway("rooms", rules)
        .gateway("presence.leave_delay_secs", 0);
    (
        Stack::start_with(options.mode(Mode::InProcess)).await,
        other,
    )
}

/// The text as it stands in the name of a room.
fn encoded(text: &str) -> String {
    realtime_service::auth::policy::percent_encode(text)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_subject_of_two_issuers_is_two_people_whatever_their_claims_hold() {
    let (stack, other) = two_issuers().await;
    let iss = encoded(&other.url);
    let like_theirs = format!("{}:alice", other.url);
    for sub in [
        "alice",
        "a:b",
        "**",
        "*",
        "{sub}",
        "a/../b",
        &like_theirs,
        &format!("{iss}:alice"),
    ] {
        let claims = |forge: Forge| forge.claim("sub", sub).claim("org", sub);
        let (ours, theirs) = (claims(stack.forge()), claims(other.forge()));
        // What they would like to be granted by themselves does not count.
        let theirs = with_rooms(theirs, &["user:alice", "org:**"]);
        let mut ours = Opening::of(&stack).admitted(&ours.token()).await;
        let mut theirs = Opening::of(&stack).admitted(&theirs.token()).await;
        let name = encoded(sub);
        let own = [format!("user:{name}"), format!("org:{name}:a")];
        let foreign = [format!("user:{iss}:{name}"), format!("org:{iss}:{name}")];
        for room in &own {
            assert_allowed(&mut ours, room).await;
            assert_refused(&mut theirs, room, "forbidden").await;
        }
        for room in &foreign {
            assert_allowed(&mut theirs, room).await;
            assert_refused(&mut ours, room, "forbidden").await;
        }
        for room in ["user:bob", "org:acme:a", "user:alice:x"] {
            assert_refused(&mut ours, room, "forbidden").await;
            assert_refused(&mut theirs, room, "forbidden").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_shares_a_room_with_their_namesake_is_told_apart_from_them() {
    let (stack, other) = two_issuers().await;
    let (our_alice, their_alice) = (
        stack.forge().claim("sub", "alice"),
        other.forge().claim("sub", "alice"),
    );
    let mut ours = Opening::of(&stack).admitted(&our_alice.token()).await;
    let mut theirs = Opening::of(&stack).admitted(&their_alice.token()).await;
    let payload = json!({"room": "lobby", "presence": "full"});
    ours.call("rt:subscribe", payload.clone()).await;
    let answer = theirs.call("rt:subscribe", payload).await;
    let users = answer["presence"]["users"].as_array().expect("users");
    assert_eq!(users.len(), 2, "{answer}");
    let issuers: Vec<_> = users.iter().map(|user| user.get("iss")).collect();
    assert!(
        issuers.contains(&None) && issuers.contains(&Some(&json!(other.url))),
        "{answer}"
    );
    let joined = ours.event().await;
    assert_eq!(joined[0], "rt:join");
    assert_eq!(joined[1]["user"], json!({"sub": "alice", "iss": other.url}));

    // The same id of each is a message of its own, and shows whose it is.
    let payload = json!({"room": "lobby", "event": "message", "data": 1, "id": "m"});
    for (number, publisher, iss) in [(1, &mut ours, None), (2, &mut theirs, Some(&other.url))] {
        let answer = publisher.call("rt:publish", payload.clone()).await;
        assert_eq!(
            (&answer["offset"], answer.get("duplicate")),
            (&json!(number), None)
        );
        let from = &publisher_event(publisher, number).await["from"];
        assert_eq!(from["sub"], "alice");
        assert_eq!(
            from.get("iss"),
            iss.map(|iss| json!(iss)).as_ref(),
            "{from}"
        );
    }
    drop(theirs);
    loop {
        let event = ours.event().await;
        if event[0] == "rt:leave" {
            assert_eq!(event[1]["user"], json!({"sub": "alice", "iss": other.url}));
            assert_eq!(event[1]["count"], 1);
            return;
        }
    }
}

/// What goes with the message of this number.
async fn publisher_event(socket: &mut WebSocket, number: u64) -> Value {
    loop {
        let event = socket.event().await;
        if event[2]["offset"] == number {
            return event[2].clone();
        }
    }
}
