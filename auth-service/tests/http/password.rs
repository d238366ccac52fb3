//! `POST /password`

use auth_service::{
    config::Registration,
    credentials::{Password, Username},
    users::{self, ChangeError, NewUser},
};
use reqwest::StatusCode;
use serde_json::json;

use crate::{
    fixture::{Login, PASSWORD, Service, problem},
    mailbox::Mailbox,
};

const NEW: &str = "barley is not sesame";

#[tokio::test]
async fn who_knows_the_password_changes_it_and_stays_signed_in_here_alone() {
    let (service, _) = Service::with_alice().await;
    let (here, elsewhere) = (service.login("alice").await, service.login("alice").await);
    let body = json!({"current_password": PASSWORD, "new_password": NEW});
    let answer = service.post("/password", Some(&here.token), &body).await;
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    let status = |token: String| {
        let service = &service;
        async move {
            service
                .get_me(Some(&format!("Bearer {token}")))
                .await
                .status()
        }
    };
    assert_eq!(status(here.token).await, StatusCode::OK);
    assert_eq!(status(elsewhere.token).await, StatusCode::UNAUTHORIZED);
    let old = service.post_login("alice", PASSWORD).await;
    problem(old, StatusCode::UNAUTHORIZED, "invalid_credentials").await;
    assert_eq!(
        service.post_login("alice", NEW).await.status(),
        StatusCode::OK
    );
}

#[tokio::test]
async fn a_wrong_current_password_or_a_weak_new_one_changes_nothing() {
    let (service, _) = Service::with_alice().await;
    let token = service.login("alice").await.token;
    for (current, new, status, code) in [
        (
            "open barley",
            NEW,
            StatusCode::UNAUTHORIZED,
            "invalid_credentials",
        ),
        (
            PASSWORD,
            "short",
            StatusCode::UNPROCESSABLE_ENTITY,
            "password_refused",
        ),
        (PASSWORD, "", StatusCode::BAD_REQUEST, "invalid_request"),
    ] {
        let body = json!({"current_password": current, "new_password": new});
        let answer = service.post("/password", Some(&token), &body).await;
        problem(answer, status, code).await;
    }
    let answer = service.post_login("alice", PASSWORD).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let body = json!({"current_password": PASSWORD, "new_password": NEW});
    let answer = service.post("/password", None, &body).await;
    problem(answer, StatusCode::UNAUTHORIZED, "credentials_required").await;
}

#[tokio::test]
async fn refused_new_passwords_of_an_account_are_counted_and_accepted_ones_are_not() {
    let service = Service::start_with(|settings| {
        settings.registration = Registration::Open;
        settings.limits.registrations_per_address = 1;
        settings.limits.new_passwords_per_account = 2;
    })
    .await;
    service.add_user("alice").await;
    service.add_user("bob").await;
    let (alice, bob) = (service.login("alice").await, service.login("bob").await);
    // Registrations of the same address are no matter of people who are signed in.
    let register = json!({"username": "mallory", "password": "password1"});
    for status in [
        StatusCode::UNPROCESSABLE_ENTITY,
        StatusCode::TOO_MANY_REQUESTS,
    ] {
        let refused = service.post("/register", None, &register).await;
        assert_eq!(refused.status(), status);
    }
    let change = async |login: &Login, current: &str, new: &str| {
        let body = json!({"current_password": current, "new_password": new});
        service.post("/password", Some(&login.token), &body).await
    };
    for (old, new) in [(PASSWORD, NEW), (NEW, PASSWORD), (PASSWORD, NEW)] {
        let changed = change(&alice, old, new).await;
        assert_eq!(changed.status(), StatusCode::NO_CONTENT);
    }
    for _ in 0..2 {
        let refused = change(&alice, NEW, "password1").await;
        problem(
            refused,
            StatusCode::UNPROCESSABLE_ENTITY,
            "password_refused",
        )
        .await;
    }
    let limited = change(&alice, NEW, PASSWORD).await;
    problem(limited, StatusCode::TOO_MANY_REQUESTS, "rate_limited").await;
    let changed = change(&bob, PASSWORD, NEW).await;
    assert_eq!(changed.status(), StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn a_password_is_judged_when_it_is_set_and_not_when_it_is_used() {
    let weak = "password1";
    let mut service = Service::start().await;
    let policy = std::mem::take(&mut service.config.settings.password.minimum_score);
    let user = || NewUser::parse("alice", weak).expect("a user");
    users::add_user(&service.config.settings, user())
        .await
        .expect("no policy, no refusal");
    service.config.settings.password.minimum_score = policy;
    let refused = users::add_user(&service.config.settings, user()).await;
    assert!(matches!(refused, Err(ChangeError::Credential(_))));
    let answer = service.post_login("alice", weak).await;
    assert_eq!(answer.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_mail_tells_the_owner_of_a_verified_address_of_each_change() {
    let mut mailbox = Mailbox::start();
    let service = Service::start_with(|settings| mailbox.configure(settings)).await;
    service.add_verified_user("alice").await;
    service.add_user("bob").await;
    let changed_by = async |name: &str, old: &str, new: &str| {
        let login = service.post_login(name, old).await;
        let login: serde_json::Value = login.json().await.expect("JSON");
        let token = login["token"].as_str().expect("a token");
        let body = json!({"current_password": old, "new_password": new});
        let changed = service.post("/password", Some(token), &body).await;
        assert_eq!(changed.status(), StatusCode::NO_CONTENT);
    };
    // Nobody has verified that the address is bob's.
    changed_by("bob", PASSWORD, NEW).await;
    changed_by("alice", PASSWORD, NEW).await;
    let mail = mailbox.next().await;
    assert_eq!(mail.text("type"), "mail.password_changed");
    assert_eq!(mail.text("to"), "alice@example.org");
    assert!(mail.text("text").contains("alice") && !mail.text("text").contains(NEW));
    assert!(!mail.text("text").contains('#'));

    let alice = Username::parse("alice").expect("a name");
    let password = Password::parse(format!("{NEW} again")).expect("a password");
    users::set_password(&service.config.settings, &alice, password)
        .await
        .expect("changed");
    assert_eq!(mailbox.next().await.text("type"), "mail.password_changed");
    // A change that is refused, and a login, are not told: the next mail is the link.
    service.post_login("alice", PASSWORD).await;
    let body = json!({"email": "alice@example.org"});
    service.post("/password/forgot", None, &body).await;
    let token = mailbox.next().await.token("reset");
    let body = json!({"token": token, "new_password": "barley and sesame"});
    let reset = service.post("/password/reset", None, &body).await;
    assert_eq!(reset.status(), StatusCode::NO_CONTENT);
    assert_eq!(mailbox.next().await.text("type"), "mail.password_changed");
}
