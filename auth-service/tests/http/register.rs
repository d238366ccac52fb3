//! `POST /register`

use auth_service::config::Registration;
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::fixture::{PASSWORD, Service, problem};

async fn open() -> Service {
    Service::start_with(|settings| {
        settings.registration = Registration::Open;
        settings.limits.registrations_per_address = 1_000;
        settings.limits.waiting_per_address = 1_000;
        settings.password.queue = 1_000;
    })
    .await
}

async fn register(service: &Service, body: Value) -> Response {
    service.post("/register", None, &body).await
}

fn body(username: &str) -> Value {
    json!({"username": username, "password": PASSWORD})
}

/// Returns what the metadata says of registration, by which pages know whether to offer it.
async fn told(service: &Service) -> Value {
    let url = service.url("/.well-known/oauth-authorization-server");
    let answer = service.client.get(url).send().await.expect("an answer");
    let metadata: Value = answer.json().await.expect("JSON");
    metadata["registration"].clone()
}

#[tokio::test]
async fn pages_are_told_whether_it_is_open() {
    let service = Service::start().await;
    assert!(told(&service).await.is_null());
    let open =
        |config: &mut auth_service::Config| config.settings.registration = Registration::Open;
    let service = service.restart_with(open).await;
    assert_eq!(told(&service).await, "open");
}

#[tokio::test]
async fn it_is_closed_unless_the_settings_open_it() {
    let closed = Service::start().await;
    closed.add_user("taken").await;
    let mut answers = Vec::new();
    for name in ["alice", "taken"] {
        let answer = register(&closed, body(name)).await;
        answers.push(problem(answer, StatusCode::FORBIDDEN, "registration_closed").await);
    }
    // Nobody learns here who has an account.
    assert_eq!(answers[0], answers[1]);
    problem(
        closed.post_login("alice", PASSWORD).await,
        StatusCode::UNAUTHORIZED,
        "invalid_credentials",
    )
    .await;
}

#[tokio::test]
async fn a_new_account_is_signed_in_at_once_and_signs_in_again() {
    let service = open().await;
    let mut body = body("Alice");
    body["name"] = json!("Alice Liddell");
    let answer = register(&service, body).await;
    assert_eq!(answer.status(), StatusCode::CREATED);
    let answer: Value = answer.json().await.expect("JSON");
    let token = answer["token"].as_str().expect("a token");
    let me = service.get_me(Some(&format!("Bearer {token}"))).await;
    let me: Value = me.json().await.expect("JSON");
    assert_eq!(
        (&me["username"], &me["name"]),
        (&json!("alice"), &json!("Alice Liddell"))
    );
    service.login("alice").await;
}

#[tokio::test]
async fn nothing_but_the_profile_is_theirs_to_set() {
    let service = open().await;
    for member in [
        "role",
        "is_admin",
        "email_verified",
        "id",
        "sub",
        "disabled_at",
    ] {
        let mut body = body("alice");
        body[member] = json!(true);
        let answer = register(&service, body).await;
        problem(answer, StatusCode::BAD_REQUEST, "invalid_request").await;
    }
    assert_eq!(
        register(&service, body("alice")).await.status(),
        StatusCode::CREATED
    );
}

#[tokio::test]
async fn a_weak_password_or_a_bad_name_is_refused() {
    let service = open().await;
    for password in ["password", "alicealice", "short", "qwertyuiop"] {
        let answer = register(&service, json!({"username": "alice", "password": password})).await;
        problem(answer, StatusCode::UNPROCESSABLE_ENTITY, "password_refused").await;
    }
    for username in ["", "a b", "al\u{202e}ice", "' or 1=1--", "admin\u{0}"] {
        let answer = register(&service, body(username)).await;
        problem(answer, StatusCode::BAD_REQUEST, "invalid_request").await;
    }
    assert_eq!(
        register(&service, body("alice")).await.status(),
        StatusCode::CREATED
    );
}

#[tokio::test]
async fn a_name_is_given_once_and_so_is_its_look() {
    let service = open().await;
    assert_eq!(
        register(&service, body("paypal")).await.status(),
        StatusCode::CREATED
    );
    for taken in ["paypal", "PayPal", "p\u{430}yp\u{430}l", "\u{ff50}aypal"] {
        let answer = register(&service, body(taken)).await;
        problem(answer, StatusCode::CONFLICT, "username_taken").await;
    }
    assert_eq!(
        register(&service, body("palpay")).await.status(),
        StatusCode::CREATED
    );
}

#[tokio::test]
async fn of_100_at_once_one_gets_the_name() {
    let service = open().await;
    let mut asking = JoinSet::new();
    for _ in 0..100 {
        let request = service
            .client
            .post(service.url("/register"))
            .json(&body("alice"));
        asking.spawn(async move { request.send().await.expect("an answer").status() });
    }
    let statuses = asking.join_all().await;
    let count = |status| statuses.iter().filter(|one| **one == status).count();
    assert_eq!(count(StatusCode::CREATED), 1);
    assert_eq!(count(StatusCode::CONFLICT), 99);
}

#[tokio::test]
async fn an_address_makes_so_many_accounts_and_no_more() {
    let service = Service::start_with(|settings| {
        settings.registration = Registration::Open;
        settings.limits.registrations_per_address = 2;
    })
    .await;
    for name in ["alice", "bob"] {
        assert_eq!(
            register(&service, body(name)).await.status(),
            StatusCode::CREATED
        );
    }
    let answer = register(&service, body("carol")).await;
    assert!(answer.headers().contains_key("retry-after"));
    problem(answer, StatusCode::TOO_MANY_REQUESTS, "rate_limited").await;
}

#[tokio::test]
async fn an_email_is_an_address_and_of_one_account() {
    let service = open().await;
    let with = |name: &str, email: &str| {
        let mut body = body(name);
        body["email"] = json!(email);
        register(&service, body)
    };
    for bad in [
        "",
        "alice",
        "a@localhost",
        "A <a@example.org>",
        "a@example.org\u{0}",
    ] {
        let answer = with("alice", bad).await;
        problem(answer, StatusCode::BAD_REQUEST, "invalid_request").await;
    }
    let answer = with("alice", " Alice@Example.org").await;
    assert_eq!(answer.status(), StatusCode::CREATED);
    let answer = with("bob", "ALICE@example.ORG").await;
    problem(answer, StatusCode::CONFLICT, "email_taken").await;
    let answer = with("alice", "bob@example.org").await;
    problem(answer, StatusCode::CONFLICT, "username_taken").await;
    let answer = with("bob", "bob@example.org").await;
    assert_eq!(answer.status(), StatusCode::CREATED);
    let token: Value = answer.json().await.expect("JSON");
    let token = token["token"].as_str().expect("a token");
    let claims = service
        .verifier()
        .verify(token, std::time::SystemTime::now());
    let profile = claims.expect("accepted").profile.clone();
    assert_eq!(profile.email.as_deref(), Some("bob@example.org"));
    assert_eq!(profile.email_verified, Some(false));
}
