//! Open connections of one address.

use std::time::Duration;

use reqwest::{Client, StatusCode};

use crate::{admin::with_admin, fixture::Service, tls};

/// Maximum time in which the service notes that a connection has ended.
const DEADLINE: Duration = Duration::from_secs(10);

/// Opens a connection that `client` keeps, and returns whether it was served.
async fn is_served(client: &Client, url: &str) -> bool {
    match client.get(url).send().await {
        Ok(answer) => {
            assert_eq!(answer.status(), StatusCode::OK);
            answer.bytes().await.expect("a body");
            true
        }
        Err(_) => false,
    }
}

/// Fills the places of the address of this test, and sees that a further connection waits for one.
async fn so_many_at_once(most: usize, url: &str, client: impl Fn() -> Client) {
    let mut clients: Vec<Client> = (0..most).map(|_| client()).collect();
    for client in &clients {
        assert!(is_served(client, url).await);
    }
    assert!(!is_served(&client(), url).await);
    // Those who are connected are served as before.
    for client in &clients {
        assert!(is_served(client, url).await);
    }
    drop(clients.pop());
    let next = async {
        while !is_served(&client(), url).await {
            tokio::task::yield_now().await;
        }
    };
    let served = tokio::time::timeout(DEADLINE, next).await;
    assert!(served.is_ok(), "{url}");
}

#[tokio::test]
async fn a_further_connection_of_an_address_is_closed_until_one_has_ended() {
    let service = Service::start_with(|settings| settings.limits.connections_per_address = 3).await;
    so_many_at_once(3, &service.url("/health/live"), Client::new).await;
}

#[tokio::test]
async fn a_connection_with_tls_is_counted_too() {
    let directory = tempfile::tempdir().expect("a directory");
    let certificate = tls::write_certificate(directory.path());
    let service = Service::start_with(|settings| {
        settings.tls = tls::settings(directory.path());
        settings.limits.connections_per_address = 3;
    })
    .await;
    let url = format!("https://localhost:{}/health/live", service.address.port());
    so_many_at_once(3, &url, || tls::client_of(&certificate)).await;
}

#[tokio::test]
async fn an_address_has_16_connections_to_the_listener_of_the_operator() {
    let (_service, admin) = with_admin().await;
    so_many_at_once(16, &format!("{admin}/health/live"), Client::new).await;
}

#[tokio::test]
async fn a_proxy_has_as_many_connections_as_it_opens() {
    let service = Service::start_with(|settings| {
        settings.limits.connections_per_address = 3;
        settings.trusted_proxies = vec!["127.0.0.0/8".parse().expect("a network")];
    })
    .await;
    let clients: Vec<Client> = (0..6).map(|_| Client::new()).collect();
    for client in &clients {
        assert!(is_served(client, &service.url("/health/live")).await);
    }
}
