//! `POST /totp`, `/totp/confirm`, `/totp/disable` and `/login/totp`

use std::time::{SystemTime, UNIX_EPOCH};

use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use totp_rs::{Builder, Secret, Totp};

use crate::fixture::{PASSWORD, Service, problem};

/// An account with a second factor: its authenticator, and its recovery codes.
pub(crate) struct Enrolled {
    pub(crate) service: Service,
    totp: Totp,
    pub(crate) recovery_codes: Vec<String>,
    pub(crate) token: String,
}

fn authenticator(secret: &str) -> Totp {
    let secret = Secret::try_from_base32(secret).expect("base32");
    let builder = Builder::new()
        .with_secret(secret)
        .with_account_name("alice");
    builder.build().expect("an authenticator")
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("a time").as_secs()
}

impl Enrolled {
    pub(crate) async fn start() -> Self {
        Self::on(Service::start().await).await
    }

    /// Enrols alice on a service that has nobody yet.
    pub(crate) async fn on(service: Service) -> Self {
        service.add_user("alice").await;
        let token = service.login("alice").await.token;
        let answer = service
            .post("/totp", Some(&token), &json!({"password": PASSWORD}))
            .await;
        assert_eq!(answer.status(), StatusCode::OK);
        let answer: Value = answer.json().await.expect("JSON");
        let uri = answer["uri"].as_str().expect("a URI");
        assert!(uri.starts_with("otpauth://totp/Latchkey:alice?"), "{uri}");
        let totp = authenticator(answer["secret"].as_str().expect("a secret"));
        // Until it is confirmed, nobody is asked for a code.
        service.login("alice").await;
        let code = totp.generate(now()).to_string();
        let answer = service
            .post("/totp/confirm", Some(&token), &json!({"code": code}))
            .await;
        assert_eq!(answer.status(), StatusCode::OK);
        let answer: Value = answer.json().await.expect("JSON");
        let codes = answer["recovery_codes"].as_array().expect("codes").iter();
        let codes = codes.map(|code| code.as_str().expect("a code").to_owned());
        let recovery_codes: Vec<String> = codes.collect();
        assert_eq!(recovery_codes.len(), 10);
        // The code that confirmed it is used up; the tests below start with a fresh step.
        service
            .execute("update totp_secrets set last_step = last_step - 10")
            .await;
        Self {
            service,
            totp,
            recovery_codes,
            token,
        }
    }

    pub(crate) async fn challenge(&self) -> String {
        let answer = self.service.post_login("alice", PASSWORD).await;
        let body = problem(answer, StatusCode::UNAUTHORIZED, "mfa_required").await;
        body["challenge"].as_str().expect("a challenge").to_owned()
    }

    pub(crate) async fn answer(&self, challenge: &str, code: &str) -> Response {
        let body = json!({"challenge": challenge, "code": code});
        self.service.post("/login/totp", None, &body).await
    }

    /// The code of a step beside this one.
    pub(crate) fn code(&self, steps: i64) -> String {
        let time = now().saturating_add_signed(steps * 30);
        self.totp.generate(time).to_string()
    }
}

pub(crate) async fn assert_refused(answer: Response) {
    problem(answer, StatusCode::UNAUTHORIZED, "code_refused").await;
}

#[tokio::test]
async fn a_login_takes_the_password_and_then_a_code() {
    let enrolled = Enrolled::start().await;
    let challenge = enrolled.challenge().await;
    let answer = enrolled.answer(&challenge, &enrolled.code(0)).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let answer: Value = answer.json().await.expect("JSON");
    let token = answer["token"].as_str().expect("a token");
    let me = enrolled
        .service
        .get_me(Some(&format!("Bearer {token}")))
        .await;
    assert_eq!(me.status(), StatusCode::OK);
    assert!(answer["refresh_token"].is_string());
}

#[tokio::test]
async fn a_wrong_password_looks_the_same_with_and_without_a_second_factor() {
    let enrolled = Enrolled::start().await;
    enrolled.service.add_user("bob").await;
    let mut bodies = Vec::new();
    for name in ["alice", "bob"] {
        let answer = enrolled.service.post_login(name, "wrong").await;
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
        bodies.push(answer.text().await.expect("text"));
    }
    assert_eq!(bodies[0], bodies[1]);
}

#[tokio::test]
async fn a_challenge_is_good_for_nothing_but_a_code() {
    let enrolled = Enrolled::start().await;
    let challenge = enrolled.challenge().await;
    let me = enrolled
        .service
        .get_me(Some(&format!("Bearer {challenge}")))
        .await;
    problem(me, StatusCode::UNAUTHORIZED, "invalid_token").await;
    let refresh = enrolled.service.refresh(&challenge).await;
    problem(refresh, StatusCode::UNAUTHORIZED, "invalid_grant").await;
    assert_refused(enrolled.answer("another", &enrolled.code(0)).await).await;
    assert_eq!(
        enrolled
            .answer(&challenge, &enrolled.code(0))
            .await
            .status(),
        StatusCode::OK
    );
}

#[tokio::test]
async fn a_code_is_taken_once_and_from_the_steps_beside_this_one_alone() {
    let enrolled = Enrolled::start().await;
    for steps in [-3, 3] {
        let challenge = enrolled.challenge().await;
        assert_refused(enrolled.answer(&challenge, &enrolled.code(steps)).await).await;
    }
    for steps in [-1, 0] {
        let code = enrolled.code(steps);
        let challenge = enrolled.challenge().await;
        assert_eq!(
            enrolled.answer(&challenge, &code).await.status(),
            StatusCode::OK,
            "{steps}"
        );
        let challenge = enrolled.challenge().await;
        assert_refused(enrolled.answer(&challenge, &code).await).await;
    }
}

#[tokio::test]
async fn a_challenge_takes_five_codes_lives_five_minutes_and_is_met_once() {
    let enrolled = Enrolled::start().await;
    let challenge = enrolled.challenge().await;
    for _ in 0..5 {
        assert_refused(enrolled.answer(&challenge, "AAAAAA").await).await;
    }
    assert_refused(enrolled.answer(&challenge, &enrolled.code(0)).await).await;
    let old = enrolled.challenge().await;
    enrolled
        .service
        .execute("update login_challenges set expires_at = expires_at - 301")
        .await;
    assert_refused(enrolled.answer(&old, &enrolled.code(0)).await).await;
    let challenge = enrolled.challenge().await;
    assert_eq!(
        enrolled
            .answer(&challenge, &enrolled.code(0))
            .await
            .status(),
        StatusCode::OK
    );
    let recovery = &enrolled.recovery_codes[0];
    assert_refused(enrolled.answer(&challenge, recovery).await).await;
}

#[tokio::test]
async fn guesses_are_counted_over_all_challenges() {
    let enrolled = Enrolled::start().await;
    for _ in 0..2 {
        let challenge = enrolled.challenge().await;
        for _ in 0..5 {
            assert_refused(enrolled.answer(&challenge, "000000x").await).await;
        }
    }
    let challenge = enrolled.challenge().await;
    let limited = enrolled.answer(&challenge, &enrolled.code(0)).await;
    assert!(limited.headers().contains_key("retry-after"));
    problem(limited, StatusCode::TOO_MANY_REQUESTS, "rate_limited").await;
}

/// Somebody at the same address has failed too often between the two halves of a login.
#[tokio::test]
async fn a_known_device_gives_its_code_at_an_address_that_others_have_used_up() {
    let service = Service::start_with(|settings| settings.limits.logins_per_address = 4).await;
    let enrolled = Enrolled::on(service).await;
    let service = &enrolled.service;
    let challenge = enrolled.challenge().await;
    let first = enrolled.answer(&challenge, &enrolled.code(-1)).await;
    let device: Value = first.json().await.expect("JSON");
    let challenges = [enrolled.challenge().await, enrolled.challenge().await];
    for number in 0..4 {
        service
            .post_login(&format!("nobody-{number}"), "wrong")
            .await;
    }
    let answer = async |challenge: &str, proof: &Value| {
        let mut body = json!({"challenge": challenge, "code": enrolled.code(0)});
        if proof.is_string() {
            body["device_token"] = proof.clone();
        }
        service.post("/login/totp", None, &body).await
    };
    let stranger = answer(&challenges[0], &json!(null)).await;
    problem(stranger, StatusCode::TOO_MANY_REQUESTS, "rate_limited").await;
    let known = answer(&challenges[1], &device["device_token"]).await;
    assert_eq!(known.status(), StatusCode::OK);
    let nobodys = answer("rubbish", &device["device_token"]).await;
    assert_refused(nobodys).await;
}

#[tokio::test]
async fn a_code_is_six_ascii_digits() {
    let enrolled = Enrolled::start().await;
    let code = enrolled.code(0);
    let arabic: String = code
        .bytes()
        .map(|digit| char::from_u32(0x660 + u32::from(digit - b'0')).expect("a digit"))
        .collect();
    for bad in [
        arabic,
        format!("{}-{}", &code[..3], &code[3..]),
        format!("{code}0"),
        code[..5].to_owned(),
    ] {
        let challenge = enrolled.challenge().await;
        assert_refused(enrolled.answer(&challenge, &bad).await).await;
    }
    let challenge = enrolled.challenge().await;
    assert_eq!(
        enrolled.answer(&challenge, &code).await.status(),
        StatusCode::OK
    );
}

#[tokio::test]
async fn the_owner_is_told_whether_a_login_asks_for_a_code() {
    let service = Service::start().await;
    service.add_user("bob").await;
    let enrolled = Enrolled::on(service).await;
    let has_factor = async |token: &str| {
        let authorization = format!("Bearer {token}");
        let answer = enrolled.service.get_me(Some(&authorization)).await;
        let me: Value = answer.json().await.expect("JSON");
        me["second_factor"].clone()
    };
    assert_eq!(has_factor(&enrolled.token).await, true);
    let bob = enrolled.service.login("bob").await.token;
    assert_eq!(has_factor(&bob).await, false);
    // A secret that nobody has confirmed is no second factor.
    let started = enrolled
        .service
        .post("/totp", Some(&bob), &json!({"password": PASSWORD}))
        .await;
    let started: Value = started.json().await.expect("JSON");
    assert_eq!(has_factor(&bob).await, false);
    assert!(started["qr"]["modules"].as_u64() >= Some(21), "{started}");
}

#[tokio::test]
async fn a_recovery_code_stands_in_for_a_code_once() {
    let enrolled = Enrolled::start().await;
    let code = &enrolled.recovery_codes[3];
    let challenge = enrolled.challenge().await;
    let answer = enrolled.answer(&challenge, &code.to_lowercase()).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let challenge = enrolled.challenge().await;
    assert_refused(enrolled.answer(&challenge, code).await).await;
    let other = &enrolled.recovery_codes[4];
    assert_eq!(
        enrolled.answer(&challenge, other).await.status(),
        StatusCode::OK
    );
}

#[tokio::test]
async fn a_changed_password_ends_a_challenge() {
    let enrolled = Enrolled::start().await;
    let challenge = enrolled.challenge().await;
    let body = json!({"current_password": PASSWORD, "new_password": "barley is not sesame"});
    let answer = enrolled
        .service
        .post("/password", Some(&enrolled.token), &body)
        .await;
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    let answer = enrolled.answer(&challenge, &enrolled.code(0)).await;
    problem(answer, StatusCode::UNAUTHORIZED, "invalid_credentials").await;
}

#[tokio::test]
async fn a_stolen_token_alone_neither_adds_nor_removes_a_second_factor() {
    let enrolled = Enrolled::start().await;
    let (service, token) = (&enrolled.service, Some(enrolled.token.as_str()));
    let answer = service
        .post("/totp", token, &json!({"password": "wrong"}))
        .await;
    problem(answer, StatusCode::UNAUTHORIZED, "invalid_credentials").await;
    let answer = service
        .post("/totp", token, &json!({"password": PASSWORD}))
        .await;
    problem(answer, StatusCode::CONFLICT, "second_factor_state").await;
    let without_code = json!({"password": PASSWORD, "code": "AAAAAA"});
    assert_refused(service.post("/totp/disable", token, &without_code).await).await;
    let without_password = json!({"password": "wrong", "code": enrolled.code(0)});
    let answer = service
        .post("/totp/disable", token, &without_password)
        .await;
    problem(answer, StatusCode::UNAUTHORIZED, "invalid_credentials").await;
    let both = json!({"password": PASSWORD, "code": enrolled.code(0)});
    let answer = service.post("/totp/disable", token, &both).await;
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    service.login("alice").await;
}

#[tokio::test]
async fn guesses_at_the_code_that_confirms_are_counted_too() {
    let (service, _) = Service::with_alice().await;
    let token = service.login("alice").await.token;
    let start = json!({"password": PASSWORD});
    let answer = service.post("/totp", Some(&token), &start).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let confirm = async |code: &str| {
        let body = json!({ "code": code });
        service.post("/totp/confirm", Some(&token), &body).await
    };
    for _ in 0..9 {
        assert_refused(confirm("x").await).await;
    }
    // The tenth guess, and then none more.
    assert_refused(confirm("x").await).await;
    problem(
        confirm("x").await,
        StatusCode::TOO_MANY_REQUESTS,
        "rate_limited",
    )
    .await;
}

/// Whoever has an access token alone learns nothing of a second factor in use, and takes no guesses from its owner.
#[tokio::test]
async fn a_second_factor_in_use_is_not_confirmed_again() {
    let enrolled = Enrolled::start().await;
    let token = &enrolled.token;
    let right = enrolled.code(0);
    for _ in 0..6 {
        for code in ["x", "000000", &right] {
            let body = json!({ "code": code });
            let answer = enrolled.service.post("/totp/confirm", Some(token), &body);
            problem(answer.await, StatusCode::CONFLICT, "second_factor_state").await;
        }
    }
    let both = json!({"password": PASSWORD, "code": right});
    let answer = enrolled.service.post("/totp/disable", Some(token), &both);
    assert_eq!(answer.await.status(), StatusCode::NO_CONTENT);
}
