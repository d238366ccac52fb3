//! Too much of something: it costs the one who sends it, and nobody else.

use harness::{Opening, Options, Polling, Stack, WebSocket, eventually};
use reqwest::StatusCode;
use serde_json::json;

async fn member(stack: &Stack) -> WebSocket {
    let mut socket = Opening::of(stack).admitted(&stack.forge().token()).await;
    socket.subscribe("lobby").await;
    socket
}

fn publish(bytes: usize) -> String {
    let payload = json!({"room": "lobby", "event": "message", "data": "x".repeat(bytes)});
    format!("421{}", json!(["rt:publish", payload]))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_10_mb_closes_its_sender_alone() {
    let stack = Stack::start().await;
    let (mut sender, mut other) = (member(&stack).await, member(&stack).await);
    sender.try_send(publish(10_000_000)).await;
    assert_eq!(sender.closed().await, [""; 0]);
    let mut fits = Opening::of(&stack).admitted(&stack.forge().token()).await;
    fits.send(publish(1_000_000)).await;
    assert_eq!(fits.acknowledgement(1).await["ok"], true);
    let event = other.event().await;
    assert_eq!(event[1].as_str().map(str::len), Some(1_000_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connect_of_10_mb_closes_its_sender_alone() {
    let stack = Stack::start().await;
    let mut other = member(&stack).await;
    let mut sender = Opening::of(&stack).session().await;
    sender
        .try_send(format!("40{}", json!({"token": "x".repeat(10_000_000)})))
        .await;
    assert_eq!(sender.closed().await, [""; 0]);
    other.publish("lobby", json!("fine")).await;
    assert_eq!(other.event().await[1], "fine");
}

#[tokio::test(flavor = "multi_thread")]
async fn before_admission_a_client_is_worth_16_kib() {
    let options = Options::default()
        // Socketioxide has one limit for all messages.
        .gateway("carrier", "engine")
        // Longer than the test waits for the end of a connection.
        .gateway("limits.refusal_linger_ms", 60_000);
    let stack = Stack::start_with(options).await;
    for (opening, told) in [
        (Opening::of(&stack), vec![]),
        // Clients of Engine.IO 3 are rejected before they send anything.
        (Opening::of(&stack).version_3(), vec!["44"]),
    ] {
        let mut sender = opening.session().await;
        sender
            .try_send(format!("40{}", json!({"token": "x".repeat(17_000)})))
            .await;
        let packets = sender.closed().await;
        let types: Vec<_> = packets.iter().map(|packet| &packet[..2]).collect();
        assert_eq!(types, told);
    }
    let mut fits = Opening::of(&stack).session().await;
    let refused = fits.connect(&json!({"token": "x".repeat(16_000)})).await;
    assert_eq!(refused.expect_err("no token").message(), "jwt too large");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poll_of_10_mb_is_answered_413_and_the_session_goes_on() {
    let stack = Stack::start().await;
    let mut other = member(&stack).await;
    let mut sender = Polling::of(&stack).admitted(&stack.forge().token()).await;
    let (status, body) = sender.post(publish(2_000_000)).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE, "{body}");
    let payload = json!({"room": "lobby", "event": "message", "data": "fits"});
    assert_eq!(sender.call("rt:publish", payload).await["ok"], true);
    assert_eq!(other.event().await[1], "fits");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_connects_to_ever_more_namespaces_and_polls_nothing_is_closed() {
    let stack = Stack::start_with(Options::default().gateway("carrier", "engine")).await;
    for (count, is_served) in [(10, true), (1000, false)] {
        let polling = Polling::of(&stack).open().await.expect("a session");
        let packets: Vec<_> = (0..count).map(|number| format!("40/{number},")).collect();
        let (status, _) = polling.post(packets.join("\u{1e}")).await;
        assert!(status == StatusCode::OK || !is_served, "{status}");
        let (status, _) = polling.get().await;
        assert_eq!(status.is_success(), is_served, "{count} namespaces");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_connects_to_a_namespace_with_an_endless_name_is_closed_without_an_answer() {
    let stack = Stack::start_with(Options::default().gateway("carrier", "engine")).await;
    for (name_bytes, is_served) in [(63, true), (500_000, false)] {
        let mut socket = member(&stack).await;
        let connect = format!("40/{}", "x".repeat(name_bytes));
        // It reads nothing meanwhile.
        for _ in 0..20 {
            socket.try_send(connect.clone()).await;
        }
        if is_served {
            for _ in 0..20 {
                let packet = socket.packet().await;
                assert!(packet.contains("Invalid namespace"), "{packet}");
            }
            socket.subscribe("lobby").await;
        } else {
            assert_eq!(socket.closed().await, [""; 0]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_connect_of_an_admitted_socket_closes_its_transport_as_in_node() {
    let stack = Stack::start_with(Options::default().gateway("carrier", "engine")).await;
    let connect = json!({"token": stack.forge().token()});
    let (mut sender, mut other) = (member(&stack).await, member(&stack).await);
    sender.send(format!("40{connect}")).await;
    assert_eq!(sender.closed().await, [""; 0]);
    let polling = Polling::of(&stack).admitted(&stack.forge().token()).await;
    let (status, _) = polling.post(format!("40{connect}")).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(polling.get().await.0, StatusCode::BAD_REQUEST);
    // A client of Socket.IO 2 has joined without it, and some send it all the same.
    let mut old = Opening::of(&stack)
        .admitted_by_query(&stack.forge().token())
        .await;
    old.send("40").await;
    old.subscribe("lobby").await;
    // A socket that has left its namespace may connect again.
    other.send("41").await;
    other.connect(&connect).await.expect("a good token");
    other.subscribe("lobby").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_may_have_so_many_sessions_and_no_more() {
    let options = Options::default()
        .gateway("limits.sessions_per_address", 3)
        // A session that never sent CONNECT keeps its place for so long.
        .gateway("limits.unauthenticated_secs", 2);
    let stack = Stack::start_with(options).await;
    let mut kept = Vec::new();
    for _ in 0..2 {
        kept.push(member(&stack).await);
    }
    let polling = Polling::of(&stack).open().await.expect("the third");
    assert_eq!(Opening::of(&stack).open().await.err(), Some(429));
    let refused = Polling::of(&stack).open().await;
    assert_eq!(refused.err(), Some(StatusCode::TOO_MANY_REQUESTS));
    let elsewhere = std::net::IpAddr::from([127, 0, 0, 2]);
    Opening::of(&stack)
        .from(elsewhere)
        .admitted(&stack.forge().token())
        .await;
    // A place is free again once a session has ended.
    let (status, _) = polling.post("1").await;
    assert_eq!(status, StatusCode::OK);
    eventually("a free place", || async {
        Opening::of(&stack).open().await.is_ok()
    })
    .await;
    kept[0].publish("lobby", json!("fine")).await;
    assert_eq!(kept[1].event().await[1], "fine");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_socket_may_be_in_so_many_rooms_and_no_more() {
    let options = Options::default().gateway("limits.rooms_per_socket", 1);
    let stack = Stack::start_with(options).await;
    let forge = stack.forge();
    let own = format!("user:{}", forge.text_of("sub"));
    let mut socket = Opening::of(&stack).admitted(&forge.token()).await;
    socket.subscribe("lobby").await;
    let answer = socket.call("rt:subscribe", json!({ "room": own })).await;
    assert_eq!(
        (&answer["ok"], &answer["error"]["code"]),
        (&json!(false), &json!("too_many_rooms"))
    );
    // The same room once more is none more, and one that was left makes room.
    socket.subscribe("lobby").await;
    socket
        .call("rt:unsubscribe", json!({"room": "lobby"}))
        .await;
    socket.subscribe(&own).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_do_not_end_are_not_waited_for() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let options = Options::default().gateway("limits.header_read_secs", 1);
    let stack = Stack::start_with(options).await;
    let mut other = member(&stack).await;
    for start in [
        "",
        "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: x\r\nX-Slow: ",
    ] {
        let tcp = tokio::net::TcpStream::connect(stack.gateway_address).await;
        let mut tcp = tcp.expect("a connection");
        tcp.write_all(start.as_bytes()).await.expect("a start");
        let mut rest = Vec::new();
        let ended = harness::soon("the end of a slow request", tcp.read_to_end(&mut rest)).await;
        // A reset ends it as well.
        assert!(
            ended.is_err() || !rest.starts_with(b"HTTP/1.1 2"),
            "{rest:?}"
        );
    }
    other.publish("lobby", json!("fine")).await;
    assert_eq!(other.event().await[1], "fine");
}

#[tokio::test(flavor = "multi_thread")]
async fn whose_transport_ends_while_it_connects_takes_no_place_afterwards() {
    let options = Options::default().gateway("limits.sockets_per_subject", 1);
    let stack = Stack::start_with(options).await;
    let token = stack.forge().token();
    let connect = format!("40{}", json!({ "token": token }));
    // Whatever stage the client is in when its transport ends, it keeps no place.
    for _ in 0..20 {
        let mut socket = Opening::of(&stack).session().await;
        socket.send(connect.clone()).await;
        for _ in 0..10 {
            socket.try_send("41").await;
            socket.try_send(connect.clone()).await;
        }
        drop(socket);
    }
    eventually("a place for the subject", || async {
        let mut socket = Opening::of(&stack).session().await;
        socket.connect(&json!({ "token": token })).await.is_ok()
    })
    .await;
}
