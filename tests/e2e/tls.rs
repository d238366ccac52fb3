//! TLS of the gateway: what holds in the clear holds there too.

use harness::{Opening, Options, Polling, Stack, soon, tls::Certificate};
use serde_json::json;
use shared_claims::Rejection;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::stall;

async fn stack(certificate: &Certificate) -> Stack {
    Stack::start_with(Options::default().tls(certificate)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_knows_the_certificate_is_served_and_nobody_in_the_clear() {
    let certificate = Certificate::default();
    let stack = stack(&certificate).await;
    let mut socket = Opening::of(&stack).admitted(&stack.forge().token()).await;
    socket.subscribe("lobby").await;
    let mut session = Polling::of(&stack).admitted(&stack.forge().token()).await;
    let payload = json!({"room": "lobby", "event": "message", "data": "by polling"});
    let answer = session.call("rt:publish", payload).await;
    assert_eq!(answer["ok"], true, "{answer}");
    assert_eq!(socket.event().await[1], "by polling");
    let url = format!("{}/health/ready", stack.gateway_url);
    assert!(
        stack.http().get(&url).send().await.is_err(),
        "a stranger's certificate was taken"
    );
    let clear = url.replace("https:", "http:");
    assert!(
        stack.http().get(clear).send().await.is_err(),
        "served in the clear"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn http_1_1_is_agreed_on_and_nothing_else() {
    let certificate = Certificate::default();
    let stack = stack(&certificate).await;
    let handshake = async |protocols: &[&str]| {
        let connector = certificate.root().connector(protocols).expect("TLS");
        let tcp = TcpStream::connect(stack.gateway_address).await;
        let name = "localhost".try_into().expect("a name");
        let stream = connector.connect(name, tcp.expect("a connection")).await;
        stream.map(|stream| stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec))
    };
    let agreed = handshake(&["h2", "http/1.1"]).await.expect("a handshake");
    assert_eq!(agreed.as_deref(), Some(&b"http/1.1"[..]));
    assert!(handshake(&["h2"]).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_does_not_go_on_is_ended() {
    let certificate = Certificate::default();
    let options = Options::default().tls(&certificate);
    let stack = Stack::start_with(options.gateway("limits.header_read_secs", 1)).await;
    let mut socket = Opening::of(&stack).admitted(&stack.forge().token()).await;
    for start in [&[][..], &[0x16, 0x03, 0x01]] {
        let tcp = TcpStream::connect(stack.gateway_address).await;
        let mut tcp = tcp.expect("a connection");
        tcp.write_all(start).await.expect("sent");
        let mut rest = Vec::new();
        // A reset ends it as well.
        let _ = soon("the end of a handshake", tcp.read_to_end(&mut rest)).await;
        assert_eq!(rest, b"");
    }
    socket.subscribe("lobby").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_stops_reading_is_gone_within_the_limit() {
    let certificate = Certificate::default();
    // Encrypting all that takes a test's build a while, which is no reason to let anybody go.
    stall::gone_within_the_limit(stall::options().tls(&certificate), 8).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_token_ends_a_stalled_client() {
    let certificate = Certificate::default();
    stall::gone_with_its_token(stall::options().tls(&certificate)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_token_ends_polls_and_websockets_and_says_so() {
    let certificate = Certificate::default();
    let stack = stack(&certificate).await;
    let mut lasting = Opening::of(&stack).admitted(&stack.forge().token()).await;
    let token = stack.forge().expires_in(3).token();
    let mut socket = Opening::of(&stack).admitted(&token).await;
    let mut session = Polling::of(&stack).admitted(&token).await;
    let (told, polled) = tokio::join!(socket.closed(), session.closed());
    for packets in [told, polled] {
        let [announced, told] = &packets[..] else {
            panic!("not two packets: {packets:?}")
        };
        assert!(announced.contains("rt:expiring"), "{announced}");
        assert!(told.contains("token_expired"), "{told}");
    }
    assert_eq!(session.get().await.0.as_u16(), 400);
    lasting.subscribe("lobby").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_has_its_data() {
    let certificate = Certificate::default();
    let stack = stack(&certificate).await;
    let rejection = Rejection::TokenMalformed;
    let expected = json!({
        "message": rejection.message(),
        "data": {
            "message": rejection.message(), "code": rejection.code(),
            "type": "UnauthorizedError", "reason": rejection.reason(),
        },
    });
    let mut socket = Opening::of(&stack).session().await;
    let refused = socket.connect(&json!({"token": "x"})).await;
    assert_eq!(refused.expect_err("no token").0, expected);
    let again = socket
        .connect_again(&json!({"token": stack.forge().token()}))
        .await;
    again.expect("a good token in the same session");
    let mut session = Polling::of(&stack).open().await.expect("a session");
    let packet = session.connect(&json!({"token": "x"})).await;
    let refused = harness::websocket::parse(packet.strip_prefix("44").expect("a refusal"));
    assert_eq!(refused, expected);
}
