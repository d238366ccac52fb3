//! `GET /health/live` and `GET /health/ready`

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::fixture::{Service, problem, read_raw};

async fn get(service: &Service, path: &str) -> reqwest::Response {
    let answer = service.client.get(service.url(path)).send().await;
    answer.expect("an answer")
}

#[tokio::test]
async fn a_running_service_is_live_and_ready() {
    let service = Service::start().await;
    for (path, status) in [("/health/live", "live"), ("/health/ready", "ready")] {
        let answer = get(&service, path).await;
        assert_eq!(answer.status(), StatusCode::OK);
        let body: Value = answer.json().await.expect("JSON");
        assert_eq!(body, json!({"status": status}));

        let answer = service.client.head(service.url(path)).send().await;
        assert_eq!(answer.expect("an answer").status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn a_service_without_its_database_is_live_and_not_ready() {
    let service = Service::start().await;
    assert_eq!(get(&service, "/health/live").await.status(), StatusCode::OK);
    service.execute("alter table users rename to lost").await;
    let answer = get(&service, "/health/ready").await;
    problem(answer, StatusCode::SERVICE_UNAVAILABLE, "unavailable").await;
    assert_eq!(get(&service, "/health/live").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn headers_that_do_not_come_close_the_connection() {
    let service = Service::start_with(|settings| settings.header_deadline_secs = 1).await;
    let answer = read_raw(service.send_raw(b"GET /health/live HTTP/1.1\r\nhost:")).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}
