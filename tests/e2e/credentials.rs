//! Every way to present a token, and what happens with two of them.

use harness::{Opening, Options, SocketClient, Stack, client::Credential};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_taken_from_the_payload_the_header_or_the_query() {
    let stack = Stack::start().await;
    let token = stack.login("alice").await;
    for credential in [
        Credential::Auth(json!(token)),
        Credential::Auth(json!(format!("Bearer {token}"))),
        Credential::Auth(json!(format!("bearer {token}"))),
        Credential::Auth(json!(format!("BEARER {token}"))),
        Credential::Header(format!("Bearer {token}")),
        Credential::Header(format!("bearer {token}")),
        Credential::Header(format!("BeArEr {token}")),
        Credential::Query(token.clone()),
    ] {
        let client = SocketClient::connect(&stack.gateway_url, credential.clone()).await;
        let mut client = client.unwrap_or_else(|text| panic!("{credential:?}: {text}"));
        let answer = client.call("rt:subscribe", json!({"room": "lobby"})).await;
        assert_eq!(answer["ok"], true, "{answer}");
        client.disconnect().await;
    }
    let refused = SocketClient::connect(&stack.gateway_url, Credential::None)
        .await
        .err();
    let refused = refused.expect("a refusal");
    assert!(refused.contains("\"no token provided\""), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_socket_io_2_are_connected_without_asking_by_query_or_header() {
    let stack = Stack::start().await;
    let token = stack.login("alice").await;
    let by_query = Opening::of(&stack).version_3().query("token", &token);
    let by_header = Opening::of(&stack)
        .version_3()
        .header("authorization", &format!("Bearer {token}"));
    for opening in [by_query, by_header] {
        let mut socket = opening.session().await;
        let packet = socket.packet().await;
        assert!(packet.starts_with("40"), "{packet}");
        socket.subscribe("lobby").await;
    }
    let mut socket = Opening::of(&stack).version_3().session().await;
    let packet = socket.packet().await;
    let refused = packet.strip_prefix("44").expect("an error packet");
    let refused: Value = serde_json::from_str(refused).expect("JSON");
    assert_eq!(refused["message"], "no token provided");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_token_may_come_twice_and_two_different_ones_may_not() {
    let stack = Stack::start().await;
    let token = stack.login("alice").await;
    let other = stack.login("alice").await;
    assert_ne!(token, other);
    let bearer = format!("Bearer {token}");
    let plain = Opening::of(&stack);
    let by_header = plain.clone().header("authorization", &bearer);
    let by_query = plain.clone().query("token", &token);
    let by_both = by_header.clone().query("token", &token);
    let twice = by_query.clone().query("token", &token);
    let headers = by_header.clone().header("authorization", &bearer);
    for (opening, payload) in [
        (&by_header, json!({"token": token})),
        (&by_query, json!({ "token": bearer })),
        (&by_both, json!({"token": token})),
        (&by_both, json!({})),
        (&twice, json!({})),
        (&headers, json!({})),
    ] {
        let sid = opening.session().await.connect(&payload).await;
        sid.expect("the same token each time");
    }
    let disagreeing = by_header.clone().query("token", &other);
    let two = by_query.clone().query("token", &other);
    let other_bearer = format!("Bearer {other}");
    let two_headers = by_header.clone().header("authorization", &other_bearer);
    for (opening, payload) in [
        (&by_header, json!({"token": other})),
        (&by_query, json!({"token": other})),
        (&by_both, json!({"token": other})),
        (&disagreeing, json!({})),
        (&disagreeing, json!({"token": token})),
        (&two, json!({})),
        (&two_headers, json!({})),
    ] {
        let refused = opening.session().await.connect(&payload).await;
        assert_eq!(
            refused.expect_err("two tokens").message(),
            "more than one token provided"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_is_turned_off_is_not_looked_at() {
    let options = Options::default().gateway("credentials", json!(["auth"]));
    let stack = Stack::start_with(options).await;
    let token = stack.login("alice").await;
    let other = stack.login("alice").await;
    let plain = Opening::of(&stack);
    let by_query = plain.clone().query("token", &token);
    let by_header = plain
        .clone()
        .header("authorization", &format!("Bearer {token}"));
    for opening in [&by_query, &by_header] {
        let refused = opening.session().await.connect(&json!({})).await;
        assert_eq!(
            refused.expect_err("no token").message(),
            "no token provided"
        );
        // What is not looked at cannot disagree either.
        let admitted = opening
            .session()
            .await
            .connect(&json!({"token": other}))
            .await;
        admitted.expect("the token of the payload");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cookie_is_a_credential_beside_a_listed_origin_alone() {
    let options = Options::default()
        .gateway("credentials", json!(["auth", "cookie"]))
        .gateway("auth.cookie_name", "token");
    let stack = Stack::start_with(options).await;
    let strict = Stack::start().await;
    let cookie = |stack: &Stack, token: &str| {
        let cookies = format!("theme=dark; token={token}");
        let opening = Opening::of(stack).header("cookie", &cookies);
        (
            opening.clone().header("origin", &stack.gateway_url),
            opening,
        )
    };
    let token = stack.forge().token();
    let (from_the_page, from_nowhere) = cookie(&stack, &token);
    let mut socket = from_the_page.session().await;
    socket.connect(&json!({})).await.expect("the cookie");
    socket.subscribe("lobby").await;
    // The same token may come in the payload too, and another one may not.
    let mut twice = from_the_page.session().await;
    let same = json!({ "token": token });
    twice.connect(&same).await.expect("the same token");
    let other = json!({"token": stack.forge().token()});
    let refused = from_the_page.session().await.connect(&other).await;
    assert_eq!(
        refused.expect_err("two tokens").message(),
        "more than one token provided"
    );

    let (unasked, _) = cookie(&strict, &strict.forge().token());
    for opening in [&from_nowhere, &unasked] {
        let refused = opening.session().await.connect(&json!({})).await;
        assert_eq!(
            refused.expect_err("no token").message(),
            "no token provided"
        );
    }
    let from_another = from_nowhere.header("origin", "https://evil.example");
    assert_eq!(from_another.open().await.err(), Some(403));
}
