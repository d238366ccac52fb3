//! `POST /password/forgot` and `POST /password/reset`

use auth_service::vault::Hash;
use reqwest::{Response, StatusCode};
use serde_json::json;
use tokio::task::JoinSet;

use crate::{
    fixture::{PASSWORD, Service, problem},
    mailbox::Mailbox,
};

const NEW: &str = "barley is not sesame";

async fn service() -> (Service, Mailbox) {
    let mailbox = Mailbox::start();
    let service = Service::start_with(|settings| mailbox.configure(settings)).await;
    service.add_verified_user("alice").await;
    (service, mailbox)
}

async fn forget(service: &Service, email: &str) -> Response {
    let body = json!({"email": email});
    service.post("/password/forgot", None, &body).await
}

async fn reset(service: &Service, token: &str, password: &str) -> Response {
    let body = json!({"token": token, "new_password": password});
    service.post("/password/reset", None, &body).await
}

/// Asks for a link for alice, and returns its token.
async fn link(service: &Service, mailbox: &mut Mailbox) -> String {
    let answer = forget(service, "alice@example.org").await;
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
    mailbox.next().await.token("reset")
}

async fn assert_refused(answer: Response) {
    problem(answer, StatusCode::BAD_REQUEST, "link_refused").await;
}

async fn assert_password(service: &Service, password: &str) {
    let answer = service.post_login("alice", password).await;
    assert_eq!(answer.status(), StatusCode::OK, "{password}");
}

#[tokio::test]
async fn a_mailed_link_sets_a_password_once_and_ends_every_session() {
    let (service, mut mailbox) = service().await;
    let sessions = [service.login("alice").await, service.login("alice").await];
    let answer = forget(&service, "Alice@EXAMPLE.org").await;
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
    let mail = mailbox.next().await;
    // To the address as the account has it.
    assert_eq!(mail.text("to"), "alice@example.org");
    assert_eq!(mail.text("type"), "mail.reset_password");
    assert_eq!(mail.text("from"), "Latchkey <noreply@example.org>");
    let token = mail.token("reset");
    assert!(!mail.text("subject").contains(&token));
    let answer = reset(&service, &token, NEW).await;
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    for session in &sessions {
        let me = service
            .get_me(Some(&format!("Bearer {}", session.token)))
            .await;
        assert_eq!(me.status(), StatusCode::UNAUTHORIZED);
        let refreshed = service.refresh(&session.refresh_token).await;
        assert_eq!(refreshed.status(), StatusCode::UNAUTHORIZED);
    }
    let old = service.post_login("alice", PASSWORD).await;
    problem(old, StatusCode::UNAUTHORIZED, "invalid_credentials").await;
    assert_password(&service, NEW).await;
    assert_refused(reset(&service, &token, "another barley entirely").await).await;
    assert_password(&service, NEW).await;
}

#[tokio::test]
async fn a_link_points_to_the_page_of_the_settings_whatever_the_request_says() {
    let (service, mut mailbox) = service().await;
    let request = service.client.post(service.url("/password/forgot"));
    let answer = request
        .header("host", "evil.example")
        .header("x-forwarded-host", "evil.example")
        .header("forwarded", "host=evil.example;proto=https")
        .header("origin", "http://localhost:9000")
        .header("referer", "https://evil.example/")
        .json(&json!({"email": "alice@example.org"}))
        .send()
        .await
        .expect("an answer");
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
    let mail = mailbox.next().await;
    mail.token("reset");
    assert!(!mail.0.to_string().contains("evil.example"));
}

/// Everything of an answer that a visitor can compare, but for the time.
async fn visible(answer: Response) -> (StatusCode, String, String) {
    let mut headers = answer.headers().clone();
    headers.remove("date");
    let status = answer.status();
    (
        status,
        format!("{headers:?}"),
        answer.text().await.expect("text"),
    )
}

#[tokio::test]
async fn an_unknown_address_gets_the_same_answers_and_no_mail() {
    let (service, mut mailbox) = service().await;
    service.add_verified_user("gone").await;
    service.add_user("unverified").await;
    service.disable_user("gone").await;
    let service = service
        .restart_with(|config| config.settings.limits.mails_per_mailbox = 2)
        .await;
    let mut seen = Vec::new();
    for email in [
        "nobody@example.org",
        "gone@example.org",
        "unverified@example.org",
        "alice@example.org",
    ] {
        let mut answers = Vec::new();
        for _ in 0..3 {
            answers.push(visible(forget(&service, email).await).await);
        }
        assert_eq!(answers[0].0, StatusCode::ACCEPTED);
        assert_eq!(answers[0], answers[1]);
        assert_eq!(answers[2].0, StatusCode::TOO_MANY_REQUESTS);
        answers[2].1 = String::new();
        answers[2].2 = String::new();
        seen.push(answers);
    }
    for other in &seen[..3] {
        assert_eq!(*other, seen[3]);
    }
    // The mails of all that were asked for before have been dealt with, since these two came.
    for _ in 0..2 {
        assert_eq!(mailbox.next().await.text("to"), "alice@example.org");
    }
    assert_eq!(mailbox.attempts(), 2);
}

#[tokio::test]
async fn an_address_has_a_limit_of_its_own_and_another_mailbox_is_free() {
    let (service, _mailbox) = service().await;
    let service = service
        .restart_with(|config| {
            config.settings.limits.mails_per_mailbox = 1;
            config.settings.limits.mails_per_address = 3;
        })
        .await;
    let status = async |email| forget(&service, email).await.status();
    assert_eq!(status("one@example.org").await, StatusCode::ACCEPTED);
    let limited = forget(&service, "ONE@example.org").await;
    assert!(limited.headers().contains_key("retry-after"));
    problem(limited, StatusCode::TOO_MANY_REQUESTS, "rate_limited").await;
    assert_eq!(status("two@example.org").await, StatusCode::ACCEPTED);
    assert_eq!(
        status("three@example.org").await,
        StatusCode::TOO_MANY_REQUESTS
    );
}

#[tokio::test]
async fn of_uses_at_once_one_sets_its_password() {
    let (service, mut mailbox) = service().await;
    let links = [
        link(&service, &mut mailbox).await,
        link(&service, &mut mailbox).await,
    ];
    assert_ne!(links[0], links[1]);
    let mut uses = JoinSet::new();
    for number in 0..8 {
        let (client, url) = (service.client.clone(), service.url("/password/reset"));
        let password = format!("{NEW} {number}");
        let body = json!({"token": links[number % 2], "new_password": password});
        uses.spawn(async move {
            let answer = client
                .post(url)
                .json(&body)
                .send()
                .await
                .expect("an answer");
            (answer.status(), password)
        });
    }
    let answers = uses.join_all().await;
    let set: Vec<_> = answers
        .iter()
        .filter(|(status, _)| status.is_success())
        .collect();
    let [(_, password)] = set.as_slice() else {
        panic!("one of them: {answers:?}");
    };
    assert!(
        answers.iter().all(|(status, _)| !status.is_server_error()),
        "{answers:?}"
    );
    assert_password(&service, password).await;
    // The other link is bound to the password from before.
    for token in &links {
        assert_refused(reset(&service, token, "another barley entirely").await).await;
    }
}

#[tokio::test]
async fn a_link_dies_with_the_password_the_address_the_account_or_its_time() {
    for (change, is_alive) in [
        ("update users set created_at = created_at", true),
        (
            "update users set password_version = password_version + 1",
            false,
        ),
        ("update users set email_normal = 'other@example.org'", false),
        ("update users set disabled_at = 1", false),
        ("update mail_links set expires_at = expires_at - 1790", true),
        (
            "update mail_links set expires_at = expires_at - 1800",
            false,
        ),
    ] {
        let (service, mut mailbox) = service().await;
        let token = link(&service, &mut mailbox).await;
        assert_eq!(service.execute(change).await, 1);
        let answer = reset(&service, &token, NEW).await;
        if is_alive {
            assert_eq!(answer.status(), StatusCode::NO_CONTENT, "{change}");
        } else {
            assert_refused(answer).await;
        }
    }
    // A change by a signed-in owner ends the link as well.
    let (service, mut mailbox) = service().await;
    let token = link(&service, &mut mailbox).await;
    let login = service.login("alice").await;
    let body = json!({"current_password": PASSWORD, "new_password": NEW});
    let changed = service.post("/password", Some(&login.token), &body).await;
    assert_eq!(changed.status(), StatusCode::NO_CONTENT);
    assert_refused(reset(&service, &token, "another barley entirely").await).await;
    assert_password(&service, NEW).await;
}

#[tokio::test]
async fn a_refused_password_leaves_the_link_as_it_is() {
    let (service, mut mailbox) = service().await;
    let token = link(&service, &mut mailbox).await;
    for weak in ["short", "alice@example.org"] {
        let answer = reset(&service, &token, weak).await;
        problem(answer, StatusCode::UNPROCESSABLE_ENTITY, "password_refused").await;
    }
    assert_password(&service, PASSWORD).await;
    let answer = reset(&service, &token, NEW).await;
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn tokens_that_nobody_has_are_counted_for_the_address_and_the_right_one_is_taken() {
    let (service, mut mailbox) = service().await;
    let service = service
        .restart_with(|config| config.settings.limits.tokens_per_address = 2)
        .await;
    let token = link(&service, &mut mailbox).await;
    for _ in 0..2 {
        assert_refused(reset(&service, "no token", NEW).await).await;
    }
    let limited = reset(&service, "no token", NEW).await;
    problem(limited, StatusCode::TOO_MANY_REQUESTS, "rate_limited").await;
    let answer = reset(&service, &token, NEW).await;
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
}

/// Waits until so many attempts to deliver a mail were made.
async fn tried(mailbox: &Mailbox, attempts: usize) {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    while mailbox.attempts() < attempts {
        assert!(tokio::time::Instant::now() < deadline, "it is tried");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_mail_server_that_is_down_loses_no_mail_and_a_full_queue_is_said() {
    let (service, mut mailbox) = service().await;
    let service = service
        .restart_with(|config| config.settings.mail.queue = 2)
        .await;
    mailbox.set_down(true);
    for email in ["alice@example.org", "alice@example.org"] {
        assert_eq!(forget(&service, email).await.status(), StatusCode::ACCEPTED);
    }
    for email in ["alice@example.org", "nobody@example.org"] {
        let full = forget(&service, email).await;
        problem(full, StatusCode::SERVICE_UNAVAILABLE, "unavailable").await;
    }
    tried(&mailbox, 2).await;
    // A restart loses none either.
    let service = service.restart_with(|_| ()).await;
    mailbox.set_down(false);
    service
        .execute("update outbox set next_attempt_at = 0")
        .await;
    let (one, other) = (mailbox.next().await, mailbox.next().await);
    assert_ne!(one.text("id"), other.text("id"));
    let answer = reset(&service, &one.token("reset"), NEW).await;
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn nothing_secret_of_a_link_is_in_the_database() {
    let (service, mut mailbox) = service().await;
    mailbox.set_down(true);
    forget(&service, "alice@example.org").await;
    tried(&mailbox, 1).await;
    let hashes = service.read("select hash from mail_links").await;
    // Before it is sent, the mail waits with its kind and its address.
    let like = async |part: &str| {
        let statement = format!("update outbox set id = id where payload like '%{part}%'");
        service.execute(&statement).await
    };
    assert_eq!(like("reset_password").await, 1);
    assert_eq!(like("#reset").await, 0);
    mailbox.set_down(false);
    service
        .execute("update outbox set next_attempt_at = 0")
        .await;
    let token = mailbox.next().await.token("reset");
    let expected = Hash::of(&token).as_bytes().to_vec();
    assert_eq!(hashes, [expected]);
}

#[tokio::test]
async fn the_second_factor_is_still_asked_for_after_a_reset() {
    let (service, mut mailbox) = service().await;
    service.login("alice").await;
    let factor = "insert into totp_secrets (user_id, sealed, created_at, confirmed_at) \
                  select users.id, hash, 1, 1 from users, refresh_tokens";
    assert_eq!(service.execute(factor).await, 1);
    let token = link(&service, &mut mailbox).await;
    let answer = reset(&service, &token, NEW).await;
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    let login = service.post_login("alice", NEW).await;
    problem(login, StatusCode::UNAUTHORIZED, "mfa_required").await;
}

#[tokio::test]
async fn a_service_without_mail_says_so() {
    let service = Service::start().await;
    service.add_user("alice").await;
    let login = service.login("alice").await;
    for (path, token, body) in [
        (
            "/password/forgot",
            None,
            json!({"email": "alice@example.org"}),
        ),
        (
            "/password/reset",
            None,
            json!({"token": "t", "new_password": NEW}),
        ),
        ("/email/verify", None, json!({"token": "t"})),
        (
            "/email",
            Some(login.token.as_str()),
            json!({"current_password": PASSWORD, "email": "a@example.org"}),
        ),
    ] {
        let answer = service.post(path, token, &body).await;
        problem(answer, StatusCode::NOT_FOUND, "mail_off").await;
    }
}

#[tokio::test]
async fn a_body_that_is_none_is_refused_before_anything_is_sent() {
    let (service, mailbox) = service().await;
    for body in [
        json!({}),
        json!({"email": "no address"}),
        json!({"email": "a@example.org, alice@example.org"}),
        json!({"email": "alice@example.org\r\nbcc: eve@example.net"}),
        json!({"email": "alice@example.org", "more": 1}),
        json!({"email": ["alice@example.org"]}),
    ] {
        let answer = service.post("/password/forgot", None, &body).await;
        problem(answer, StatusCode::BAD_REQUEST, "invalid_request").await;
    }
    assert!(service.read("select hash from mail_links").await.is_empty());
    assert_eq!(mailbox.attempts(), 0);
}
