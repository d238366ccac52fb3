//! Key pairs while `keys.mode` changes to and fro around a rotation of the secrets.

use std::time::Duration;

use auth_service::{Config, config::KeyMode, keys};
use reqwest::StatusCode;
use serde_json::Value;

use crate::fixture::{Login, Service, secrets};

const OLD: &str = "mZq3vX8pL1rT6wYc9sHd2kFg5jBn7uEa";
const NEW: &str = "Qe7Rt2Yu9Io4Pa1Sd6Fg3Hj8Kl5Zx0Cv";

/// A service with key pairs that the old secret encrypts.
async fn asymmetric() -> Service {
    let service = Service::start_with(|settings| settings.keys.mode = KeyMode::Asymmetric).await;
    service.add_user("alice").await;
    service
}

/// Changes the mode and the secrets.
fn with(mode: KeyMode, list: &str) -> impl FnOnce(&mut Config) {
    let list = secrets(list);
    move |config| {
        config.settings.keys.mode = mode;
        config.secrets = list;
    }
}

fn kid_of(login: &Login) -> String {
    let header = jsonwebtoken::decode_header(&login.token).expect("a header");
    header.kid.expect("a kid")
}

async fn status_of(service: &Service, login: &Login) -> StatusCode {
    let authorization = format!("Bearer {}", login.token);
    service.get_me(Some(&authorization)).await.status()
}

async fn published(service: &Service) -> Vec<String> {
    let url = service.url("/.well-known/jwks.json");
    let answer = service.client.get(url).send().await.expect("an answer");
    let document: Value = answer.json().await.expect("JSON");
    let keys = document["keys"].as_array().expect("keys").iter();
    keys.map(|key| key["kid"].as_str().expect("text").to_owned())
        .collect()
}

#[tokio::test]
async fn keys_go_on_that_were_there_while_the_secrets_changed_in_the_other_mode() {
    let service = asymmetric().await;
    let old = service.login("alice").await;
    let before = published(&service).await;
    let both = format!("{NEW},{OLD}");
    let service = service.restart_with(with(KeyMode::Shared, &both)).await;
    // The service is up when it answers, and has read the keys by then.
    service.login("alice").await;
    let service = service.restart_with(with(KeyMode::Asymmetric, NEW)).await;
    assert_eq!(status_of(&service, &old).await, StatusCode::OK);
    assert_eq!(published(&service).await, before);
    assert_eq!(kid_of(&service.login("alice").await), kid_of(&old));
}

#[tokio::test]
async fn a_key_that_no_secret_decrypts_verifies_until_its_tokens_have_ended() {
    let service = asymmetric().await;
    let old = service.login("alice").await;
    let before = published(&service).await;
    let service = service.restart_with(with(KeyMode::Asymmetric, NEW)).await;
    assert_eq!(status_of(&service, &old).await, StatusCode::OK);
    let new = service.login("alice").await;
    assert!(!before.contains(&kid_of(&new)), "a key that cannot be read");
    let after = published(&service).await;
    // The old one, another one that signs, and another one that will.
    let kept: Vec<_> = after.iter().filter(|kid| before.contains(kid)).collect();
    assert_eq!((after.len(), kept), (3, vec![&kid_of(&old)]));

    // As if the last token that it signed had ended.
    let aged = service
        .execute("update signing_keys set since = since - 90000 where state = 'retiring'")
        .await;
    assert_eq!(aged, 1);
    let dropped = async { while published(&service).await.contains(&kid_of(&old)) {} };
    let dropped = tokio::time::timeout(Duration::from_secs(10), dropped).await;
    dropped.expect("the key is dropped");
    assert_eq!(status_of(&service, &old).await, StatusCode::UNAUTHORIZED);
    assert_eq!(status_of(&service, &new).await, StatusCode::OK);
}

#[tokio::test]
async fn an_emergency_rotation_needs_no_secret_of_before() {
    let service = asymmetric().await;
    let old = service.login("alice").await;
    let settings = service.config.settings.clone();
    // A rotation that keeps the old key has to read it.
    let refused = keys::rotate_now(&settings, &secrets(NEW), false).await;
    let refused = refused.expect_err("an unreadable key").to_string();
    assert!(refused.contains("cannot decrypt a key"), "{refused}");
    assert!(published(&service).await.contains(&kid_of(&old)));
    keys::rotate_now(&settings, &secrets(NEW), true)
        .await
        .expect("rotated");
    let service = service.restart_with(with(KeyMode::Asymmetric, NEW)).await;
    assert_eq!(status_of(&service, &old).await, StatusCode::UNAUTHORIZED);
    assert!(!published(&service).await.contains(&kid_of(&old)));
    let new = service.login("alice").await;
    assert_eq!(status_of(&service, &new).await, StatusCode::OK);
}
