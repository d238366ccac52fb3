//! The services of docs/verify-tokens.md in each of their languages, with tokens of a real issuer.

use harness::{Options, Stack, recipe::Recipe};
use reqwest::StatusCode;
use serde_json::{Value, json};

const AUDIENCE: &str = "https://api.example.org";

/// Asks the service for what it shows at `path` to people who are signed in.
async fn get(service: &Recipe, path: &str, token: Option<&str>) -> (StatusCode, Value) {
    let request = reqwest::Client::new().get(format!("{}{path}", service.url));
    let request = match token {
        Some(token) => request.bearer_auth(token),
        None => request,
    };
    let answer = harness::soon("an answer", request.send()).await;
    let answer = answer.expect("an answer");
    let status = answer.status();
    (status, answer.json().await.unwrap_or_default())
}

/// Runs the service in `language`, and one whose audience the tokens do not name.
async fn run_services(language: &str) {
    let options = Options::default()
        .auth("keys.mode", "asymmetric")
        .auth("token.audiences", json!([AUDIENCE]))
        .gateway("keys.mode", "asymmetric");
    let stack = Stack::start_with(options).await;
    let start = |audience| {
        let variables = [
            ("ISSUER_URL", stack.issuer_url.as_str()),
            ("AUDIENCE", audience),
        ];
        async move { Recipe::start("verify-tokens.md", language, &variables).await }
    };
    let service = start(AUDIENCE).await;
    let token = stack.login("alice").await;
    let (status, body) = get(&service, "/orders", Some(&token)).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert_eq!(body["user"], "alice", "{body}");
    let (status, _) = get(&service, "/refunds", Some(&token)).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    for (roles, expected) in [
        (["editor", "billing2"], StatusCode::FORBIDDEN),
        (["editor", "billing"], StatusCode::OK),
    ] {
        stack.set_roles("alice", &roles).await;
        let token = stack.login("alice").await;
        let (status, body) = get(&service, "/refunds", Some(&token)).await;
        assert_eq!(status, expected, "{body}");
    }
    let (signed, signature) = token.rsplit_once('.').expect("a token");
    let other = if signature.starts_with('A') { "B" } else { "A" };
    let forged = format!("{signed}.{other}{}", &signature[1..]);
    for refused in [None, Some("x"), Some(forged.as_str())] {
        assert_eq!(
            get(&service, "/orders", refused).await.0,
            StatusCode::UNAUTHORIZED
        );
    }
    let elsewhere = start("https://other.example.org").await;
    let (status, _) = get(&elsewhere, "/orders", Some(&token)).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs node"]
async fn a_service_on_express_verifies_the_tokens() {
    run_services("js").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs python"]
async fn a_service_on_fastapi_verifies_the_tokens() {
    run_services("python").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the built binaries"]
async fn a_service_on_axum_verifies_the_tokens() {
    run_services("rust").await;
}
