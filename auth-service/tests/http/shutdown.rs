//! The end of the service.

use std::{
    io::Write as _,
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use auth_service::Config;
use reqwest::{Client, StatusCode};

use crate::fixture::{PASSWORD, Service, own_secrets, read_raw};

#[tokio::test]
async fn the_service_ends_in_time_though_a_client_stalls() {
    let (service, _) = Service::with_alice().await;
    let stalled = service.send_raw(
        b"POST /login HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n\
          content-length: 100\r\n\r\n{",
    );
    // An answer to somebody else shows that the worker has seen the stalled request before.
    let answer = service.post_login("alice", PASSWORD).await;
    assert_eq!(answer.status(), StatusCode::OK);
    service.stop.send(()).expect("still running");
    let ended = tokio::time::timeout(Duration::from_secs(5), service.serving).await;
    ended.expect("in time").expect("no panic").expect("cleanly");
    drop(stalled);
}

#[tokio::test]
async fn a_database_that_cannot_be_opened_ends_the_service_at_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("missing").join("auth.db");
    let config = Config::for_testing(&path, own_secrets());
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let served = auth_service::serve(config, listener, std::future::pending()).await;
    let error = served.expect_err("no directory").to_string();
    assert!(error.starts_with("cannot make the database"), "{error}");
}

async fn readiness(client: &Client, address: SocketAddr) -> StatusCode {
    let ready = client.get(format!("http://{address}/health/ready"));
    ready.send().await.expect("an answer").status()
}

#[tokio::test]
async fn the_stop_signal_turns_readiness_off_before_the_service_stops_to_listen() {
    for drain_secs in [300, 1] {
        let service = Service::start_with(|settings| settings.drain_secs = drain_secs).await;
        service.add_user("alice").await;
        assert_eq!(
            readiness(&service.client, service.address).await,
            StatusCode::OK
        );
        let Service {
            stop,
            serving,
            address,
            client,
            ..
        } = service;
        stop.send(()).expect("still running");
        let unready = async {
            while readiness(&client, address).await != StatusCode::SERVICE_UNAVAILABLE {
                tokio::task::yield_now().await;
            }
        };
        let unready = tokio::time::timeout(Duration::from_secs(5), unready).await;
        unready.expect("in time");
        if drain_secs == 300 {
            let url = format!("http://{address}/login");
            let body = serde_json::json!({"username": "alice", "password": PASSWORD});
            let answer = client.post(url).json(&body).send().await;
            assert_eq!(answer.expect("an answer").status(), StatusCode::OK);
            assert!(!serving.is_finished());
            serving.abort();
        } else {
            let ended = tokio::time::timeout(Duration::from_secs(10), serving).await;
            ended.expect("in time").expect("no panic").expect("cleanly");
        }
    }
}

#[tokio::test]
async fn an_idle_connection_is_kept_for_the_time_of_the_setting() {
    let live = b"GET /health/live HTTP/1.1\r\nhost: a\r\n\r\n";
    let brief = Service::start_with(|settings| settings.keep_alive_secs = 1).await;
    let service = Service::start().await;
    assert_eq!(service.config.settings.keep_alive_secs, 75);
    let mut kept = service.send_raw(live);
    // By the time that one ends, the other has been idle for as long.
    let ended = read_raw(brief.send_raw(live)).await;
    assert!(ended.starts_with("HTTP/1.1 200"), "{ended}");
    kept.write_all(b"GET /health/live HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        .expect("sent");
    let answers = read_raw(kept).await;
    assert_eq!(answers.matches("HTTP/1.1 200").count(), 2, "{answers}");
}
