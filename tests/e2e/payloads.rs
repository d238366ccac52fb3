//! What is no CONNECT payload and no event: an answer for its sender, and nothing for the others.

use harness::{Opening, Options, Stack, WebSocket};
use serde_json::json;

const MALFORMED: &str = "connect payload must be an object";

/// A subscriber of the lobby, who sees whatever should not be seen.
async fn bystander(stack: &Stack) -> WebSocket {
    let mut bystander = Opening::of(stack).admitted(&stack.forge().token()).await;
    bystander.subscribe("lobby").await;
    bystander
}

/// The bystander has seen nothing so far, and is served as ever.
async fn assert_undisturbed(bystander: &mut WebSocket) {
    bystander.publish("lobby", json!("still here")).await;
    let event = bystander.event().await;
    assert_eq!(event[0], "message");
    assert_eq!(event[1], "still here");
}

fn nested(depth: usize) -> String {
    format!("{}{}", "[".repeat(depth), "]".repeat(depth))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connect_payload_that_is_no_object_is_refused_for_its_sender_alone() {
    let stack = Stack::start().await;
    let mut bystander = bystander(&stack).await;
    let token = stack.forge().token();
    for payload in [
        format!("\"{token}\""),
        format!("[{{\"token\":\"{token}\"}}]"),
        "[]".to_owned(),
        "[1]".to_owned(),
        "true".to_owned(),
        "null1".to_owned(),
        format!("{{\"token\":\"{token}\""),
        format!("{{\"token\":\"{token}\"}}}}"),
        "{".to_owned(),
        "{]".to_owned(),
        format!("{{'token':'{token}'}}"),
        nested(7_000),
        format!("{{\"token\":{}}}", nested(7_000)),
        format!("{{\"token\":\"{token}\",\"x\":{}}}", nested(7_000)),
    ] {
        let what = &payload[..payload.len().min(40)];
        let refused = Opening::of(&stack)
            .session()
            .await
            .connect_with(&payload)
            .await;
        assert_eq!(refused.expect_err(what).message(), MALFORMED, "{what}");
        let twin = format!("{{\"token\":\"{token}\",\"x\":{}}}", nested(20));
        let admitted = Opening::of(&stack)
            .session()
            .await
            .connect_with(&twin)
            .await;
        admitted.expect("an object with the same token");
    }
    assert_undisturbed(&mut bystander).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_no_text_is_refused_for_its_sender_alone() {
    let stack = Stack::start().await;
    let mut bystander = bystander(&stack).await;
    let token = stack.forge().token();
    for value in [
        json!(1),
        json!(true),
        json!([token]),
        json!({"token": token}),
        json!({}),
    ] {
        let refused = Opening::of(&stack)
            .session()
            .await
            .connect(&json!({ "token": value }))
            .await;
        assert_eq!(
            refused.expect_err("no text").message(),
            "invalid token datatype"
        );
    }
    Opening::of(&stack).admitted(&token).await;
    assert_undisturbed(&mut bystander).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_namespace_is_nobodys_way_in() {
    let stack = Stack::start().await;
    let mut bystander = bystander(&stack).await;
    let token = stack.forge().token();
    for namespace in ["/admin", "/rt", "//", "/lobby"] {
        let mut socket = Opening::of(&stack).session().await;
        socket
            .send(format!("40{namespace},{}", json!({ "token": token })))
            .await;
        let packet = socket.packet().await;
        assert!(packet.starts_with(&format!("44{namespace},")), "{packet}");
        assert!(!packet.contains(&token), "{packet}");
        socket
            .connect(&json!({ "token": token }))
            .await
            .expect("the namespace that there is");
    }
    assert_undisturbed(&mut bystander).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_namespace_may_be_written_out_as_the_swift_client_does() {
    let stack = Stack::start().await;
    let token = stack.forge().token();
    let mut socket = Opening::of(&stack).session().await;
    let payload = format!("/,{}", json!({ "token": token }));
    socket.connect_with(&payload).await.expect("admitted");
    socket.subscribe("lobby").await;
    let refused = Opening::of(&stack)
        .session()
        .await
        .connect_with("/,{}")
        .await;
    assert_eq!(
        refused.expect_err("no token").message(),
        "no token provided"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn packets_that_are_none_disturb_nobody_else() {
    let stack = Stack::start().await;
    let mut bystander = bystander(&stack).await;
    for packet in [
        "",
        "4",
        "9",
        "x",
        "42",
        "42[",
        "42{}",
        "42[]",
        "42[1]",
        "42null",
        "42[\"a\"",
        "421",
        "4299999999999999999999[\"a\"]",
        "43",
        "431[]",
        "44{}",
        "45",
        "451-",
        "451-[\"a\",{\"_placeholder\":true,\"num\":0}]",
        "45999999999-[\"a\"]",
        "46",
        "47",
        "48",
        "0{}",
        "6",
        "2probe",
        "5",
        "40{}",
        "\u{1e}",
        "4\0",
    ] {
        let mut socket = Opening::of(&stack).admitted(&stack.forge().token()).await;
        socket.send(packet).await;
        // It is ignored, answered or hung up on; the gateway decides, but it does not stop.
        socket
            .try_send("420[\"rt:unsubscribe\",{\"room\":\"lobby\"}]")
            .await;
        let mut unadmitted = Opening::of(&stack).session().await;
        unadmitted.send(packet).await;
    }
    let deep = nested(7_000);
    let mut socket = Opening::of(&stack).admitted(&stack.forge().token()).await;
    socket
        .send(format!(
            "421[\"rt:publish\",{{\"room\":\"lobby\",\"event\":\"message\",\"data\":{deep}}}]"
        ))
        .await;
    if let Some(packet) = socket.next().await {
        let answer =
            harness::websocket::parse(packet.strip_prefix("431").expect("an acknowledgement"));
        assert_eq!(answer[0]["ok"], false, "{answer}");
    }
    assert_undisturbed(&mut bystander).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_heard_and_nothing_is_done_before_admission() {
    // A refused session may try again as often as it likes here, so that it is the event alone
    // that is without effect.
    let options = Options::default().gateway("limits.refusals", 100);
    let stack = Stack::start_with(options).await;
    let mut bystander = bystander(&stack).await;
    let publish = json!(["rt:publish", {"room": "lobby", "event": "message", "data": "intruder"}]);
    let mut refused = Opening::of(&stack).session().await;
    refused
        .connect(&json!({"token": "x"}))
        .await
        .expect_err("no token");
    let mut silent = Opening::of(&stack).session().await;
    for socket in [&mut refused, &mut silent] {
        socket
            .try_send("420[\"rt:subscribe\",{\"room\":\"lobby\"}]")
            .await;
        socket.try_send(format!("421{publish}")).await;
    }
    // Their connections may end at that, but neither is told anything of what goes on.
    assert_undisturbed(&mut bystander).await;
    let (refused, silent) = tokio::join!(refused.closed(), silent.closed());
    assert_eq!((refused, silent), (vec![], vec![]));
    // The same two events after admission.
    let mut admitted = Opening::of(&stack).admitted(&stack.forge().token()).await;
    admitted.subscribe("lobby").await;
    admitted.publish("lobby", json!("member")).await;
    assert_eq!(bystander.event().await[1], "member");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_and_comes_back_without_end_is_closed() {
    const CONNECTS: usize = 64;
    let stack = Stack::start_with(Options::default()).await;
    let payload = json!({ "token": stack.forge().token() });
    let mut socket = Opening::of(&stack).session().await;
    for _ in 0..CONNECTS {
        socket.connect_again(&payload).await.expect("admitted");
        socket.send("41").await;
    }
    socket.try_send(format!("40{payload}")).await;
    assert_eq!(socket.closed().await, Vec::<String>::new());
}
