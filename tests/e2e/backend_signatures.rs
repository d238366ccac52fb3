//! Signatures of requests to back ends, checked by the public libraries of Standard Webhooks; and the
//! certificates of both sides.

use harness::{
    CalledBackEnd, Mode, Opening, Stack,
    called::{Request, answer},
    eventually,
    stock::{run_node_tests_at, run_python},
    tls::Certificate,
};
use http::Version;
use serde_json::json;

const PYTHON: &str = include_str!("../clients/signatures.py");

/// Has a new gateway post one event.
async fn posted(shop: &CalledBackEnd) -> Request {
    let stack = Stack::start_with(shop.options()).await;
    posted_by(&stack, shop).await
}

async fn posted_by(stack: &Stack, shop: &CalledBackEnd) -> Request {
    let token = stack.login("alice").await;
    let mut alice = Opening::of(stack).admitted(&token).await;
    assert_eq!(
        alice.call("shop:order", json!({ "item": "tea" })).await,
        "yes"
    );
    shop.requests().pop().expect("a request")
}

async fn shop() -> CalledBackEnd {
    CalledBackEnd::start(async |_| answer(json!({ "ack": ["yes"] }))).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs node and python"]
async fn the_public_libraries_accept_the_signature_and_refuse_what_was_changed() {
    let shop = shop().await;
    let request = posted(&shop).await;
    let body = String::from_utf8(request.body.to_vec()).expect("text");
    let variables = [
        ("SECRET", shop.secret.as_str()),
        ("BODY", body.as_str()),
        ("ID", request.header("webhook-id")),
        ("TIMESTAMP", request.header("webhook-timestamp")),
        ("SIGNATURE", request.header("webhook-signature")),
    ];
    run_node_tests_at("signatures.test.mjs", &variables).await;
    let printed = run_python(PYTHON, &[], &variables).await;
    assert_eq!(
        printed.lines().last(),
        Some("accepted once, refused 3 times")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_has_one_signature_of_each_secret() {
    let shop = shop().await;
    let one = posted(&shop).await;
    assert_eq!(one.header("webhook-signature").matches("v1,").count(), 1);
    let both = format!("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n{}\n", shop.secret);
    std::fs::write(shop.secret_file(), both).expect("a written file");
    let two = posted(&shop).await;
    assert_eq!(two.header("webhook-signature").split(' ').count(), 2);
    assert_ne!(one.header("webhook-id"), two.header("webhook-id"));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the built binaries"]
async fn a_secret_is_replaced_at_sighup_and_one_that_is_none_changes_nothing() {
    let shop = shop().await;
    let stack = Stack::start_with(shop.options().mode(Mode::Binaries)).await;
    let signatures = async || {
        let request = posted_by(&stack, &shop).await;
        let signature = request.header("webhook-signature").to_owned();
        signature.split(' ').count()
    };
    assert_eq!(signatures().await, 1);
    let both = format!("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n{}\n", shop.secret);
    std::fs::write(shop.secret_file(), both).expect("a written file");
    assert_eq!(signatures().await, 1, "it is not read yet");
    // The issuer's secrets are read again too, and nobody knows which are first.
    stack.reload_gateway("the secrets were read again").await;
    eventually("both secrets", async || signatures().await == 2).await;
    std::fs::write(shop.secret_file(), "hunter2").expect("a written file");
    stack
        .reload_gateway("the secrets are left as they were")
        .await;
    assert_eq!(signatures().await, 2);
    let (_, log) = stack.output();
    assert!(!log.contains("hunter2"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_back_end_is_trusted_by_its_authority_and_trusts_the_gateways_certificate() {
    let (own, gateways, other) = (
        Certificate::default(),
        Certificate::default(),
        Certificate::default(),
    );
    let yes = async |_| answer(json!({ "ack": ["yes"] }));
    let shop = CalledBackEnd::start_with_tls(&own, &gateways, yes).await;
    for (authority, presented, is_trusted) in [
        (Some(&own), Some(&gateways), true),
        (Some(&other), Some(&gateways), false),
        (None, Some(&gateways), false),
        (Some(&own), Some(&other), false),
        (Some(&own), None, false),
    ] {
        let mut settings = shop.settings("shop");
        if let Some(authority) = authority {
            settings["ca_file"] = json!(authority.cert_file());
        }
        if let Some(presented) = presented {
            settings["client_cert_file"] = json!(presented.cert_file());
            settings["client_key_file"] = json!(presented.key_file());
        }
        let options = shop.options().gateway("backends", json!([settings]));
        let stack = Stack::start_with(options).await;
        let token = stack.login("alice").await;
        let mut alice = Opening::of(&stack).admitted(&token).await;
        let answer = alice.call("shop:order", json!(1)).await;
        match is_trusted {
            true => assert_eq!(answer, "yes"),
            false => assert_eq!(answer["error"]["code"], "backend_failed"),
        }
    }
    let requests = shop.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].version, Version::HTTP_2);
}
