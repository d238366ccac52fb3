//! `POST /oauth/token`: clients and what they are given.

use std::time::SystemTime;

use auth_service::{
    clients,
    credentials::Username,
    users::grants::{self, Subject},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::{Response, StatusCode};
use serde_json::Value;
use shared_claims::{Verifier, authorization::Action, claims::API_AUDIENCE, key_set::KeySet};

use crate::fixture::{Login, Service, problem};

const SCOPES: &str = "rt.publish rt.read introspect";

/// A service with the client `billing`, and its secret.
pub(crate) async fn service_with_client() -> (Service, String) {
    let service = Service::start().await;
    service.add_user("alice").await;
    let secret = clients::add_client(&service.config.settings, "billing", SCOPES).await;
    let secret = secret.expect("a client").to_string();
    (service, secret)
}

pub(crate) fn basic(id: &str, secret: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{id}:{secret}")))
}

pub(crate) async fn post(
    service: &Service,
    path: &str,
    client: Option<&str>,
    form: &[(&str, &str)],
) -> Response {
    let request = service.client.post(service.url(path)).form(form);
    let request = match client {
        Some(header) => request.header("authorization", header),
        None => request,
    };
    request.send().await.expect("an answer")
}

pub(crate) async fn granted(answer: Response) -> Value {
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["cache-control"], "no-store");
    answer.json().await.expect("JSON")
}

pub(crate) async fn assert_error(answer: Response, status: StatusCode, error: &str) {
    assert_eq!(answer.status(), status, "{error}");
    assert_eq!(answer.headers()["cache-control"], "no-store");
    let body: Value = answer.json().await.expect("JSON");
    assert_eq!(body["error"], error);
    assert!(body["error_description"].is_string());
}

pub(crate) const CLIENT_CREDENTIALS: [(&str, &str); 1] = [("grant_type", "client_credentials")];

#[tokio::test]
async fn a_client_gets_a_token_for_the_api_and_for_nothing_else() {
    let (service, secret) = service_with_client().await;
    let header = basic("billing", &secret);
    let in_body = [
        ("grant_type", "client_credentials"),
        ("client_id", "billing"),
        ("client_secret", &secret),
        ("scope", "rt.read"),
    ];
    let settings = &service.config.settings;
    let subject = Subject::Client("billing".to_owned());
    grants::add_grant(settings, &subject, "orders:**", &[Action::Publish])
        .await
        .expect("a grant");
    let keys = KeySet::from_secrets(&service.config.secrets).expect("keys");
    let verifier = Verifier::new(&settings.public_url, API_AUDIENCE, keys);
    for (client, form, scope) in [
        (Some(header.as_str()), &CLIENT_CREDENTIALS[..], SCOPES),
        (None, &in_body[..], "rt.read"),
    ] {
        let answer = granted(post(&service, "/oauth/token", client, form).await).await;
        assert_eq!(answer["token_type"], "Bearer");
        assert_eq!(answer["scope"], scope);
        assert_eq!(answer.get("refresh_token"), None);
        let token = answer["access_token"].as_str().expect("a token");
        let claims = verifier.verify(token, SystemTime::now()).expect("accepted");
        assert_eq!(claims.sub, "client:billing");
        assert_eq!(claims.client_id.as_deref(), Some("billing"));
        assert_eq!(claims.scope.as_deref(), Some(scope));
        assert_eq!(claims.authorization_details[0].rooms, ["orders:**"]);
        assert!(service.verifier().verify(token, SystemTime::now()).is_err());
        let me = service.get_me(Some(&format!("Bearer {token}"))).await;
        problem(me, StatusCode::UNAUTHORIZED, "invalid_token").await;
    }
}

#[tokio::test]
async fn unknown_clients_wrong_secrets_and_removed_clients_look_the_same() {
    let (service, secret) = service_with_client().await;
    let settings = &service.config.settings;
    let other = clients::add_client(settings, "other", "")
        .await
        .expect("a client");
    let gone = clients::add_client(settings, "gone", "")
        .await
        .expect("a client");
    clients::remove_client(settings, "gone")
        .await
        .expect("removed");
    let mut bodies = Vec::new();
    for header in [
        basic("nobody", &secret),
        basic("billing", "wrong"),
        basic("billing", &other),
        basic("gone", &gone),
        basic("' or 1=1--", "' or 1=1--"),
        basic("billing\0", &secret),
        "Basic !!".to_owned(),
        "Bearer x".to_owned(),
    ] {
        let answer = post(&service, "/oauth/token", Some(&header), &CLIENT_CREDENTIALS).await;
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{header}");
        assert!(
            answer.headers()["www-authenticate"]
                .to_str()
                .expect("text")
                .starts_with("Basic ")
        );
        bodies.push(answer.text().await.expect("text"));
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 1, "{bodies:?}");
    let header = basic("billing", &secret);
    granted(post(&service, "/oauth/token", Some(&header), &CLIENT_CREDENTIALS).await).await;
}

#[tokio::test]
async fn a_client_authenticates_in_one_way_and_in_the_body() {
    let (service, secret) = service_with_client().await;
    let header = basic("billing", &secret);
    let bad = StatusCode::BAD_REQUEST;
    let both = [
        ("grant_type", "client_credentials"),
        ("client_id", "billing"),
        ("client_secret", &secret),
    ];
    let answer = post(&service, "/oauth/token", Some(&header), &both).await;
    assert_error(answer, bad, "invalid_request").await;
    let query = format!("/oauth/token?client_id=billing&client_secret={secret}");
    let answer = post(&service, &query, None, &CLIENT_CREDENTIALS).await;
    assert_error(answer, bad, "invalid_request").await;
    let twice = [
        ("grant_type", "client_credentials"),
        ("grant_type", "client_credentials"),
    ];
    let answer = post(&service, "/oauth/token", Some(&header), &twice).await;
    assert_error(answer, bad, "invalid_request").await;
    granted(post(&service, "/oauth/token", None, &both).await).await;
}

#[tokio::test]
async fn a_client_asks_for_no_more_than_it_was_given() {
    let (service, secret) = service_with_client().await;
    let header = basic("billing", &secret);
    for (name, value, error) in [
        ("scope", "rt.kick", "invalid_scope"),
        ("scope", "rt.read rt.kick", "invalid_scope"),
        ("scope", "rt.read\trt.publish", "invalid_scope"),
        ("audience", "latchkey-realtime", "invalid_target"),
        ("resource", "https://elsewhere.example", "invalid_target"),
    ] {
        let form = [("grant_type", "client_credentials"), (name, value)];
        let answer = post(&service, "/oauth/token", Some(&header), &form).await;
        assert_error(answer, StatusCode::BAD_REQUEST, error).await;
    }
    for kind in ["password", "authorization_code", "x"] {
        let form = [
            ("grant_type", kind),
            ("username", "alice"),
            ("password", "open sesame"),
        ];
        let answer = post(&service, "/oauth/token", Some(&header), &form).await;
        assert_error(answer, StatusCode::BAD_REQUEST, "unsupported_grant_type").await;
    }
    let form = [
        ("grant_type", "client_credentials"),
        ("audience", "latchkey-api"),
    ];
    granted(post(&service, "/oauth/token", Some(&header), &form).await).await;
}

#[tokio::test]
async fn a_rotated_secret_works_until_its_overlap_ends() {
    let (service, old) = service_with_client().await;
    let settings = &service.config.settings;
    let ask = |secret: String| {
        let service = &service;
        async move {
            let header = basic("billing", &secret);
            post(service, "/oauth/token", Some(&header), &CLIENT_CREDENTIALS)
                .await
                .status()
        }
    };
    let new = clients::rotate_client(settings, "billing", 600)
        .await
        .expect("a secret")
        .to_string();
    assert_eq!(ask(old.clone()).await, StatusCode::OK);
    assert_eq!(ask(new.clone()).await, StatusCode::OK);
    let newest = clients::rotate_client(settings, "billing", 0)
        .await
        .expect("a secret");
    assert_eq!(ask(old).await, StatusCode::UNAUTHORIZED);
    assert_eq!(ask(new).await, StatusCode::UNAUTHORIZED);
    assert_eq!(ask(newest.to_string()).await, StatusCode::OK);
}

#[tokio::test]
async fn wrong_secrets_are_limited_by_address_and_a_right_one_is_never_refused() {
    let service = Service::start_with(|settings| {
        settings.limits.clients_per_address = 3;
        settings.trusted_proxies = vec!["127.0.0.0/8".parse().expect("a network")];
    })
    .await;
    let settings = &service.config.settings;
    let secret = clients::add_client(settings, "billing", "")
        .await
        .expect("a client");
    let ask = |address: &'static str, secret: &str| {
        let request = service.client.post(service.url("/oauth/token"));
        let request = request.header("authorization", basic("billing", secret));
        let request = request.header("x-forwarded-for", address);
        let request = request.form(&CLIENT_CREDENTIALS);
        async move { request.send().await.expect("an answer") }
    };
    for _ in 0..3 {
        let answer = ask("192.0.2.1", "wrong").await;
        assert_error(answer, StatusCode::UNAUTHORIZED, "invalid_client").await;
    }
    let mut waits = Vec::new();
    for _ in 0..50 {
        let answer = ask("192.0.2.1", "wrong").await;
        let wait = answer.headers()["retry-after"].to_str().expect("text");
        waits.push(wait.parse::<u64>().expect("seconds"));
        assert_error(
            answer,
            StatusCode::TOO_MANY_REQUESTS,
            "temporarily_unavailable",
        )
        .await;
    }
    // A refused attempt costs nothing: the limit opens again when it would have without it.
    assert!(waits.is_sorted_by(|one, next| one >= next), "{waits:?}");
    granted(ask("192.0.2.1", &secret).await).await;
    granted(ask("192.0.2.2", &secret).await).await;
    let answer = ask("192.0.2.2", "wrong").await;
    assert_error(answer, StatusCode::UNAUTHORIZED, "invalid_client").await;
}

#[tokio::test]
async fn a_grant_stands_in_the_next_token_and_is_gone_from_the_one_after_it() {
    let service = Service::start_with(|settings| {
        settings.grants = vec![auth_service::config::GrantRule {
            rooms: vec!["news".to_owned()],
            actions: vec![Action::Subscribe],
        }];
    })
    .await;
    service.add_user("alice").await;
    let settings = &service.config.settings;
    let alice = Subject::User(Username::parse("alice").expect("a name"));
    let rooms = |token: &str| {
        let claims = service
            .verifier()
            .verify(token, SystemTime::now())
            .expect("accepted");
        claims
            .authorization_details
            .iter()
            .flat_map(|detail| detail.rooms.clone())
            .collect::<Vec<_>>()
    };
    let login = service.login("alice").await;
    assert_eq!(rooms(&login.token), ["news"]);
    let actions = [Action::Subscribe, Action::Publish];
    grants::add_grant(settings, &alice, "chat:**", &actions)
        .await
        .expect("a grant");
    grants::add_grant(settings, &alice, "tea", &[Action::Subscribe])
        .await
        .expect("a grant");
    let refreshed = service.refresh(&login.refresh_token).await;
    let refreshed = Login::of(&refreshed.json().await.expect("JSON"));
    assert_eq!(rooms(&refreshed.token), ["news", "tea", "chat:**"]);
    grants::remove_grant(settings, &alice, "chat:**")
        .await
        .expect("removed");
    assert_eq!(rooms(&service.login("alice").await.token), ["news", "tea"]);
    assert!(
        grants::remove_grant(settings, &alice, "chat:**")
            .await
            .is_err()
    );
    assert!(
        grants::add_grant(settings, &alice, "**", &actions)
            .await
            .is_err()
    );
    let long = "a".repeat(255);
    for number in 0..40 {
        let room = format!("{number:02}:{}", &long[..100]);
        let _ = grants::add_grant(settings, &alice, &room, &actions).await;
    }
    let token = service.login("alice").await.token;
    assert!(token.len() < 8 * 1024, "{}", token.len());
    assert!(rooms(&token).len() > 20);
}
