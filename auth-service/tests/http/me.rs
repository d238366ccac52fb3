//! `GET /me`

use std::time::{Duration, SystemTime};

use auth_service::{
    Settings,
    tokens::{NewToken, Signer},
};
use jsonwebtoken::{Algorithm, EncodingKey};
use reqwest::StatusCode;
use serde_json::{Map, Value, json};
use shared_claims::{
    claims::{LOGIN_CLIENT_ID, REALTIME_AUDIENCE},
    secret::Secrets,
};

use crate::fixture::{Service, own_secrets, problem, secrets};

#[tokio::test]
async fn a_token_shows_its_owner() {
    let (service, id) = Service::with_alice().await;
    let token = service.token_of("alice").await;
    for authorization in [format!("Bearer {token}"), format!("bearer {token}")] {
        let answer = service.get_me(Some(&authorization)).await;
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["cache-control"], "no-store");
        let me: Value = answer.json().await.expect("JSON");
        let expected = json!({
            "sub": id, "username": "alice", "name": "A Name", "email": "alice@example.org",
            "email_verified": false, "second_factor": false,
        });
        assert_eq!(me, expected);
    }
}

#[tokio::test]
async fn without_a_token_nothing_is_said_about_one() {
    let service = Service::start().await;
    let answer = service.get_me(None).await;
    assert_eq!(answer.headers()["www-authenticate"], "Bearer");
    let body = problem(answer, StatusCode::UNAUTHORIZED, "credentials_required").await;
    assert_eq!(body["reason"], "token_missing");
}

#[tokio::test]
async fn another_scheme_is_malformed() {
    let service = Service::start().await;
    let answer = service.get_me(Some("Basic YTpi")).await;
    let body = problem(answer, StatusCode::UNAUTHORIZED, "credentials_bad_format").await;
    assert_eq!(body["reason"], "credentials_malformed");
}

fn sign(
    settings: &Settings,
    secrets: &Secrets,
    (subject, session_id): (&str, &str),
    now: SystemTime,
) -> String {
    let secret = secrets.signing();
    let id = secret.key_id().expect("an id");
    let key = EncodingKey::from_secret(secret.expose());
    let signer = Signer::new(settings, Algorithm::HS256, id, key);
    let token = NewToken {
        subject,
        audience: REALTIME_AUDIENCE,
        client_id: LOGIN_CLIENT_ID,
        session_id,
        scope: None,
        authorization_details: Vec::new(),
        profile: None,
        further: Map::new(),
        expires_by: None,
    };
    let signed = signer.sign(token, now).expect("a token");
    signed.token.to_string()
}

#[tokio::test]
async fn a_token_that_is_not_accepted_is_refused_with_the_reason() {
    let (service, id) = Service::with_alice().await;
    let ours = &service.config.settings;
    let elsewhere = Settings {
        public_url: "https://elsewhere.example".to_owned(),
        ..Settings::default()
    };
    let other = secrets("Qe7Rt2Yu9Io4Pa1Sd6Fg3Hj8Kl5Zx0Cv");
    let now = SystemTime::now();
    let login = service.token_of("alice").await;
    let session = service.verifier().verify(&login, now).expect("a token");
    let who = (id.as_str(), session.sid.as_deref().expect("a session"));
    let past = now - Duration::from_secs(900);
    let good = sign(ours, &own_secrets(), who, now);
    assert_eq!(
        service
            .get_me(Some(&format!("Bearer {good}")))
            .await
            .status(),
        StatusCode::OK
    );

    for (token, reason, message) in [
        (
            sign(ours, &own_secrets(), who, past),
            "token_expired",
            "jwt expired",
        ),
        (
            sign(ours, &other, who, now),
            "key_unknown",
            "jwt key unknown",
        ),
        (
            sign(&elsewhere, &own_secrets(), who, now),
            "issuer_invalid",
            "jwt issuer invalid",
        ),
        (
            sign(ours, &own_secrets(), (&id, "another"), now),
            "session_ended",
            "session ended",
        ),
        ("hidden".to_owned(), "token_malformed", "jwt malformed"),
        (
            format!("{good}AAAA"),
            "signature_invalid",
            "invalid signature",
        ),
    ] {
        let answer = service.get_me(Some(&format!("Bearer {token}"))).await;
        let challenge = format!("Bearer error=\"invalid_token\", error_description=\"{message}\"");
        assert_eq!(answer.headers()["www-authenticate"], challenge.as_str());
        let body = problem(answer, StatusCode::UNAUTHORIZED, "invalid_token").await;
        assert_eq!(body["reason"], reason);
        assert_eq!(body["detail"], message);
    }
}

#[tokio::test]
async fn a_disabled_or_removed_account_is_refused_though_its_token_lives() {
    let (service, _) = Service::with_alice().await;
    let alice = service.token_of("alice").await;
    service.disable_user("alice").await;
    let removed = sign(
        &service.config.settings,
        &own_secrets(),
        ("removed", "a-session"),
        SystemTime::now(),
    );
    for token in [alice, removed] {
        let answer = service.get_me(Some(&format!("Bearer {token}"))).await;
        assert!(answer.headers().contains_key("www-authenticate"));
        let body = problem(answer, StatusCode::UNAUTHORIZED, "invalid_token").await;
        assert_eq!(body["reason"], "account_unavailable");
    }
}

#[tokio::test]
async fn only_get_is_taken() {
    let service = Service::start().await;
    let answer = service.client.post(service.url("/me")).send().await;
    let answer = answer.expect("an answer");
    assert_eq!(answer.headers()["allow"], "GET");
    problem(answer, StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed").await;
}
