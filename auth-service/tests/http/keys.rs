//! `GET /.well-known/jwks.json`, the metadata, and keys that are rotated.

use std::time::SystemTime;

use auth_service::{config::KeyMode, keys};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use shared_claims::{Rejection, Verifier, claims::REALTIME_AUDIENCE, key_set::KeySet};

use crate::fixture::{Login, Service};

async fn asymmetric() -> Service {
    let service = Service::start_with(|settings| {
        settings.keys.mode = KeyMode::Asymmetric;
        settings.keys.max_age_secs = 60;
    })
    .await;
    service.add_user("alice").await;
    service
}

async fn get(service: &Service, path: &str) -> Response {
    let request = service.client.get(service.url(path));
    request.send().await.expect("an answer")
}

/// The published keys, and a verifier that knows nothing else.
async fn published(service: &Service) -> (Value, Verifier) {
    let answer = get(service, "/.well-known/jwks.json").await;
    assert_eq!(answer.status(), StatusCode::OK);
    let document = answer.bytes().await.expect("a document");
    let keys = KeySet::from_jwks(&document).expect("keys");
    let issuer = &service.config.settings.public_url;
    let verifier = Verifier::new(issuer, REALTIME_AUDIENCE, keys);
    (serde_json::from_slice(&document).expect("JSON"), verifier)
}

fn kid_of(token: &str) -> String {
    let header = jsonwebtoken::decode_header(token).expect("a header");
    header.kid.expect("a kid")
}

/// Rotates as the command does, as if the next key had been published long ago.
async fn rotate(service: &Service, is_emergency: bool) {
    let config = &service.config;
    if !is_emergency {
        service
            .execute("update signing_keys set since = since - 1000 where state = 'pending'")
            .await;
    }
    keys::rotate_now(&config.settings, &config.secrets, is_emergency)
        .await
        .expect("rotated");
}

/// Logs in until a key other than `old` signs.
async fn login_after(service: &Service, old: &str) -> Login {
    loop {
        let login = service.login("alice").await;
        if kid_of(&login.token) != old {
            return login;
        }
    }
}

#[tokio::test]
async fn tokens_are_verified_with_what_is_published_and_nothing_private_is() {
    let service = asymmetric().await;
    let login = service.login("alice").await;
    let (document, verifier) = published(&service).await;
    verifier
        .verify(&login.token, SystemTime::now())
        .expect("accepted");
    let keys = document["keys"].as_array().expect("keys");
    assert_eq!(keys.len(), 2);
    for key in keys {
        assert_eq!(key.get("d"), None);
        assert_eq!((&key["kty"], &key["alg"]), (&json!("EC"), &json!("ES256")));
    }
    assert_eq!(
        service.refresh(&login.refresh_token).await.status(),
        StatusCode::OK
    );
    // The secret only encrypts: nothing that it signs is a token.
    let refused = service.verifier().verify(&login.token, SystemTime::now());
    assert_eq!(
        refused.expect_err("another algorithm"),
        Rejection::AlgorithmInvalid
    );
}

#[tokio::test]
async fn a_secret_is_not_published() {
    let service = Service::start().await;
    let answer = get(&service, "/.well-known/jwks.json").await;
    let document: Value = answer.json().await.expect("JSON");
    assert_eq!(document, json!({"keys": []}));
}

#[tokio::test]
async fn whoever_knows_the_keys_already_is_told_so() {
    let service = asymmetric().await;
    let answer = get(&service, "/.well-known/jwks.json").await;
    assert_eq!(answer.headers()["cache-control"], "public, max-age=60");
    assert_eq!(answer.headers()["content-type"], "application/jwk-set+json");
    let tag = answer.headers()["etag"].clone();
    let again = |tag: &str| {
        let request = service.client.get(service.url("/.well-known/jwks.json"));
        request.header("if-none-match", tag.to_owned()).send()
    };
    let tag = tag.to_str().expect("text");
    let known = again(tag).await.expect("an answer");
    assert_eq!(known.status(), StatusCode::NOT_MODIFIED);
    let other = again("\"another\"").await.expect("an answer");
    assert_eq!(other.status(), StatusCode::OK);
    rotate(&service, true).await;
    login_after(&service, &kid_of(&service.login("alice").await.token)).await;
    assert_eq!(
        again(tag).await.expect("an answer").status(),
        StatusCode::OK
    );
}

#[tokio::test]
async fn a_rotated_key_verifies_what_it_signed_and_the_next_one_was_known_before() {
    let service = asymmetric().await;
    let old = service.login("alice").await;
    let (_, known_before) = published(&service).await;
    rotate(&service, false).await;
    let new = login_after(&service, &kid_of(&old.token)).await;
    let now = SystemTime::now();
    known_before
        .verify(&new.token, now)
        .expect("published in time");
    let (document, known_after) = published(&service).await;
    known_after
        .verify(&old.token, now)
        .expect("still published");
    assert_eq!(document["keys"].as_array().map(Vec::len), Some(3));
    let me = service.get_me(Some(&format!("Bearer {}", old.token))).await;
    assert_eq!(me.status(), StatusCode::OK);

    // As if the last token that it signed had ended.
    service
        .execute("update signing_keys set since = since - 90000 where state = 'retiring'")
        .await;
    loop {
        let (_, verifier) = published(&service).await;
        if let Err(rejection) = verifier.verify(&old.token, now) {
            assert_eq!(rejection, Rejection::KeyUnknown);
            break;
        }
    }
}

#[tokio::test]
async fn a_key_is_published_for_long_enough_before_it_signs() {
    let service = asymmetric().await;
    let config = &service.config;
    service.login("alice").await;
    let early = keys::rotate_now(&config.settings, &config.secrets, false).await;
    let early = early.expect_err("too early").to_string();
    assert!(
        early.starts_with("the next key has yet to be published for "),
        "{early}"
    );
    rotate(&service, false).await;
}

#[tokio::test]
async fn a_key_whose_time_has_come_is_rotated_by_itself() {
    let service = asymmetric().await;
    let old = kid_of(&service.login("alice").await.token);
    service
        .execute("update signing_keys set since = since - 3000000")
        .await;
    login_after(&service, &old).await;
}

#[tokio::test]
async fn in_an_emergency_the_key_is_gone_with_everything_that_it_signed() {
    let service = asymmetric().await;
    let old = service.login("alice").await;
    rotate(&service, true).await;
    let new = login_after(&service, &kid_of(&old.token)).await;
    let status = |token: String| {
        let service = &service;
        async move {
            service
                .get_me(Some(&format!("Bearer {token}")))
                .await
                .status()
        }
    };
    assert_eq!(status(old.token).await, StatusCode::UNAUTHORIZED);
    assert_eq!(status(new.token).await, StatusCode::OK);
    assert_eq!(
        service.refresh(&old.refresh_token).await.status(),
        StatusCode::OK
    );
}

#[tokio::test]
async fn a_public_url_with_a_path_works_whether_or_not_the_proxy_takes_the_path_away() {
    const PUBLIC: &str = "https://x.example/auth";
    let service = Service::start_with(|settings| settings.public_url = PUBLIC.to_owned()).await;
    service.add_user("alice").await;
    let place = "/.well-known/oauth-authorization-server";
    for path in [
        format!("{place}/auth"),
        format!("/auth{place}"),
        place.to_owned(),
    ] {
        let answer = get(&service, &path).await;
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        let metadata: Value = answer.json().await.expect("JSON");
        assert_eq!(metadata["issuer"], PUBLIC);
        assert_eq!(metadata["token_endpoint"], format!("{PUBLIC}/oauth/token"));
    }
    for path in [format!("{place}/other"), "/other/health/live".to_owned()] {
        assert_eq!(
            get(&service, &path).await.status(),
            StatusCode::NOT_FOUND,
            "{path}"
        );
    }
    let jwks = get(&service, "/auth/.well-known/jwks.json").await;
    assert_eq!(jwks.status(), StatusCode::OK);
    // The page of the endpoints finds its description beside itself.
    let page = get(&service, "/auth/docs").await;
    assert!(page.url().path().ends_with("/auth/docs/"), "{}", page.url());
    let token = service.token_of("alice").await;
    assert!(service.verifier().verify(&token, SystemTime::now()).is_ok());
    for path in ["/auth/me", "/me"] {
        let request = service.client.get(service.url(path)).bearer_auth(&token);
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
    }
}

#[tokio::test]
async fn the_metadata_names_endpoints_that_are_there() {
    let service = Service::start().await;
    let answer = get(&service, "/.well-known/oauth-authorization-server").await;
    let metadata: Value = answer.json().await.expect("JSON");
    let issuer = service.config.settings.public_url.clone();
    assert_eq!(metadata["issuer"], issuer);
    let elsewhere = get(&service, "/.well-known/openid-configuration").await;
    assert_eq!(elsewhere.json::<Value>().await.expect("JSON"), metadata);
    for name in [
        "token_endpoint",
        "introspection_endpoint",
        "revocation_endpoint",
        "jwks_uri",
    ] {
        let url = metadata[name].as_str().expect(name);
        let path = url.strip_prefix(&issuer).expect("ours");
        let answer = service.client.post(service.url(path)).send().await;
        let status = answer.expect("an answer").status();
        assert_ne!(status, StatusCode::NOT_FOUND, "{name}");
    }
}
