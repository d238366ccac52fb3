//! `POST /email` and `POST /email/verify`, and the address of a registration.

use auth_service::users::{self, ProfileEdit};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

use crate::{
    fixture::{Login, PASSWORD, Service, problem},
    mailbox::{Mail, Mailbox},
};

async fn service() -> (Service, Mailbox) {
    let mailbox = Mailbox::start();
    let service = Service::start_with(|settings| mailbox.configure(settings)).await;
    (service, mailbox)
}

async fn register(service: &Service, username: &str, email: &str) -> Login {
    let body = json!({"username": username, "password": PASSWORD, "email": email});
    let answer = service.post("/register", None, &body).await;
    assert_eq!(answer.status(), StatusCode::CREATED);
    Login::of(&answer.json().await.expect("JSON"))
}

async fn change(service: &Service, login: &Login, password: &str, email: &str) -> Response {
    let body = json!({"current_password": password, "email": email});
    service.post("/email", Some(&login.token), &body).await
}

async fn verify(service: &Service, mail: &Mail) -> Response {
    let body = json!({"token": mail.token("verify")});
    service.post("/email/verify", None, &body).await
}

/// The address that `/me` shows, and whether it is verified.
async fn email_of(service: &Service, login: &Login) -> (Value, Value) {
    let me = service
        .get_me(Some(&format!("Bearer {}", login.token)))
        .await;
    let me: Value = me.json().await.expect("JSON");
    (me["email"].clone(), me["email_verified"].clone())
}

/// The address in the next token of a session.
async fn claims_of(service: &Service, login: &Login) -> (Option<String>, Option<bool>) {
    let answer = service.refresh(&login.refresh_token).await;
    let token = Login::of(&answer.json().await.expect("JSON")).token;
    let verified = service
        .verifier()
        .verify(&token, std::time::SystemTime::now());
    let profile = verified.expect("a token").profile.clone();
    (profile.email, profile.email_verified)
}

#[tokio::test]
async fn an_address_belongs_to_a_new_account_once_its_link_is_followed() {
    let (service, mut mailbox) = service().await;
    let login = register(&service, "alice", "Alice@example.org").await;
    let mail = mailbox.next().await;
    assert_eq!(mail.text("type"), "mail.verify_email");
    assert_eq!(mail.text("to"), "Alice@example.org");
    assert_eq!(email_of(&service, &login).await, (Value::Null, Value::Null));
    assert_eq!(
        verify(&service, &mail).await.status(),
        StatusCode::NO_CONTENT
    );
    let shown = (json!("Alice@example.org"), json!(true));
    assert_eq!(email_of(&service, &login).await, shown);
    let claims = claims_of(&service, &login).await;
    assert_eq!(claims, (Some("Alice@example.org".to_owned()), Some(true)));
    problem(
        verify(&service, &mail).await,
        StatusCode::BAD_REQUEST,
        "link_refused",
    )
    .await;
}

#[tokio::test]
async fn an_account_without_an_address_is_sent_no_mail() {
    let (service, mut mailbox) = service().await;
    let body = json!({"username": "bob", "password": PASSWORD});
    let answer = service.post("/register", None, &body).await;
    assert_eq!(answer.status(), StatusCode::CREATED);
    register(&service, "alice", "alice@example.org").await;
    assert_eq!(mailbox.next().await.text("to"), "alice@example.org");
    assert_eq!(mailbox.attempts(), 1);
}

#[tokio::test]
async fn nobody_learns_from_a_registration_or_a_change_whether_an_address_has_an_account() {
    let (service, mut mailbox) = service().await;
    service.add_user("bob").await;
    let mut logins = Vec::new();
    for (name, email) in [("alice", "bob@example.org"), ("carol", "free@example.org")] {
        logins.push(register(&service, name, email).await);
        assert_eq!(mailbox.next().await.text("to"), email);
    }
    for email in ["BOB@example.org", "free2@example.org"] {
        let answer = change(&service, &logins[0], PASSWORD, email).await;
        assert_eq!(answer.status(), StatusCode::ACCEPTED);
        assert_eq!(answer.text().await.expect("text"), "");
        let mail = mailbox.next().await;
        // A reader of the mail of the address may know it.
        let answer = verify(&service, &mail).await;
        if email.starts_with("BOB") {
            problem(answer, StatusCode::CONFLICT, "email_taken").await;
        } else {
            assert_eq!(answer.status(), StatusCode::NO_CONTENT);
        }
    }
    // The account with the address still has it.
    let answer = service.post_login("bob", PASSWORD).await;
    let bob = Login::of(&answer.json().await.expect("JSON"));
    assert_eq!(email_of(&service, &bob).await.0, json!("bob@example.org"));
}

#[tokio::test]
async fn a_change_is_told_to_the_old_address_and_takes_effect_at_the_new_one() {
    let (service, mut mailbox) = service().await;
    service.add_user("alice").await;
    let login = service.login("alice").await;
    let answer = change(&service, &login, PASSWORD, "new@example.org").await;
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
    let mut mails = [mailbox.next().await, mailbox.next().await];
    mails.sort_by_key(|mail| mail.text("type").to_owned());
    let [notice, link] = &mails;
    assert_eq!(notice.text("type"), "mail.email_change_requested");
    assert_eq!(notice.text("to"), "alice@example.org");
    // The old address is told neither the link nor the new address.
    assert!(!notice.0.to_string().contains("#verify") && !notice.0.to_string().contains("new@"));
    assert_eq!(link.text("to"), "new@example.org");
    assert_eq!(
        email_of(&service, &login).await.0,
        json!("alice@example.org")
    );
    assert_eq!(
        verify(&service, link).await.status(),
        StatusCode::NO_CONTENT
    );
    let shown = (json!("new@example.org"), json!(true));
    assert_eq!(email_of(&service, &login).await, shown);
}

#[tokio::test]
async fn a_change_needs_the_password_and_dies_when_the_owner_changes_it() {
    let (service, mut mailbox) = service().await;
    service.add_user("alice").await;
    let login = service.login("alice").await;
    let refused = change(&service, &login, "open barley", "eve@example.net").await;
    problem(refused, StatusCode::UNAUTHORIZED, "invalid_credentials").await;
    assert_eq!(mailbox.attempts(), 0);
    change(&service, &login, PASSWORD, "eve@example.net").await;
    let mut mails = [mailbox.next().await, mailbox.next().await];
    mails.sort_by_key(|mail| mail.text("type").to_owned());
    let body = json!({"current_password": PASSWORD, "new_password": "barley is not sesame"});
    let changed = service.post("/password", Some(&login.token), &body).await;
    assert_eq!(changed.status(), StatusCode::NO_CONTENT);
    let late = verify(&service, &mails[1]).await;
    problem(late, StatusCode::BAD_REQUEST, "link_refused").await;
    assert_eq!(
        email_of(&service, &login).await.0,
        json!("alice@example.org")
    );
}

/// An operator who takes an account back has not to wait for a thief's link.
#[tokio::test]
async fn a_link_dies_when_an_operator_sets_another_address_or_shuts_the_account() {
    for remedy in ["none", "name", "address", "shut"] {
        let (service, mut mailbox) = service().await;
        let id = service.add_user("alice").await;
        let login = service.login("alice").await;
        change(&service, &login, PASSWORD, "eve@example.net").await;
        let mut mails = [mailbox.next().await, mailbox.next().await];
        mails.sort_by_key(|mail| mail.text("type").to_owned());
        let mut edit = ProfileEdit::default();
        match remedy {
            "name" => edit.name = Some(Some("Alice".to_owned())),
            "address" => edit.email = Some(Some("new@example.org".to_owned())),
            _ => {}
        }
        let settings = &service.config.settings;
        users::administer(settings, async |manager| {
            if remedy == "shut" {
                manager.disable(&id).await?;
                manager.enable(&id).await?;
            }
            manager.edit(&id, edit, |_| true).await
        })
        .await
        .expect("edited");
        let answer = verify(&service, &mails[1]).await;
        if matches!(remedy, "none" | "name") {
            assert_eq!(answer.status(), StatusCode::NO_CONTENT, "{remedy}");
        } else {
            problem(answer, StatusCode::BAD_REQUEST, "link_refused").await;
        }
    }
}

#[tokio::test]
async fn a_link_that_verifies_resets_no_password_and_the_reverse() {
    let (service, mut mailbox) = service().await;
    register(&service, "alice", "alice@example.org").await;
    let mail = mailbox.next().await;
    let token = mail.token("verify");
    let body = json!({"token": token, "new_password": "barley is not sesame"});
    let answer = service.post("/password/reset", None, &body).await;
    problem(answer, StatusCode::BAD_REQUEST, "link_refused").await;
    assert_eq!(
        verify(&service, &mail).await.status(),
        StatusCode::NO_CONTENT
    );
    let body = json!({"email": "alice@example.org"});
    service.post("/password/forgot", None, &body).await;
    let token = mailbox.next().await.token("reset");
    let answer = service
        .post("/email/verify", None, &json!({"token": token}))
        .await;
    problem(answer, StatusCode::BAD_REQUEST, "link_refused").await;
}

#[tokio::test]
async fn mails_of_one_account_fill_a_sixteenth_of_the_queue_and_no_more() {
    for (queue, second) in [
        (32, StatusCode::SERVICE_UNAVAILABLE),
        (48, StatusCode::ACCEPTED),
    ] {
        let mailbox = Mailbox::start();
        mailbox.set_down(true);
        let service = Service::start_with(|settings| {
            mailbox.configure(settings);
            settings.mail.queue = queue;
        })
        .await;
        // A mail of each waits.
        let alice = register(&service, "alice", "alice@example.org").await;
        let bob = register(&service, "bob", "bob@example.org").await;
        let ask = async |login, email| change(&service, login, PASSWORD, email).await.status();
        assert_eq!(ask(&alice, "one@example.org").await, StatusCode::ACCEPTED);
        assert_eq!(ask(&alice, "two@example.org").await, second);
        assert_eq!(ask(&bob, "three@example.org").await, StatusCode::ACCEPTED);
    }
}
