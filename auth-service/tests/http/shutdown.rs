//! The end of the service.

use std::{net::TcpListener, time::Duration};

use auth_service::Config;
use reqwest::StatusCode;

use crate::fixture::{PASSWORD, Service, own_secrets};

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
