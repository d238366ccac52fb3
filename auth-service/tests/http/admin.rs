//! The operator's listener, and what visitors do not reach.

use std::net::TcpListener;

use auth_service::{Settings, config::AdminListen};
use reqwest::{Method, StatusCode};

use crate::{
    fixture::{PASSWORD, Service, problem, read_raw},
    second_factor::Enrolled,
};

/// A service with an operator's listener, and where that is.
pub(crate) async fn with_admin() -> (Service, String) {
    with_admin_and(|_| {}).await
}

/// The same with other settings.
pub(crate) async fn with_admin_and(change: impl FnOnce(&mut Settings)) -> (Service, String) {
    // Free a moment ago; the service cannot say which it was given.
    let free = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = free.local_addr().expect("an address");
    drop(free);
    let service = Service::start_with(|settings| {
        settings.admin.listen = AdminListen(Some(address));
        change(settings);
    })
    .await;
    // An answer on the other port says that this one listens too.
    service.get_me(None).await;
    (service, format!("http://{address}"))
}

async fn metrics(service: &Service, admin: &str) -> String {
    let answer = service.client.get(format!("{admin}/metrics")).send().await;
    let answer = answer.expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(
        answer.headers()["content-type"],
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    );
    assert_eq!(answer.headers()["cache-control"], "no-store");
    answer.text().await.expect("text")
}

fn assert_has(metrics: &str, line: &str) {
    assert!(
        metrics.lines().any(|shown| shown == line),
        "{line}\n{metrics}"
    );
}

#[tokio::test]
async fn the_operator_sees_what_happened_and_nothing_that_a_visitor_wrote() {
    let (service, admin) = with_admin().await;
    service.add_user("alice").await;
    service.post_login("alice", PASSWORD).await;
    service.post_login("alice", "hidden barley").await;
    service.post_login("hidden", PASSWORD).await;
    for path in ["/hidden", "/login/hidden", "/me?hidden"] {
        let hidden = Method::from_bytes(b"HIDDEN").expect("a method");
        for method in [Method::GET, hidden] {
            let request = service.client.request(method, service.url(path));
            request.send().await.expect("an answer");
        }
    }
    service.execute("alter table users rename to lost").await;
    service.post_login("alice", PASSWORD).await;
    let shown = metrics(&service, &admin).await;
    for line in [
        r#"latchkey_auth_logins_total{outcome="success"} 1"#,
        r#"latchkey_auth_logins_total{outcome="wrong_password"} 1"#,
        r#"latchkey_auth_logins_total{outcome="unknown_user"} 1"#,
        r#"latchkey_auth_logins_total{outcome="failed"} 1"#,
        r#"latchkey_auth_requests_total{route="/login",status="2xx"} 1"#,
        r#"latchkey_auth_requests_total{route="/login",status="4xx"} 2"#,
        r#"latchkey_auth_requests_total{route="/login",status="5xx"} 1"#,
        r#"latchkey_auth_requests_total{route="none",status="4xx"} 4"#,
        r#"latchkey_auth_store_failures_total{trouble="defect"} 1"#,
        "latchkey_auth_passwords_hashed_total 3",
        "latchkey_auth_revocations_pending 0",
    ] {
        assert_has(&shown, line);
    }
    assert!(!shown.to_lowercase().contains("hidden"), "{shown}");
}

#[tokio::test]
async fn the_operators_listener_knows_the_health_and_no_way_in() {
    let (service, admin) = with_admin().await;
    let get = async |path: &str| {
        let answer = service.client.get(format!("{admin}{path}")).send().await;
        answer.expect("an answer")
    };
    assert_eq!(get("/health/live").await.status(), StatusCode::OK);
    assert_eq!(get("/health/ready").await.status(), StatusCode::OK);
    for path in ["/login", "/me", "/docs/", "/"] {
        problem(get(path).await, StatusCode::NOT_FOUND, "not_found").await;
    }
    let answer = service.client.post(format!("{admin}/metrics")).send().await;
    let answer = answer.expect("an answer");
    problem(answer, StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed").await;
}

#[tokio::test]
async fn an_operators_address_that_is_taken_ends_the_start() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address");
    let service =
        Service::start_with(|settings| settings.admin.listen = AdminListen(Some(address))).await;
    let ended = service.serving.await.expect("no panic");
    let error = ended.expect_err("a port that is taken").to_string();
    assert!(error.contains("for the operator"), "{error}");
}

/// Paths that visitors do not reach, however they write them: the operator's paths, what other services
/// have there, and what we do not offer.
#[tokio::test]
async fn what_is_not_for_visitors_is_not_found_however_it_is_written() {
    let (service, _) = with_admin().await;
    for path in [
        "/metrics",
        "/metrics/",
        "//metrics",
        "/METRICS",
        "/%6detrics",
        "/metrics;x=1",
        "/metrics%00",
        "/./metrics",
        "/health/../metrics",
        "/health/%2e%2e/metrics",
        "/health/..;/metrics",
        "/debug",
        "/debug/pprof",
        "/admin",
        "//admin",
        "/%2e%2e/admin",
        "/Login",
        "/login/",
        "//login",
        "/login;x=1",
        "/health",
        "/health/ready/",
        "/bootstrap",
        "/setup",
        "/password-reset",
        "/verify-email",
        "/passkeys/",
        "/webauthn/register",
        "/webauthn/login",
        "/dpop/nonce",
        "/tokens",
        "/personal-access-tokens",
        "/oauth/authorize",
        "/oauth/device",
        "/.env",
        "/.git/config",
    ] {
        for method in ["GET", "POST"] {
            // Raw, since a client would tidy the path up.
            let request = format!(
                "{method} {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
            );
            let answer = read_raw(service.send_raw(request.as_bytes())).await;
            assert!(answer.starts_with("HTTP/1.1 404 "), "{path}: {answer}");
            assert!(answer.contains(r#""code":"not_found""#), "{answer}");
        }
    }
}

#[tokio::test]
async fn a_login_with_a_code_is_counted_once_and_when_it_is_done() {
    let (service, admin) = with_admin().await;
    let enrolled = Enrolled::on(service).await;
    let successes = async || {
        let shown = metrics(&enrolled.service, &admin).await;
        let name = r#"latchkey_auth_logins_total{outcome="success"} "#;
        let line = shown.lines().find_map(|line| line.strip_prefix(name));
        line.map_or(0, |count| count.parse::<u64>().expect("a number"))
    };
    let before = successes().await;
    let challenge = enrolled.challenge().await;
    let refused = enrolled.answer(&challenge, "000000x").await;
    problem(refused, StatusCode::UNAUTHORIZED, "code_refused").await;
    assert_eq!(successes().await, before);
    let answer = enrolled.answer(&challenge, &enrolled.code(0)).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(successes().await, before + 1);
}
