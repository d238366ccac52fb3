//! Tokens that the service's own bearer routes refuse. What is wrong with a token in detail is tried
//! where it is verified, in `shared-claims`; here is that no route does without.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};

use crate::fixture::{PASSWORD, Service, own_secrets, problem, read_raw};

/// The longest token that is looked at, in bytes.
const MAXIMUM_BYTES: usize = 8 * 1024;

/// A token of ours, taken apart to be changed and signed again with the real secret.
#[derive(Clone)]
struct Parts {
    header: Value,
    claims: Value,
}

impl Parts {
    fn of(token: &str) -> Self {
        let mut parts = token.split('.').map(|part| {
            let json = URL_SAFE_NO_PAD.decode(part).unwrap_or_default();
            serde_json::from_slice(&json).unwrap_or_default()
        });
        Self {
            header: parts.next().expect("a header"),
            claims: parts.next().expect("claims"),
        }
    }

    fn header(&self, name: &str, value: Value) -> Self {
        let mut changed = self.clone();
        changed.header[name] = value;
        changed
    }

    fn claim(&self, name: &str, value: Value) -> Self {
        let mut changed = self.clone();
        changed.claims[name] = value;
        changed
    }

    fn signed(&self) -> String {
        let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
        let signed = format!("{}.{}", part(&self.header), part(&self.claims));
        let secrets = own_secrets();
        let key = hmac::Key::new(hmac::HMAC_SHA256, secrets.signing().expose());
        let signature = hmac::sign(&key, signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// The longest token of at most so many bytes; base64 has no text of one length in four.
    fn of_length(&self, bytes: usize) -> String {
        let room = (bytes - self.claim("x", json!("")).signed().len()) * 3 / 4;
        (0..4)
            .map(|less| self.claim("x", json!("a".repeat(room + 2 - less))).signed())
            .find(|token| token.len() <= bytes)
            .expect("a length")
    }
}

/// One request for each route that takes a bearer token, with which it would do something.
fn routes(service: &Service, token: &str) -> Vec<RequestBuilder> {
    let both = json!({"current_password": PASSWORD, "new_password": "barley is not sesame"});
    [
        (Method::GET, "/me", json!({})),
        (Method::GET, "/sessions", json!({})),
        (Method::DELETE, "/sessions/another", json!({})),
        (Method::POST, "/password", both),
        (Method::POST, "/totp", json!({"password": PASSWORD})),
        (Method::POST, "/totp/confirm", json!({"code": "000000"})),
        (
            Method::POST,
            "/totp/disable",
            json!({"password": PASSWORD, "code": "000000"}),
        ),
        (Method::GET, "/passkeys", json!({})),
        (
            Method::POST,
            "/passkeys/options",
            json!({"password": PASSWORD}),
        ),
        (
            Method::POST,
            "/passkeys",
            json!({"state": "none", "name": "Phone", "credential": {}}),
        ),
        (Method::POST, "/passkeys/another", json!({"name": "Phone"})),
        (
            Method::POST,
            "/passkeys/another/remove",
            json!({"password": PASSWORD}),
        ),
        (Method::POST, "/logout", json!({})),
        (Method::POST, "/logout/all", json!({})),
    ]
    .into_iter()
    .map(|(method, path, body)| {
        let request = service.client.request(method, service.url(path));
        request.bearer_auth(token).json(&body)
    })
    .collect()
}

async fn me(service: &Service, token: &str) -> Response {
    service.get_me(Some(&format!("Bearer {token}"))).await
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// Each token with the reason for which it is refused.
fn attacks(good: &Parts) -> Vec<(String, &'static str)> {
    let unsigned = |algorithm: &str| {
        let token = good.header("alg", json!(algorithm)).signed();
        let (signed, _) = token.rsplit_once('.').expect("a signature");
        format!("{signed}.")
    };
    let logout = json!({"http://schemas.openid.net/event/backchannel-logout": {}});
    let ten_years = now() + 10 * 365 * 86_400;
    vec![
        (unsigned("none"), "signature_missing"),
        (unsigned("HS256"), "signature_missing"),
        (
            good.header("alg", json!("none")).signed(),
            "algorithm_invalid",
        ),
        (
            good.header("alg", json!("ES256")).signed(),
            "algorithm_invalid",
        ),
        (good.header("typ", json!("JWT")).signed(), "type_invalid"),
        (
            good.header("typ", json!("logout+jwt")).signed(),
            "type_invalid",
        ),
        (
            good.header("typ", json!("logout+jwt"))
                .claim("events", logout.clone())
                .signed(),
            "type_invalid",
        ),
        (good.claim("events", logout).signed(), "claims_invalid"),
        (
            good.header("crit", json!(["exp"])).signed(),
            "header_unsupported",
        ),
        (
            good.header("kid", json!("../../dev/null")).signed(),
            "key_unknown",
        ),
        (
            good.claim("aud", json!("latchkey-api")).signed(),
            "audience_invalid",
        ),
        (
            good.claim("iss", json!("http://localhost:8080/")).signed(),
            "issuer_invalid",
        ),
        (good.claim("sub", json!("")).signed(), "claims_invalid"),
        (good.claim("exp", json!(now())).signed(), "token_expired"),
        (
            good.claim("exp", json!(ten_years)).signed(),
            "lifetime_too_long",
        ),
        (good.of_length(MAXIMUM_BYTES + 4), "token_too_large"),
    ]
}

#[tokio::test]
async fn no_route_takes_a_token_that_the_gateway_would_not() {
    let (service, _) = Service::with_alice().await;
    let good = Parts::of(&service.token_of("alice").await);
    for (token, reason) in attacks(&good) {
        for request in routes(&service, &token) {
            let answer = request.send().await.expect("an answer");
            let challenge = answer.headers()["www-authenticate"].to_str().expect("text");
            assert!(challenge.contains("invalid_token"), "{challenge}");
            let body = problem(answer, StatusCode::UNAUTHORIZED, "invalid_token").await;
            assert_eq!(body["reason"], reason);
        }
    }
    // Nobody was signed out, no password was changed, and what is not attacked is taken.
    for token in [
        good.signed(),
        good.header("typ", json!("AT+JWT")).signed(),
        good.claim("aud", json!(["another", "latchkey-realtime"]))
            .signed(),
        good.claim("exp", json!(now() + 60)).signed(),
        good.of_length(MAXIMUM_BYTES),
    ] {
        assert_eq!(me(&service, &token).await.status(), StatusCode::OK);
    }
    service.login("alice").await;
}

#[tokio::test]
async fn what_is_no_access_token_is_no_bearer_token_and_the_other_way_round() {
    let (service, _) = Service::with_alice().await;
    let answer = service.post_login("alice", PASSWORD).await;
    let answer: Value = answer.json().await.expect("JSON");
    let text = |name: &str| answer[name].as_str().expect(name).to_owned();
    for name in ["refresh_token", "device_token"] {
        for request in routes(&service, &text(name)) {
            let answer = request.send().await.expect("an answer");
            problem(answer, StatusCode::UNAUTHORIZED, "invalid_token").await;
        }
    }
    for name in ["token", "device_token"] {
        let answer = service.refresh(&text(name)).await;
        problem(answer, StatusCode::UNAUTHORIZED, "invalid_grant").await;
    }
    assert_eq!(me(&service, &text("token")).await.status(), StatusCode::OK);
    let answer = service.refresh(&text("refresh_token")).await;
    assert_eq!(answer.status(), StatusCode::OK);
}

/// Beyond some tens of KiB it is the server that refuses, before our code sees it.
#[tokio::test]
async fn a_huge_token_costs_its_sender_a_refusal_and_nothing_else() {
    let (service, _) = Service::with_alice().await;
    for (length, status) in [(64 * 1024, "401"), (512 * 1024, "431")] {
        let token = "a".repeat(length);
        let request = format!(
            "GET /me HTTP/1.1\r\nhost: a\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\r\n"
        );
        let reading = read_raw(service.send_raw(request.as_bytes()));
        let answer = tokio::time::timeout(Duration::from_secs(10), reading).await;
        let answer = answer.expect("in time");
        let expected = format!("HTTP/1.1 {status} ");
        assert!(answer.starts_with(&expected), "{length}: {answer}");
    }
    service.token_of("alice").await;
}
