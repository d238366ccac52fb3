//! Enrolments that are refused for the key, or for what has changed since they were started, each beside one that
//! differs in one thing and is accepted.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use reqwest::StatusCode;
use serde_json::json;

use crate::{
    authenticator::Authenticator,
    fixture::{PASSWORD, Service, problem},
    passkeys::{assert_refused, enrol, enrolment},
};

/// Returns an odd number of so many bits.
fn modulus(bits: usize) -> Vec<u8> {
    let mut bytes = vec![0xff; bits.div_ceil(8)];
    bytes[0] >>= bytes.len() * 8 - bits;
    bytes
}

#[tokio::test]
async fn an_rsa_key_of_more_than_4096_bits_is_refused() {
    let (service, _) = Service::with_alice().await;
    let token = service.token_of("alice").await;
    for (bits, is_accepted) in [(2048, true), (4096, true), (4097, false), (16_384, false)] {
        let started = enrolment(&service, &token).await;
        let mut device = Authenticator::new();
        device.claimed_modulus = Some(modulus(bits));
        let credential = device.create(&started["options"]);
        let answer = enrol(&service, &token, &started, &credential).await;
        match is_accepted {
            true => assert_eq!(answer.status(), StatusCode::CREATED, "{bits}"),
            false => assert_refused(answer).await,
        }
    }
}

#[tokio::test]
async fn an_enrolment_that_was_started_without_a_code_ends_when_a_second_factor_is_confirmed() {
    for (confirmed_at, is_accepted) in [("1", false), ("null", true)] {
        let (service, _) = Service::with_alice().await;
        let token = service.token_of("alice").await;
        let started = enrolment(&service, &token).await;
        let factor = format!(
            "insert into totp_secrets (user_id, sealed, created_at, confirmed_at) \
             select user_id, hash, 1, {confirmed_at} from sessions, refresh_tokens"
        );
        assert_eq!(service.execute(&factor).await, 1);
        let credential = Authenticator::new().create(&started["options"]);
        let answer = enrol(&service, &token, &started, &credential).await;
        match is_accepted {
            true => assert_eq!(answer.status(), StatusCode::CREATED),
            false => assert_refused(answer).await,
        }
    }
}

#[tokio::test]
async fn an_enrolment_ends_when_the_password_is_changed() {
    for (name, is_accepted) in [("alice", false), ("bob", true)] {
        let (service, _) = Service::with_alice().await;
        service.add_user("bob").await;
        let token = service.token_of("alice").await;
        let started = enrolment(&service, &token).await;
        let changing = match name {
            "alice" => token.clone(),
            _ => service.token_of(name).await,
        };
        let body =
            json!({"current_password": PASSWORD, "new_password": "another open barley gate"});
        let changed = service.post_owned("/password", &changing, body).await;
        assert_eq!(changed.status(), StatusCode::NO_CONTENT);
        let credential = Authenticator::new().create(&started["options"]);
        let answer = enrol(&service, &token, &started, &credential).await;
        match is_accepted {
            true => assert_eq!(answer.status(), StatusCode::CREATED),
            false => assert_refused(answer).await,
        }
    }
}

#[tokio::test]
async fn refused_enrolments_are_counted_for_their_account_alone() {
    let service = Service::start_with(|settings| settings.limits.codes_per_account = 2).await;
    let mut tokens = Vec::new();
    for name in ["alice", "bob"] {
        service.add_user(name).await;
        tokens.push(service.token_of(name).await);
    }
    let started = enrolment(&service, &tokens[0]).await;
    let mut rubbish = Authenticator::new().create(&started["options"]);
    let client_data = json!({"type": "webauthn.create", "crossOrigin": "A".repeat(9_000)});
    let client_data = URL_SAFE_NO_PAD.encode(client_data.to_string());
    rubbish["response"]["clientDataJSON"] = client_data.into();
    for _ in 0..2 {
        assert_refused(enrol(&service, &tokens[0], &started, &rubbish).await).await;
    }
    let credential = Authenticator::new().create(&started["options"]);
    let limited = enrol(&service, &tokens[0], &started, &credential).await;
    problem(limited, StatusCode::TOO_MANY_REQUESTS, "rate_limited").await;
    let started = enrolment(&service, &tokens[1]).await;
    for _ in 0..3 {
        // Those that are accepted, or are another's already, are given back.
        let credential = Authenticator::new().create(&started["options"]);
        let answer = enrol(&service, &tokens[1], &started, &credential).await;
        assert_ne!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
    }
}
