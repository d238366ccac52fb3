//! Each refusal of the closed list over a real socket, with the exact text that clients compare.

use std::time::{Duration, Instant};

use harness::{Forge, Opening, Options, Polling, Stack};
use jsonwebtoken::Algorithm;
use reqwest::StatusCode;
use serde_json::{Value, json};
use shared_claims::Rejection;

/// A way to be refused: how the session is opened, and the payload of its CONNECT.
struct Attack {
    opening: Opening,
    payload: Value,
}

/// Returns the text on the wire by which clients recognize `rejection`.
fn message(rejection: Rejection) -> &'static str {
    match rejection {
        Rejection::TokenMissing => "no token provided",
        Rejection::CredentialsMalformed => "Format is Authorization: Bearer [token]",
        Rejection::CredentialsAmbiguous => "more than one token provided",
        Rejection::PayloadMalformed => "connect payload must be an object",
        Rejection::TokenNotAString => "invalid token datatype",
        Rejection::TokenTooLarge => "jwt too large",
        Rejection::TokenMalformed => "jwt malformed",
        Rejection::SignatureMissing => "jwt signature is required",
        Rejection::HeaderUnsupported => "jwt header not supported",
        Rejection::AlgorithmInvalid => "invalid algorithm",
        Rejection::TypeInvalid => "jwt type invalid",
        Rejection::IssuerInvalid => "jwt issuer invalid",
        Rejection::KeyUnknown => "jwt key unknown",
        Rejection::SignatureInvalid => "invalid signature",
        Rejection::TokenExpired => "jwt expired",
        Rejection::LifetimeTooLong => "jwt lifetime too long",
        Rejection::TokenNotActive => "jwt not active",
        Rejection::IssuedInFuture => "jwt issued in the future",
        Rejection::AudienceInvalid => "jwt audience invalid",
        Rejection::ClaimsInvalid => "jwt claims invalid",
        Rejection::TokenRevoked => "jwt revoked",
        Rejection::IdentityMismatch => "jwt of another session",
        Rejection::AuthenticationTimedOut => "authentication timed out",
        Rejection::TooManySockets => "too many connections",
        Rejection::RefusedByBackEnd => "refused by the back end",
        Rejection::NamespaceForbidden => "namespace forbidden",
        Rejection::TooManyNamespaces => "too many namespaces",
    }
}

/// Returns the attack that `rejection` answers, if one CONNECT can be that attack.
fn attack(rejection: Rejection, stack: &Stack) -> Option<Attack> {
    let opening = Opening::of(stack);
    let good = stack.forge().token();
    let plain = |payload: Value| Attack {
        opening: opening.clone(),
        payload,
    };
    let token = |token: String| plain(json!({ "token": token }));
    let forged = |forge: Forge| token(forge.token());
    let soon = harness::forge::now_secs() + 60;
    let forge = stack.forge();
    Some(match rejection {
        Rejection::TokenMissing => plain(json!({})),
        Rejection::CredentialsMalformed => token(format!("Bearer {good} {good}")),
        Rejection::CredentialsAmbiguous => Attack {
            opening: opening.query("token", &forge.token()),
            payload: json!({ "token": good }),
        },
        Rejection::PayloadMalformed => plain(json!([good])),
        Rejection::TokenNotAString => plain(json!({"token": [good]})),
        Rejection::TokenTooLarge => forged(forge.claim("padding", "x".repeat(8_192))),
        Rejection::TokenMalformed => token(format!("{good}.")),
        Rejection::SignatureMissing => {
            let unsigned = &good[..=good.rfind('.').expect("three segments")];
            token(unsigned.to_owned())
        }
        Rejection::HeaderUnsupported => forged(forge.header("crit", json!(["exp"]))),
        Rejection::AlgorithmInvalid => {
            let forge = forge.header("alg", "HS512");
            forged(forge.signed_by(Algorithm::HS512, stack.secret.as_bytes()))
        }
        Rejection::TypeInvalid => forged(forge.header("typ", "JWT")),
        Rejection::IssuerInvalid => forged(forge.claim("iss", "https://evil.example")),
        Rejection::KeyUnknown => forged(forge.header("kid", "x")),
        Rejection::SignatureInvalid => {
            forged(forge.signed_by(Algorithm::HS256, b"another secret, just as long as ours"))
        }
        Rejection::TokenExpired => forged(forge.expires_in(0)),
        Rejection::LifetimeTooLong => forged(forge.expires_in(24 * 60 * 60 + 120)),
        Rejection::TokenNotActive => forged(forge.claim("nbf", soon)),
        Rejection::IssuedInFuture => forged(forge.claim("iat", soon)),
        Rejection::AudienceInvalid => forged(forge.claim("aud", "latchkey-api")),
        Rejection::ClaimsInvalid => forged(forge.without_claim("sub")),
        // These need a past, a back end or a namespace: `revocation.rs`, `renewal.rs`, `limits.rs`,
        // `backend_admission.rs` and `namespaces/access.rs` have them.
        Rejection::TooManySockets
        | Rejection::RefusedByBackEnd
        | Rejection::NamespaceForbidden
        | Rejection::TooManyNamespaces
        | Rejection::TokenRevoked
        | Rejection::IdentityMismatch
        | Rejection::AuthenticationTimedOut => return None,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn each_refusal_has_its_message_and_its_twin_is_admitted() {
    let stack = Stack::start().await;
    for rejection in Rejection::ALL {
        let message = message(rejection);
        assert_eq!(rejection.message(), message);
        let Some(attack) = attack(rejection, &stack) else {
            continue;
        };
        let mut socket = attack.opening.session().await;
        let refused = socket.connect(&attack.payload).await.expect_err(message);
        assert_eq!(refused.message(), message);
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
        let message = message(rejection);
        let Some(attack) = attack(rejection, &stack) else {
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
