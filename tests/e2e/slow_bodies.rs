//! Clients that announce a body and do not send it, on every listener.

use std::{net::Ipv4Addr, time::Duration};

use harness::{Options, Stack, api::WithApi, soon};
use reqwest::StatusCode;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::interval,
};

/// How many connections of one address the listener for back ends takes.
const API_SHARE: usize = 256;

/// How many connections of one address the operator's listener takes.
const ADMIN_SHARE: usize = 16;

/// Connects to `address` from the last address of this machine that ends in `last`.
async fn connect(address: &str, last: u8) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    let from = Ipv4Addr::new(127, 0, 0, last);
    socket.bind((from, 0).into()).expect("an address");
    let address = address.parse().expect("an address");
    let connected = soon("a connection", socket.connect(address)).await;
    connected.expect("a connection")
}

/// Announces a body of 1,000 bytes for `path`, sends a byte of it now and then, and returns what is
/// answered before the connection is closed.
async fn drip(address: &str, path: &str, headers: &str) -> String {
    let tcp = connect(address, 1).await;
    let head =
        format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n{headers}\r\n");
    let (mut reader, mut writer) = tcp.into_split();
    writer.write_all(head.as_bytes()).await.expect("sent");
    let dripping = tokio::spawn(async move {
        let mut drops = interval(Duration::from_millis(100));
        loop {
            drops.tick().await;
            if writer.write_all(b"x").await.is_err() {
                return;
            }
        }
    });
    let mut answer = Vec::new();
    // A reset ends the connection too.
    let _ = soon("the end", reader.read_to_end(&mut answer)).await;
    dripping.abort();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_drips_is_answered_408_and_its_connection_is_closed_on_every_listener() {
    let options = Options::default().gateway("limits.body_read_secs", 1);
    let api = WithApi::start_with(options).await;
    let gateway = api.stack.gateway_address.to_string();
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    let logout = drip(&gateway, "/oidc/backchannel-logout", form).await;
    assert!(logout.starts_with("HTTP/1.1 408"), "{logout}");
    let bearer = api.back_end(harness::api::ALL_SCOPES).token();
    let json = format!("Content-Type: application/json\r\nAuthorization: Bearer {bearer}\r\n");
    let back_ends = api.url.trim_start_matches("http://");
    let publish = drip(back_ends, "/v1/publish", &json).await;
    assert!(publish.starts_with("HTTP/1.1 408"), "{publish}");
}

/// Opens `share` connections from one address to `address`, none of which sends anything, and checks
/// that one more is answered 429, while `url` is served to another address.
async fn assert_shared(stack: &Stack, address: &str, share: usize, url: &str, status: StatusCode) {
    let mut kept = Vec::new();
    for _ in 0..share {
        kept.push(connect(address, 2).await);
    }
    let mut refused = connect(address, 2).await;
    let mut answer = Vec::new();
    let read = soon("an answer", refused.read_to_end(&mut answer)).await;
    read.expect("an answer");
    assert!(answer.starts_with(b"HTTP/1.1 429"), "{address}");
    let served = stack.http().get(url).send().await.expect("an answer");
    assert_eq!(served.status(), status, "{url}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_cannot_take_all_connections_for_back_ends_or_for_the_operator() {
    let api = harness::free_address();
    let options = Options::default().gateway("api.listen", api.as_str());
    let (stack, admin) = crate::metrics::stack_with_admin(options).await;
    let url = format!("http://{api}/v1/rooms");
    let unauthorized = StatusCode::UNAUTHORIZED;
    assert_shared(&stack, &api, API_SHARE, &url, unauthorized).await;
    let operator = admin.trim_start_matches("http://");
    let url = format!("{admin}/metrics");
    assert_shared(&stack, operator, ADMIN_SHARE, &url, StatusCode::OK).await;
}
