//! Requests that change one account at the same time.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use auth_service::users::{self, NewUser};
use reqwest::{Response, StatusCode};
use serde_json::json;
use tokio::task::JoinSet;

use crate::fixture::{Login, PASSWORD, Service, problem};

/// As many requests as a test sends at once find a place, so that a refusal is one of the password.
async fn roomy_service(logins_per_name: u32) -> Service {
    Service::start_with(|settings| {
        settings.limits.logins_per_name = logins_per_name;
        // A slow machine sends more wrong passwords in the time of a test.
        settings.limits.logins_per_address = 10_000;
        settings.password.queue = 200;
        settings.limits.waiting_per_address = 200;
        settings.password.threads = 2;
    })
    .await
}

fn posts(service: &Service, path: &str, token: Option<&str>, body: serde_json::Value) -> Sending {
    let request = service.client.post(service.url(path)).json(&body);
    let request = match token {
        Some(token) => request.bearer_auth(token),
        None => request,
    };
    Box::pin(async move { request.send().await.expect("an answer") })
}

type Sending = std::pin::Pin<Box<dyn Future<Output = Response> + Send>>;

#[tokio::test]
async fn a_right_password_signs_in_24_times_at_once_while_its_hash_is_renewed() {
    let service = roomy_service(10).await;
    let mut cheap = service.config.settings.clone();
    cheap.password.memory_kib = 8 * 1024;
    let alice = NewUser::parse("alice", PASSWORD).expect("a user");
    users::add_user(&cheap, alice).await.expect("added");
    let mut signing_in = JoinSet::new();
    for number in 0..25 {
        let password = if number == 24 {
            "open barley"
        } else {
            PASSWORD
        };
        let body = json!({"username": "alice", "password": password});
        let (client, url) = (service.client.clone(), service.url("/login"));
        signing_in.spawn(async move {
            loop {
                let login = client.post(&url).json(&body).send().await;
                let status = login.expect("an answer").status();
                // A request that waits too long for the one writer of a slow disk comes again.
                if status != StatusCode::SERVICE_UNAVAILABLE {
                    return (number == 24, status);
                }
            }
        });
    }
    for (is_wrong, status) in signing_in.join_all().await {
        let expected = if is_wrong {
            StatusCode::UNAUTHORIZED
        } else {
            StatusCode::OK
        };
        assert_eq!(status, expected);
    }
}

/// The password stays the same: it is right at every moment, though each change has another hash and
/// ends what was started before it. Logins follow each other until the change is done, so that some of
/// them are being judged at that moment.
#[tokio::test]
async fn a_right_password_signs_in_beside_a_change_of_the_password_24_times() {
    let service = roomy_service(1_000).await;
    service.add_user("alice").await;
    let own = service.login("alice").await;
    for round in 0..24 {
        let is_done = Arc::new(AtomicBool::new(false));
        let mut running = JoinSet::new();
        for (password, expected) in [
            (PASSWORD, StatusCode::OK),
            (PASSWORD, StatusCode::OK),
            (PASSWORD, StatusCode::OK),
            ("open barley", StatusCode::UNAUTHORIZED),
        ] {
            let (client, url) = (service.client.clone(), service.url("/login"));
            let is_done = Arc::clone(&is_done);
            running.spawn(async move {
                let body = json!({"username": "alice", "password": password});
                while !is_done.load(Ordering::SeqCst) {
                    let login = client.post(&url).json(&body).send().await;
                    let status = login.expect("an answer").status();
                    assert_eq!(status, expected, "round {round}");
                }
            });
        }
        let body = json!({"current_password": PASSWORD, "new_password": PASSWORD});
        let change = posts(&service, "/password", Some(&own.token), body).await;
        is_done.store(true, Ordering::SeqCst);
        assert_eq!(change.status(), StatusCode::NO_CONTENT, "round {round}");
        running.join_all().await;
    }
}

#[tokio::test]
async fn whatever_ends_sessions_of_one_account_at_once_nothing_fails_50_times() {
    let service = roomy_service(1_000).await;
    service.add_user("alice").await;
    for round in 0..50 {
        let own = service.login("alice").await;
        let left = service.login("alice").await;
        let kept = service.login("alice").await;
        let copied = service.login("alice").await;
        let second = service.refresh(&copied.refresh_token).await;
        let second = Login::of(&second.json().await.expect("JSON"));
        service.refresh(&second.refresh_token).await;
        let refresh = |login: &Login| {
            let body = json!({"refresh_token": login.refresh_token});
            posts(&service, "/token/refresh", None, body)
        };
        let change = json!({"current_password": PASSWORD, "new_password": PASSWORD});
        let mut running = JoinSet::new();
        for request in [
            posts(&service, "/password", Some(&own.token), change),
            posts(&service, "/logout", Some(&left.token), json!({})),
            refresh(&kept),
            refresh(&copied),
            refresh(&left),
        ] {
            running.spawn(async move { request.await.status() });
        }
        for status in running.join_all().await {
            assert!(!status.is_server_error(), "round {round}: {status}");
        }
    }
}

/// A writer that is taken keeps what is right waiting, and what is rubbish not at all.
#[tokio::test]
async fn what_nobody_has_is_refused_without_a_write() {
    let (service, _) = Service::with_alice().await;
    let login = service.login("alice").await;
    let held = service.hold_writes().await;
    let refused = service.refresh("rubbish").await;
    problem(refused, StatusCode::UNAUTHORIZED, "invalid_grant").await;
    let body = json!({"challenge": "rubbish", "code": "000000"});
    let refused = service.post("/login/totp", None, &body).await;
    problem(refused, StatusCode::UNAUTHORIZED, "code_refused").await;
    let form = [("token", "rubbish"), ("client_id", "latchkey-login")];
    let revoke = service
        .client
        .post(service.url("/oauth/revoke"))
        .form(&form);
    let answer = revoke.send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK);
    let waited = service.refresh(&login.refresh_token).await;
    assert_eq!(waited.status(), StatusCode::SERVICE_UNAVAILABLE);
    held.release().await;
    let answer = service.refresh(&login.refresh_token).await;
    assert_eq!(answer.status(), StatusCode::OK);
}
