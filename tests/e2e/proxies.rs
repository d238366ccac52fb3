//! Whom a proxy speaks for, and who is believed.

use std::net::IpAddr;

use harness::{Opening, Options, Polling, Stack, WebSocket};
use reqwest::StatusCode;

const FORWARDED_FOR: &str = "x-forwarded-for";

/// The address of this machine that stands for a proxy.
const PROXY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 9));

/// The options of a stack behind [`PROXY`], in which one address may have one session.
fn options() -> Options {
    Options::default()
        .gateway("trusted_proxies", serde_json::json!(["127.0.0.9"]))
        .gateway("limits.sessions_per_address", 1)
}

async fn stack() -> Stack {
    Stack::start_with(options()).await
}

async fn open(stack: &Stack, forwarded_for: &str, from: Option<IpAddr>) -> Result<WebSocket, u16> {
    let opening = Opening::of(stack).header(FORWARDED_FOR, forwarded_for);
    let opening = match from {
        Some(address) => opening.from(address),
        None => opening,
    };
    opening.open().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_is_not_believed_whom_it_speaks_for() {
    let stack = stack().await;
    let _kept = open(&stack, "192.0.2.1", None).await.expect("the first");
    // Whatever it says, it is the same client.
    for says in ["192.0.2.2", "127.0.0.9", "192.0.2.3, 127.0.0.9"] {
        assert_eq!(open(&stack, says, None).await.err(), Some(429), "{says}");
    }
    let opening = Opening::of(&stack).header("forwarded", "for=192.0.2.4");
    assert_eq!(opening.open().await.err(), Some(429));
    let _twin = open(&stack, "192.0.2.2", Some(PROXY)).await;
    assert!(_twin.is_ok(), "the proxy's client was turned away");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_address_that_no_trusted_proxy_has_is_the_clients() {
    let stack = stack().await;
    let mut kept = Vec::new();
    for says in ["192.0.2.1", "192.0.2.1, 192.0.2.2", "192.0.2.3, 127.0.0.9"] {
        let opened = open(&stack, says, Some(PROXY)).await;
        kept.push(opened.unwrap_or_else(|status| panic!("{says}: {status}")));
    }
    // What stands to the left of it is hearsay.
    for says in ["192.0.2.9, 192.0.2.1", "192.0.2.2", "192.0.2.9, 192.0.2.3"] {
        let refused = open(&stack, says, Some(PROXY)).await.err();
        assert_eq!(refused, Some(429), "{says}");
    }
    // Other headers say nothing: this is the proxy itself, which is a client of its own.
    for (header, status) in [("x-real-ip", None), ("cf-connecting-ip", Some(429))] {
        let opening = Opening::of(&stack).header(header, "192.0.2.8").from(PROXY);
        match opening.open().await {
            Ok(socket) => kept.push(socket),
            Err(refused) => assert_eq!(Some(refused), status, "{header}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_header_that_a_setting_names_is_read_in_each_of_its_forms_and_the_other_is_not() {
    for (setting, header, other, forms) in [
        (
            "x-forwarded-for",
            FORWARDED_FOR,
            "forwarded",
            ["203.0.113.7", "203.0.113.7:54321", "[2001:db8::1]:443"],
        ),
        (
            "forwarded",
            "forwarded",
            FORWARDED_FOR,
            [
                "for=203.0.113.7",
                "for=\"203.0.113.7:1\"",
                "For=\"[2001:db8::1]:443\"",
            ],
        ),
    ] {
        let stack = Stack::start_with(options().gateway("forwarded_header", setting)).await;
        let [first, same, another] = forms.map(|form| {
            let opening = Opening::of(&stack).header(header, form);
            opening.header(other, "198.51.100.9").from(PROXY)
        });
        let _kept = first.open().await.expect("the first");
        assert_eq!(same.open().await.err(), Some(429), "{setting}");
        assert!(another.open().await.is_ok(), "{setting}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sid_is_bound_to_the_address_of_the_client_and_not_of_the_proxy() {
    let options = options().gateway("auth.session_binding", "address");
    let stack = Stack::start_with(options).await;
    let owner = Polling::of(&stack)
        .from(PROXY)
        .header(FORWARDED_FOR, "192.0.2.1");
    let owner = owner.admitted(&stack.forge().token()).await;
    let thief = owner.clone().header(FORWARDED_FOR, "192.0.2.2");
    assert_eq!(thief.post("3").await.0, StatusCode::BAD_REQUEST);
    assert_eq!(owner.post("3").await.0, StatusCode::OK);
    // Through another connection of the same proxy it is the same client.
    let elsewhere = owner.clone().from(PROXY);
    assert_eq!(elsewhere.post("3").await.0, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_connections_of_a_proxy_are_those_of_many_clients() {
    let options = Options::default()
        .gateway("trusted_proxies", serde_json::json!(["127.0.0.9"]))
        .gateway("limits.connections_per_address", 2);
    let stack = Stack::start_with(options).await;
    let mut kept = Vec::new();
    for number in 1..=5 {
        let says = format!("192.0.2.{number}");
        kept.push(open(&stack, &says, Some(PROXY)).await.expect("a place"));
    }
    for _ in 0..2 {
        kept.push(open(&stack, "192.0.2.9", None).await.expect("a place"));
    }
    assert_eq!(open(&stack, "192.0.2.9", None).await.err(), Some(429));
}
