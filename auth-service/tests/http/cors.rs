//! The pages that may call the service.

use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::json;

use crate::fixture::{PASSWORD, Service};

const PAGE: &str = "http://localhost:9000";

const STRANGERS: [&str; 6] = [
    "http://localhost:9001",
    "https://localhost:9000",
    "http://localhost:9000.evil.example",
    "http://evil.example",
    "http://LOCALHOST:9000",
    "null",
];

async fn send(request: RequestBuilder) -> Response {
    request.send().await.expect("an answer")
}

fn login_from(service: &Service, origin: &str) -> RequestBuilder {
    service
        .client
        .post(service.url("/login"))
        .header("origin", origin)
        .json(&json!({"username": "alice", "password": PASSWORD}))
}

fn preflight_from(service: &Service, origin: &str) -> RequestBuilder {
    service
        .client
        .request(Method::OPTIONS, service.url("/login"))
        .header("origin", origin)
        .header("access-control-request-method", "POST")
        .header(
            "access-control-request-headers",
            "authorization, content-type",
        )
}

#[tokio::test]
async fn a_listed_page_reads_the_answer_and_the_refusal() {
    let service = Service::start().await;
    let answer = send(login_from(&service, PAGE)).await;
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    let headers = answer.headers();
    assert_eq!(headers["access-control-allow-origin"], PAGE);
    assert_eq!(headers["access-control-allow-credentials"], "true");
    let vary = headers["vary"].to_str().expect("text").to_lowercase();
    assert!(vary.contains("origin"), "{vary}");

    service.add_user("alice").await;
    let answer = send(login_from(&service, PAGE)).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["access-control-allow-origin"], PAGE);
}

#[tokio::test]
async fn a_preflight_for_json_is_granted_to_a_listed_page() {
    let service = Service::start().await;
    let answer = send(preflight_from(&service, PAGE)).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let headers = answer.headers();
    assert_eq!(headers["access-control-allow-origin"], PAGE);
    let methods = headers["access-control-allow-methods"]
        .to_str()
        .expect("text");
    assert!(
        methods.contains("POST") && !methods.contains("PUT"),
        "{methods}"
    );
    let allowed = headers["access-control-allow-headers"]
        .to_str()
        .expect("text");
    assert!(allowed.contains("content-type"), "{allowed}");
    assert!(allowed.contains("authorization"), "{allowed}");
}

#[tokio::test]
async fn other_pages_are_granted_nothing() {
    let (service, _) = Service::with_alice().await;
    for origin in STRANGERS {
        for request in [
            login_from(&service, origin),
            preflight_from(&service, origin),
        ] {
            let answer = send(request).await;
            assert!(
                !answer.headers().contains_key("access-control-allow-origin"),
                "{origin}"
            );
        }
    }
}

#[tokio::test]
async fn a_caller_that_is_no_page_is_served() {
    let (service, _) = Service::with_alice().await;
    let answer = service.post_login("alice", PASSWORD).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(!answer.headers().contains_key("access-control-allow-origin"));
}

#[tokio::test]
async fn applications_and_subdomains_that_are_listed_read_the_answer() {
    let service = Service::start_with(|settings| {
        settings.origins = ["capacitor://localhost", "https://*.example.org"]
            .map(str::to_owned)
            .to_vec();
    })
    .await;
    service.add_user("alice").await;
    for (origin, is_listed) in [
        ("capacitor://localhost", true),
        ("https://a.example.org", true),
        ("ionic://localhost", false),
        ("https://a.b.example.org", false),
        ("https://example.org", false),
        ("https://*.example.org", false),
    ] {
        for request in [
            login_from(&service, origin),
            preflight_from(&service, origin),
        ] {
            let answer = send(request).await;
            let granted = answer.headers().get("access-control-allow-origin");
            let granted = granted.map(|value| value.to_str().expect("text"));
            assert_eq!(granted, is_listed.then_some(origin));
        }
        // The same list says which page may use a cookie.
        let body = json!({"username": "alice", "password": PASSWORD, "cookie": true});
        let request = service.client.post(service.url("/login")).json(&body);
        let request = request.header("origin", origin).header("x-latchkey", "1");
        let expected = if is_listed {
            StatusCode::OK
        } else {
            StatusCode::FORBIDDEN
        };
        assert_eq!(send(request).await.status(), expected, "{origin}");
    }
}
