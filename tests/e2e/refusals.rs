//! Each refusal of the closed list over a real socket, with the exact text that clients compare.

use std::time::{Duration, Instant};

use harness::{Forge, Opening, Options, Polling, Stack};
use jsonwebtoken::Algorithm;
use reqwest::StatusCode;
use serde_json::{Value, json};
use shared_claims::Rejection;

/// A way to be refused: how the session is opened, and what CONNECT says.
struct Attack {
    opening: Opening,
    payload: Value,
}

/// The attack of one CONNECT that meets `rejection`, if there is one, and the message on the wire.
fn attack(rejection: Rejection, stack: &Stack) -> Option<(Attack, &'static str)> {
    let opening = Opening::of(stack);
    let good = stack.forge().token();
    let plain = |payload: Value| Attack {
        opening: opening.clone(),
        payload,
    };
    let token = |token: String| plain(json!({ "token": token }));
    let forged = |change: fn(Forge) -> Forge| token(change(stack.forge()).token());
    let attack = match rejection {
        Rejection::TokenMissing => (plain(json!({})), "no token provided"),
        Rejection::CredentialsMalformed => (
            token(format!("Bearer {good} {good}")),
            "Format is Authorization: Bearer [token]",
        ),
        Rejection::CredentialsAmbiguous => {
            let opening = opening.query("token", &stack.forge().token());
            let payload = json!({ "token": good });
            (Attack { opening, payload }, "more than one token provided")
        }
        Rejection::PayloadMalformed => (plain(json!([good])), "connect payload must be an object"),
        Rejection::TokenNotAString => (plain(json!({"token": [good]})), "invalid token datatype"),
        Rejection::TokenTooLarge => (
            forged(|forge| forge.claim("padding", "x".repeat(8_192))),
            "jwt too large",
        ),
        Rejection::TokenMalformed => (token(format!("{good}.")), "jwt malformed"),
        Rejection::SignatureMissing => {
            let unsigned = &good[..=good.rfind('.').expect("three segments")];
            (token(unsigned.to_owned()), "jwt signature is required")
        }
        Rejection::HeaderUnsupported => (
            forged(|forge| forge.header("crit", json!(["exp"]))),
            "jwt header not supported",
        ),
        Rejection::AlgorithmInvalid => {
            let forge = stack.forge().header("alg", "HS512");
            let forge = forge.signed_by(Algorithm::HS512, stack.secret.as_bytes());
            (token(forge.token()), "invalid algorithm")
        }
        Rejection::TypeInvalid => (
            forged(|forge| forge.header("typ", "JWT")),
            "jwt type invalid",
        ),
        Rejection::IssuerInvalid => (
            forged(|forge| forge.claim("iss", "https://evil.example")),
            "jwt issuer invalid",
        ),
        Rejection::KeyUnknown => (forged(|forge| forge.header("kid", "x")), "jwt key unknown"),
        Rejection::SignatureInvalid => (
            forged(|forge| {
                forge.signed_by(Algorithm::HS256, b"another secret, just as long as ours")
            }),
            "invalid signature",
        ),
        Rejection::TokenExpired => (forged(|forge| forge.expires_in(0)), "jwt expired"),
        Rejection::LifetimeTooLong => (
            forged(|forge| forge.expires_in(24 * 60 * 60 + 120)),
            "jwt lifetime too long",
        ),
        Rejection::TokenNotActive => (
            forged(|forge| forge.claim("nbf", harness::forge::now_secs() + 60)),
            "jwt not active",
        ),
        Rejection::IssuedInFuture => (
            forged(|forge| forge.claim("iat", harness::forge::now_secs() + 60)),
            "jwt issued in the future",
        ),
        Rejection::AudienceInvalid => (
            forged(|forge| forge.claim("aud", "latchkey-api")),
            "jwt audience invalid",
        ),
        Rejection::ClaimsInvalid => (
            forged(|forge| forge.without_claim("sub")),
            "jwt claims invalid",
        ),
        // These need a past: `revocation.rs`, `renewal.rs` and `limits.rs` have them.
        Rejection::TooManySockets
        | Rejection::TokenRevoked
        | Rejection::IdentityMismatch
        | Rejection::AuthenticationTimedOut => return None,
    };
    Some(attack)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_refusal_has_its_message_and_its_twin_is_admitted() {
    let stack = Stack::start().await;
    for rejection in Rejection::ALL {
        let Some((attack, message)) = attack(rejection, &stack) else {
            continue;
        };
        let mut socket = attack.opening.session().await;
        let refused = socket.connect(&attack.payload).await.expect_err(message);
        assert_eq!(refused.message(), message);
        assert_eq!(rejection.message(), message);
        // The same session, this time with a good token and nothing else changed.
        if !matches!(rejection, Rejection::CredentialsAmbiguous) {
            let twin = json!({"token": stack.forge().token()});
            socket
                .connect_again(&twin)
                .await
                .expect("a good token in the same session");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_refusal_tells_its_code_and_reason_beside_the_message() {
    let stack = Stack::start().await;
    for rejection in Rejection::ALL {
        let Some((attack, message)) = attack(rejection, &stack) else {
            continue;
        };
        let refused = attack
            .opening
            .session()
            .await
            .connect(&attack.payload)
            .await;
        let refused = refused.expect_err(message);
        let data = json!({
            "message": message, "code": rejection.code(), "type": "UnauthorizedError",
            "reason": rejection.reason(),
        });
        assert_eq!(refused.0, json!({ "message": message, "data": data }));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_over_polling_has_the_same_message() {
    let stack = Stack::start().await;
    let mut session = Polling::of(&stack).open().await.expect("a session");
    let packet = session.connect(&json!({"token": "x"})).await;
    let refused = harness::websocket::parse(packet.strip_prefix("44").expect("a refusal"));
    assert_eq!(refused["message"], "jwt malformed");
    Polling::of(&stack).admitted(&stack.forge().token()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_session_is_closed_after_a_moment() {
    let stack = Stack::start().await;
    let mut admitted = Opening::of(&stack).admitted(&stack.forge().token()).await;
    let started = Instant::now();
    let mut socket = Opening::of(&stack).session().await;
    socket.connect(&json!({})).await.expect_err("no token");
    let mut session = Polling::of(&stack).open().await.expect("a session");
    session.connect(&json!({})).await;
    let (packets, more) = tokio::join!(socket.closed(), session.closed());
    assert_eq!((packets, more), (vec![], vec![]));
    let lasted = started.elapsed();
    assert!(
        lasted >= Duration::from_secs(2) && lasted < Duration::from_secs(4),
        "{lasted:?}"
    );
    assert_eq!(session.get().await.0, StatusCode::BAD_REQUEST);
    admitted.subscribe("lobby").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_third_refusal_closes_the_session_at_once() {
    let options = Options::default().gateway("limits.refusal_linger_ms", 60_000);
    let stack = Stack::start_with(options).await;
    let mut socket = Opening::of(&stack).session().await;
    for _ in 0..3 {
        socket
            .connect_again(&json!({"token": "x"}))
            .await
            .expect_err("no token");
    }
    assert_eq!(socket.closed().await, [""; 0]);
    // Two refusals and then a good token is nothing to be thrown out for.
    let mut socket = Opening::of(&stack).session().await;
    for _ in 0..2 {
        socket
            .connect_again(&json!({"token": "x"}))
            .await
            .expect_err("no token");
    }
    let good = json!({"token": stack.forge().token()});
    socket.connect_again(&good).await.expect("a good token");
    socket.subscribe("lobby").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_never_presents_a_token_is_closed() {
    let options = Options::default().gateway("limits.unauthenticated_secs", 1);
    let stack = Stack::start_with(options).await;
    let token = stack.forge().token();
    let mut admitted = Opening::of(&stack).admitted(&token).await;
    let mut left = Opening::of(&stack).admitted(&token).await;
    let started = Instant::now();
    let mut silent = Opening::of(&stack).session().await;
    let mut polling = Polling::of(&stack).open().await.expect("a session");
    // A socket that leaves its namespace leaves a session without one behind.
    left.send("41").await;
    let (silent, polling, left) = tokio::join!(silent.closed(), polling.closed(), left.closed());
    assert_eq!((silent, polling, left), (vec![], vec![], vec![]));
    assert!(
        started.elapsed() < Duration::from_secs(3),
        "{:?}",
        started.elapsed()
    );
    admitted.subscribe("lobby").await;
}
