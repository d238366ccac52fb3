//! Somebody's own Socket.IO server behind the guard: the example of the gateway's library, driven as
//! its clients would.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use harness::{Opening, Options, Polling, Stack, WebSocket, soon, websocket::parse};
use reqwest::StatusCode;
use serde_json::{Value, json};

#[expect(dead_code, reason = "its main is for people")]
#[path = "../../realtime-service/examples/own_handlers.rs"]
mod example;

async fn start() -> Stack {
    Stack::start_with(Options::default().app(example::app)).await
}

/// What is answered to CONNECT in a namespace other than `/`.
async fn join(socket: &mut WebSocket, namespace: &str, payload: &Value) -> Result<Value, Value> {
    socket.send(format!("40{namespace},{payload}")).await;
    loop {
        let packet = socket.packet().await;
        for (kind, answer) in [("40", Ok as fn(_) -> _), ("44", Err)] {
            if let Some(body) = packet.strip_prefix(&format!("{kind}{namespace},")) {
                return answer(parse(body));
            }
        }
    }
}

/// Emits an event with these arguments, and gives all arguments of its acknowledgement.
async fn call(socket: &mut WebSocket, event: &str, arguments: &[Value]) -> Value {
    let packet = [&[json!(event)], arguments].concat();
    socket.send(format!("421{}", json!(packet))).await;
    answer(socket, "431").await
}

/// The next packet that begins so; others are passed over.
async fn answer(socket: &mut WebSocket, prefix: &str) -> Value {
    loop {
        let packet = socket.packet().await;
        if let Some(body) = packet.strip_prefix(prefix) {
            return parse(body);
        }
    }
}

/// What `err.data` is for a token that is none.
fn malformed() -> Value {
    let message = "jwt malformed";
    let data = json!({
        "message": message, "code": "invalid_token", "type": "UnauthorizedError",
        "reason": "token_malformed",
    });
    json!({ "message": message, "data": data })
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_no_token_is_refused_and_whoever_has_one_is_greeted() {
    let stack = start().await;
    let token = stack.login("alice").await;
    let refused = Opening::of(&stack)
        .session()
        .await
        .connect(&json!({}))
        .await;
    let refused = refused.expect_err("no token");
    assert_eq!(refused.message(), "no token provided");
    assert_eq!(refused.0["data"]["code"], "credentials_required");
    let garbage = json!({"token": "x"});
    let refused = Opening::of(&stack).session().await.connect(&garbage).await;
    assert_eq!(refused.expect_err("no token").0, malformed());
    let mut socket = Opening::of(&stack).admitted(&token).await;
    let event = socket.event().await;
    assert_eq!((&event[0], &event[1]), (&json!("hi"), &json!("/")));
    assert!(event[2].is_string(), "{event}");
    // Their routes are there, and ours.
    for (path, body) in [("/hello", Some("hello")), ("/health/live", None)] {
        let url = format!("{}{path}", stack.gateway_url);
        let answer = stack.http().get(url).send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        let text = answer.text().await.expect("a text");
        assert!(body.is_none_or(|body| body == text), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_in_another_namespace_has_its_data_before_and_after_an_admission() {
    let stack = start().await;
    let admin = json!({"token": stack.forge().claim("scope", "chat admin").token()});
    let garbage = json!({"token": "x"});
    let mut socket = Opening::of(&stack).session().await;
    let refused = join(&mut socket, "/admin", &garbage).await;
    assert_eq!(refused.expect_err("a bad token"), malformed());
    socket.connect(&admin).await.expect("a good token");
    let refused = join(&mut socket, "/admin", &garbage).await;
    assert_eq!(refused.expect_err("a bad token"), malformed());
    let joined = join(&mut socket, "/admin", &admin).await;
    joined.expect("a good token");
    socket.send(r#"42/admin,7["add",1,2]"#).await;
    assert_eq!(answer(&mut socket, "43/admin,7").await, json!([3, "added"]));

    let mut polling = Polling::of(&stack).admitted(&stack.forge().token()).await;
    polling.post(format!("40/admin,{garbage}")).await;
    let refused = loop {
        let packet = polling.packet().await.expect("a refusal");
        if let Some(body) = packet.strip_prefix("44/admin,") {
            break parse(body);
        }
    };
    assert_eq!(refused, malformed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_middleware_that_refuses_leaves_nobody_behind() {
    let options = Options::default()
        .app(example::app)
        .gateway("limits.sockets_per_subject", 1);
    let stack = Stack::start_with(options).await;
    let forge = stack.forge();
    let payload = json!({"token": forge.token()});
    let mut socket = Opening::of(&stack).session().await;
    let refused = join(&mut socket, "/admin", &payload).await;
    let message = json!({"message": "admins only"});
    assert_eq!(refused.expect_err("no scope"), message);
    // Its place among the sockets of its subject is free again.
    Opening::of(&stack).admitted(&forge.token()).await;
    // Nobody is admitted on its transport, so that ends as after any refusal.
    assert_eq!(socket.closed().await, [""; 0]);

    let admin = json!({"token": stack.forge().claim("scope", "admin").token()});
    let mut socket = Opening::of(&stack).session().await;
    let joined = join(&mut socket, "/admin", &admin).await;
    joined.expect("the scope");
    // For longer than a refused one would stay.
    let linger = Duration::from_secs(3);
    while let Some(packet) = socket.next_within(linger).await {
        packet.expect("a transport that stays");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn handlers_take_and_acknowledge_any_number_of_arguments() {
    let stack = start().await;
    let mut socket = Opening::of(&stack).admitted(&stack.forge().token()).await;
    for arguments in [json!([]), json!(["a"]), json!([[1], {"b": null}, 3.5])] {
        let list = arguments.as_array().expect("a list");
        assert_eq!(call(&mut socket, "echo", list).await, arguments);
    }
    let sum = call(&mut socket, "add", &[json!(20), json!(22)]).await;
    assert_eq!(sum, json!([42, "added"]));
    // Arguments of another number or type reach no handler, and harm nobody.
    for arguments in [r#"[1]"#, r#"[1,2,3]"#, r#"["1",2]"#] {
        let arguments = arguments.trim_start_matches('[');
        socket.send(format!(r#"429["add",{arguments}"#)).await;
    }
    let packet = call(&mut socket, "echo", &[json!("next")]).await;
    assert_eq!(packet, json!(["next"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn binary_data_goes_in_and_out() {
    let stack = start().await;
    let mut socket = Opening::of(&stack).admitted(&stack.forge().token()).await;
    let place = json!({"_placeholder": true, "num": 0});
    let event = json!(["reverse", "file", place]);
    socket.send(format!("451-7{event}")).await;
    socket.send_binary(&[0, 1, 2, 255]).await;
    let answered = answer(&mut socket, "461-7").await;
    assert_eq!(answered, json!(["file", place]));
    // The data comes right after its packet, and so before what is answered next.
    call(&mut socket, "echo", &[]).await;
    assert_eq!(socket.attachments, [[255, 2, 1, 0]]);
    // Arguments that are sent back as they came have their data too.
    let event = json!(["echo", {"file": place}, 1, {"_placeholder": true, "num": 1}]);
    socket.send(format!("452-9{event}")).await;
    socket.send_binary(&[7, 8]).await;
    socket.send_binary(&[9]).await;
    let answered = answer(&mut socket, "462-9").await;
    assert_eq!(answered, json!([{"file": place}, 1, event[3]]));
    call(&mut socket, "echo", &[]).await;
    assert_eq!(socket.attachments[1..], [vec![7, 8], vec![9]]);
    // A placeholder for nothing harms nobody.
    let event = json!(["reverse", "file", {"_placeholder": true, "num": 9}]);
    socket.send(format!("451-8{event}")).await;
    socket.send_binary(&[0]).await;
    call(&mut socket, "echo", &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_handled_in_order_across_their_names() {
    const EVENTS: u32 = 500;
    let stack = start().await;
    let mut socket = Opening::of(&stack).admitted(&stack.forge().token()).await;
    let packets: Vec<_> = (0..EVENTS)
        .map(|number| match number.is_multiple_of(2) {
            true => format!(r#"42{number}["echo",{number}]"#),
            false => format!(r#"42{number}["add",{number},0]"#),
        })
        .collect();
    socket.send_at_once(&packets).await;
    for number in 0..EVENTS {
        let packet = loop {
            let packet = socket.packet().await;
            if packet.starts_with("43") {
                break packet;
            }
        };
        assert!(
            packet.starts_with(&format!("43{number}[{number}")),
            "{packet}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_transport_is_closed_at_the_end_of_the_token() {
    let stack = start().await;
    let forge = stack.forge().claim("scope", "admin").expires_in(2);
    let payload = json!({"token": forge.token()});
    let mut lasting = Opening::of(&stack).admitted(&stack.forge().token()).await;
    let mut socket = Opening::of(&stack).admitted(&forge.token()).await;
    let joined = join(&mut socket, "/admin", &payload).await;
    joined.expect("the scope");
    call(&mut socket, "echo", &[]).await;
    let packets = socket.closed().await;
    let end = UNIX_EPOCH + Duration::from_secs(forge.exp());
    assert!(SystemTime::now() >= end, "closed too early");
    assert!(
        SystemTime::now() < end + Duration::from_secs(1),
        "closed too late"
    );
    let is_told = packets
        .iter()
        .any(|packet| packet.contains("token_expired"));
    assert!(is_told, "{packets:?}");
    call(&mut lasting, "echo", &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_at_the_issuer_ends_the_sockets_of_that_session_alone() {
    let stack = start().await;
    let token = stack.login("alice").await;
    let mut socket = Opening::of(&stack).admitted(&token).await;
    let mut twin = Opening::of(&stack)
        .admitted(&stack.login("alice").await)
        .await;
    call(&mut socket, "echo", &[]).await;
    let logout = stack
        .http()
        .post(format!("{}/logout", stack.issuer_url))
        .bearer_auth(&token);
    let logged_out = soon("an answer", logout.send()).await.expect("an answer");
    assert_eq!(logged_out.status(), StatusCode::NO_CONTENT);
    assert_eq!(socket.closed().await, ["41"]);
    let again = Opening::of(&stack)
        .session()
        .await
        .connect(&json!({ "token": token }))
        .await;
    assert_eq!(again.expect_err("a logout").message(), "jwt revoked");
    call(&mut twin, "echo", &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_namespace_of_a_session_that_is_logged_out_is_told() {
    let stack = start().await;
    let forge = stack.forge().claim("scope", "admin");
    let token = forge.token();
    let mut socket = Opening::of(&stack).admitted(&token).await;
    let joined = join(&mut socket, "/admin", &json!({ "token": token })).await;
    joined.expect("the scope");
    call(&mut socket, "echo", &[]).await;
    let url = format!("{}/oidc/backchannel-logout", stack.gateway_url);
    let logout = forge.logout(&["sid"]).token();
    let request = stack.http().post(url).form(&[("logout_token", logout)]);
    let answer = soon("an answer", request.send()).await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK);
    let mut packets = socket.closed().await;
    packets.sort();
    assert_eq!(packets, ["41", "41/admin,"]);
}
