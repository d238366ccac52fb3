//! Logins that the claims webhook does not let be: what they have proved is not spent.

use reqwest::{Response, StatusCode};
use serde_json::json;

use crate::{
    authenticator::Authenticator,
    claims_webhook::{Hook, Reply},
    fixture::{PASSWORD, Service, problem},
    passkeys,
    second_factor::Enrolled,
};

/// Grants that make a token of about 7,600 bytes, of 8,192 at most.
const LONG_GRANTS: &str = "with recursive numbers(number) as \
     (select 10 union all select number + 1 from numbers where number < 88) \
     insert into grants (subject, room, actions, created_at) \
     select id, 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa:' || number, 'sub', 0 \
     from users, numbers";

/// Makes the webhook give no answer that can be used.
fn fail(hook: &Hook) {
    hook.replies(Reply::Text(500, "{}".to_owned()));
}

async fn count_sessions(service: &Service) -> u64 {
    service.execute("update sessions set id = id").await
}

async fn assert_unavailable(answer: Response) {
    problem(answer, StatusCode::SERVICE_UNAVAILABLE, "unavailable").await;
}

#[tokio::test]
async fn a_code_is_kept_while_the_webhook_fails_and_is_spent_by_the_login_that_it_lets_be() {
    let mut hook = Hook::start();
    let enrolled = Enrolled::on(hook.empty_service(|_| {}).await).await;
    for code in [enrolled.code(0), enrolled.recovery_codes[0].clone()] {
        let sessions = count_sessions(&enrolled.service).await;
        hook.answers(&json!({}));
        let challenge = enrolled.challenge().await;
        fail(&hook);
        assert_unavailable(enrolled.answer(&challenge, &code).await).await;
        hook.answers(&json!({"refuse": "not today"}));
        let refused = enrolled.answer(&challenge, &code).await;
        problem(refused, StatusCode::FORBIDDEN, "login_refused").await;
        assert_eq!(count_sessions(&enrolled.service).await, sessions);
        while hook.was_asked() {}
        // A wrong code asks nobody.
        let refused = enrolled.answer(&challenge, "WRONG").await;
        problem(refused, StatusCode::UNAUTHORIZED, "code_refused").await;
        assert!(!hook.was_asked());

        hook.answers(&json!({}));
        let admitted = enrolled.answer(&challenge, &code).await;
        assert_eq!(admitted.status(), StatusCode::OK);
        assert_eq!(count_sessions(&enrolled.service).await, sessions + 1);
        let again = enrolled.challenge().await;
        while hook.was_asked() {}
        let refused = enrolled.answer(&again, &code).await;
        problem(refused, StatusCode::UNAUTHORIZED, "code_refused").await;
        assert!(!hook.was_asked());
    }
}

#[tokio::test]
async fn the_answer_of_a_passkey_is_kept_while_the_webhook_fails() {
    let mut hook = Hook::start();
    let service = hook.empty_service(|_| {}).await;
    service.add_user("alice").await;
    let token = service.token_of("alice").await;
    // A synced passkey counts nothing: its answer is known by the challenge alone.
    let mut device = Authenticator::new();
    device.counter = 0;
    passkeys::add(&service, &token, &mut device).await;
    device.counter = 0;
    let sessions = count_sessions(&service).await;
    let started = passkeys::login_options(&service).await;
    let credential = device.get(&started["options"]);
    fail(&hook);
    assert_unavailable(passkeys::present(&service, &started, &credential).await).await;
    assert_eq!(count_sessions(&service).await, sessions);
    hook.answers(&json!({}));
    let admitted = passkeys::present(&service, &started, &credential).await;
    assert_eq!(admitted.status(), StatusCode::OK);
    assert_eq!(count_sessions(&service).await, sessions + 1);
    while hook.was_asked() {}
    let refused = passkeys::present(&service, &started, &credential).await;
    passkeys::assert_refused(refused).await;
    assert!(!hook.was_asked());
}

#[tokio::test]
async fn a_token_that_would_be_too_long_has_no_session_and_spends_no_code() {
    let hook = Hook::start();
    let enrolled = Enrolled::on(hook.empty_service(|_| {}).await).await;
    let service = &enrolled.service;
    service.add_user("bob").await;
    assert_eq!(service.execute(LONG_GRANTS).await, 2 * 79);
    let sessions = count_sessions(service).await;
    let roles: Vec<String> = (10..25)
        .map(|number| format!("{number}{}", "r".repeat(60)))
        .collect();
    hook.answers(&json!({ "roles": roles }));
    let refused = service.post_login("bob", PASSWORD).await;
    problem(refused, StatusCode::INTERNAL_SERVER_ERROR, "internal").await;
    let (challenge, code) = (enrolled.challenge().await, &enrolled.recovery_codes[0]);
    let refused = enrolled.answer(&challenge, code).await;
    problem(refused, StatusCode::INTERNAL_SERVER_ERROR, "internal").await;
    assert_eq!(count_sessions(service).await, sessions);
    hook.answers(&json!({ "roles": [] }));
    assert!(service.login("bob").await.token.len() > 7_000);
    let admitted = enrolled.answer(&challenge, code).await;
    assert_eq!(admitted.status(), StatusCode::OK);
    assert_eq!(count_sessions(service).await, sessions + 2);
}
