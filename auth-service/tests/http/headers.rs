//! Headers of every answer.

use reqwest::{Method, Response, StatusCode};

use crate::fixture::{PASSWORD, Service, problem, read_raw};

const ON_EVERY_ANSWER: [(&str, &str); 6] = [
    ("cache-control", "no-store"),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    (
        "content-security-policy",
        "default-src 'none'; frame-ancestors 'none'",
    ),
    ("cross-origin-resource-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
];

fn preflight(service: &Service, origin: &str, method: &str) -> reqwest::RequestBuilder {
    service
        .client
        .request(Method::OPTIONS, service.url("/login"))
        .header("origin", origin)
        .header("access-control-request-method", method)
}

/// One answer of each kind.
async fn answers(service: &Service) -> Vec<(Response, StatusCode)> {
    let send = async |request: reqwest::RequestBuilder| request.send().await.expect("an answer");
    let client = &service.client;
    vec![
        (service.post_login("alice", PASSWORD).await, StatusCode::OK),
        (
            service.post_login("alice", "open barley").await,
            StatusCode::UNAUTHORIZED,
        ),
        (
            service.post_login_body("application/json", "{").await,
            StatusCode::BAD_REQUEST,
        ),
        (
            service.post_login_body("text/plain", "{").await,
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ),
        (service.get_me(None).await, StatusCode::UNAUTHORIZED),
        (
            send(client.get(service.url("/nothing"))).await,
            StatusCode::NOT_FOUND,
        ),
        (
            send(client.get(service.url("/login"))).await,
            StatusCode::METHOD_NOT_ALLOWED,
        ),
        (
            send(client.get(service.url("/health/live"))).await,
            StatusCode::OK,
        ),
        (
            send(preflight(service, "http://localhost:9000", "POST")).await,
            StatusCode::OK,
        ),
        (
            send(preflight(service, "https://evil.example", "POST")).await,
            StatusCode::FORBIDDEN,
        ),
    ]
}

#[tokio::test]
async fn every_answer_is_for_one_caller_and_not_a_page() {
    let (service, _) = Service::with_alice().await;
    for (answer, status) in answers(&service).await {
        assert_eq!(answer.status(), status);
        for (name, value) in ON_EVERY_ANSWER {
            let shown = answer.headers().get_all(name).iter().collect::<Vec<_>>();
            assert_eq!(shown, [value], "{status} {name}");
        }
        assert!(!answer.headers().contains_key("strict-transport-security"));
        assert!(!answer.headers().contains_key("server"));
    }
}

#[tokio::test]
async fn who_comes_by_https_is_told_to_come_by_nothing_else() {
    let service =
        Service::start_with(|settings| settings.public_url = "https://auth.example.org".to_owned())
            .await;
    service.add_user("alice").await;
    for (answer, status) in answers(&service).await {
        let promised = &answer.headers()["strict-transport-security"];
        assert_eq!(promised, "max-age=31536000", "{status}");
    }
}

#[tokio::test]
async fn a_preflight_that_is_not_granted_is_a_problem() {
    let service = Service::start().await;
    for (origin, method) in [
        ("https://evil.example", "POST"),
        ("null", "POST"),
        ("http://localhost:9000", "TRACE"),
    ] {
        let answer = preflight(&service, origin, method).send().await;
        let answer = answer.expect("an answer");
        for header in answer.headers().keys() {
            assert!(!header.as_str().starts_with("access-control-allow"));
        }
        let body = problem(answer, StatusCode::FORBIDDEN, "origin_refused").await;
        assert!(!body.to_string().contains("evil"), "{body}");
    }
}

#[tokio::test]
async fn a_refused_login_names_a_way_in_that_no_browser_asks_for() {
    let service = Service::start().await;
    let answer = service.post_login("alice", PASSWORD).await;
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(
        answer.headers()["www-authenticate"],
        r#"Login realm="latchkey""#
    );
}

/// Bytes that are no HTTP are refused before any of our code sees it, so the headers are not there; but
/// nothing is said either.
#[tokio::test]
async fn what_is_no_request_is_refused_without_a_word() {
    let service = Service::start().await;
    let long = format!(
        "GET /health/live HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n",
        "hidden".repeat(50_000)
    );
    for (request, status) in [
        ("hidden\r\n\r\n", "400"),
        (
            "GET /health/live HTTP/1.1\r\nhost: a\r\nhid den: 1\r\n\r\n",
            "400",
        ),
        (
            "POST /login HTTP/1.1\r\nhost: a\r\ncontent-length: hidden\r\n\r\n",
            "400",
        ),
        (&long, "431"),
    ] {
        let answer = read_raw(service.send_raw(request.as_bytes())).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
        assert!(answer.ends_with("\r\n\r\n"), "{answer}");
        assert!(answer.contains("content-length: 0\r\n"), "{answer}");
        assert!(!answer.contains("hidden"), "{answer}");
    }
}
